"""Ctrl-C: what to do next, in the words of the command that was stopped."""

from __future__ import annotations

import sys

import pytest

from spikefed.cli import main as command


@pytest.mark.parametrize(("words", "hint"), [
    (["compare", "a.toml"], "interrupted; repeat the command to go on"),
    (["search", "a.toml"], "interrupted; repeat the command to go on"),
    (["run", "a.toml"], "interrupted; a run goes on with --resume"),
])  # fmt: skip
def test_the_hint_is_an_option_that_the_command_has(
    words: list[str], hint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped() -> None:
        raise SystemExit(130)

    monkeypatch.setattr(sys, "argv", ["spikefed", *words])
    monkeypatch.setattr(sys.modules[command.__module__], "whole", lambda: stopped)
    with pytest.raises(SystemExit) as ended:
        command()
    assert ended.value.code == 130 and hint in capsys.readouterr().err
