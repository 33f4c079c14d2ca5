"""scripts/recipe_search.py: it begins with the recipe, goes on where it was cut off, and every trial is kept."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from spikefed.experiment import from_tree
from spikefed.experiment.config import load

pytest.importorskip("optuna")
ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "scripts").is_dir(), reason="no checkout")
TASKS = ["digits-iid", "fashion-mnist-iid", "cifar10-iid", "digits-dirichlet-0.5", "cifar10-dirichlet-0.5"]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("recipe_search")


def standing(task: str, levers: Mapping[str, float], out: Path, data_dir: str | None = None) -> float:
    """A stand-in for a run: the less silence the better."""
    out.mkdir(parents=True, exist_ok=True)
    facts = dict.fromkeys(("spikefed", "commit", "torch", "python"), "x")
    (out / "provenance.json").write_text(json.dumps(facts))
    return 0.9 - levers["silence"] / 20


def test_every_task_is_an_experiment_on_validation_images(script: Any) -> None:
    for task in script.TASKS:
        config = from_tree(script.experiment(task, script.recipe()))
        assert config.data.evaluate_on == "validation" and config.method["name"] == "fsd+"
        assert config.training["logit_scale"] == script.recipe()["logit_scale"]


def test_the_second_trial_is_the_file_for_skewed_labels(script: Any) -> None:
    config = load(ROOT / "experiments" / "fsdplus-fashion-mnist-skewed.toml", [])
    levers = script.recipe() | script.SKEWED_FILE
    assert {name: config.method.get(name, value) for name, value in levers.items()} == levers
    assert script.CHEAP.items() <= config.method.items()


def test_the_recipe_lies_within_what_is_searched(script: Any) -> None:
    assert all(lever.low <= script.recipe()[name] <= lever.high for name, lever in script.LEVERS.items())


def test_a_search_goes_on_and_keeps_every_trial(script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "measured", standing)
    store, kept = tmp_path / "store", tmp_path / "kept"
    script.search(store, 3, TASKS)
    script.search(store, 8, TASKS)
    script.search(store, 8, TASKS)  # all there
    script.collect(store, kept)
    records = [json.loads(path.read_text()) for path in kept.glob("*.json")]
    assert len(records) == 8
    assert next(r for r in records if r["trial"] == 0)["levers"] == script.recipe()
    assert len({json.dumps(r["levers"], sort_keys=True) for r in records}) == 8, "no sitting repeats another"
    pruned = [r for r in records if r["state"] == "pruned"]
    assert pruned and all(len(r["accuracies"]) < len(TASKS) and r["value"] is None for r in pruned)
    whole = [r for r in records if r["state"] == "complete"]
    assert all(r["value"] == pytest.approx(0.9 - r["levers"]["silence"] / 20) for r in whole)
    lines = script.table(kept)
    assert len(lines) == 10 and lines[2].count("|") == lines[0].count("|")
    best = max(whole, key=lambda r: (r["value"], -r["trial"]))
    assert lines[2].startswith(f"| {best['trial']}") and lines[-1].endswith("| pruned |")


def test_a_trial_given_by_hand_is_run_and_says_so(script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "measured", standing)
    store, kept = tmp_path / "store", tmp_path / "kept"
    script.search(store, 3, TASKS)
    script.main(["ask", str(store), "silence=4", "balance=0.5"])
    script.search(store, 5, TASKS)
    script.collect(store, kept)
    records = {r["trial"]: r for r in (json.loads(path.read_text()) for path in kept.glob("*.json"))}
    assert records[3]["levers"] == script.recipe() | {"silence": 4.0, "balance": 0.5}
    assert [records[n]["given"] for n in range(5)] == [True, True, False, True, False]


def test_a_trial_that_was_cut_off_is_asked_for_again(script: Any, tmp_path: Path) -> None:
    class Cut(Exception):
        pass

    def cut(task: str, levers: Mapping[str, float], out: Path) -> float:
        raise Cut

    study = script.opened(tmp_path)
    trial = study.ask()
    with pytest.raises(Cut):
        script.objective(TASKS, tmp_path, cut)(trial)
    script.opened(tmp_path).ask()  # and cut off again, before it began
    seen: list[Mapping[str, float]] = []

    def note(task: str, levers: Mapping[str, float], out: Path) -> float:
        seen.append(dict(levers))
        return 0.5

    study = script.opened(tmp_path)
    script.objective(TASKS, tmp_path, note)(study.ask())
    assert seen[0] == script.recipe()
    assert [trial.state.name for trial in study.get_trials(deepcopy=False)][:2] == ["FAIL", "FAIL"]


def test_the_page_has_the_table_of_the_kept_trials(script: Any) -> None:
    lines = script.table(ROOT / "results" / "recipe")
    assert len(lines) > 5 and "\n".join(lines) in script.PAGE.read_text()
