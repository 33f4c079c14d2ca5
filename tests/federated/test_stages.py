"""Stages of a search: which there are, what clients are told, and one step of the learning rate a round."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from spikefed.errors import ConfigError
from spikefed.federated.methods.tickets import TicketHyperparameters
from spikefed.federated.stages import NOTE, Note, Stage, program, total_rounds


def stages(**given: object) -> list[tuple[str, int, int, str, bool]]:
    hyper = TicketHyperparameters(sparsities=[0.5, 0.8, 0.9], level_rounds=5, rewind_round=2, **given)  # type: ignore[arg-type]
    return [(s.kind, s.level, s.rounds, s.start, s.early) for s in program(hyper)]


def test_imp_trains_every_sparsity_once() -> None:
    train = [("train", k, 3, "rewind", False) for k in (1, 2, 3)]
    assert stages(search="imp") == [("search", 0, 5, "initial", False), *train]


def test_early_time_searches_short_and_trains_every_sparsity_with_all_steps() -> None:
    """Defect 7 of the released code: only its last round returns to T, so every sparsity needs a run of its own."""
    search = [("search", 0, 5, "initial", True)] + [("search", k, 3, "rewind", True) for k in (1, 2)]
    train = [("train", k, 3, "rewind", False) for k in (1, 2, 3)]
    assert stages(search="imp", early_time=True) == search + train
    found = stages(search="imp", early_time=True, early_probe="before")
    assert found == [("probe", 0, 2, "initial", False), *search, *train]


@pytest.mark.parametrize("search", ["imp", "one-shot", "early-bird"])
def test_t_early_is_chosen_once_after_rounds_with_all_steps(search: Any) -> None:
    for where, kind in (("within", "search"), ("before", "probe")):
        hyper = TicketHyperparameters(search=search, early_time=True, early_probe=where, probe_rounds=3)  # type: ignore[arg-type]
        assert [(s.kind, s.level) for s in program(hyper) if s.probes == 3] == [(kind, 0)]
        assert all(s.probes in (0, 3) for s in program(hyper))
    assert not any(s.probes for s in program(TicketHyperparameters(search=search)))


def test_baselines_start_from_the_first_weights() -> None:
    train = [("train", k, 5, "initial", False) for k in (1, 2, 3)]
    assert stages(search="random") == train
    assert stages(search="snip") == [("saliency", 0, 1, "initial", False), *train]
    assert stages(search="early-bird") == [("search", 0, 5, "initial", False), *train]


def test_stages_that_go_on_from_each_other_share_one_cosine() -> None:
    hyper = TicketHyperparameters(search="one-shot", restart="keep", sparsities=[0.9], search_rounds=2, level_rounds=8)
    dense, ticket = program(hyper)
    rates = [Note.of(dense, at, 0).rate(1.0, 0.0, "cosine") for at in range(2)]
    rates += [Note.of(ticket, at, 0).rate(1.0, 0.0, "cosine") for at in range(8)]
    assert rates == [Note("train", 0, at, 10).rate(1.0, 0.0, "cosine") for at in range(10)]
    assert (dense.rounds, ticket.rounds, ticket.start) == (2, 8, "kept")


def test_a_note_travels() -> None:
    note = Note.of(Stage("search", 1, 9, "rewind", True, twin=True), 4, 3)
    assert Note.read({NOTE: note.array()}) == note and note.steps == 3
    assert Note.of(Stage("train", 1, 9, "rewind"), 4, 3).steps == 0  # a ticket is trained with all
    for bad in ([], [9, 0, 0, 0, 0], [0, -1, 0, 0, 0]):
        with pytest.raises(ConfigError, match="note on the stage"):
            Note.read({NOTE: np.array(bad, dtype=np.int32)})


def test_the_cosine_takes_one_step_a_round_and_ends_at_its_floor() -> None:
    """Defect 2 of the released code: two steps an epoch, so that the rate climbs back to its beginning."""
    rates = [Note("train", 0, at, 10).rate(0.3, 0.0, "cosine") for at in range(11)]
    assert rates[0] == 0.3 and rates[5] == pytest.approx(0.15) and rates[10] == pytest.approx(0.0)
    assert rates == sorted(rates, reverse=True)
    assert Note("train", 0, 15, 10).rate(0.3, 0.01, "cosine") == pytest.approx(0.003)  # a run that goes on stays there
    assert Note("train", 0, 7, 10).rate(0.3, 0.01, "constant") == 0.3


@pytest.mark.parametrize("search", ["imp", "one-shot", "random", "snip", "early-bird"])
def test_rounds_of_a_run(search: str) -> None:
    assert total_rounds(program(TicketHyperparameters(search=search, sparsities=[0.5, 0.9], level_rounds=4))) == {  # type: ignore[arg-type]
        "imp": 10, "one-shot": 10, "random": 8, "snip": 9, "early-bird": 12,
    }[search]  # fmt: skip
