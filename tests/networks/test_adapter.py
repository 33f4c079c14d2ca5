"""Foreign modules with hidden state behave as networks without any."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.networks import describe, firing_rates, wrap
from spikefed.neurons import LIF


class Step(torch.autograd.Function):
    """A step with a straight-through gradient."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return grad


class JellyNode(nn.Module):
    """State in an attribute, ``reset()``, ``step_mode``: SpikingJelly's manner."""

    def __init__(self, step_mode: str = "s") -> None:
        super().__init__()
        self.v_threshold, self.step_mode, self.v = 1.0, step_mode, 0.0

    def reset(self) -> None:
        self.v = 0.0

    def one(self, x: Tensor) -> Tensor:
        self.v = self.v * 0.5 + x
        spike = Step.apply(self.v - self.v_threshold)
        self.v = self.v * (1 - spike)
        return spike

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x) if self.step_mode == "s" else torch.stack([self.one(step) for step in x])


class TorchLeaky(nn.Module):
    """State in a buffer outside the state dict, zeroed in the old shape, tuple out: snnTorch's manner."""

    def __init__(self, last: bool = False) -> None:
        super().__init__()
        self.spike_grad, self.last = None, last
        self.register_buffer("threshold", torch.tensor(1.0))
        self.register_buffer("mem", torch.zeros(0), persistent=False)

    def reset_mem(self) -> None:
        self.mem = torch.zeros_like(self.mem)

    def forward(self, x: Tensor):
        self.mem = torch.zeros_like(x) if self.mem.shape != x.shape else self.mem
        self.mem = 0.5 * self.mem + x
        spike = Step.apply(self.mem - self.threshold)
        self.mem = self.mem * (1 - spike)
        return (spike, self.mem) if self.last else spike


class OverTime(nn.Module):
    """A layer without time applied to ``[T, B, ...]``."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def body(*neurons: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    hidden, readout = nn.Linear(16, 12), nn.Linear(12, 3)
    with torch.no_grad():
        readout.weight.mul_(4)
    return nn.Sequential(nn.Flatten(), hidden, neurons[0], readout, neurons[1])


def jelly_sequence() -> nn.Sequential:
    parts = body(JellyNode("m"), JellyNode("m"))
    return nn.Sequential(OverTime(nn.Sequential(parts[0], parts[1])), parts[2], OverTime(parts[3]), parts[4])


def ours() -> nn.Sequential:
    parts = body(LIF(decay=0.5), LIF(decay=0.5))
    return nn.Sequential(OverTime(nn.Sequential(parts[0], parts[1])), parts[2], OverTime(parts[3]), parts[4])


MODULES = {
    "spikingjelly step": lambda: body(JellyNode(), JellyNode()),
    "spikingjelly sequence": jelly_sequence,
    "snntorch": lambda: body(TorchLeaky(), TorchLeaky(last=True)),
    "our LIF": ours,
}


def images(batch: int = 6) -> Tensor:
    return 4 * torch.rand(batch, 1, 4, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", list(MODULES))
def test_all_ways_give_the_same_spikes_and_no_state_survives(name):
    net = wrap(MODULES[name](), steps=5, classes=3)
    expected = wrap(MODULES["spikingjelly step"](), steps=5, classes=3)(images())
    assert net.mode == ("sequence" if name in ("spikingjelly sequence", "our LIF") else "step")
    assert 0.02 < expected.mean() < 0.98
    first = net(images())
    assert torch.equal(first, expected)
    net(images(9))  # another batch size in between
    assert torch.equal(net(images()), first)


@pytest.mark.parametrize("name", list(MODULES))
def test_wrapped_networks_train_copy_and_pickle_after_a_call(name):
    net = wrap(MODULES[name](), steps=3, classes=3, input_shape=(1, 4, 4))
    net(images()).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    twin = copy.deepcopy(net)
    other = pickle.loads(pickle.dumps(net))
    assert torch.equal(twin(images()), other(images()))
    assert {n for n in net.state_dict() if n.endswith(("mem", ".v"))} == set()


def test_an_exception_leaves_no_state_behind():
    module = body(JellyNode(), JellyNode())
    with pytest.raises(RuntimeError):
        wrap(module, steps=2, classes=3)(torch.rand(2, 1, 5, 5))
    with pytest.raises(ConfigError, match=r"not \[T, B, classes\] = \(2, 6, 4\)"):
        wrap(module, steps=2, classes=4)(images())
    assert module[2].v == 0.0 and module[4].v == 0.0


def test_describe_and_firing_rates_see_through_the_wrapper():
    net = wrap(body(JellyNode(), JellyNode()), steps=5, classes=3, input_shape=(1, 4, 4))
    table = describe(net)
    assert [(r.name, r.macs, r.times, r.weights) for r in table.rows] == [
        ("module.1", 192, 5, 204),
        ("module.3", 36, 5, 39),
    ]
    rates = firing_rates(net, images())
    assert list(rates) == ["module.2", "module.4"]
    assert rates["module.4"] == pytest.approx(net(images()).mean().item())


@pytest.mark.parametrize(
    ("arguments", "message"), [({"steps": 0}, "at least 1 time step"), ({"mode": "loop"}, "mode 'loop'")]
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        wrap(nn.Identity(), **({"steps": 2, "classes": 3} | arguments))


def test_output_that_is_no_tensor_is_refused():
    class Named(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"spikes": x}

    with pytest.raises(ConfigError, match="returned dict"):
        wrap(Named(), steps=2, classes=3)(images())
