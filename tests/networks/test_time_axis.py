"""Data with steps of their own in our networks and in a user's: nothing is repeated, and order counts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spikefed import networks
from spikefed.errors import ConfigError
from spikefed.networks.adapter import step_shape
from spikefed.neurons import LIF

G = torch.Generator().manual_seed(0)


@pytest.mark.parametrize("name", ["small", "4C3-AP2-8FC"])
@pytest.mark.parametrize("coding", ["direct", "bernoulli"])
def test_equal_frames_give_what_one_image_gives(name: str, coding: str) -> None:
    net = networks.build(name, input_shape=(2, 8, 8), classes=3, steps=4, coding=coding).eval()
    image = torch.rand(5, 2, 8, 8, generator=G)
    film = image.unsqueeze(1).expand(5, 4, 2, 8, 8)
    torch.manual_seed(1)
    still = net(image, generator=torch.Generator().manual_seed(3))
    assert torch.equal(net(film, generator=torch.Generator().manual_seed(3)), still)


def test_steps_enter_in_their_order() -> None:
    net = networks.build("small-1d", input_shape=(6, 1, 1), classes=3, steps=5, readout="current").eval()
    x = torch.randn(4, 5, 6, 1, 1, generator=G) * 3
    whole, early = net(x), x.clone()
    early[:, 3:] = 0
    assert torch.equal(net(early)[:3], whole[:3]) and not torch.equal(net(early)[3:], whole[3:])
    assert not torch.equal(net(x.flip(1)), whole.flip(0))


def test_other_numbers_of_steps_and_other_shapes_are_named() -> None:
    net = networks.build("small-1d", input_shape=(6, 1, 1), classes=3, steps=5)
    with pytest.raises(ConfigError, match=r"small-1d has 5 time steps but got data of 4; resample them, or build it"):
        net(torch.zeros(2, 4, 6, 1, 1))
    with pytest.raises(ConfigError, match="was built for images 6x1x1 but got a batch of shape"):
        net(torch.zeros(2, 5, 7, 1, 1))
    twin = networks.ann_twin("small-1d", input_shape=(6, 1, 1), classes=3)
    with pytest.raises(ConfigError, match="has 1 time step but got data of 5"):
        twin(torch.zeros(2, 5, 6, 1, 1))


def test_send_on_delta_doubles_the_channels_of_the_first_layer() -> None:
    net = networks.build("small-1d", input_shape=(6, 1, 10), classes=3, steps=5, coding="delta")
    assert net.layers[0].weight.shape == (128, 2 * 6 * 10) and net.input_shape == (6, 1, 10)
    assert net(torch.randn(4, 5, 6, 1, 10)).shape == (5, 4, 3)


class Stepper(nn.Module):
    """Single steps ``[B, F]``."""

    def __init__(self, input_shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.weights = nn.Linear(*input_shape, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.ndim == 2
        return (self.weights(x) > 0).float()


class Sequencer(nn.Module):
    """Sequences ``[T, B, F, W]`` through a one-dimensional convolution."""

    def __init__(self, input_shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(input_shape[0], 4, 3, padding=1)
        self.out, self.neuron = nn.Linear(4 * input_shape[1], classes), LIF(decay=0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x.flatten(0, 1)).flatten(1)
        return self.neuron(self.out(y).unflatten(0, x.shape[:2]))


class Whole(nn.Module):
    """Everything ``[B, T, F]`` at once."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.weights = nn.Linear(6, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.ndim == 3
        return (self.weights(x) > 0).float().transpose(1, 2)


@pytest.mark.parametrize(("maker", "shape", "mode"), [
    (Stepper, (6, 1, 1), "step"), (Sequencer, (6, 1, 10), "sequence"), (Whole, (6, 1, 1), "images")
])  # fmt: skip
def test_a_users_module_sees_plain_series(maker: type[nn.Module], shape: tuple[int, ...], mode: str) -> None:
    net = networks.build_own(maker, input_shape=shape, classes=3, steps=7, timed=True)
    assert net.mode == mode
    x = torch.randn(4, 7, *shape, generator=G)
    out = net(x)
    assert out.shape == (7, 4, 3)
    if mode == "step":
        assert torch.equal(out[2], net.module(x[:, 2, :, 0, 0]))
    assert networks.describe(net).weights == sum(p.numel() for p in net.parameters())


def test_shapes_of_a_step() -> None:
    assert [step_shape(s) for s in ((6, 1, 1), (6, 1, 9), (2, 4, 9))] == [(6,), (6, 9), (2, 4, 9)]
