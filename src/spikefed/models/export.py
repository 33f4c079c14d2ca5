"""A trained network as a file for somewhere else: one door to every exporter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikefed.errors import ConfigError
from spikefed.files import write_atomic
from spikefed.interop import DT, About, Flat, c_file, flat, nir_file, nir_graph, onnx_file, pre_flight, script
from spikefed.models.model import Model


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: the file.
        format: one of `FORMATS`.
        facts: numbers worth knowing of it, units in their names.
        notes: what whoever uses the file should know, a sentence each.
    """

    path: Path
    format: str
    facts: dict[str, Any]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        suffix: of the file's name.
        summary: one line.
        make: bytes of the file, its facts and notes, from the plain network, what is known of it, and options.
    """

    suffix: str
    summary: str
    make: Callable[..., tuple[bytes, dict[str, Any], tuple[str, ...]]]


def _torch(network: Flat, about: About) -> tuple[bytes, dict[str, Any], tuple[str, ...]]:
    return script(network, about).encode(), {}, ()


def _c(
    network: Flat, about: About, weights: str = "float32", lists: str = "auto"
) -> tuple[bytes, dict[str, Any], tuple[str, ...]]:
    made = c_file(network, about, weights, lists)
    return made.text.encode(), made.facts, made.notes


def _onnx(network: Flat, about: About) -> tuple[bytes, dict[str, Any], tuple[str, ...]]:
    data = onnx_file(network, about)
    coding = network.encoder.name
    drawn = (f"the file takes input that is coded already ({coding}), [B, T, C, H, W]; code it before the runtime",)
    return data, {}, () if coding == "direct" else drawn


def _nir(network: Flat, about: About) -> tuple[bytes, dict[str, Any], tuple[str, ...]]:
    data = nir_file(network, about)
    verdicts = pre_flight(nir_graph(network, about))
    told = {v.reader: {"takes": v.takes, "why": v.why, "tested": v.tested} for v in verdicts}
    notes = ("the file takes input that is preprocessed (and coded) already, a time step at a time",)
    return data, {"dt_s": DT, "readers": told}, notes


FORMATS: dict[str, Format] = {
    "torch": Format(".py", "one Python script that needs torch alone", _torch),
    "onnx": Format(".onnx", "for onnxruntime and its kin, time steps unrolled", _onnx),
    "nir": Format(".nir", "for chips and other libraries, batch norm folded", _nir),
    "c": Format(".c", "one C99 file without dependencies", _c),
}
"""By the word behind ``--to``."""


def about(model: Model) -> About:
    """What a file says of a model beside its numbers."""
    told = model.facts
    name = str(told.network.get("name", "network"))
    trained = f", trained as {told.experiment} by {told.method}, round {told.round}" if told.experiment else ""
    return About(
        title=f"{name}{trained}",
        preprocess=told.preprocess,
        class_names=told.names,
        values=told.values,
        timed=told.timed,
        logit_scale=told.logit_scale,
    )


def export(model: Model, to: str, out: Path | str, **options: Any) -> Exported:
    """Write a trained network as a file of another kind; nothing is left half-written.

    Args:
        model: from `spikefed.load_model`.
        to: one of `FORMATS`.
        out: the file; where it has no suffix, the format's own is added.
        options: of the format: ``weights="int8"`` and ``lists="vectors"`` of C.

    Raises:
        ConfigError: an unknown format or option, a network that the format cannot say, or a path that cannot be
            written.
    """
    if to not in FORMATS:
        raise ConfigError(f"export format '{to}' is not known; use one of {', '.join(FORMATS)}")
    if model.facts.batch_statistics:
        raise ConfigError(
            "this network was measured on the statistics of each batch (training.train_bn_at_eval), which a file of "
            "fixed numbers cannot do; train it without that setting"
        )
    path = _target(Path(out), FORMATS[to].suffix)
    plain = flat(model.network)
    facts = about(model)
    try:
        data, told, notes = FORMATS[to].make(plain, facts, **options)
    except TypeError as error:
        if not options or "unexpected keyword" not in str(error):
            raise
        raise ConfigError(f"export to {to} takes no option {', '.join(options)}; leave it out") from error
    try:
        write_atomic(path, data)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}); name another with --out") from error
    return Exported(path, to, {"file_bytes": len(data), **told}, notes + _rounding(model))


def _target(path: Path, suffix: str) -> Path:
    """Where the file goes; refused where that would destroy something else than an older export."""
    if str(path) == "-":
        raise ConfigError(f"a network leaves as a file, not on standard output; give its name, as model{suffix}")
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; give the name of a file, as {path / ('model' + suffix)}")
    if path.exists() and (not path.is_file() or path.suffix != suffix):
        raise ConfigError(f"{path} is there already and is no {suffix} file; name another, or take it away first")
    path = path if path.suffix else path.with_suffix(suffix)
    if not path.parent.is_dir():
        raise ConfigError(f"there is no folder {path.parent} to write {path.name} into; make it, or name another")
    return path


def _rounding(model: Model) -> tuple[str, ...]:
    """A word where the file rounds otherwise than the network."""
    precision = getattr(model.network, "precision", "float32")
    text = f"the network computes in {precision} and the file in float32, so single predictions differ"
    return () if precision == "float32" else (text,)
