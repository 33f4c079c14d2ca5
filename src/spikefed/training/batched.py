"""Many clients' networks of one architecture trained in one pass: weights stacked, channels side by side.

M small networks leave a GPU idle when they take turns. Side by side they are one network with M times the channels:
convolutions become grouped, linear layers batched matrix products, and normalisation and neurons need no change,
because their statistics and membranes are per channel anyway. Gradients do not mix: the result is that of training
one by one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.networks import GraphNetwork, SpikingNetwork
from spikefed.networks.layers import SpikingLayer
from spikefed.networks.pools import TWO_BY_TWO
from spikefed.neurons import Direct, norm_lif


class StackedNetworks(nn.Module):
    """M spiking networks as one module.

    Args:
        nets: at least one, of equal architecture, neurons, T and precision; their tensors are copied.
            `write_back` returns the trained values.

    Raises:
        ConfigError: networks that differ in more than their numbers.
    """

    def __init__(self, nets: Sequence[SpikingNetwork]) -> None:
        super().__init__()
        if not nets:
            raise ConfigError("no networks to stack; give at least one")
        if any(_alone(net) for net in nets):
            raise ConfigError(
                f"network {nets[0].name} cannot be stacked: it branches, has another pool than the 2x2 average, or "
                "norm bn-step; train its copies one by one"
            )
        shapes = [[(name, t.shape) for name, t in net.state_dict().items()] for net in nets]
        texts = [str(net) + net.precision for net in nets]
        if any(s != shapes[0] for s in shapes) or any(text != texts[0] for text in texts):
            raise ConfigError("networks of different architecture cannot be stacked; build all with the same arguments")
        self.count = len(nets)
        self.steps = nets[0].steps
        self.precision = nets[0].precision
        self._batches: dict[str, int] = {}
        self._plan = nets[0]  # layer sizes and neurons; its own tensors are not used
        self._keys = {name: name.replace(".", "__") for name in nets[0].state_dict()}
        trained = {name for name, p in nets[0].named_parameters() if p.requires_grad}
        for name, key in self._keys.items():
            stacked = torch.stack([net.state_dict()[name].detach() for net in nets])
            if name in trained:
                self.register_parameter(key, nn.Parameter(stacked))
            else:
                self.register_buffer(key, stacked)

    def _tensor(self, layer: SpikingLayer, name: str) -> Tensor | None:
        return getattr(self, self._keys.get(f"{layer.plan.name}.{name}", ""), None)

    def forward(
        self, x: Float[Tensor, "M B C H W"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "M T B classes"]:
        """Outputs of every network on its own batch; the batches have one size."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            return self._outputs(x, generator)

    def _outputs(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        m, b = x.shape[:2]
        repeat = isinstance(self._plan.encoder, Direct)
        side_by_side = x.transpose(0, 1).reshape(b, -1, *x.shape[3:])  # [B, M*C, H, W]
        y = self._plan.encoder.encode(side_by_side, self.steps, generator).flatten(0, 1)
        for layer in self._plan.layers:
            assert isinstance(layer, SpikingLayer)
            y = self._neurons(layer, self._currents(layer, y), repeat)
            repeat = False
        return y.reshape(self.steps, b, m, -1).permute(2, 0, 1, 3).to(x.dtype)

    def _currents(self, layer: SpikingLayer, y: Tensor) -> Tensor:
        """Weighted sums, ``[N, M * Cout, ...]``."""
        weight = self._tensor(layer, "weight")
        bias = self._tensor(layer, "bias")
        assert weight is not None
        if layer.plan.kind == "conv":
            flat = None if bias is None else bias.flatten()
            plan = layer.plan
            kernels = weight.flatten(0, 1)
            return F.conv2d(y, kernels, flat, stride=plan.strides, padding=plan.padding, groups=self.count)
        rows = y.reshape(len(y), self.count, -1).transpose(0, 1)  # [M, N, F]
        out = torch.matmul(rows, weight.transpose(1, 2))
        if bias is not None:
            out = out + bias[:, None]
        return out.transpose(0, 1).reshape(len(y), -1)

    def _neurons(self, layer: SpikingLayer, currents: Tensor, repeat: bool) -> Tensor:
        if layer.neuron is None:
            return currents
        norm = layer.norm
        options = {"steps": self.steps, "pool": layer.plan.pool, "repeat": repeat}
        if norm is None:
            return norm_lif(currents, layer.neuron, **options)
        tensors = {key: self._tensor(layer, f"norm.{key}") for key in ("weight", "bias", "running_mean", "running_var")}
        wide = {key: None if t is None else _wide(t) for key, t in tensors.items()}
        out = norm_lif(
            currents, layer.neuron, norm=norm.mode, **wide, training=self.training, momentum=self._momentum(layer),
            eps=norm.eps, alpha=norm.alpha, **options,
        )  # fmt: skip
        if self.training:
            for key in ("running_mean", "running_var"):
                stacked = tensors[key]
                moved = wide[key]
                if stacked is not None and moved is not None:
                    stacked.copy_(_narrow(moved, stacked.shape))
        return out

    def _momentum(self, layer: SpikingLayer) -> float:
        """As ``Norm.next_momentum``; the networks have seen equally many batches, counted on the host too."""
        norm = layer.norm
        seen = self._tensor(layer, "norm.num_batches_tracked")
        name = layer.plan.name
        assert norm is not None
        if not self.training or seen is None:
            return norm.momentum
        before = (
            self._batches[name] if name in self._batches else int(seen.max())
        )  # reading a GPU's tensor waits for it
        self._batches[name] = before + 1
        seen.add_(1)
        return max(norm.momentum, 1 / (before + 1)) if norm.warm_up else norm.momentum

    @torch.no_grad()
    def write_back(self, nets: Sequence[SpikingNetwork]) -> None:
        """Copy the values into ``nets``, in the order they were stacked in."""
        for i, net in enumerate(nets):
            for name, tensor in net.state_dict(keep_vars=True).items():
                tensor.copy_(getattr(self, self._keys[name])[i])


def _alone(net: SpikingNetwork) -> bool:
    """Whether a network has what the stacked form does not know."""
    return isinstance(net, GraphNetwork) or any(
        (layer.plan.pool and layer.plan.window != TWO_BY_TWO)
        or (layer.norm is not None and layer.norm.mode == "bn-step")
        or getattr(layer, "thresholds", None) is not None
        for layer in net.layers
    )


def _wide(t: Tensor) -> Tensor:
    """``[M, C]`` to ``[M * C]``, ``[M, T, C]`` (BNTT) to ``[T, M * C]``."""
    return t.flatten() if t.dim() == 2 else t.transpose(0, 1).flatten(1)


def _narrow(t: Tensor, shape: torch.Size) -> Tensor:
    """Inverse of `_wide`."""
    return t.reshape(shape) if len(shape) == 2 else t.reshape(shape[1], shape[0], shape[2]).transpose(0, 1)
