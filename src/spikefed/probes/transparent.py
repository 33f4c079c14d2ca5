"""A network in plain operations of torch: slower than its kernels, but gradients of its gradients can be taken."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.interop import flat
from spikefed.interop.flat import FlatNode
from spikefed.neurons import Direct, lif


class Transparent:
    """The network as it predicts: batch norm folded into weights and shifts, surrogate gradients at its spikes.

    Args:
        net: whose layers stand in a row, with direct coding; nothing is shared with it.

    Attributes:
        spiking: outputs are spikes.
        tensors: weights and shifts, ``[Cout, Cin, K, K]``, ``[Fout, Fin]``, ``[C]`` or ``[T, C]``.

    Raises:
        ConfigError: a module that is not of this package, branches, or a coding that draws.
    """

    def __init__(self, net: nn.Module) -> None:
        self._flat = flat(net)
        nodes = self._flat.nodes
        before = ["input", *(node.name for node in nodes)]
        in_a_row = all(
            [source.name for source in node.sources] == [name] and not node.sources[0].back
            for node, name in zip(nodes, before, strict=False)
        )
        if not in_a_row:
            raise ConfigError(
                f"network {self._flat.name} has branches, and this attack follows layers in a row; probe small, vgg5 "
                "or a layout"
            )
        if not isinstance(self._flat.encoder, Direct):
            raise ConfigError(
                f"network {self._flat.name} draws its input spikes, and this attack follows pixels; set "
                "network.coding = 'direct'"
            )
        self.spiking = self._flat.spiking
        given = [array for node in nodes for array in (node.weight, node.shift) if array is not None]
        self.tensors = [torch.from_numpy(array) for array in given]

    def __call__(self, tensors: Sequence[Tensor], x: Float[Tensor, "B C H W"]) -> Float[Tensor, "T B classes"]:
        """Outputs with these weights and shifts in place of its own, which they are shaped like.

        Args:
            tensors: like the attribute.
            x: network input.
        """
        left = list(tensors)
        value = x.unsqueeze(0)  # one step, shown again, until neurons make more of it
        for node in self._flat.nodes:
            weight = left.pop(0) if node.weight is not None else None
            shift = left.pop(0) if node.shift is not None else None
            rows = _weighted(node, value.flatten(0, 1), weight)
            value = _behind(node, rows.unflatten(0, (len(value), -1)), shift, self._flat.steps)
        return value if len(value) == self._flat.steps else value.expand(self._flat.steps, *value.shape[1:])


def _weighted(node: FlatNode, rows: Tensor, weight: Tensor | None) -> Tensor:
    """What a node's weights make of rows ``[N, ...]``."""
    if weight is None:
        return rows if node.votes == 1 else rows.flatten(1).unflatten(1, (-1, node.votes)).mean(dim=2)
    if node.kind == "conv":
        return F.conv2d(rows, weight, stride=node.stride, padding=node.kernel // 2)
    return F.linear(rows.flatten(1), weight)


def _behind(node: FlatNode, currents: Tensor, shift: Tensor | None, steps: int) -> Tensor:
    """Gain, shift, neurons and pool on currents ``[1 or T, B, ...]``."""
    rest = [1] * (currents.dim() - 3)
    if node.gain is not None:
        currents = currents * torch.from_numpy(node.gain).view(len(node.gain), 1, -1, *rest)
    if shift is not None:
        currents = currents + shift.view(-1 if shift.dim() > 1 else 1, 1, shift.shape[-1], *rest)
    if node.neuron is not None:
        currents, _ = lif(currents, None, node.neuron, steps=steps)
    if node.rectify:
        currents = currents.relu()
    if node.pool is not None:
        currents = node.pool(currents.flatten(0, 1)).unflatten(0, (len(currents), -1))
    return currents
