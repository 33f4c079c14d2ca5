"""Networks with statistics and scales as training leaves them, for exporters to carry away."""

from __future__ import annotations

import types
from typing import Any

import torch

from spikefed import networks
from spikefed.interop import About
from spikefed.networks import Norm
from spikefed.training import Preprocess

ABOUT = About("a test network", Preprocess(), tuple("abcdefghij"))


def lived_in(net: torch.nn.Module, seed: int = 0) -> Any:
    """The network with norms that are no longer at their start, in evaluation mode."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, Norm):
                module.running_mean.normal_(0, 0.2, generator=draw)
                module.running_var.uniform_(0.2, 1.2, generator=draw)
                module.weight.uniform_(0.8, 1.6, generator=draw)
                if module.bias is not None:
                    module.bias.normal_(0.3, 0.3, generator=draw)
    return net.eval()


def built(name: str, side: int = 12, **settings: Any) -> Any:
    """A spiking network of the zoo for ``side`` x ``side`` images of one channel, lived in."""
    told = {"input_shape": (1, side, side), "classes": 10, "steps": 4, **settings}
    return lived_in(networks.build(name, **told))


def module_of(text: str) -> Any:
    """A script as a module."""
    made = types.ModuleType("exported")
    exec(compile(text, "exported.py", "exec"), made.__dict__)
    return made
