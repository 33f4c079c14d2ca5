"""Whom the transport asks and waits for, with a clock and a grid that the test moves."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("flwr")

from spikefed.federated import Request  # noqa: E402
from spikefed.transports.flower import transport  # noqa: E402


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in its one entry: it stands at 100 s and moves by what is slept."""
    now = [100.0]
    slept = SimpleNamespace(monotonic=lambda: now[0], sleep=lambda s: now.__setitem__(0, now[0] + s))
    monkeypatch.setattr(transport, "time", slept)
    monkeypatch.setattr(transport.FlowerTransport, "message", lambda *_: None)
    return now


class FailingGrid:
    """A grid whose one node answers every message with an error of this code."""

    generation = 0

    def __init__(self, code: int) -> None:
        self.code, self.pushed = code, 0

    def online(self) -> set[int]:
        return {7}

    def push(self, messages: Sequence[Any]) -> list[str | None]:
        self.pushed += 1
        return [f"message {self.pushed}"]

    def pull(self, message_ids: Sequence[str]) -> list[Any]:
        error = SimpleNamespace(code=self.code, reason="as I like")
        metadata = [SimpleNamespace(reply_to_message_id=i) for i in message_ids]
        return [SimpleNamespace(metadata=m, error=error, has_error=lambda: True) for m in metadata]


def test_a_client_that_answers_with_errors_only_cannot_hold_a_round(clock: list[float]) -> None:
    for code, asked in ((transport.STEP_FAILED, 1), (transport.ErrorCode.NODE_UNAVAILABLE, transport.MOST_ERRORS)):
        grid = FailingGrid(code)
        replies = transport.FlowerTransport(grid, {0: 7}, "run").round([Request(0, 1, None)])  # no deadline
        assert grid.pushed == asked
        assert [r.client for r in replies] == [0] and "as I like" in replies[0].error


def test_a_reply_that_got_lost_is_asked_for_again(clock: list[float]) -> None:
    class Losing(FailingGrid):
        def pull(self, message_ids: Sequence[str]) -> list[Any]:
            return super().pull([i for i in message_ids if i == "message 3"])  # what was asked first and second is lost

    grid = Losing(transport.STEP_FAILED)
    replies = transport.FlowerTransport(grid, {0: 7}, "run").round([Request(0, 1, None)])  # no deadline
    assert grid.pushed == 3 and len(replies) == 1
    # Asked again after one, and then after two more times 60 s.
    assert 3 * transport.ASK_AGAIN_S <= clock[0] - 100.0 <= 3 * transport.ASK_AGAIN_S + 1.0


class SilentGrid:
    """One node that is there and never answers."""

    generation = 1

    def online(self) -> set[int]:
        return {7}

    def push(self, messages: Sequence[Any]) -> list[str | None]:
        return ["id"] * len(messages)

    def pull(self, message_ids: Sequence[str]) -> list[Any]:
        return []


def test_deadlines_run_on_the_monotonic_clock(clock: list[float]) -> None:
    """The wall clock is not there to be asked, so its jumps move no deadline."""
    carrier = transport.FlowerTransport(SilentGrid(), {0: 7}, "run")
    assert carrier.round([Request(0, 1, None)], deadline_s=10.0) == []
    assert 110.0 <= clock[0] <= 110.0 + 2 * transport.LOOK_EVERY_S
