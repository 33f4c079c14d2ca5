"""Our own networks under torch's tracers: the pure path is taken, and gives what the fused kernels give."""

from __future__ import annotations

import pytest
import torch
from tests.interop.nets import built

from spikefed.neurons import kernels, use_kernels

NAMES = ("small", "cell:0303-0030-2002-0200:width=8")


@pytest.mark.parametrize("name", NAMES)
def test_torch_export(name: str) -> None:
    net, x = built(name), torch.rand(6, 1, 12, 12)
    with torch.no_grad():
        assert torch.equal(torch.export.export(net, (x,)).module()(x), net(x))


@pytest.mark.filterwarnings("ignore:.torch.jit.trace")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("name", NAMES)
def test_torch_jit_trace_of_any_batch(name: str) -> None:
    net, x = built(name), torch.rand(6, 1, 12, 12)
    traced = torch.jit.trace(net, (x,), check_trace=False)  # the hook that checks shapes names values anew each time
    with torch.no_grad():
        assert torch.equal(traced(x[:3]), net(x[:3]))


def test_tracing_leaves_the_mode_as_it_was() -> None:
    seen = []

    class Spy(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(kernels())
            return x + 1

    with use_kernels("auto"):
        torch.export.export(Spy(), (torch.zeros(2),))
        assert set(seen) == {"reference"} and kernels() == "auto"
