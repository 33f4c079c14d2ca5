"""The table [privacy]: old keys are read with a word, hashes stay, what has no votes is refused in a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import spikefed
from experiment.runs import Told
from spikefed.errors import ConfigError
from spikefed.experiment import RunFolder
from spikefed.experiment import config as configs
from spikefed.experiment.checks import check
from spikefed.report.defaults import complete

OLD = {"secure": True, "vote_levels": 3, "response_epsilon": 2.0, "response_source": "seeded"}
HASHES = {
    "default": "d94667edab6c7475b01ecf3e9ed3a672e60da770f32481a4baea7eced99cb39c",
    "secure": "1dda4677c8aa359b3925c05f7f69494d437c628596dd4363a422e79c6ac77bae",
}
"""Of version 0.1: `Experiment.hash` of an empty file, and of one with the four keys above in [method]."""


def test_old_keys_are_read_and_keep_their_hash() -> None:
    old = configs.from_tree({"method": {"name": "fsd", **OLD}})
    new = configs.from_tree({"privacy": OLD})
    assert old.privacy == new.privacy and "secure" not in old.method
    assert len(old.notes) == 4 and "'method.secure' is called 'privacy.secure' now" in old.notes[0]
    assert new.notes == ()
    assert old.hash() == new.hash() == HASHES["secure"]
    assert configs.from_tree({}).hash() == HASHES["default"]
    assert (
        "privacy" not in configs.from_tree({}).resolved() and "secure" not in configs.from_tree({}).resolved()["method"]
    )


def test_a_run_folder_of_before_says_nothing_where_nothing_was_set() -> None:
    recorded = {"secure": False, "vote_levels": 1, "response_delta": 1e-5, "response_source": "system"}
    config = configs.from_tree({"method": {"name": "fsd+", **recorded}})
    assert config.notes == () and config.hash() == configs.from_tree({"method": {"name": "fsd+"}}).hash()


def test_two_values_at_two_places_are_refused() -> None:
    with pytest.raises(ConfigError, match="the two have different values"):
        configs.from_tree({"method": {"name": "fsd", "vote_levels": 3}, "privacy": {"vote_levels": 4}})


@pytest.mark.parametrize("name", ["fsd+", "hdsfl", "fedavg", "ds-fl"])
def test_methods_without_votes_are_refused(name: str) -> None:
    for key, value in (("secure", True), ("response_epsilon", 1.0)):
        config = configs.from_tree({"method": {"name": name}, "privacy": {key: value}})
        with pytest.raises(ConfigError, match=f"'privacy.{key}' goes around votes .* use fsd or cfd"):
            check(config)


@pytest.mark.parametrize(
    ("tree", "sentence"),
    [
        ({"method": {"name": "cfd"}, "privacy": {"response_epsilon": 1.0}}, "uploads labels; use fsd"),
        ({"method": {"name": "cfd", "bits_up": 4}, "privacy": {"secure": True}}, "set method.bits_up = 1"),
        ({"method": {"name": "cfd", "vote": "median"}, "privacy": {"secure": True}}, "choose one of the two"),
    ],
)
def test_what_a_vote_of_labels_cannot(tree: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        check(configs.from_tree(tree))


def test_a_word_is_said_once(tiny: dict[str, Any], tmp_path: Path) -> None:
    """In the first call of a run and not when it is resumed; the folder has the key at its new place."""
    tiny["method"] = {"name": "fsd", "response_epsilon": 3.0, "response_source": "seeded"}
    told = Told()
    path = spikefed.run(tiny, overrides=["rounds=1"], out=tmp_path / "run", progress=told)
    assert sum("is called 'privacy.response_epsilon' now" in text for text in told.said) == 1
    again = Told()
    spikefed.run(tiny, overrides=["rounds=2"], out=path, resume=True, progress=again)
    assert not any("is called" in text for text in again.said)
    assert configs.load(RunFolder(path).config).privacy.response_epsilon == 3.0


def test_secure_sums_of_labels(tiny: dict[str, Any], tmp_path: Path) -> None:
    """CFD's hard labels are votes like any other: the same accuracies, and the server sees sums only."""
    tiny["method"] = {"name": "cfd"}
    accuracies = []
    for name, tables in (("plain", {}), ("secure", {"privacy": {"secure": True}})):
        folder = RunFolder(spikefed.run({**tiny, **tables}, out=tmp_path / name))
        lines = folder.read_lines(folder.metrics)
        assert all(line["merged"] and not line["dropped"] for line in lines)
        accuracies.append([line["server_accuracy"] for line in lines])
    assert lines[0]["diagnostics"]["votes_summed"] == tiny["data"].get("clients", 4)
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.05)


def test_reports_lay_old_and_new_keys_on_each_other() -> None:
    new = configs.from_tree({"privacy": OLD}).resolved()
    old = configs.from_tree({"method": {"name": "fsd"}}).resolved()
    old["method"] |= OLD
    one, other = complete([new, old])
    assert one == other
