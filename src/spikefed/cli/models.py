"""Commands for trained networks: predict, export, shrink."""

from __future__ import annotations

import enum
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from spikefed.cli.app import app
from spikefed.cli.console import note as note_of
from spikefed.cli.console import warn
from spikefed.cli.options import Json, Quietly
from spikefed.errors import ConfigError

if TYPE_CHECKING:
    from spikefed.models import Predictions

SHOWN = 20
"""Lines of the table; a test set of thousands belongs into a file."""


@app.command()
def predict(
    run: Annotated[
        str, typer.Argument(metavar="RUN|MODEL", help="Run folder, RUN@ROUND for a checkpoint, or a model file.")
    ],
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGES...", help="Pictures, folders of them, .npz, .npy or .csv files; - for standard input."
        ),
    ],
    client: Annotated[
        int | None, typer.Option("--client", min=0, help="This client's own network instead of the server's.")
    ] = None,
    levels: Annotated[
        str | None, typer.Option("--levels", metavar="BLACK,WHITE", help="Numbers of black and white, as 0,255.")
    ] = None,
    resize: Annotated[bool, typer.Option("--resize", help="Resize images of another size.")] = False,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Seed of the input coding (default: the run's).")
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Every image as a line of CSV.")] = False,
    quiet: Quietly = False,
    json_: Json = False,
) -> None:
    """Say what a trained network sees in images. It needs no data set."""
    from spikefed.experiment import load_model

    if csv and json_:
        raise ConfigError("--csv and --json are two ways to print the same; give one of them")
    found = load_model(run, client=client).predict(images, levels=_levels(levels), resize=resize, seed=seed)
    say = note_of(quiet)
    for text in found.notes:
        say(text)
    if silent := int(found.silent.sum()):
        warn(f"no output neuron fires on {silent} of {len(found)} images; what is said of them is the first class")
    if json_:
        rows = [asdict(one) for one in found]
        told = {"accuracy": found.accuracy, "ms_an_image": round(1e3 * found.seconds / len(found), 4), "images": rows}
        print(json.dumps(told, indent=1, ensure_ascii=False))
    elif csv:
        print(found.to_csv(), end="")
    else:
        _show(found)


class To(enum.StrEnum):
    """Where a network can go."""

    torch = "torch"
    onnx = "onnx"
    nir = "nir"
    c = "c"


class Weights(enum.StrEnum):
    """How the C file holds weights."""

    float32 = "float32"
    int8 = "int8"


class Lists(enum.StrEnum):
    """Where the C file holds a pruned layer as lists of the weights that are left."""

    auto = "auto"
    vectors = "vectors"
    never = "never"


@app.command()
def export(
    run: Annotated[
        str, typer.Argument(metavar="RUN|MODEL", help="Run folder, RUN@ROUND for a checkpoint, or a model file.")
    ],
    to: Annotated[To, typer.Option("--to", help="A script that needs torch alone, ONNX, NIR, or a C99 file.")],
    out: Annotated[Path | None, typer.Option("--out", help="File to write (default: beside the model).")] = None,
    client: Annotated[
        int | None, typer.Option("--client", min=0, help="This client's own network instead of the server's.")
    ] = None,
    weights: Annotated[
        Weights | None, typer.Option("--weights", help="Of a C file; int8 takes a quarter of float32's flash.")
    ] = None,
    lists: Annotated[
        Lists | None,
        typer.Option(
            "--lists",
            help="Of a C file: pruned layers as lists of the weights that are left, where that is smaller and faster: "
            "without vector units (auto: at most half left), with them too (vectors: a fiftieth), or never.",
        ),
    ] = None,
    json_: Json = False,
) -> None:
    """Write a trained network as a file for somewhere else."""
    from spikefed.experiment import load_model
    from spikefed.models import FORMATS
    from spikefed.models import export as write

    model = load_model(run, client=client)
    path = out if out is not None else _beside(run, client, FORMATS[to].suffix)
    options = {"weights": weights, "lists": lists}
    made = write(model, to, path, **{key: word.value for key, word in options.items() if word is not None})
    for text in made.notes:
        warn(text)
    if json_:
        print(json.dumps({"path": str(made.path), "format": made.format, **made.facts}, indent=1))
        return
    numbers = {key: value for key, value in made.facts.items() if key != "readers"}
    print(f"wrote {made.path}: {', '.join(f'{_words(key)} {value:,}' for key, value in numbers.items())}")
    if "readers" in made.facts:
        _show_readers(made.facts["readers"])


@app.command()
def shrink(
    run: Annotated[
        str, typer.Argument(metavar="RUN|MODEL", help="Run folder, RUN@ROUND for a checkpoint, or a model file.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Model file to write (default: model-small.safetensors beside it).")
    ] = None,
    client: Annotated[
        int | None, typer.Option("--client", min=0, help="This client's own network instead of the server's.")
    ] = None,
    json_: Json = False,
) -> None:
    """Take the dead channels or branches out of a pruned network; the small one is a model file like any other."""
    from spikefed.experiment import shrink as write

    path = out if out is not None else _beside(run, client, "-small.safetensors")
    told = write(run, path, client=client)
    if told["parameters"] == told["whole_parameters"]:
        warn(f"no channel or branch of {told['whole']} is dead; the file holds the whole network")
    if json_:
        print(json.dumps(told, indent=1))
        return
    print(
        f"wrote {told['path']}: {told['network']}, {told['parameters']:,} of {told['whole_parameters']:,} parameters, "
        f"{told['file_bytes']:,} bytes"
    )


def _show_readers(readers: dict[str, dict[str, Any]]) -> None:
    """The pre-flight table: what each known reader will make of the file."""
    table = Table("reader", "takes it", "why not, or what to mind", "tested here", box=None, pad_edge=False)
    for name, told in readers.items():
        table.add_row(name, "yes" if told["takes"] else "no", told["why"], "yes" if told["tested"] else "no")
    Console(emoji=False).print(table)


def _beside(run: str, client: int | None, suffix: str) -> Path:
    """``RUN/model.SUFFIX``, with the round or client in its name where it is not the run's own network."""
    name, at, number = run.rpartition("@")
    place, round = (Path(name), number) if at and Path(name).is_dir() else (Path(run), "")
    stem = "model" if place.is_dir() else place.stem
    stem += f"-round{round}" if round else ""
    stem += "" if client is None else f"-client{client}"
    return (place if place.is_dir() else place.parent) / f"{stem}{suffix}"


def _words(key: str) -> str:
    return key.replace("_", " ")


def _show(found: Predictions) -> None:
    known = found.truth is not None
    table = Table("image", "class", "confidence", *(["is"] if known else []), box=None, pad_edge=False)
    for row, one in enumerate(found):
        if row == SHOWN:
            break
        sure = "silent" if one.silent else f"{one.confidence:.2f}"
        truth = [found.class_names[one.truth]] if one.truth is not None else []
        table.add_row(*(Text(cell) for cell in (one.image, one.name, sure, *truth)))
    console = Console(emoji=False)
    console.print(table)
    if len(found) > SHOWN:
        console.print(f"and {len(found) - SHOWN:,} more; --csv prints all", highlight=False)
    if found.accuracy is not None:
        console.print(f"accuracy {found.accuracy:.4f} on {len(found):,} images", highlight=False)
    console.print(f"{1e3 * found.seconds / len(found):.3g} ms an image, reading included", highlight=False)


def _levels(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        black, white = (float(number) for number in text.split(","))
    except ValueError:
        black = white = 0.0
    if black == white or not abs(white - black) < float("inf"):
        raise ConfigError(f"--levels '{text}' are not two different numbers; write --levels 0,255")
    return black, white
