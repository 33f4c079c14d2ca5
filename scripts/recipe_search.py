"""Search FSD+'s defaults over several data sets at once, on validation images, and keep every trial as a small JSON.

    python scripts/recipe_search.py run STORE --trials 12 [--tasks digits-iid ...] [--data-dir DATA]
    python scripts/recipe_search.py ask STORE silence=4 balance=1    # a trial by hand: the recipe but for these
    python scripts/recipe_search.py collect STORE results/recipe     # every trial, finished or pruned
    python scripts/recipe_search.py table results/recipe             # the section of docs/results.md

``STORE`` is a folder outside git: optuna's journal and the run folders. A search goes on where it stopped; a trial that
was cut off is asked for again and goes on with its runs. The sampler is TPE (seeded; univariate), the pruner the median
of the trials before, from the fourth task on. All rehearse the cheap way (16 rows, half of the steps: a client's round
for 1.28 times FedAvg's time). Trial 0 is the recipe as it stands, trial 1 the levers of
experiments/fsdplus-fashion-mnist-skewed.toml; `ask` gives one by hand, and a trial that was given, not drawn, says so
in its file. What a trial is worth: the mean over the tasks of the server's accuracy on held-out private images after
the last round. No test image is looked at.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import optuna
from optuna.storages.journal import JournalFileBackend
from pages import filled

import spikefed
from spikefed.experiment import RunFolder, from_tree
from spikefed.federated.methods.fsdplus import FsdPlusHyperparameters
from spikefed.files import write_atomic

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results.md"
BEGIN, END = "<!-- recipe search: made by scripts/recipe_search.py -->", "<!-- end of recipe search -->"
SEED = 0
WARM = 3
"""A trial is not pruned by so many of the first tasks: one of them alone is noise."""
SKEWED = {"partition": "dirichlet", "alpha": 0.1}
MILD = {"partition": "dirichlet", "alpha": 0.5}
CHEAP = {"rehearse_batch": 16, "rehearse_steps": 4}
DIGITS = {
    "rounds": 4,
    "data": {"dataset": "digits", "clients": 4, "private_per_client": 250, "validation": 0.3, "public": 400},
    "training": {"local_epochs": 3, "local_batch": 16, "lr": 3e-3},
    "network": {"name": "small", "steps": 8},
    "method": {"distil_batch": 20, "distil_lr": 3e-3, **CHEAP},
}
IMAGES = {
    "rounds": 3,
    "data": {"clients": 4, "private_per_client": 1000, "validation": 0.3, "public": 800},
    "training": {"local_epochs": 2, "lr": 1e-3},
    "network": {"name": "small", "steps": 8, "precision": "bfloat16"},
    "method": CHEAP,
}
TASKS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "digits-dirichlet-0.1": (DIGITS, SKEWED),
    "digits-dirichlet-0.5": (DIGITS, MILD),
    "digits-iid": (DIGITS, {}),
    "fashion-mnist-dirichlet-0.1": (IMAGES, {"dataset": "fashion-mnist", **SKEWED}),
    "cifar10-dirichlet-0.1": (IMAGES, {"dataset": "cifar10", **SKEWED}),
    "fashion-mnist-iid": (IMAGES, {"dataset": "fashion-mnist"}),
    "cifar10-iid": (IMAGES, {"dataset": "cifar10"}),
    "fashion-mnist-dirichlet-0.5": (IMAGES, {"dataset": "fashion-mnist", **MILD}),
    "cifar10-dirichlet-0.5": (IMAGES, {"dataset": "cifar10", **MILD}),
}
"""By name: the tables of an experiment, and what its data differ in. A pruned trial skips the later ones."""


@dataclass(frozen=True)
class Lever:
    """A key of FSD+ and the numbers that the search may give it.

    Attributes:
        low: the least.
        high: the greatest.
        log: drawn evenly in their logarithms.
        whole: whole numbers alone.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def drawn(self, trial: optuna.Trial, name: str) -> float:
        """The trial's number."""
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


LEVERS = {
    "confidence": Lever(1.0, 8.0),
    "label_weight": Lever(0.0, 0.5),
    "rehearse": Lever(0.5, 4.0, log=True),
    "server_epochs": Lever(4, 12, log=True, whole=True),
    "logit_scale": Lever(3.0, 8.0, log=True),
    "silence": Lever(0.0, 8.0),
    "balance": Lever(0.0, 1.0),
}
"""What is searched, of `FsdPlusHyperparameters` and `LocalTraining`."""


SKEWED_FILE = {"rehearse": 3.0, "silence": 4.0, "balance": 1.0}
"""What experiments/fsdplus-fashion-mnist-skewed.toml says of these levers."""


def recipe() -> dict[str, float]:
    """The levers as the recipe has them."""
    standing = FsdPlusHyperparameters()
    return {name: getattr(standing, name) for name in LEVERS}


def experiment(task: str, levers: Mapping[str, float]) -> dict[str, Any]:
    """The tables of a task with these levers."""
    base, data = TASKS[task]
    training = base["training"] | {"logit_scale": levers["logit_scale"]}
    method = {"name": "fsd+", **base["method"]} | {k: v for k, v in levers.items() if k != "logit_scale"}
    return {
        "name": f"recipe-{task}",
        "seed": 20 + SEED,
        "rounds": base["rounds"],
        "data": {**base["data"], **data, "evaluate_on": "validation"},
        "network": base["network"],
        "training": training,
        "method": method,
        "run": {"threads": 1},
    }


def measured(task: str, levers: Mapping[str, float], out: Path, data_dir: str | None = None) -> float:
    """The server's accuracy after the last round, in [0, 1]; a run that was cut off goes on."""
    overrides = [f"data.dir={data_dir}"] if data_dir else []
    folder = RunFolder(spikefed.run(experiment(task, levers), out=out, overrides=overrides, resume=True))
    return float(folder.read_lines(folder.metrics)[-1]["server_accuracy"])


def objective(
    tasks: list[str], store: Path, measure: Callable[[str, Mapping[str, float], Path], float]
) -> Callable[[optuna.Trial], float]:
    """What optuna maximises: the mean over the tasks in their order; a hopeless trial sees the first few alone."""

    def value(trial: optuna.Trial) -> float:
        levers = {name: lever.drawn(trial, name) for name, lever in LEVERS.items()}
        found: dict[str, float] = {}
        for step, task in enumerate(tasks):
            mark = from_tree(experiment(task, levers)).hash()[:12]
            found[task] = measure(task, levers, store / "runs" / f"{task}-{mark}")
            trial.set_user_attr("accuracies", dict(found))
            trial.report(mean(found.values()), step)
            if step + 1 < len(tasks) and trial.should_prune():
                raise optuna.TrialPruned
        return mean(found.values())

    return value


def begun(store: Path) -> optuna.Study:
    """The search in this folder, as it stands; another process may be at it."""
    store.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = JournalFileBackend(str(store / "journal.log"))
    return optuna.create_study(
        study_name="recipe",
        storage=optuna.storages.JournalStorage(journal),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=WARM),
        direction="maximize",
        load_if_exists=True,
    )


def opened(store: Path) -> optuna.Study:
    """The search, for who runs it: begun with the recipe if new; a trial that was cut off is asked for again."""
    study = begun(store)
    # Seeded anew in each sitting: the same numbers again would be the same trials again.
    study.sampler = optuna.samplers.TPESampler(seed=SEED + len(study.trials), n_startup_trials=4)
    if not study.trials:
        study.enqueue_trial(recipe())
        study.enqueue_trial(recipe() | SKEWED_FILE)
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.system_attrs.get("fixed_params") or trial.params)
    return study


def ask(store: Path, levers: Mapping[str, float]) -> None:
    """A trial to run next: the recipe but for these levers."""
    begun(store).enqueue_trial({**recipe(), **levers})


def ended(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Trials that were finished or pruned."""
    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    return study.get_trials(deepcopy=False, states=states)


def search(store: Path, trials: int, tasks: list[str], data_dir: str | None = None) -> None:
    """Go on until so many trials have ended."""
    study = opened(store)
    value = objective(tasks, store, lambda task, levers, out: measured(task, levers, out, data_dir))

    def tell(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        shares = trial.user_attrs["accuracies"]
        print(trial.number, trial.state.name, {k: round(v, 4) for k, v in shares.items()}, trial.params, flush=True)
        if len(ended(study)) >= trials:
            study.stop()

    if len(ended(study)) < trials:
        study.optimize(value, callbacks=[tell])


def collect(store: Path, folder: Path) -> None:
    """One JSON a trial, and what the search was."""
    study = begun(store)
    folder.mkdir(parents=True, exist_ok=True)
    facts = next(iter(sorted((store / "runs").glob("*/provenance.json"))))
    kept = {key: json.loads(facts.read_text())[key] for key in ("spikefed", "commit", "torch", "python")}
    told = {
        "sampler": "TPE, seed 0 plus the trials before the sitting, the first 4 trials not from it",
        "pruner": f"median, 3 trials first, {WARM} tasks first",
        "optuna": optuna.__version__,
    }
    for trial in ended(study):
        record = {
            "trial": trial.number,
            "state": trial.state.name.lower(),
            "value": trial.value if trial.state.name == "COMPLETE" else None,
            "accuracies": trial.user_attrs["accuracies"],
            "levers": trial.params,
            "given": "fixed_params" in trial.system_attrs,
            "search": told,
            "provenance": kept,
        }
        write_atomic(folder / f"trial-{trial.number}.json", json.dumps(record, indent=1) + "\n")


def table(folder: Path) -> list[str]:
    """Trials from the best on, pruned ones last; accuracies in %."""
    records = [json.loads(path.read_text()) for path in folder.glob("trial-*.json")]
    records.sort(key=lambda r: (r["value"] is None, -(r["value"] or 0.0), r["trial"]))
    tasks = [task for task in TASKS if any(task in r["accuracies"] for r in records)]
    lines = [f"| trial | {' | '.join(f'`{name}`' for name in LEVERS)} | {' | '.join(tasks)} | mean |"]
    lines.append("|" + " --- |" * (2 + len(LEVERS) + len(tasks)))
    for r in records:
        levers = [
            f"{r['levers'].get(name, recipe()[name]):.3g}" for name in LEVERS
        ]  # a lever of a later search stood still
        shares = [f"{100 * r['accuracies'][task]:.1f}" if task in r["accuracies"] else "" for task in tasks]
        value = "pruned" if r["value"] is None else f"{100 * r['value']:.2f}"
        named = f"{r['trial']}, the recipe" if r["levers"] == recipe() else str(r["trial"])
        lines.append(f"| {' | '.join([named, *levers, *shares, value])} |")
    return lines


def main(arguments: list[str]) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("store", type=Path)
    run.add_argument("--trials", type=int, default=12)
    run.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    run.add_argument("--data-dir")
    given = commands.add_parser("ask")
    given.add_argument("store", type=Path)
    given.add_argument("levers", nargs="+", type=lambda text: (text.split("=")[0], float(text.split("=")[1])))
    keep = commands.add_parser("collect")
    keep.add_argument("store", type=Path)
    keep.add_argument("folder", type=Path)
    commands.add_parser("table").add_argument("folder", type=Path)
    args = parser.parse_args(arguments)
    if args.command == "run":
        search(args.store, args.trials, args.tasks, args.data_dir)
    elif args.command == "ask":
        ask(args.store, dict(args.levers))
    elif args.command == "collect":
        collect(args.store, args.folder)
    else:
        PAGE.write_text(filled(PAGE.read_text(), BEGIN, END, "\n".join(table(args.folder))))


if __name__ == "__main__":
    main(sys.argv[1:])
