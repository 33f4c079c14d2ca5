"""A search file: the data, network and seed of an experiment, and a table ``[search]``; its folder, and going on."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field, ValidationError
from torch import Tensor

from spikefed.errors import ConfigError, DataError
from spikefed.experiment import toml
from spikefed.experiment.config import Experiment, Section, from_tree, overridden
from spikefed.experiment.dealing import deal
from spikefed.experiment.folder import RunFolder, json_lines, records
from spikefed.experiment.networks import neuron_for
from spikefed.experiment.pixels import preprocess_for
from spikefed.experiment.tables import own_tables, parse_override, read_tree
from spikefed.files import append_lines, write_atomic
from spikefed.networks.cells import CIFAR10
from spikefed.neurons import SendOnDelta
from spikefed.objects import check_keys
from spikefed.search import Limits, Macro, Objective, Plan, Record, Space, Task, front, mean_ranks, search

USED = {"extends", "preset", "name", "label", "seed", "data", "network", "search"}
"""Keys of a search file that have an effect; what it ``extends`` may be an experiment and hold the others."""

USED_OF_NETWORK = {"name", "twin", "steps", "norm", "coding", "delta", "neuron", "pooling"}
"""Of ``[network]``; name and twin are refused in a sentence of their own."""


class LimitsTable(Section):
    """What a device has; cells beyond a limit are left out."""

    parameters: float | None = Field(default=None, gt=0, description="numbers that are trained")
    macs: float | None = Field(default=None, gt=0, description="multiply-accumulates of one dense inference, all steps")
    flash_bytes: float | None = Field(default=None, gt=0, description="bytes of all tensors in float32")
    ram_bytes: float | None = Field(
        default=None, gt=0, description="bytes of all membrane potentials, and of the largest layer's input and output"
    )
    sops: float | None = Field(default=None, gt=0, description="weights that an image's spikes touch, untrained")


def _listed(given: Any) -> Any:
    """``sahd,-parameters``, as it is typed behind ``--set``, is a list too."""
    return [part.strip() for part in given.split(",")] if isinstance(given, str) else given


class SearchTable(Section):
    """The table ``[search]``."""

    space: Literal["forward", "backward"] = Field(
        default="backward", description="cells within a time step only, or with edges backward in time too [SNASNet]"
    )
    ops: Annotated[str, BeforeValidator(lambda given: str(given) if type(given) is int else given)] = Field(
        default="01234",
        min_length=1,
        description="codes of the operations: 0 none, 1 skip, 2 and 3 convolutions, 4 mean [LightSNN: 013]",
    )
    sizes: str = Field(
        default="width=16,hidden=64,vote=1", description="sizes of the network around the cells, as in cell:ROWS:SIZES"
    )
    strategy: Literal["random", "exhaustive", "evolution", "nsga2"] = Field(
        default="random", description="how cells are chosen [SNASNet: random]"
    )
    objectives: Annotated[list[str], BeforeValidator(_listed)] = Field(
        default=["sahd"],
        min_length=1,
        description="what is good, the first decides: sahd, hd, parameters, macs, spikes, sops, snip, ensemble; -NAME "
        "for little of it",
    )
    cells: int = Field(default=500, ge=1, description="cells to ask for, repeats counted [SNASNet: 5000]")
    seconds: float | None = Field(
        default=None, gt=0, description="processor seconds after which no more are asked for; default: no limit"
    )
    images: int = Field(default=32, ge=2, le=4096, description="images of a batch [SNASNet: 256]")
    batches: int = Field(default=2, ge=1, description="batches over which a score is averaged [SNASNet: 2]")
    on: Literal["public", "private", "clients"] = Field(
        default="public",
        description="whose images: the public set, all private ones, or each client its own (scalars travel, ranks "
        "are averaged)",
    )
    limits: LimitsTable = LimitsTable()


@dataclass(frozen=True)
class SearchFile:
    """A search as its file says it.

    Attributes:
        config: data, network and seed, as of an experiment.
        table: the table ``[search]``.
    """

    config: Experiment
    table: SearchTable

    @property
    def plan(self) -> Plan:
        """What the search does.

        Raises:
            ConfigError: an objective or operation that is none; a score that stands twice among the objectives.
        """
        table = self.table
        objectives = tuple(Objective.parse(text) for text in table.objectives)
        names = [objective.score.name for objective in objectives]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ConfigError(f"score '{twice[0]}' stands more than once in search.objectives; leave it there once")
        return Plan(
            Space(table.space == "backward", table.ops),
            table.strategy,
            objectives,
            table.cells,
            table.seconds,
            self.config.seed,
        )

    def tree(self) -> dict[str, Any]:
        """Every setting that the search depends on."""
        whole = self.config.resolved()
        return {"seed": whole["seed"], "data": whole["data"], "network": whole["network"], "search": _told(self.table)}


def _told(table: SearchTable) -> dict[str, Any]:
    return table.model_dump(exclude_none=True)


def read_search(path: Path, overrides: Iterable[str] = ()) -> SearchFile:
    """Read and check a search file.

    Raises:
        ConfigError: no table ``[search]``, or anything wrong in the file.
    """
    overrides = list(overrides)
    tree = overridden(read_tree(path), overrides)
    if "search" not in tree:
        other = "compare" if "sweep" in tree else "run"
        raise ConfigError(f"{path} has no table [search]; add one, or give the file to 'spikefed {other}'")
    table = tree.pop("search")
    _check_keys(table, path)
    try:
        found = SearchTable.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        given = any(text.partition("=")[0].strip() == f"search.{where}" for text in overrides)
        told = "--set" if given else path
        raise ConfigError(f"'search.{where}' = {first.get('input')!r} in {told}: {first['msg']}") from error
    network = tree.setdefault("network", {})
    if "name" in network or network.get("twin", "snn") != "snn":
        raise ConfigError(f"{path} names a network, and a search makes its own; leave network.name and twin out")
    network["name"] = f"cell:{CIFAR10}:{found.sizes}"
    file = SearchFile(from_tree(tree, (), str(path)), found)
    file.plan  # noqa: B018  (refuses what no plan has)
    return file


def check_idle(path: Path, overrides: Iterable[str] = ()) -> None:
    """Refuse settings that a search does not read, for searches that are about to begin.

    Raises:
        ConfigError: such a setting in the file itself or in an override.
    """
    given = [(f"--set {text}", parse_override(text)) for text in overrides]
    for where, tree in ((str(path), own_tables(path)), *given):
        network = tree.get("network")
        idle = [key for key in tree if key not in USED]
        idle += [f"network.{key}" for key in network if key not in USED_OF_NETWORK] if isinstance(network, dict) else []
        if idle:
            named = ", ".join(f"'{key}'" for key in idle)
            them = "it" if len(idle) == 1 else "them"
            raise ConfigError(
                f"{named} in {where} would have no effect: a search trains nothing; leave {them} out here, and set "
                f"{them} in the experiment that trains the cell (processes of a search: --workers)"
            )


def _check_keys(table: Any, path: Path) -> None:
    if not isinstance(table, dict):
        raise ConfigError(f"'search' in {path} must be a table ([search]), not {table!r}")
    limits = table.get("limits", {})
    if not isinstance(limits, dict):
        raise ConfigError(f"'search.limits' in {path} must be a table ([search.limits]), not {limits!r}")
    for where, given, model in (("search", table, SearchTable), ("search.limits", limits, LimitsTable)):
        check_keys(given, model.model_fields, f"{where}.", f" in {path}")


def task_of(file: SearchFile, dataset: Any = None) -> Task:
    """Networks and images of a search.

    Raises:
        ConfigError, DataError: settings that do not fit the data; too few images.
    """
    config = file.config
    table = file.table
    train, _, split = deal(config, dataset)
    coding = SendOnDelta(config.network.delta) if config.network.coding == "delta" else config.network.coding
    given = {"norm": config.network.norm, "coding": coding, "pooling": config.network.pooling}
    options = {key: value for key, value in {**given, "neuron": neuron_for(config)}.items() if value is not None}
    macro = Macro(table.sizes, train.shape, train.classes, config.network.steps, options)
    macro.network(CIFAR10, config.seed)  # refuses sizes that do not fit
    private = [train.images[client.train] for client in split.clients]
    viewers = {"public": [split.public_images], "private": [torch.cat(private)], "clients": private}[table.on]
    preprocess = preprocess_for(config, train)
    shown = tuple(
        tuple(preprocess(x) for x in _batches(images, table, config.seed, number))
        for number, images in enumerate(viewers)
    )
    gradients = any(objective.score.learns for objective in file.plan.objectives)
    return Task(macro, config.seed, shown, Limits(**table.limits.model_dump()), gradients)


def _batches(images: Tensor, table: SearchTable, seed: int, viewer: int) -> Sequence[Tensor]:
    """Different images, drawn once for all cells; of two equal ones, which no network tells apart, one."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    wanted = table.images * table.batches
    taken: dict[bytes, Tensor] = {}
    for index in order.tolist():
        taken.setdefault(images[index].numpy().tobytes(), images[index])
        if len(taken) == wanted:
            return torch.stack(list(taken.values())).split(table.images)
    whose = f"client {viewer}" if table.on == "clients" else f"the {table.on} set"
    raise DataError(
        f"{whose} has {len(taken)} different images, and search.images x search.batches asks for {wanted}; ask for "
        "fewer, or deal out more"
    )


class SearchFolder(RunFolder):
    """Files of a search: its settings, a line for every scored cell, what came out."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.config = path / "search.toml"
        self.candidates = path / "candidates.jsonl"
        self.result = path / "search.json"


def run_search(
    path: Path,
    *,
    overrides: Iterable[str] = (),
    out: Path | None = None,
    workers: int = 1,
    tell: Callable[[int, int], None] | None = None,
) -> Path:
    """Search, or go on with the search in the folder; gives the folder.

    Args:
        path: the search file.
        overrides: ``table.key=value`` texts.
        out: the folder; default ``runs/NAME-search-seedS``.
        workers: processes that score; the result does not depend on it.
        tell: called after every batch with the cells asked for so far, and the budget.

    Raises:
        ConfigError: a bad file; a folder that holds another search or something else.
    """
    overrides = list(overrides)
    file = read_search(path, overrides)
    folder = SearchFolder(out or Path("runs") / f"{file.config.name}-search-seed{file.config.seed}")
    if not folder.exists():
        check_idle(path, overrides)
    with folder.held():
        known = _known(folder, file)
        task = task_of(file)
        if not folder.exists() or folder.config.read_text() != toml.dump(file.tree()):
            write_atomic(folder.config, toml.dump(file.tree()))

        def keep(new: Sequence[Record], asked: int, budget: int) -> None:
            if new:
                append_lines(folder.candidates, json_lines(new))
            if tell is not None:
                tell(asked, budget)

        found = search(file.plan, task, known, keep, workers)
        write_atomic(folder.result, json.dumps(outcome(file, found, len(task.shown)), indent=1) + "\n")
    return folder.path


def _known(folder: SearchFolder, file: SearchFile) -> list[Record]:
    """What an earlier search in this folder has scored.

    Raises:
        ConfigError: it was another search, or the folder holds something else.
    """
    others = [p.name for p in folder.path.iterdir() if not p.name.startswith(".")]
    if not folder.exists():
        if others:
            raise ConfigError(f"folder {folder.path} already holds other files; name another folder with --out")
        return []
    if _unbounded(tomllib.loads(folder.config.read_text())) != _unbounded(tomllib.loads(toml.dump(file.tree()))):
        raise ConfigError(f"folder {folder.path} holds a search with other settings; name another folder with --out")
    if not folder.candidates.is_file():
        return []
    whole, _, torn = folder.candidates.read_text().rpartition("\n")
    if torn:  # a crash in the middle of a line: what is appended next must begin one
        write_atomic(folder.candidates, f"{whole}\n" if whole else "")
    return records(folder.candidates)


def _unbounded(tree: dict[str, Any]) -> dict[str, Any]:
    """Settings without the budget, which may grow when a search is gone on with."""
    table = {key: value for key, value in tree["search"].items() if key not in ("cells", "seconds")}
    return {**tree, "search": table}


def outcome(file: SearchFile, found: Sequence[Record], viewers: int) -> dict[str, Any]:
    """What a search found: the best cell, the front, and what it took."""
    objectives = file.plan.objectives
    ranks = mean_ranks(found, objectives[:1])
    rows = front(found, objectives)
    best = rows[0]
    told = {
        "best": best["network"],
        "cell": best["cell"],
        "objectives": [str(objective) for objective in objectives],
        "scored": len(found),
        "over_limits": sum(record["over"] is not None for record in found),
        "seconds": round(sum(record["seconds"] for record in found), 3),
        "front": [{**row, "rank": ranks[row["cell"]]} for row in rows],
    }
    if file.table.on == "clients":  # float64 from every client; the cells' names go the other way
        shown = [record["cell"] for record in found if "sahd" in record]  # the server knows by itself what is too large
        told["upstream_bytes"] = 8 * len(_sent(file)) * len(shown) * viewers
        told["downstream_bytes"] = sum(len(cell) for cell in shown) * viewers
    return told


def _sent(file: SearchFile) -> set[str]:
    """Figures that a client sends of every cell: those that its images decide, and objectives or a limit ask for."""
    scores = [objective.score for objective in file.plan.objectives]
    names = {score.name for score in scores if score.looks or score.learns}
    names |= {"sahd", "spikes"} if any(score.ranks for score in scores) else set()
    return names | ({"sops"} if file.table.limits.sops is not None else set())
