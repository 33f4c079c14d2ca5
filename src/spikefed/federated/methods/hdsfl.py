"""HDSFL: Xie, Feng, Liu, Zhan, Liu, Zhang, "Efficient federated learning with spiking neural networks via hint
distillation", Applied Soft Computing 2024; details from its public code where the specification names them.

FSD whose clients also upload the spikes of an inner ("hint") layer; the server distils on both, the downlink carries
the output spikes alone. The published hint is a narrow sub-network's 32 x 2 x 2 values a step; here it is the spikes of
a named layer of whatever network runs, by default the last hidden one (128 neurons in `small`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.federated.contract import ClientContext, Context, Hyperparameters, MessageKind, NetworkFactory, State
from spikefed.federated.distillation import Goal, Merged
from spikefed.federated.methods.fsd import Fsd, FsdHyperparameters, public_spikes
from spikefed.federated.robust import weighted_mean
from spikefed.federated.traffic import Exchange
from spikefed.networks import GraphNetwork, PassLayer, SpikingLayer
from spikefed.wire import HintSpikeUplink


class HdsflHyperparameters(FsdHyperparameters):
    """Hyperparameters of HDSFL beside those of FSD."""

    hint_layer: str | None = Field(
        default=None, description="layer whose spikes are the hint ('spikefed describe'); default: the last hidden one"
    )
    hint_weight: float = Field(default=1.0, ge=0, description="weight of the hint's squared error [HDSFL code: 1]")


def hint_layer(net: nn.Module, name: str | None) -> nn.Module:
    """The layer of that name; by default the last hidden one that gives spikes, and no means of them.

    Raises:
        ConfigError: no such layer, or none that could be the default.
    """
    if name is None:
        hidden = [layer for layer in getattr(net, "places", [])[:-1] if getattr(layer, "neuron", None) is not None]
        if not hidden:
            raise ConfigError("this network has no hidden layer of its own to hint from; name one in method.hint_layer")
        return next((layer for layer in reversed(hidden) if not layer.plan.pool), hidden[-1])
    found = dict(net.named_modules()).get(name)
    if found is None:
        names = ", ".join(n for n, _ in net.named_children())
        raise ConfigError(f"method.hint_layer = '{name}' is no layer of this network; it has {names}")
    return found


class Hint:
    """Keeps what a layer gave in the last forward pass: ``[T*B, ...]`` as spikes ``[T, B, H]``."""

    def __init__(self, net: nn.Module, name: str | None) -> None:
        self.value: Tensor | None = None
        self._layer = hint_layer(net, name)
        self._handle = None

    def __enter__(self) -> Hint:
        self._handle = self._layer.register_forward_hook(self._keep)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._handle is not None
        self._handle.remove()

    def _keep(self, layer: nn.Module, inputs: object, output: Tensor) -> None:
        self.value = output

    def spikes(self, steps: int) -> Tensor:
        """``[T, B, H]`` of the last pass."""
        assert self.value is not None
        return self.value.float().unflatten(0, (steps, -1)).flatten(2)


class Hdsfl(Fsd):
    """Algorithm 1 of FSD with a second tensor in the uplink and a second term in the server's loss."""

    name: ClassVar[str] = "hdsfl"
    title: ClassVar[str] = "HDSFL"
    summary: ClassVar[str] = "FSD with the spikes of a hint layer in the uplink"
    hyperparameters: ClassVar[type[Hyperparameters]] = HdsflHyperparameters
    uplink_kind: ClassVar[MessageKind | None] = "hint-spikes"
    downlink_kind: ClassVar[MessageKind | None] = "spikes"
    votes: ClassVar[bool] = False

    def exchanges(
        self, hyper: HdsflHyperparameters, shape: tuple[int, int, int], networks: NetworkFactory
    ) -> tuple[Exchange, Exchange]:
        net = networks.load()
        layer = hint_layer(net, hyper.hint_layer)
        if not isinstance(layer, SpikingLayer | PassLayer) or layer.neuron is None:
            raise ConfigError("method.hint_layer must name a spiking layer of a built-in network")
        if isinstance(net, GraphNetwork) and net.stepwise(layer.plan.name):
            raise ConfigError(
                f"method.hint_layer names '{layer.plan.name}', which lies in a loop and runs step by step; name a "
                "layer outside it ('spikefed describe')"
            )
        if layer.plan.pool:
            raise ConfigError("method.hint_layer names a layer with a pool, whose outputs are no spikes; name another")
        return Exchange("hint-spikes", shape, hint=int(np.prod(layer.plan.out_shape))), Exchange("spikes", shape)

    def uplink(
        self, net: nn.Module, accuracy: float, state: State, ctx: ClientContext
    ) -> tuple[HintSpikeUplink, State, dict[str, float]]:
        parts: list[Tensor] = []
        with Hint(net, ctx.hyper.hint_layer) as hint:
            # The prediction runs in batches: every pass leaves its part of the hint here.
            keep = net.register_forward_hook(lambda _net, _x, out: parts.append(hint.spikes(len(out)).permute(1, 2, 0)))
            spikes = public_spikes(net, ctx)
            keep.remove()
        hints = torch.cat(parts).to(torch.uint8).cpu().contiguous().numpy()
        message = HintSpikeUplink(ctx.round, ctx.client, spikes, hints, accuracy, ctx.public_set_id)
        return message, {}, {"firing_rate": float(spikes.mean()), "hint_rate": float(hints.mean())}

    def merge(self, uplinks: Mapping[int, HintSpikeUplink], state: State, ctx: Context) -> tuple[Merged, State]:
        hyper: HdsflHyperparameters = ctx.hyper
        merged, kept = super().merge(uplinks, state, ctx)  # type: ignore[arg-type]
        hints = weighted_mean({c: u.hint for c, u in uplinks.items()}, merged.weights)
        classes = merged.goal.target.shape[1]
        output_loss = merged.goal.loss
        # Both targets in one tensor [P, C + H, T], so that the one training loop cuts batches of both.
        target = torch.cat([merged.goal.target, torch.from_numpy(hints.astype(np.float32))], dim=1)
        hint = Hint(ctx.networks.load(state["weights"]), hyper.hint_layer)

        def loss(outputs: Tensor, goal: Tensor) -> Tensor:
            distance = F.mse_loss(hint.spikes(len(outputs)), goal[:, classes:].permute(2, 0, 1))
            return output_loss(outputs, goal[:, :classes]) + hyper.hint_weight * distance

        return Merged(Goal(target, loss, scope=hint), merged.content, merged.weights, merged.values), kept
