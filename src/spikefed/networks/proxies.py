"""NetTailor's proxies: cheap ways around the blocks of a frozen network, and the choice among them.

A block is a layer with a convolution and neurons, from the second on; x_0 is what the first layer gives. With the
frozen layer G_l, its norm included, and proxies A_p^l from up to k blocks before (Morgado and Vasconcelos, CVPR 2019):

    x_l = neurons( alpha_l^l G_l(x_{l-1}) + sum_{p=l-k..l-1} alpha_p^l A_p^l(x_p) ),    alpha^l = softmax(scalars)

so neurons (ReLU in the ANN twin) and pool stand behind the sum. A choice whose scalar is at `DROPPED` has an alpha of
exactly 0 and no gradient; what only such choices need is not computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from spikefed.networks.layout import LayerPlan
from spikefed.networks.norms import Norm
from spikefed.networks.roles import Role, task
from spikefed.neurons import normalise, spike_conv2d

UNIVERSAL = 2.0
"""Scalar of the frozen block at the start; that of a proxy is its negative."""
DROPPED = -512.0
"""Scalar of a choice that was dropped: exp(-512) is 0 in float32, and 512 is exact in every float."""


class Proxy(nn.Module):
    """A_p^l: max pool of kernel s + 1 and stride s where the map falls by s, convolution 1x1, batch norm.

    Args:
        source: place of the layer whose output it takes.
        given: sizes of that layer.
        plan: sizes of the block.
        number: of the task.
    """

    def __init__(self, source: int, given: LayerPlan, plan: LayerPlan, number: int) -> None:
        super().__init__()
        self.source = source
        self.number = number
        self.sides: tuple[int, int] = plan.map_shape[1], plan.map_shape[2]
        self.falls: tuple[int, int] = given.out_shape[1] // self.sides[0], given.out_shape[2] // self.sides[1]
        self.weight = nn.Parameter(torch.zeros(plan.map_shape[0], given.out_shape[0], 1, 1))
        self.norm = Norm("bn", plan.map_shape[0], warm_up=True)
        self.norm.role = task(number)

    @property
    def macs(self) -> int:
        """Multiply-accumulates a sample and time step."""
        return self.weight.numel() * self.sides[0] * self.sides[1]

    def tensor_roles(self) -> dict[str, Role]:
        """Of the task."""
        return {"weight": task(self.number)}

    def forward(self, x: Float[Tensor, "N C H W"], steps: int) -> Float[Tensor, "N D H2 W2"]:
        """Normalised currents. ``x`` has time folded into the batch, row t*B + b."""
        if max(self.falls) > 1:
            kernel = [fall + 1 if fall > 1 else 1 for fall in self.falls]
            x = F.max_pool2d(x, kernel, self.falls, [side // 2 for side in kernel] if max(kernel) > 2 else 0)
            x = x[:, :, : self.sides[0], : self.sides[1]]
        y = spike_conv2d(x, self.weight, None, padding=0, stride=1)
        return normalise(y, steps=steps, scale=1.0, **self.norm.options(steps))


class Proxies(nn.Module):
    """The choices of one block and task: the frozen block first, then its proxies from the farthest source on.

    Args:
        place: of the block among the network's layers.
        sources: sizes of the layers that proxies take from, by place.
        plan: sizes of the block.
        number: of the task.

    Attributes:
        choice: free scalars ``[1 + n]``.
    """

    def __init__(self, place: int, sources: Mapping[int, LayerPlan], plan: LayerPlan, number: int) -> None:
        super().__init__()
        self.place = place
        self.number = number
        self.plan = plan
        self.choice = nn.Parameter(torch.zeros(1 + len(sources)))
        self.proxies = nn.ModuleList(Proxy(source, given, plan, number) for source, given in sources.items())

    @property
    def each(self) -> Sequence[Proxy]:
        """The proxies."""
        return cast(Sequence[Proxy], self.proxies)

    @property
    def macs(self) -> list[int]:
        """Multiply-accumulates of every choice."""
        return [self.plan.macs, *(proxy.macs for proxy in self.each)]

    def tensor_roles(self) -> dict[str, Role]:
        """Of the task."""
        return {"choice": task(self.number)}

    @torch.no_grad()
    def renew(self) -> None:
        """Begin as NetTailor does: scalars 2 and -2, weights N(0, 0.01), the norm as it changes nothing."""
        self.choice.fill_(-UNIVERSAL)
        self.choice[0] = UNIVERSAL
        for proxy in self.each:
            draws = torch.Generator().manual_seed(1000 * self.place + 10 * proxy.source + self.number)
            proxy.weight.copy_(torch.empty(proxy.weight.shape).normal_(0, 0.01, generator=draws))
            proxy.norm.load_state_dict(Norm("bn", proxy.norm.channels, warm_up=True).state_dict())

    def alphas(self) -> Float[Tensor, " n"]:
        """Softmax of the scalars: positive, or 0 where dropped, and of sum 1."""
        return torch.softmax(self.choice, dim=0)

    def kept(self) -> list[bool]:
        """Which choices were not dropped."""
        return kept(self.choice)

    def needs(self) -> set[int]:
        """Places of the layers that the choices which are left take from."""
        sources = [self.place - 1, *(proxy.source for proxy in self.each)]
        return {source for source, stays in zip(sources, self.kept(), strict=True) if stays}


def kept(choice: Tensor) -> list[bool]:
    """Which choices were not dropped, of scalars ``[1 + n]``."""
    return (choice.detach() > DROPPED / 2).tolist()


def chosen_sum(own: Proxies, universal: Tensor | None, earlier: Sequence[Tensor], steps: int) -> Tensor:
    """sum_p alpha_p A_p(x_p) with the frozen block's own alpha_l G_l, of the choices that are left.

    Args:
        own: choices of the block.
        universal: normalised currents of the frozen block, ``[N, C, H, W]``; None where it was dropped.
        earlier: outputs of all layers before, by place; of idle ones anything.
        steps: T.
    """
    alphas = own.alphas()
    terms = [] if universal is None else [alphas[0] * universal]
    for alpha, proxy, stays in zip(alphas[1:], own.each, own.kept()[1:], strict=True):
        if stays:
            terms.append(alpha * proxy(earlier[proxy.source], steps))
    return torch.stack(terms).sum(dim=0) if len(terms) > 1 else terms[0]
