"""What one task has of its own in one layer (`spikefed.networks.adapters` says what there is)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from spikefed.networks.layout import LayerPlan
from spikefed.networks.norms import Norm
from spikefed.networks.proxies import Proxies
from spikefed.networks.roles import Role, task
from spikefed.neurons import spike_conv2d, spike_linear

Adapter = Literal["thresholds", "bn", "head", "low-rank", "mime", "proxy1x1"]
Per = Literal["layer", "channel", "neuron"]
KINDS: dict[str, Adapter] = {
    "log_threshold": "thresholds",
    "mask_threshold": "mime",
    "down": "low-rank",
    "up": "low-rank",
    "head_weight": "head",
    "head_bias": "head",
}


class Part(nn.Module):
    """One task's own numbers in one layer.

    Args:
        layer: frozen.
        kinds: of adapters, of those that this layer can have.
        number: of the task.
        per: what has a threshold.
        rank: of the low-rank addition.
        outputs: rows of the layer that the head stands for; None: all.
        place: of the layer in its network.
        sources: sizes of the layers that proxies take from, by place.

    Attributes:
        log_threshold: rho = log(theta / theta_0), ``[]``, ``[C, 1, 1]`` or ``[C, H, W]`` (``[C]`` without a map).
        mask_threshold: tau of an ANN twin's masked activation, shaped like `log_threshold`.
        norm: in the place of the layer's.
        down, up: of the low-rank addition ``up @ down``, ``[r, Cin, Kh, Kw]`` and ``[C, r]``.
        proxies: the choice between the layer and cheap ways around it.
        head_weight, head_bias: in the place of the layer's, ``[len(outputs), F]``.
    """

    def __init__(
        self,
        layer: Any,
        kinds: Sequence[Adapter],
        number: int,
        *,
        per: Per = "channel",
        rank: int = 2,
        outputs: Sequence[int] | None = None,
        place: int = 0,
        sources: Mapping[int, LayerPlan] | None = None,
    ) -> None:
        super().__init__()
        self.number = number
        plan: LayerPlan = layer.plan
        self.plan = plan
        self.outputs = list(range(plan.map_shape[0])) if outputs is None else list(outputs)
        self.log_threshold = _parameter("thresholds" in kinds, _threshold_shape(plan, per))
        self.mask_threshold = _parameter("mime" in kinds, _threshold_shape(plan, per))
        self.norm: Norm | None = copy.deepcopy(layer.norm) if "bn" in kinds else None
        low = "low-rank" in kinds
        self.down = _parameter(low, (rank, *layer.weight.shape[1:]) if low else ())
        self.up = _parameter(low, (plan.map_shape[0], rank))
        self.proxies = Proxies(place, sources or {}, plan, number) if "proxy1x1" in kinds else None
        head = "head" in kinds
        self.head_weight = _parameter(head, (len(self.outputs), *layer.weight.shape[1:]) if head else ())
        self.head_bias = _parameter(head and layer.bias is not None, (len(self.outputs),))
        self.renew(layer)

    @torch.no_grad()
    def renew(self, layer: Any) -> None:
        """Begin as a part that changes nothing in this layer."""
        if self.norm is not None:
            self.norm.load_state_dict(layer.norm.state_dict())
            self.norm.role = task(self.number)
            for parameter in self.norm.parameters():
                parameter.requires_grad_(True)
        if self.log_threshold is not None:
            self.log_threshold.zero_()
        if self.mask_threshold is not None:
            self.mask_threshold.zero_()
        if self.proxies is not None:
            self.proxies.renew()
        if self.head_weight is not None:
            self.head_weight.copy_(layer.weight[self.outputs])
        if self.head_bias is not None:
            self.head_bias.copy_(layer.bias[self.outputs])
        if self.down is not None and self.up is not None:
            self.up.zero_()
            draws = torch.Generator().manual_seed(self.down.numel() + self.number)
            bound = (3 / self.down[0].numel()) ** 0.5
            self.down.copy_(torch.empty(self.down.shape).uniform_(-bound, bound, generator=draws))

    def tensor_roles(self) -> dict[str, Role]:
        """All of the task."""
        return {name: task(self.number) for name, _ in self.named_parameters(recurse=False)}

    def kinds(self) -> dict[str, Adapter]:
        """Kind of adapter of every tensor, by its name in this part."""
        return {
            name: "proxy1x1" if name.startswith("proxies.") else KINDS.get(name, "bn") for name in self.state_dict()
        }

    def currents(self, x: Tensor, plain: Any) -> Tensor:
        """The layer's weighted sums with the task's head or addition. ``x`` is the layer's input ``[N, ...]``.

        Args:
            x: input of the layer.
            plain: ``(x) -> [N, C, ...]``, the sums of the frozen weights.
        """
        if self.head_weight is not None:
            own = spike_linear(x, self.head_weight, self.head_bias)
            out = own.new_zeros(len(own), self.plan.map_shape[0])
            return out.index_copy(1, torch.tensor(self.outputs, device=own.device), own)
        if self.down is None or self.up is None:
            return plain(x)
        if self.plan.kind == "conv":
            low = spike_conv2d(x, self.down, None, padding=self.plan.padding, stride=self.plan.strides)
            return plain(x) + torch.einsum("nrhw,cr->nchw", low, self.up.to(low.dtype))
        return plain(x) + spike_linear(x, self.down, None) @ self.up.t()

    def low_thresholds(self) -> Tensor | None:
        """sum exp(-tau) over the task's thresholds here, scalar: the lower, the larger; None without any.

        Thresholds of neurons count in units of the network's own. Source: Dynamic Sparse Training (Liu et al. 2020).
        """
        if self.mask_threshold is not None:
            return torch.exp(-self.mask_threshold).sum()
        if self.log_threshold is not None:
            return torch.exp(-torch.exp(self.log_threshold)).sum()
        return None

    @property
    def folds(self) -> bool:
        """Whether the gain fits into a norm's scale and shift: a neuron of a map has no threshold of its own."""
        return self.log_threshold is None or self.log_threshold.numel() in (1, self.plan.map_shape[0])

    def folded(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of a normalisation with theta_0 / theta in its scale and shift, ``[C]`` or ``[T, C]``."""
        if self.log_threshold is None:
            return dict(options)
        gain = torch.exp(-self.log_threshold).flatten()
        return {**options, **{key: t * gain for key in ("weight", "bias") if (t := options[key]) is not None}}

    def gained(self, currents: Tensor) -> Tensor:
        """Currents ``[N, C, ...]`` over the task's thresholds: times theta_0 / theta."""
        if self.log_threshold is None:
            return currents
        return currents * torch.exp(-self.log_threshold).to(currents.dtype)


def _parameter(wanted: bool, shape: tuple[int, ...]) -> nn.Parameter | None:
    return nn.Parameter(torch.zeros(shape)) if wanted else None


def _threshold_shape(plan: LayerPlan, per: Per) -> tuple[int, ...]:
    """Of one threshold a layer, channel or neuron."""
    if per == "layer":
        return ()
    shape = tuple(plan.map_shape)
    return shape if per == "neuron" else (shape[0], *[1] * (len(shape) - 1))
