"""Commands that look at things: list, describe, data."""

from __future__ import annotations

import dataclasses
import enum
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from spikefed.cli.app import app, codec_app, data_app
from spikefed.cli.options import DataDir, Json, Overrides, Shares, overrides
from spikefed.errors import ConfigError
from spikefed.objects import is_own, nearest

if TYPE_CHECKING:
    from torch import Tensor

    from spikefed.experiment.settings import Part


class Kind(enum.StrEnum):
    """What can be listed."""

    datasets = "datasets"
    networks = "networks"
    methods = "methods"
    codecs = "codecs"
    probes = "probes"
    presets = "presets"
    settings = "settings"


def _rows(kind: Kind) -> list[dict[str, str]]:
    from spikefed import data, networks, wire
    from spikefed.experiment import presets
    from spikefed.federated import METHODS
    from spikefed.probes import PROBES

    if kind is Kind.datasets:
        return [
            {"name": d.name, "classes": str(d.classes), "image": "x".join(map(str, d.shape)), "licence": d.licence}
            for d in data.datasets()
        ] + [
            {
                "name": name,
                "classes": str(d.classes),
                "image": "T x " + "x".join(map(str, d.shape)),
                "licence": "see its page",
            }
            for name, d in data.EVENT_SETS.items()
        ]
    if kind is Kind.networks:
        return [{"name": n.name, "summary": n.summary} for n in networks.networks()]
    if kind is Kind.methods:
        return [{"name": name, "summary": cls.summary} for name, cls in sorted(METHODS.items())]
    if kind is Kind.probes:
        return [{"name": name, "summary": cls.summary} for name, cls in sorted(PROBES.items())]
    if kind is Kind.codecs:
        return [{"name": c.name, "kind": c.kind, "summary": c.description} for c in wire.codecs()]
    return [{"name": name, "summary": text} for name, text in presets().items()]


def _parts(name: str | None) -> list[Part]:
    """All tables, methods and probes with their settings, or the one of this name."""
    from spikefed.experiment.settings import own_part, parts

    if name is not None and is_own(name):
        return [own_part(name)]
    known = parts()
    chosen = known if name is None else [part for part in known if name in (part.name, part.of)]
    if not chosen:
        names = [part.name for part in known if part.name]
        raise ConfigError(f"no table, method or probe is called '{name}'; the nearest is '{nearest(str(name), names)}'")
    return chosen


def _as_toml(part: Part) -> str:
    """Settings as an experiment file would hold them, those without a default as comments."""
    lines = [part.heading] if part.name else []
    lines += [f"# {' '.join(part.summary.split())}"] if part.summary else []
    lines += ["# no settings of its own, but those of [training]"] if not part.settings else []
    for s in part.settings:
        lines.append(f"{s.key} = {s.default}" if s.default else f"# {s.key} =")
        lines[-1] += f"  # {s.type}: {s.meaning}" if s.type else f"  # {s.meaning}"
    return "\n".join(lines)


@app.command("list")
def list_(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    part: Annotated[
        str | None,
        typer.Argument(
            help="Of settings: one table, such as participation, or one method or probe, such as cfd or module:Class."
        ),
    ] = None,
    json_: Json = False,
) -> None:
    """List data sets, networks, methods, codecs, probes or presets, or all settings of an experiment file."""
    if part is not None and kind is not Kind.settings:
        raise ConfigError(f"'{part}' is for 'spikefed list settings' alone; leave it out")
    if kind is Kind.settings:
        chosen = _parts(part)
        text = json.dumps([dataclasses.asdict(p) for p in chosen], indent=1)
        print(text if json_ else "\n\n".join(_as_toml(p) for p in chosen))
        return
    rows = _rows(kind)
    if json_:
        print(json.dumps(rows, indent=1))
        return
    table = Table(*rows[0], box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row.values())
    Console(emoji=False).print(table)
    if kind is Kind.networks:
        print(
            "or a layout such as 32C3-AP2-64C3-AP2-128FC, cells such as cell:0303-0030-2002-0200:width=32, nir:FILE, "
            "or your own as module:callable"
        )


def _refuse_paths(network: str) -> None:
    """Say the name of the network that an experiment file or a run's folder holds, where one was given instead."""
    path = Path(network)
    path = path / "config.toml" if path.is_dir() else path
    if path.suffix == ".toml" and path.is_file():
        from spikefed.experiment import config

        net = config.load(path).network
        raise ConfigError(
            f"{network} is no network but holds an experiment's settings; its network is '{net.name}': spikefed "
            f"describe {net.name} --steps {net.steps} --input CxHxW"
        )


@app.command()
def describe(
    network: Annotated[
        str, typer.Argument(help="Network name (see 'spikefed list networks'), nir:FILE, or module:callable.")
    ],
    input: Annotated[str, typer.Option("--input", metavar="CxHxW", help="Image shape, such as 3x32x32.")] = "1x28x28",
    steps: Annotated[int, typer.Option("--steps", min=1, help="Time steps T.")] = 8,
    classes: Annotated[int, typer.Option("--classes", min=2, help="Number of classes.")] = 10,
    norm: Annotated[str | None, typer.Option("--norm", help="none, bn, tdbn or bntt (default: the network's).")] = None,
    pooling: Annotated[
        str | None, typer.Option("--pooling", help="average, max or stride (default: the network's).")
    ] = None,
    ann: Annotated[bool, typer.Option("--ann", help="The network's ANN twin.")] = False,
    masks: Annotated[
        Path | None, typer.Option("--masks", metavar="FILE", help="Model file whose masks say which weights are left.")
    ] = None,
    paths: Annotated[
        bool, typer.Option("--paths", help="Say too which kernel each layer takes on 32 images of noise, and why.")
    ] = False,
    precision: Annotated[
        str | None, typer.Option("--precision", help="Of --paths: float32, bfloat16 or auto (default: float32).")
    ] = None,
    json_: Json = False,
) -> None:
    """Layers, shapes, weights, state bytes and multiply-accumulates of a network."""
    from spikefed import networks
    from spikefed.neurons import fastest_precision, settle_precision

    _refuse_paths(network)
    if paths and json_:
        raise ConfigError("--paths is text for people and not in the JSON; leave --json or --paths out")
    if precision is not None and not paths:
        raise ConfigError("--precision decides which kernels layers take and changes nothing else here; add --paths")
    settled = settle_precision(precision or "float32")
    styles: dict[str, Any] = {"norm": norm, "pooling": pooling}
    try:
        shape = tuple(int(part) for part in input.lower().split("x"))
    except ValueError:
        shape = ()
    if len(shape) != 3 or min(shape) < 1:
        raise ConfigError(f"--input '{input}' is not channels x height x width; write --input 3x32x32")
    net = _network(network, shape, steps, classes, ann, styles)
    kept = None if masks is None else networks.read_tensors(masks).kept
    if masks is not None and not kept:
        raise ConfigError(f"{masks} holds no masks: all weights of its network are left; leave --masks out")
    description = networks.describe(net, kept=kept)
    if paths:
        net.precision = settled
    chosen = networks.explain(net) if paths else []  # wrong variables are refused before anything is printed
    print(description.to_json() if json_ else description)
    for path in chosen:
        print(path)
    if paths:
        print(f"network.precision = 'auto' is {fastest_precision()} on this machine")


def _network(name: str, shape: tuple[int, ...], steps: int, classes: int, ann: bool, styles: dict[str, Any]) -> Any:
    """What `describe` is asked of, untrained."""
    from spikefed import networks

    if name.startswith("nir:"):
        from spikefed.interop import nir_name, read_nir

        path, dt = nir_name(name)
        return read_nir(path, steps=steps, dt=dt)
    if is_own(name):
        return networks.build_own(name, input_shape=shape, classes=classes, steps=steps, readout="current")
    if ann:
        return networks.ann_twin(name, input_shape=shape, classes=classes, **styles)
    return networks.build(name, input_shape=shape, classes=classes, steps=steps, **styles)


@data_app.command()
def check(
    names: Annotated[list[str] | None, typer.Argument(help="Data sets (default: all).")] = None,
    data_dir: DataDir = None,
    json_: Json = False,
) -> None:
    """Say which data sets are here, whole and unaltered."""
    import dataclasses

    from spikefed import data

    rows = data.check(data_dir, names or None)
    if json_:
        print(json.dumps([dataclasses.asdict(row) for row in rows], indent=1, default=str))
        return
    table = Table("data set", "status", "images", "what", box=None, pad_edge=False)
    for row in rows:
        counts = ", ".join(f"{split} {count:,}" for split, count in row.counts.items())
        table.add_row(row.name, row.status, counts, row.message or str(row.folder or "embedded"))
    Console(emoji=False).print(table)


@data_app.command()
def show(
    name: Annotated[str, typer.Argument(help="Data set name or source of your own; or an experiment file.")],
    set_: Overrides = None,
    shares: Shares = None,
    data_dir: DataDir = None,
    json_: Json = False,
) -> None:
    """Read a data set and say what is in it; of an experiment file, picture who holds what before a run."""
    from spikefed import data, experiment

    if not name.endswith(".toml") and (set_ or shares):
        raise ConfigError(f"--set and --data change an experiment, and '{name}' is none; give its file (TOML)")
    if name.endswith(".toml"):
        held = experiment.holdings(experiment.load(Path(name), overrides(set_, data_dir, shares)))
        print(json.dumps(held.rows(), indent=1)) if json_ else Console(emoji=False).print(held.table())
        for note in held.notes if not json_ else ():
            print(note)
        return
    parts = [part for part in data.load_sources(name, data_dir) if part is not None]
    rows = [
        {
            "split": part.split,
            "images": len(part),
            "image": "x".join(map(str, part.images.shape[1:])),
            "classes": part.classes,
            "per_class": part.labels.bincount(minlength=part.classes).tolist(),
            "pixels": _span(part.images[:1000]),
        }
        for part in parts
    ]
    names = parts[0].class_names
    columns = {key: len(set(v.tolist())) for key, v in parts[0].columns.items()}
    if json_:
        told = {**({"class_names": names} if names else {}), **({"columns": columns} if columns else {})}
        print(json.dumps({"name": name, "parts": rows, **told}, indent=1))
        return
    table = Table("split", "images", "image", "classes", "images of a class", "values", box=None, pad_edge=False)
    for row in rows:
        low, high = min(row["per_class"]), max(row["per_class"])
        of_class = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        span = "{:.4g} to {:.4g}".format(*row["pixels"])
        table.add_row(row["split"], f"{row['images']:,}", row["image"], str(row["classes"]), of_class, span)
    Console(emoji=False).print(table)
    if names:
        print(f"classes: {', '.join(names[:12])}" + (f" and {len(names) - 12} more" if len(names) > 12 else ""))
    for key, count in columns.items():
        print(f"column '{key}' has {count:,} values: data.partition = 'column' and data.by = '{key}' make them clients")
    for note in parts[0].notes:
        print(note)


def _span(images: Tensor) -> list[int | float]:
    """Smallest and largest value."""
    return [images.min().item(), images.max().item()]


@data_app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="Data set name (see 'spikefed list datasets').")], data_dir: DataDir = None
) -> None:
    """Download a data set from its official address and verify it."""
    from spikefed import data

    print(data.fetch(name, data_dir))


@codec_app.command()
def bench(
    run: Annotated[Path, typer.Argument(help="Run folder made with --set run.record_streams=true.")],
    data_dir: DataDir = None,
    json_: Json = False,
) -> None:
    """Send a recorded run's spikes through every codec: bytes by round and direction, entropy, speed."""
    from spikefed import experiment
    from spikefed.wire.bench import codec_bench, round_lines, table

    found = codec_bench(run, experiment.alike_rows(run, data_dir))
    if json_:
        print(json.dumps(found, indent=1))
        return
    shown = Table("codec", "up B", "down B", "to Alg. 2", "B/row", "enc M/s", "dec M/s", box=None, pad_edge=False)
    for row in table(found):
        shown.add_row(*row)
    Console(emoji=False).print(shown)
    print("\n".join(round_lines(found)))
