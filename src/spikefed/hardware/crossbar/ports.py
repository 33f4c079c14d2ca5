"""Where a network's weights meet its inputs: the modules whose products a crossbar can compute, and their geometry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from spikefed.networks.layers import Product, WeightedLayer
from spikefed.neurons import spike_conv2d, spike_linear


@dataclass(frozen=True, eq=False)
class Port:
    """One module with weights.

    Attributes:
        name: its name in the network.
        module: a layer of ours, or a `torch.nn.Conv2d` or `torch.nn.Linear` of a user's.
        number: its place among all modules with weights, whatever lies on crossbars.
    """

    name: str
    module: nn.Module
    number: int

    @property
    def weight(self) -> Tensor:
        """``[C_out, C_in, k, k]`` or ``[out, in]``."""
        return cast(Tensor, self.module.weight)

    @property
    def bias(self) -> Tensor | None:
        """Added digitally. Shape ``[outputs]``."""
        return cast("Tensor | None", self.module.bias)

    @property
    def convolution(self) -> bool:
        """Whether it is one."""
        return self.weight.dim() == 4

    @property
    def window(self) -> int:
        """Inputs of one channel that a weighted sum sees."""
        return prod(self.weight.shape[2:]) if self.convolution else 1

    def matrix(self, weight: Tensor) -> Tensor:
        """A weight as a crossbar holds it, a row an input. Shape ``[inputs, outputs]``."""
        return weight.flatten(1).T

    def shaped(self, matrix: Tensor) -> Tensor:
        """``[inputs, outputs]`` as the module's weight, whose inputs may be a part of its channels."""
        flat = matrix.T
        return flat.unflatten(1, (-1, *self.weight.shape[2:])).contiguous() if self.convolution else flat.contiguous()

    def flat(self, x: Tensor) -> Tensor:
        """The input with its channels, or features, on axis 1 (convolution) or last."""
        ours = isinstance(self.module, WeightedLayer)
        return x.flatten(1) if ours and not self.convolution else x

    def multiply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The module's product with other weights, by the kernels that it uses itself."""
        module = self.module
        if isinstance(module, WeightedLayer):
            if self.convolution:
                plan = module.plan
                return spike_conv2d(x, weight, bias, padding=plan.padding, stride=plan.strides)
            return spike_linear(x, weight, bias)
        if isinstance(module, nn.Conv2d):
            return F.conv2d(x, weight, bias, module.stride, module.padding, module.dilation)
        return F.linear(x, weight, bias)

    @contextmanager
    def replaced(self, product: Product) -> Iterator[None]:
        """Inside, the module computes its weighted sums by ``product``; all else of it stays as it is.

        A module that is not ours has its ``forward`` shadowed; classes and names of tensors do not notice.
        """
        key = "product" if isinstance(self.module, WeightedLayer) else "forward"
        own = vars(self.module)
        before = own.get(key)
        own[key] = product
        try:
            yield
        finally:
            if before is None:
                del own[key]
            else:
                own[key] = before


def ports(net: nn.Module) -> list[Port]:
    """The modules with weights that a crossbar can hold, in order; grouped and padded-by-reflection ones are none."""
    found = [(name, module) for name, module in net.named_modules() if _suits(module)]
    return [Port(name, module, number) for number, (name, module) in enumerate(found)]


def _suits(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        return module.groups == 1 and module.padding_mode == "zeros"
    return isinstance(module, WeightedLayer) or type(module) is nn.Linear
