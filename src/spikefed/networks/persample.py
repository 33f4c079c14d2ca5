"""Squared norms of every sample's own gradient, for any number of backward passes through one forward pass.

A layer's gradient of one sample is the sum over time steps and positions of the outer products of what entered with
what came back; its norm needs no loop over samples:

* of few rows R = T * H * W beside K inputs of a neuron: sum_rs (x_r . x_s)(g_r . g_s), the Gram matrix of x made once;
* else the sums themselves: of 3x3 convolutions by the native weight gradient of each sample, else a small matrix
  product a sample.

Norms of the affine parameters of a normalisation follow from the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from spikefed.errors import ConfigError
from spikefed.networks.layers import PassLayer, SpikingLayer, WeightedLayer
from spikefed.networks.monitor import device_of, in_eval_mode
from spikefed.networks.network import ANNNetwork, SpikingNetwork
from spikefed.networks.relutaps import ReLUTap, rectified, tap_all, untap
from spikefed.networks.taps import Call, Prefix, Tap
from spikefed.networks.thresholds import learns_thresholds
from spikefed.neurons import SampleSums, conv2d_sample_sums, pair

KEPT = 2**26
"""Numbers of unfolded images (256 MB) up to which they are kept from one backward pass to the next."""

KINDS = (SpikingLayer, PassLayer)
"""Layers as they are: a class made from them may do something else with its weights."""

TILE = 36
"""Products of the native kernel for a tile of 4x4 positions."""

OWN = ("weight", "bias", "norm.weight", "norm.bias")
"""Parameters of a layer that the closed forms know."""


class PerSample(Protocol):
    """One forward pass, then as many backward passes as wanted."""

    def outputs(self, x: Tensor, generator: torch.Generator | None = None) -> Float[Tensor, "T B C"]:
        """The network's outputs in eval mode; they hold no graph."""
        ...

    def squared_norms(self, upstream: Float[Tensor, "T B C"], steps: int) -> dict[str, Float[Tensor, " B"]]:
        """Of each trainable parameter's gradient, a sample each, float64, by the parameter's name.

        Args:
            upstream: gradient of each sample's own scalar with respect to its outputs; 0 after the first ``steps``.
            steps: from 1 to T.
        """
        ...


def unknown_parameters(net: nn.Module) -> list[str]:
    """Trainable parameters for which there is no closed form here."""
    if not isinstance(net, SpikingNetwork) or learns_thresholds(net):
        return [name for name, p in net.named_parameters() if p.requires_grad]
    known = [p for _, layer in _layers(net) for key in OWN if (p := _parameter(layer, key)) is not None]
    times = [id(p) for p in known]
    return [name for name, p in net.named_parameters() if p.requires_grad and times.count(id(p)) != 1]


@contextmanager
def per_sample(net: nn.Module, loop: bool = False) -> Iterator[PerSample]:
    """Ways to the gradients' norms of a network while the context is open: closed forms, else a loop.

    Args:
        net: is in eval mode inside, in float32, and afterwards as it was.
        loop: one sample at a time whatever the network; otherwise only where closed forms are missing.
    """
    precision = getattr(net, "precision", "float32")
    with in_eval_mode(net):
        try:
            if isinstance(net, SpikingNetwork):
                net.precision = "float32"
            if loop or unknown_parameters(net):
                yield SampleLoop(net)
            else:
                with tapped(net) as taps:
                    yield taps
        finally:
            if isinstance(net, SpikingNetwork):
                net.precision = precision


@contextmanager
def tapped(net: nn.Module) -> Iterator[SampleTaps]:
    """The layers' forward passes replaced by taps while the context is open; of an ANN twin their weighted sums."""
    prefix = Prefix()
    anchor = torch.zeros((), device=device_of(net), requires_grad=True)
    if isinstance(net, ANNNetwork):
        rows = tap_all(rectified(net))
        try:
            yield SampleTaps(net, rows, prefix, anchor)
        finally:
            untap(rows)
        return
    taps = [Tap(name, layer, prefix, anchor) for name, layer in _layers(net)]
    for tap in taps:
        tap.layer.tap = tap
    try:
        yield SampleTaps(net, taps, prefix, anchor)
    finally:
        for tap in taps:
            del tap.layer.tap


class SampleLoop:
    """One sample at a time: the definition, for any network."""

    def __init__(self, net: nn.Module) -> None:
        self._net = net
        self._named = {name: p for name, p in net.named_parameters() if p.requires_grad}
        self._outputs: list[Tensor] = []

    def outputs(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """See `PerSample`: ``[T, B, C]``."""
        with torch.enable_grad():
            self._outputs = [self._net(x[n : n + 1], generator=generator) for n in range(len(x))]
        return torch.cat(self._outputs, dim=1).detach()

    def squared_norms(self, upstream: Tensor, steps: int) -> dict[str, Tensor]:
        """See `PerSample`: float64 ``[B]`` a parameter."""
        found = {name: torch.zeros(len(self._outputs), dtype=torch.float64) for name in self._named}
        for n, output in enumerate(self._outputs):
            come = upstream[:, n : n + 1]
            grads = torch.autograd.grad(output, list(self._named.values()), come, retain_graph=True, allow_unused=True)
            for name, grad in zip(self._named, grads, strict=True):
                found[name][n] = 0.0 if grad is None else grad.double().square().sum()
        return found


class SampleTaps:
    """All samples at once, by closed forms."""

    def __init__(self, net: nn.Module, taps: Sequence[Tap | ReLUTap], prefix: Prefix, anchor: Tensor) -> None:
        self._net = net
        self._forms = [_Layer(tap) for tap in taps]
        self._prefix = prefix
        self._anchor = anchor
        self._outputs = torch.empty(0)

    def outputs(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """See `PerSample`: ``[T, B, C]``."""
        for form in self._forms:
            form.forget()
        with torch.enable_grad():
            self._outputs = self._net(x, generator=generator)
        return self._outputs.detach()

    def squared_norms(self, upstream: Tensor, steps: int) -> dict[str, Tensor]:
        """See `PerSample`: float64 ``[B]`` a parameter."""
        self._prefix.steps = steps
        for form in self._forms:
            for call in form.tap.calls:
                call.gradient = None
        torch.autograd.grad(self._outputs, self._anchor, upstream, retain_graph=True, allow_unused=True)
        batch = upstream.shape[1]
        return {name: norms for form in self._forms for name, norms in form.squared_norms(batch).items()}

    def follow(self, steps: int) -> None:
        """Before a pass that somebody else takes, back from the first ``steps``: nothing of an earlier one stays."""
        self._prefix.steps = steps
        for form in self._forms:
            form.forget()

    def clipped(self, batch: int, clip: float) -> dict[str, Tensor]:
        """After such a pass, of a mean over samples: the sum of their gradients, each cut down to norm ``clip``.

        Args:
            batch: samples.
            clip: C, over all trainable parameters together.

        Returns:
            by parameter name, of weights ``[Cout, Cin, K, K]`` or ``[Fout, Fin]`` and biases ``[Cout]``.

        Raises:
            ConfigError: layers were used a second time, by a method's own term.
        """
        if any(sum(call.steps for call in form.tap.calls) > self._prefix.steps for form in self._forms):
            raise ConfigError(
                "gradients of single samples need one forward pass a step, and a term of the method ran the network "
                "again; leave that term out"
            )
        norms = [norm for form in self._forms for norm in form.squared_norms(batch).values()]
        whole = batch * torch.stack(norms).sum(0).sqrt()  # the mean divided every gradient by the batch
        shares = batch * (clip / whole.clamp_min(clip))
        return {name: total for form in self._forms for name, total in form.weighted(shares).items()}


class _Layer:
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
        trained = [key for key in OWN if (p := _parameter(self.tap.layer, key)) is not None and p.requires_grad]
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


def _layers(net: nn.Module) -> list[tuple[str, SpikingLayer | PassLayer]]:
    return [
        (name, module)
        for name, module in net.named_modules()
        if isinstance(module, SpikingLayer | PassLayer) and type(module) in KINDS
    ]


def _parameter(layer: nn.Module, key: str) -> nn.Parameter | None:
    *path, last = key.split(".")
    owner = layer
    for part in path:
        owner = getattr(owner, part, None)
    found = getattr(owner, last, None)
    return found if isinstance(found, nn.Parameter) else None
