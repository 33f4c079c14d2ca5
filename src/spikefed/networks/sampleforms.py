"""Squared norms of every sample's own gradient with respect to one layer's parameters, by closed forms.

A layer's gradient of one sample is the sum over time steps and positions of the outer products of what entered with
what came back; its norm needs no loop over samples:

* of few rows R = T * H * W beside K inputs of a neuron: sum_rs (x_r . x_s)(g_r . g_s), the Gram matrix of x made once;
* else the sums themselves: of 3x3 convolutions by the native weight gradient of each sample, else a small matrix
  product a sample.

Norms of the affine parameters of a normalisation follow from the same rows.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from spikefed.networks.layers import WeightedLayer
from spikefed.networks.relutaps import ReLUTap
from spikefed.networks.taps import Call, Tap
from spikefed.neurons import SampleSums, conv2d_sample_sums, pair

KEPT = 2**26
"""Numbers of unfolded images (256 MB) up to which they are kept from one backward pass to the next."""

TILE = 36
"""Products of the native kernel for a tile of 4x4 positions."""

OWN = ("weight", "bias", "norm.weight", "norm.bias")
"""Parameters of a layer that the closed forms know."""


class LayerForms:
    """Closed forms of one layer's parameters; what stays the same for all backward passes is kept."""

    def __init__(self, tap: Tap | ReLUTap) -> None:
        self.tap = tap
        self._patches: Tensor | None = None
        self._gram: Tensor | None = None

    def forget(self) -> None:
        """What belongs to the forward pass before."""
        self.tap.forget()
        self._patches = self._gram = None

    def squared_norms(self, batch: int) -> dict[str, Tensor]:
        """By parameter name, float64 ``[B]``; 0 where the last backward pass did not come."""
        found: dict[str, Tensor] = {}
        trained = [key for key in OWN if (p := parameter(self.tap.layer, key)) is not None and p.requires_grad]
        reached = [call for call in self.tap.calls if call.gradient is not None]
        if not reached:
            return {f"{self.tap.name}.{key}": torch.zeros(batch, dtype=torch.float64) for key in trained}
        rows = _joined([call.gradient for call in reached if call.gradient is not None])
        g = _places(rows, batch)
        sums, products = self._sums(rows, batch) if "weight" in trained else None, None
        if sums is not None:
            found["weight"] = sums.squares
        elif "weight" in trained:
            found["weight"], products = self._of_weight(g)
        if "bias" in trained:
            come = g.sum((0, 2), dtype=torch.float64) if sums is None else sums.come
            found["bias"] = come.square().sum(1)
        if "norm.weight" in trained or "norm.bias" in trained:
            found |= self._of_norm(reached, g, sums, products)
        return {f"{self.tap.name}.{key}": found[key].cpu() for key in trained}

    def weighted(self, shares: Tensor) -> dict[str, Tensor]:
        """Sum over samples of ``shares [B]`` times their gradients, by parameter name; weights and biases alone."""
        reached = [call for call in self.tap.calls if call.gradient is not None]
        layer = self.tap.layer
        if not reached or not isinstance(layer, WeightedLayer):
            return {}
        batch = len(shares)
        rows = _joined([call.gradient for call in reached if call.gradient is not None])
        share = shares.to(rows).repeat(len(rows) // batch).view(-1, *[1] * (rows.dim() - 1))
        rows = rows * share
        x = _joined([call.x[: len(call.gradient)] for call in reached if call.gradient is not None])
        found: dict[str, Tensor] = {}
        if layer.weight.requires_grad:
            found["weight"] = self._product(rows, x)
        if layer.bias is not None and layer.bias.requires_grad:
            found["bias"] = rows.sum(dim=[0, *range(2, rows.dim())])
        return {f"{self.tap.name}.{key}": value for key, value in found.items()}

    def _product(self, rows: Tensor, x: Tensor) -> Tensor:
        """sum_r g_r x_r^T, shaped as the weight."""
        layer = self._weighted()
        plan = layer.plan
        if plan.kind != "conv":
            return rows.t() @ x.flatten(1)
        return conv2d_weight(x, layer.weight.shape, rows, cast(Any, plan.strides), cast(Any, plan.padding))

    def _of_weight(self, g: Tensor) -> tuple[Tensor, Tensor | None]:
        """||sum_r g_r x_r^T||^2 from gradients ``[S, B, HW, C]``; and the sums themselves if they were made."""
        steps, batch, places, channels = g.shape
        width = self._width()
        if sum(call.steps if not call.still else 1 for call in self.tap.calls) * places <= width:
            rows = g.transpose(0, 1).flatten(1, 2).double()
            gram = self._gram_of(batch)[:, : steps * places, : steps * places]
            return (gram * torch.bmm(rows, rows.transpose(1, 2))).sum((1, 2)).clamp_min(0), None
        total = g.new_zeros(batch, channels, width)
        for step in range(steps):
            total.baddbmm_(g[step].transpose(1, 2), self._patches_of(batch, step))
        return total.square().sum((1, 2), dtype=torch.float64), total

    def _sums(self, rows: Tensor, batch: int) -> SampleSums | None:
        """Of sum_r g_r x_r^T of 3x3 convolutions, from gradients ``[S*B, C, H, W]``, where the kernel takes less work.

        None where it cannot, or where rows are so few that their Gram matrices take less.
        """
        layer = self._weighted()
        plan = layer.plan
        if plan.kind != "conv":
            return None
        height, width = rows.shape[2:]
        by_gram = len(rows) // batch * height * width * (self._width() + len(layer.weight))
        tiles = -(-height // 4) * -(-width // 4)
        if height * width * by_gram < tiles * TILE * layer.weight[:, :, 0, 0].numel():
            return None
        options = {"padding": plan.padding, "stride": plan.strides}
        return conv2d_sample_sums(rows, _joined([call.x for call in self.tap.calls]), layer.weight, batch, **options)

    def _width(self) -> int:
        """K: inputs of a neuron."""
        return self._weighted().weight[0].numel()

    def _weighted(self) -> WeightedLayer:
        assert isinstance(self.tap.layer, WeightedLayer)
        return self.tap.layer

    def _unfolded(self, x: Tensor) -> Tensor:
        """Rows ``[N, ...]`` as ``[N, HW, K]``, K in the order kernel row, kernel column, channel."""
        plan = self.tap.layer.plan
        if plan.kind != "conv":
            return x.flatten(1).unsqueeze(1)
        high, wide = plan.kernel_size
        above, beside = pair(plan.padding)
        down, along = pair(plan.strides)
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, beside, beside, above, above)).contiguous()
        image, row, column, _ = padded.stride()
        height, width = plan.map_shape[1:]
        run = wide * x.shape[1]
        shape = (len(x), height, width, high, run)
        return padded.as_strided(shape, (image, row * down, column * along, row, 1)).reshape(
            len(x), height * width, high * run
        )

    def _patches_of(self, batch: int, step: int) -> Tensor:
        """``[B, HW, K]`` of one step."""
        x = _joined([call.x for call in self.tap.calls]).unflatten(0, (-1, batch))
        if self._patches is None and x.shape[0] * batch * self.tap.calls[0].y[0, 0].numel() * self._width() <= KEPT:
            self._patches = self._unfolded(x.flatten(0, 1)).unflatten(0, (-1, batch))
        return self._unfolded(x[step]) if self._patches is None else self._patches[step]

    def _gram_of(self, batch: int) -> Tensor:
        """x_r . x_s of all rows, float64 ``[B, R, R]``."""
        if self._gram is None:
            x = _joined([call.x for call in self.tap.calls])
            if self.tap.layer.plan.kind == "conv":
                rows = self._unfolded(x).unflatten(0, (-1, batch)).transpose(0, 1).flatten(1, 2)
            else:  # as they stand in memory: products of rows do not depend on the order of inputs
                rows = _places(x, batch).flatten(2).transpose(0, 1)
            self._gram = torch.bmm(rows, rows.transpose(1, 2)).double()
        return self._gram

    def _of_norm(
        self, calls: list[Call], g: Tensor, sums: SampleSums | None, products: Tensor | None
    ) -> dict[str, Tensor]:
        """Scale and shift: of n = gain (y - mean) + shift with gain = scale weight / deviation, from those of y.

        Args:
            calls: that were reached.
            g: gradients of y, ``[S, B, HW, C]``.
            sums: what a kernel has summed already.
            products: sum_r g_r x_r^T ``[B, C, K]`` if they were made.
        """
        assert isinstance(self.tap, Tap), "ANN twins are tapped without a normalisation"
        steps, batch, _, channels = g.shape
        live = steps if len(calls) == 1 else 1
        options = [self.tap.normalisation(call, live) for call in calls]
        gains = [self.tap.gain(call, live) for call in calls]
        groups = steps if self.tap.layer.norm is not None and self.tap.layer.norm.steps is not None else 1

        def of_group(tensors: list[Tensor]) -> Tensor:
            return torch.cat([t.reshape(-1, channels) for t in tensors])[:groups].double().unsqueeze(1)

        mean, weight = (of_group([o[key] for o in options]) for key in ("running_mean", "weight"))
        gain = of_group([t for t in gains if t is not None])
        if groups == 1 and sums is not None:
            come = sums.come
            met = self._biased(sums.met, come).unsqueeze(0)
        elif groups == 1 and products is not None:
            come = g.sum((0, 2), dtype=torch.float64)
            met = self._through_weights(products, come).unsqueeze(0)
        else:
            y = _joined([call.y[: len(call.gradient)] for call in calls if call.gradient is not None])
            met = (g * _places(y, batch)).sum(2).double()
            come = g.sum(2).double()
            met, come = (met, come) if groups > 1 else (met.sum(0, keepdim=True), come.sum(0, keepdim=True))
        shift = come / gain
        scale = (met - mean * come) / weight
        return {"norm.weight": scale.square().sum((0, 2)), "norm.bias": shift.square().sum((0, 2))}

    def _through_weights(self, products: Tensor, come: Tensor) -> Tensor:
        """sum_r g_r y_r ``[B, C]``, from sum_r g_r x_r^T ``[B, C, K]`` and sum_r g_r: y = W x + b."""
        layer = self._weighted()
        weight = layer.weight.detach()
        weight = weight.permute(0, 2, 3, 1).flatten(1) if layer.plan.kind == "conv" else weight
        return self._biased(torch.linalg.vecdot(products, weight).double(), come)

    def _biased(self, met: Tensor, come: Tensor) -> Tensor:
        """sum_r g_r y_r from sum_r g_r (W x_r) and sum_r g_r, all ``[B, C]``."""
        bias = self._weighted().bias
        return met if bias is None else met + come * bias.detach().double()


def _joined(rows: list[Tensor]) -> Tensor:
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def _places(x: Tensor, batch: int) -> Tensor:
    """``[S*B, C, ...]`` as ``[S, B, HW, C]``, without a copy if channels come last in memory."""
    flat = x.permute(0, 2, 3, 1).flatten(1, 2) if x.dim() == 4 else x.unsqueeze(1)
    return flat.unflatten(0, (-1, batch))


def parameter(layer: nn.Module, key: str) -> nn.Parameter | None:
    """The layer's parameter at this dotted name; None where it has none, or something else."""
    *path, last = key.split(".")
    owner = layer
    for part in path:
        owner = getattr(owner, part, None)
    found = getattr(owner, last, None)
    return found if isinstance(found, nn.Parameter) else None
