"""Sizes and costs of a network, layer by layer."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from math import prod

import torch
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.networks.graph import ANNGraphNetwork, GraphNetwork
from spikefed.networks.layers import PlannedLayer
from spikefed.networks.monitor import in_eval_mode
from spikefed.networks.network import LayeredNetwork, SpikingNetwork
from spikefed.networks.roles import BN_AFFINE, WEIGHT, roles
from spikefed.networks.tensorfile import stored_bytes
from spikefed.networks.tensors import state_tensors


@dataclass(frozen=True)
class LayerRow:
    """One layer.

    Attributes:
        name: prefix of its tensors in the state dict.
        kind: what it does, in order.
        output_shape: per sample and time step, after pooling.
        weights: numbers of role ``weight`` (biases included).
        norm_parameters: numbers of role ``bn_affine``.
        state_bytes: bytes of all its tensors, statistics and counters included.
        macs: multiply-accumulates per sample and time step: O^2 C_in k^2 C_out, or in * out.
        times: how often they are done per inference: T, or 1 for a first layer under direct coding.
        left: weights that a mask leaves; None where the network was described without one.
        stored_bytes: bytes of all its tensors in a model file under the mask: survivors, and where they stand.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    weights: int
    norm_parameters: int
    state_bytes: int
    macs: int
    times: int
    left: int | None = None
    stored_bytes: int | None = None


@dataclass(frozen=True)
class Description:
    """A network's table.

    Attributes:
        network: zoo name, layout, or class name.
        input_shape: of one image.
        steps: T.
        rows: layers in order.
    """

    network: str
    input_shape: tuple[int, ...]
    steps: int
    rows: tuple[LayerRow, ...]

    @property
    def weights(self) -> int:
        """All weights and biases."""
        return sum(row.weights for row in self.rows)

    @property
    def parameters(self) -> int:
        """All weights, biases and norm parameters."""
        return self.weights + sum(row.norm_parameters for row in self.rows)

    @property
    def state_bytes(self) -> int:
        """Bytes of the state dict's tensors: what one weight upload holds, headers apart."""
        return sum(row.state_bytes for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-accumulates per sample and time step."""
        return sum(row.macs for row in self.rows)

    @property
    def macs_per_inference(self) -> int:
        """Multiply-accumulates per sample over all time steps, as if every input were dense."""
        return sum(row.macs * row.times for row in self.rows)

    @property
    def left(self) -> int | None:
        """Weights that the mask leaves; None without one."""
        found = [row.left for row in self.rows if row.left is not None]
        return sum(found) if found else None

    @property
    def stored_bytes(self) -> int | None:
        """Bytes of the tensors in a model file under the mask; None without one."""
        found = [row.stored_bytes for row in self.rows if row.stored_bytes is not None]
        return sum(found) if found else None

    def to_json(self) -> str:
        """The rows and totals as JSON text; what is under the mask only where there is one."""
        masked = {} if self.left is None else {"left": self.left, "stored_bytes": self.stored_bytes}
        rows = [{k: v for k, v in asdict(row).items() if v is not None} for row in self.rows]
        totals = {
            "weights": self.weights,
            "parameters": self.parameters,
            "state_bytes": self.state_bytes,
            "macs": self.macs,
            "macs_per_inference": self.macs_per_inference,
            **masked,
        }
        return json.dumps({**asdict(self), "rows": rows, "totals": totals}, indent=2)

    def __str__(self) -> str:
        head = ("layer", "kind", "output", "weights", "norm", "state bytes", "MACs/step", "times")
        body = [
            (
                r.name,
                r.kind,
                _shape(r.output_shape),
                f"{r.weights:,}",
                f"{r.norm_parameters:,}",
                f"{r.state_bytes:,}",
                f"{r.macs:,}",
                str(r.times),
            )
            for r in self.rows
        ]
        norm = self.parameters - self.weights
        total = ("total", "", "", f"{self.weights:,}", f"{norm:,}", f"{self.state_bytes:,}", f"{self.macs:,}", "")
        table = [head, *body, total]
        widths = [max(len(row[i]) for row in table) for i in range(len(head))]
        lines = [
            "  ".join(c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
            for row in table
        ]
        title = f"{self.network}, input {_shape(self.input_shape)}, T = {self.steps}"
        cost = f"MACs per inference (dense, all time steps): {self.macs_per_inference:,}"
        return "\n".join([title, *(line.rstrip() for line in lines), cost, *self._mask_lines()])

    def _mask_lines(self) -> list[str]:
        if self.left is None:
            return []
        body = [(r.name, r.weights, r.left, r.stored_bytes) for r in self.rows if r.weights]
        total = ("total", self.weights, self.left, self.stored_bytes)
        table = [("layer", "weights left", "share", "bytes")]
        table += [
            (name, f"{left:,}", f"{left / weights:.1%}", f"{size:,}") for name, weights, left, size in [*body, total]
        ]
        widths = [max(len(row[i]) for row in table) for i in range(4)]
        cells = [
            [c.ljust(w) if not i else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths, strict=True))] for r in table
        ]
        return ["under the mask, as a model file holds it:", *("  ".join(row) for row in cells)]


def describe(
    net: nn.Module, input_shape: tuple[int, ...] | None = None, kept: Mapping[str, Tensor] | None = None
) -> Description:
    """Layers, shapes, weights, state bytes and multiply-accumulates; under a mask also what is left of them.

    A network of this package is read from its plan. Any other module runs once on zeros, hooks on the modules that own
    tensors, in eval mode and without a gradient.

    Args:
        input_shape: ``(C, H, W)``; the network's own when None.
        kept: bool mask by tensor name, True where a number survives (`spikefed.training.Mask.kept`).

    Raises:
        ConfigError: no input shape is known, or it is another than the network was built for; a mask that does not fit.
    """
    own: tuple[int, ...] | None = getattr(net, "input_shape", None)
    if input_shape is None and own is None:
        raise ConfigError(f"{type(net).__name__} does not say its input shape; call describe(net, (C, H, W))")
    if isinstance(net, LayeredNetwork):
        if input_shape is not None and tuple(input_shape) != net.input_shape:
            raise ConfigError(
                f"network {net.name} was built for input {_shape(net.input_shape)}, not {_shape(tuple(input_shape))}; "
                "build it again with that input_shape to describe it"
            )
        rows = _masked_rows(_planned_rows(net), net, kept)
        return Description(net.name, net.input_shape, _steps(net), tuple(rows))
    shape = tuple(input_shape if input_shape is not None else own or ())
    rows = _masked_rows(_observed_rows(net, shape), net, kept)
    return Description(type(net).__name__, shape, _steps(net), tuple(rows))


def _planned_rows(net: LayeredNetwork) -> list[LayerRow]:
    rows = []
    for layer in net.places:
        name = layer.plan.name
        parts = _parts(net, layer)
        if parts:  # a node that only adds up what enters it has nothing to tell
            once = not isinstance(net, SpikingNetwork) or net.once(name)
            times = 1 if once else _steps(net)
            rows.append(_row(layer, name, " + ".join(parts), layer.plan.out_shape, layer.plan.macs, times))
    return rows


def _parts(net: LayeredNetwork, layer: PlannedLayer) -> list[str]:
    """What a layer does, in order."""
    plan = layer.plan
    neuron = getattr(layer, "neuron", None)
    stride = f"/{plan.stride}" if plan.stride > 1 else ""
    weights = {"conv": f"conv {plan.kernel_size[0]}x{plan.kernel}{stride}", "linear": "linear"}
    parts = [weights[plan.kind]] if plan.kind in weights else []
    parts += ["vote"] if plan.kind == "pass" and plan.map_shape != plan.in_shape else []
    parts += [] if layer.norm is None else [layer.norm.mode]
    learnt = getattr(layer, "thresholds", None)
    own = "" if learnt is None else f", thresholds: {learnt.extra_repr()}"
    parts += [f"LIF {neuron.kind}{own}"] if neuron is not None else ["ReLU"] if getattr(layer, "rectify", False) else []
    parts += [str(plan.window)] if plan.pool else []
    graph = net.graph if isinstance(net, GraphNetwork | ANNGraphNetwork) else None
    entering = 0 if graph is None else len(graph.into(plan.name))
    parts = [f"sum of {entering}", *parts] if entering > 1 and parts else parts
    looped = isinstance(net, GraphNetwork) and net.stepwise(plan.name)
    return [*parts[:-1], f"{parts[-1]} (step by step)"] if looped and parts else parts


def _row(
    module: nn.Module,
    name: str,
    kind: str,
    shape: tuple[int, ...],
    macs: int,
    times: int,
    counted: Collection[str] | None = None,
) -> LayerRow:
    """A row of the module's tensors; of those in ``counted`` alone, which holds names of the whole network's."""
    role_of = roles(module)
    tensors = module.state_dict()
    if counted is not None:
        tensors = {n: t for n, t in tensors.items() if f"{name}.{n}".lstrip(".") in counted}
    return LayerRow(
        name=name,
        kind=kind,
        output_shape=shape,
        weights=sum(t.numel() for n, t in tensors.items() if role_of.get(n) == WEIGHT),
        norm_parameters=sum(t.numel() for n, t in tensors.items() if role_of.get(n) == BN_AFFINE),
        state_bytes=sum(t.numel() * t.element_size() for n, t in tensors.items() if n in role_of),
        macs=macs,
        times=times,
    )


def _observed_rows(net: nn.Module, input_shape: tuple[int, ...]) -> list[LayerRow]:
    """Run once on zeros; a row for every module that has tensors of its own, in order of definition."""
    seen: dict[nn.Module, list[tuple[int, ...]]] = {}
    owners = [(n, m) for n, m in net.named_modules() if m._parameters or m._buffers]
    hooks = [
        m.register_forward_hook(lambda m, _, out: seen.setdefault(m, []).append(tuple(_first(out).shape)))
        for _, m in owners
    ]
    try:
        with in_eval_mode(net), torch.no_grad():
            timed = (_steps(net),) if getattr(net, "timed", False) else ()
            net(torch.zeros(1, *timed, *input_shape))
    finally:
        for hook in hooks:
            hook.remove()
    counted = state_tensors(net)
    rows = []
    for name, module in owners:
        shapes = seen.get(module, [])
        total = sum(_macs(module, shape) for shape in shapes)
        steps = _steps(net)
        times = 1 if len(shapes) == 1 and shapes[0][0] == 1 else steps
        out = _map_shape(module, shapes[-1]) if shapes else ()
        local = nn.Module()
        local._parameters = module._parameters
        local._buffers = module._buffers
        owner = local if list(module.children()) else module
        kind = type(module).__name__
        row = _row(owner, name, kind, out, 0, times, counted)  # a tied tensor counts where it stands first
        rows.append(LayerRow(**{**vars(row), "macs": total // max(times, 1)}))
    return rows


def _masked_rows(rows: list[LayerRow], net: nn.Module, kept: Mapping[str, Tensor] | None) -> list[LayerRow]:
    """The rows with what a mask leaves of their tensors."""
    if not kept:
        return rows
    tensors = state_tensors(net)
    role_of = roles(net)
    gone = [0] * len(rows)
    saved = [0] * len(rows)
    for name, mask in kept.items():
        if name not in tensors or tensors[name].shape != mask.shape:
            raise ConfigError(
                f"the mask of '{name}' fits no tensor of this network; give the mask that was made for it"
            )
        owners = [i for i, row in enumerate(rows) if not row.name or name.startswith(f"{row.name}.")]
        owner = max(owners, key=lambda i: len(rows[i].name))
        gone[owner] += mask.numel() - int(mask.sum()) if role_of[name] == WEIGHT else 0
        saved[owner] += tensors[name].nbytes - stored_bytes(tensors[name], mask)
    under = zip(rows, gone, saved, strict=True)
    return [replace(row, left=row.weights - less, stored_bytes=row.state_bytes - fewer) for row, less, fewer in under]


def _macs(module: nn.Module, shape: tuple[int, ...]) -> int:
    weight = getattr(module, "weight", None)
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) and isinstance(weight, torch.Tensor):
        return prod(shape) * prod(weight.shape[1:])
    if isinstance(module, nn.Linear):
        return prod(shape) * module.in_features
    return 0


def _map_shape(module: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape per sample and step, whether the module saw ``[B, ...]`` or ``[T, B, ...]``."""
    kept = (
        3 if isinstance(module, nn.Conv2d | nn.BatchNorm2d) else 1 if isinstance(module, nn.Linear) else len(shape) - 1
    )
    return shape[-kept:] if kept else ()


def _first(out: object) -> torch.Tensor:
    while isinstance(out, tuple | list):
        out = out[0]
    return out if isinstance(out, torch.Tensor) else torch.zeros(0)


def _steps(net: nn.Module) -> int:
    steps = getattr(net, "steps", 1)
    return steps if isinstance(steps, int) else 1


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
