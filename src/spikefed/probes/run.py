"""Running a probe: the network left as it was, records checked, everything named that the numbers depend on."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.networks import copy_tensors, load_tensors
from spikefed.networks.monitor import in_eval_mode
from spikefed.objects import check_keys
from spikefed.probes.contract import (
    Curve,
    Probe,
    ProbeContext,
    ProbeHyperparameters,
    Progress,
    Quantity,
    Record,
    Subject,
    nobody,
    silent,
)
from spikefed.probes.partial import Partial
from spikefed.probes.registry import probe as probe_of
from spikefed.seeding import seeded

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Measurement:
    """What a probe found, and of what.

    Attributes:
        probe: name, as an experiment file says it.
        title: what a reader calls it.
        version: of the probe.
        hyper: every hyperparameter with its value.
        round, seed: of the network; round 0 where there is none.
        weights_sha256: of the network's tensors, names and shapes included.
        images: how many the probe was given.
        seconds: wall time.
        headline: the few numbers for the table of a sweep.
        records: the rows.
        quantities: headings, notes and units of the rows' keys.
        curves: figures of a report.
    """

    probe: str
    title: str
    version: int
    hyper: dict[str, Any]
    round: int
    seed: int
    weights_sha256: str
    images: int
    seconds: float
    headline: Record
    records: list[Record]
    quantities: tuple[Quantity, ...]
    curves: tuple[Curve, ...] = ()

    def frame(self) -> pandas.DataFrame:
        """One row a record. Needs pandas."""
        import pandas

        return pandas.DataFrame(self.records)


def run_probe(
    net: nn.Module,
    subject: Subject,
    probe: str | Probe,
    *,
    hyper: Mapping[str, Any] | None = None,
    round: int = 0,
    seed: int = 0,
    generator: torch.Generator | None = None,
    whose: str = "network",
    train_bn: bool = False,
    clients: Callable[[], Iterator[tuple[int, nn.Module]]] = nobody,
    progress: Progress = silent,
    partial: Path | None = None,
    name: str | None = None,
) -> Measurement:
    """Run one probe on one network; afterwards the network is as it was, tensors, modes and gradients.

    Args:
        net: any network of this package, or one that `spikefed.networks.wrap` made of a module.
        subject: what it is shown.
        probe: a registered name, ``module:attribute``, or a probe.
        hyper: the probe's hyperparameters that are not at their defaults.
        round: that the network comes from.
        seed: of the experiment.
        generator: the probe's randomness; by default drawn from seed and round, and the generators that all libraries
            share (a user's dropout draws from them) with it. Who gives one answers for those too.
        whose: as in `ProbeContext`.
        train_bn: as in `ProbeContext`.
        clients: as in `ProbeContext`.
        progress: told how far a long probe is.
        partial: file in which a probe that is killed leaves what it has done, and from which it goes on.
        name: what a probe given as an object was called by.

    Raises:
        ConfigError: no such probe or hyperparameter, nothing to look at, or records that are none.
    """
    chosen = probe_of(probe) if isinstance(probe, str) else probe
    name = name or (probe if isinstance(probe, str) else chosen.name)
    settings = settings_of(chosen, hyper or {})
    shown = subject.first(settings.images)
    if not len(shown):
        raise ConfigError(f"probe '{name}' has no image to look at; give at least one")
    weights = weights_sha256(net)
    identity = [name, chosen.version, settings.model_dump(), weights, _identity(shown), round, seed, train_bn]
    ctx = ProbeContext(
        hyper=settings,
        round=round,
        seed=seed,
        generator=generator or _generator(seed, round),
        whose=whose,
        train_bn=train_bn,
        clients=clients,
        progress=progress,
        partial=Partial(partial, json.dumps(identity, sort_keys=True, default=str)),
    )
    started = time.perf_counter()
    shared = seeded(ctx.generator.initial_seed()) if generator is None else nullcontext()
    with untouched(net), shared:
        records = [_checked(record, name) for record in chosen.measure(net, shown, ctx)]
    if not records:
        raise ConfigError(f"probe '{name}' gave no record; it must give at least one row")
    found = Measurement(
        probe=name,
        title=chosen.title or chosen.name,
        version=chosen.version,
        hyper=settings.model_dump(mode="json"),
        round=round,
        seed=seed,
        weights_sha256=weights,
        images=len(shown),
        seconds=time.perf_counter() - started,
        headline=_headline(chosen, records, name),
        records=records,
        quantities=tuple(chosen.quantities),
        curves=tuple(chosen.curves),
    )
    ctx.partial.clear()
    return found


def settings_of(probe: Probe, given: Mapping[str, Any]) -> ProbeHyperparameters:
    """The probe's hyperparameters with those given on top of the defaults.

    Raises:
        ConfigError: one sentence that names the key, the value and what is allowed.
    """
    model = probe.hyperparameters
    known = [field.alias or key for key, field in model.model_fields.items()]
    check_keys(given, known, where=f" of probe '{probe.name}'")
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "its settings"
        raise ConfigError(f"'{key}' = {first.get('input')!r} of probe '{probe.name}': {first['msg']}") from error


@contextmanager
def untouched(net: nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards every tensor, mode, gradient and ``requires_grad`` is what it was."""
    before = copy_tensors(net)
    gradients = [(parameter, parameter.requires_grad, parameter.grad) for parameter in net.parameters()]
    try:
        with in_eval_mode(net):
            yield
    finally:
        load_tensors(net, before)
        for parameter, wanted, gradient in gradients:
            parameter.requires_grad_(wanted)
            parameter.grad = gradient


def weights_sha256(net: nn.Module) -> str:
    """SHA-256 over names, types, shapes and bytes of all tensors of the network's state."""
    digest = hashlib.sha256()
    for name, tensor in net.state_dict().items():
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    return digest.hexdigest()


def _generator(seed: int, round: int) -> torch.Generator:
    drawn = np.random.SeedSequence([seed, round]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(drawn >> np.uint64(1)))


def _headline(probe: Probe, records: list[Record], name: str) -> Record:
    try:
        return _checked(probe.headline(records), name)
    except KeyError as error:
        known = ", ".join(dict.fromkeys(key for record in records for key in record))
        raise ConfigError(
            f"probe '{name}': its headline reads {error}, and a record lacks it; records hold {known}"
        ) from error


def _identity(subject: Subject) -> str:
    digest = hashlib.sha256(subject.images.contiguous().numpy().data)
    digest.update(subject.labels.contiguous().numpy().data)
    return f"{tuple(subject.images.shape)} {digest.hexdigest()} {asdict(subject.preprocess)}"


def _checked(record: Any, name: str) -> Record:
    """The record with plain Python values; a float that is not finite becomes None, as JSON has none."""
    if not isinstance(record, Mapping):
        raise ConfigError(f"probe '{name}' gave {type(record).__name__} for a record; give a flat dict")
    plain: Record = {}
    for key, value in record.items():
        if isinstance(value, np.generic) or (isinstance(value, Tensor) and value.ndim == 0):
            value = value.item()
        if not isinstance(key, str) or not (value is None or isinstance(value, str | int | float)):
            raise ConfigError(
                f"probe '{name}' gave {type(value).__name__} under '{key}' in a record; give text, numbers, true, "
                "false or None, and one row for each entry of a list"
            )
        plain[key] = None if isinstance(value, float) and not math.isfinite(value) else value
    return plain
