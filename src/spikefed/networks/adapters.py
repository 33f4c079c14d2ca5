"""Adapters: few numbers a task that change what a frozen network does.

=============  =====================================================================================================
kind           what a task has of its own
=============  =====================================================================================================
``thresholds`` firing thresholds of every spiking layer, one a layer, channel or neuron
``mime``       of an ANN twin: thresholds that its activations must reach, one a layer, channel or neuron
``bn``         the normalisations: scale, shift and running statistics
``head``       the last layer's weights and bias
``low-rank``   an addition of a low rank to the weights of every layer but the last (LoRA; Hu et al., ICLR 2022)
``proxy1x1``   cheap ways around every block, and the choice among them (NetTailor; `spikefed.networks.proxies`)
=============  =====================================================================================================

Everything else is frozen, running statistics included. Role of a task's tensors is ``task[k]``.

A threshold theta is learned as what multiplies the current, theta_0 / theta = exp(-rho): a LIF whose potential and
threshold are both divided by theta / theta_0 fires at the same steps, so every fused kernel serves as it is. The
surrogate then sees the scaled distance, (u - theta) theta_0 / theta. For soft resets, whose surrogate sees
u / theta - 1, that changes nothing; for hard ones its width grows with theta.

Reuse of frozen weights by thresholds of each task: MIME (Bhattacharjee et al., DAC 2022), there of ANNs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.networks.graph import ANNGraphNetwork, GraphNetwork
from spikefed.networks.layers import PlannedLayer, WeightedLayer, is_block
from spikefed.networks.layout import LayerPlan
from spikefed.networks.network import ANNNetwork, LayeredNetwork, SpikingNetwork
from spikefed.networks.norms import Norm
from spikefed.networks.parts import Adapter, Part, Per
from spikefed.networks.roles import FROZEN, roles
from spikefed.networks.tensors import state_tensors


@dataclass(frozen=True)
class AdapterRow:
    """What one kind of adapter costs, for one task.

    Attributes:
        kind: of adapter; ``frozen`` for what all tasks share.
        tensors: how many.
        values: numbers in them.
        bytes: of these.
    """

    kind: str
    tensors: int
    values: int
    bytes: int


def adapt(
    net: nn.Module,
    kinds: Sequence[Adapter],
    *,
    tasks: int = 1,
    per: Per = "channel",
    rank: int = 2,
    skips: int = 3,
    outputs: Sequence[Sequence[int]] | None = None,
) -> nn.Module:
    """Freeze a network and give it parts for every task, in place; task 0 is on.

    A part begins as it changes nothing: thresholds and norms as they are, the head as the network's own, the low-rank
    addition at 0. Proxies are the exception: they begin with a small share of every block.

    Args:
        net: of the zoo or a layout, without loops in time, or the ANN twin of one.
        kinds: of adapters, at least one.
        tasks: how many.
        per: one threshold a layer, channel or neuron.
        rank: of ``low-rank``.
        skips: k of ``proxy1x1``: from how many blocks before a block's proxies come.
        outputs: by task the outputs that its head has; None: each has all.

    Returns:
        ``net``.

    Raises:
        ConfigError: a network that cannot be adapted so; the text says why.
    """
    _check(net, kinds)
    assert isinstance(net, LayeredNetwork)
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    for module in net.modules():
        if isinstance(module, Norm):
            module.role = FROZEN
    last = net.layers[-1]
    for place, layer in enumerate(net.places):
        sources = _sources(net, place, skips) if "proxy1x1" in kinds else {}
        parts = []
        for task in range(tasks):
            own = None if outputs is None else list(outputs[task])
            chosen: list[Adapter] = [kind for kind in kinds if _serves(layer, kind, last=layer is last)]
            if sources:
                chosen.append("proxy1x1")
            if chosen:
                given: dict[str, Any] = {"per": per, "rank": rank, "outputs": own, "place": place, "sources": sources}
                parts.append(Part(layer, chosen, task, **given))
        if parts:
            layer.parts = nn.ModuleList(parts)
    _check_there(net, kinds)
    return net


def _check_there(net: LayeredNetwork, kinds: Sequence[Adapter]) -> None:
    """Refuse a kind that has found no place in the network."""
    if "thresholds" in kinds and not any(place.neuron for place in net.places if hasattr(place, "neuron")):
        raise ConfigError(f"network {net.name} has no spiking layer, so no thresholds; adapt something else")
    if "bn" in kinds and not any(isinstance(module, Norm) for module in net.modules()):
        raise ConfigError(f"network {net.name} has no normalisation to adapt; leave 'bn' out, or set network.norm")
    if "proxy1x1" in kinds and "proxy1x1" not in kinds_of(net).values():
        raise ConfigError(
            f"network {net.name} has fewer than two convolutions with neurons, so no block that a proxy could stand in "
            "for; leave 'proxy1x1' out"
        )


def _sources(net: LayeredNetwork, place: int, skips: int) -> dict[int, LayerPlan]:
    """The layers whose outputs a block's proxies take, by place; without any the layer is no block."""
    places = net.places
    if not place or not all(is_block(places[before], before) for before in range(1, place + 1)):
        return {}
    return {source: places[source].plan for source in range(max(0, place - skips), place)}


def _check(net: nn.Module, kinds: Sequence[Adapter]) -> None:
    if not isinstance(net, SpikingNetwork | ANNNetwork):
        raise ConfigError(
            f"adapters are made for networks of the zoo and layouts, not for {type(net).__name__}; take one of these"
        )
    if "thresholds" in kinds and isinstance(net, ANNNetwork):
        raise ConfigError("'thresholds' are those of spiking neurons, and an ANN twin has none; its kind is 'mime'")
    if "mime" in kinds and isinstance(net, SpikingNetwork):
        raise ConfigError(
            "'mime' masks the activations of an ANN twin (network.twin = 'ann'); a spiking network has 'thresholds'"
        )
    if isinstance(net, GraphNetwork) and any(net.stepwise(node.name) for node in net.graph.nodes):
        raise ConfigError(f"network {net.name} has loops in time, which adapters do not know; take one without")
    if not kinds:
        raise ConfigError("no kind of adapter is named; give thresholds, mime, bn, head, low-rank or proxy1x1")
    if "proxy1x1" in kinds and isinstance(net, GraphNetwork | ANNGraphNetwork):
        raise ConfigError(
            f"'proxy1x1' goes around the layers of a row, and network {net.name} branches; take one in a row, such as "
            "'small', 'vgg9-bntt' or a layout, or another kind of adapter"
        )
    last = net.layers[-1]
    if "head" in kinds and last.plan.map_shape[0] != net.classes:
        raise ConfigError(f"network {net.name} has no layer with an output a class, so no head; leave 'head' out")


def _serves(layer: PlannedLayer, kind: Adapter, *, last: bool) -> bool:
    if kind == "head":
        return last
    if kind == "thresholds":
        return getattr(layer, "neuron", None) is not None
    if kind == "mime":
        return getattr(layer, "rectify", False)
    if kind == "bn":
        return layer.norm is not None
    if kind == "proxy1x1":
        return False  # where a block stands is asked of the whole row (`_sources`)
    return isinstance(layer, WeightedLayer) and not last


def adapted(net: nn.Module) -> list[tuple[str, PlannedLayer]]:
    """The layers that have parts, by name."""
    found = [(n, m) for n, m in net.named_modules() if isinstance(m, PlannedLayer)]
    return [(name, layer) for name, layer in found if layer.parts is not None]


def tasks_of(net: nn.Module) -> int:
    """How many tasks a network has parts for; 0 without any."""
    return max((len(layer.parts or ()) for _, layer in adapted(net)), default=0)


def select_task(net: nn.Module, task: int) -> None:
    """From now on the network works with the parts of this task; one without parts stays as it is.

    Raises:
        ConfigError: there is no such task.
    """
    count = tasks_of(net)
    if count and not 0 <= task < count:
        raise ConfigError(f"this network has parts for tasks 0 to {count - 1}, not for task {task}")
    for _, layer in adapted(net):
        layer.task = task


@contextmanager
def without_parts(net: nn.Module) -> Iterator[None]:
    """The network as the parent computes, while this is open; its state dict lacks the parts meanwhile."""
    layers = [(layer, layer.parts) for _, layer in adapted(net)]
    for layer, _ in layers:
        layer.parts = None
    try:
        yield
    finally:
        for layer, parts in layers:
            layer.parts = parts


def renew_parts(net: nn.Module) -> None:
    """Let every part begin as it changes nothing, from the tensors that the network holds now."""
    for _, layer in adapted(net):
        for part in cast(Iterable[Part], layer.parts or ()):
            part.renew(layer)


def kinds_of(net: nn.Module) -> dict[str, Adapter]:
    """Kind of adapter of every tensor of a part, by name."""
    found: dict[str, Adapter] = {}
    for name, layer in adapted(net):
        for number, part in enumerate(cast(Iterable[Part], layer.parts or ())):
            found |= {f"{name}.parts.{number}.{local}": kind for local, kind in part.kinds().items()}
    return found


def adapter_rows(net: nn.Module) -> list[AdapterRow]:
    """What each kind of adapter holds for one task, and what all tasks share."""
    kinds = kinds_of(net)
    count = tasks_of(net)
    tensors = state_tensors(net)
    by_kind: dict[str, list[Tensor]] = {}
    for name, tensor in tensors.items():
        by_kind.setdefault(kinds.get(name, "frozen"), []).append(tensor)
    rows = []
    for kind, own in by_kind.items():
        share = 1 if kind == "frozen" else count
        values = sum(t.numel() for t in own)
        size = sum(t.numel() * t.element_size() for t in own)
        rows.append(AdapterRow(kind, len(own) // share, values // share, size // share))
    return rows


def check_frozen(net: nn.Module, tensors: Mapping[str, Tensor], begin: Mapping[str, Tensor]) -> None:
    """Guard: what is frozen has to be what it was, to the bit. Shapes are the network's.

    Raises:
        ConfigError: the first tensor that has changed.
    """
    for name, role in roles(net).items():
        if role == FROZEN and name in tensors and not torch.equal(tensors[name], begin[name]):
            raise ConfigError(
                f"frozen tensor '{name}' has changed in training; a step outside the adapters has touched it, so leave "
                "out what was added to training"
            )


def low_thresholds(net: nn.Module) -> Tensor | None:
    """sum exp(-tau) over all thresholds of the task that is on, scalar (`Part.low_thresholds`); None without any."""
    found = [layer.part() for _, layer in adapted(net)]
    terms = [term for part in found if part is not None and (term := part.low_thresholds()) is not None]
    return torch.stack(terms).sum() if terms else None
