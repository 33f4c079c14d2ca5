"""Loops: batching, preprocessing, determinism, evaluation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from spikefed import networks
from spikefed.errors import ConfigError
from spikefed.training import AUGMENTATIONS, Preprocess, batches, evaluate, optimiser, output_spikes, outputs, train
from spikefed.training.loops import FEW, MANY, rows_at_once


class Threshold(nn.Module):
    """Spikes at step t where pixel (class) c exceeds t / 4: outputs that can be computed by hand."""

    def __init__(self, steps: int = 4) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, x: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        levels = torch.arange(self.steps).view(-1, 1, 1) / self.steps
        return (x.flatten(1).unsqueeze(0) > levels).float()


@given(st.integers(1, 200), st.integers(1, 40), st.booleans())
def test_batches_cover_everything_once(count: int, size: int, shuffle: bool) -> None:
    parts = list(batches(count, size, shuffle=shuffle, generator=torch.Generator().manual_seed(1)))
    assert sorted(torch.cat(parts).tolist()) == list(range(count))
    assert count == 1 or size == 1 or min(map(len, parts)) > 1
    assert max(map(len, parts)) <= size + 1
    if not shuffle:
        assert torch.cat(parts).tolist() == list(range(count))


def test_drop_last_gives_full_batches_only() -> None:
    generator = torch.Generator().manual_seed(1)
    assert [len(b) for b in batches(70, 32, shuffle=True, generator=generator, drop_last=True)] == [32, 32]


def test_preprocess_ranges() -> None:
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 1, 1, 3)
    assert torch.allclose(Preprocess("unit")(images).flatten(), torch.tensor([0.0, 0.2, 1.0]))
    assert torch.allclose(Preprocess("signed")(images).flatten(), torch.tensor([-1.0, -0.6, 1.0]))
    assert torch.allclose(Preprocess("standard", (51.0,), (2.0,))(images).flatten(), torch.tensor([-25.5, 0.0, 102.0]))
    assert images.tolist() == [[[[0, 51, 255]]]]


def test_evaluate_by_hand() -> None:
    # Two classes; the brighter pixel wins, the first on a tie.
    images = torch.tensor([[255, 0], [0, 255], [128, 128], [10, 200]], dtype=torch.uint8).view(4, 1, 1, 2)
    found = evaluate(
        Threshold(), images, torch.tensor([0, 1, 1, 0]), preprocess=Preprocess(), generator=torch.Generator()
    )
    assert found.accuracy == 0.5
    assert found.confusion == [[1, 1], [1, 1]]
    assert found.class_activity[0] == [0.75, 0.5, 0.5, 0.25]


def test_output_spikes_keep_order_and_layout() -> None:
    images = torch.arange(0, 250, 10, dtype=torch.uint8).view(25, 1, 1, 1)
    spikes = output_spikes(Threshold(), images, preprocess=Preprocess(), generator=torch.Generator(), batch_size=4)
    assert spikes.shape == (25, 1, 4) and spikes.dtype.name == "uint8"
    assert spikes[:, 0].sum(axis=1).tolist() == [sum(p / 255 > t / 4 for t in range(4)) for p in range(0, 250, 10)]


def test_output_spikes_refuse_currents() -> None:
    class Currents(Threshold):
        def forward(self, x: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
            return super().forward(x) * 0.5

    images = torch.full((2, 1, 1, 1), 200, dtype=torch.uint8)
    with pytest.raises(ConfigError, match="readout"):
        output_spikes(Currents(), images, preprocess=Preprocess(), generator=torch.Generator())


def test_train_lowers_the_loss_and_repeats_bit_for_bit() -> None:
    def once() -> tuple[float, float, torch.Tensor]:
        net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
        with torch.no_grad():
            net[1].weight.copy_(torch.linspace(-1, 1, 12).view(3, 4))
            net[1].bias.zero_()
        wrapped = _OneStep(net)
        images = torch.randint(0, 256, (30, 1, 2, 2), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        labels = images.flatten(1)[:, :3].argmax(dim=1)
        losses = [
            train(
                wrapped, images, labels, lambda out, y: nn.functional.cross_entropy(out[0], y),
                optimiser(wrapped, "adam", 0.05),
                epochs=epochs, batch_size=8, preprocess=Preprocess(), generator=torch.Generator().manual_seed(5),
            )
            for epochs in (1, 20)
        ]  # fmt: skip
        return losses[0], losses[1], net[1].weight.detach().clone()

    first, second = once(), once()
    assert first[1] < 0.5 * first[0]
    assert first[:2] == second[:2] and torch.equal(first[2], second[2])


class _OneStep(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        return self.net(x).unsqueeze(0)


@pytest.mark.parametrize("name", [name for name in AUGMENTATIONS if name != "none"])
def test_augmentations_keep_shape_and_move_pixels(name: str) -> None:
    x = torch.rand(64, 2, 12, 12, generator=torch.Generator().manual_seed(0)) + 1
    y = AUGMENTATIONS[name](x, torch.Generator().manual_seed(1))
    assert y.shape == x.shape
    # Every value comes from the same image and channel, or is padding.
    for i in range(0, 64, 16):
        assert set(y[i, 0].flatten().tolist()) <= {0.0, *x[i, 0].flatten().tolist()}
    assert not torch.equal(x, y)
    assert torch.equal(y, AUGMENTATIONS[name](x, torch.Generator().manual_seed(1)))


def test_unknown_optimiser() -> None:
    with pytest.raises(ConfigError, match="adamw"):
        optimiser(nn.Linear(1, 1), "lion", 0.1)


def steady_net(**more: Any) -> nn.Module:
    """A small spiking network that is not silent."""
    net = networks.build("4C3-AP2-12FC", input_shape=(1, 8, 8), classes=3, steps=4, generator=draws(3), **more)
    with torch.no_grad():
        for weight in net.parameters():
            weight.mul_(4.0)
    return net


def draws(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_few_images_at_once_say_what_many_say() -> None:
    net = steady_net()
    images = torch.randint(0, 256, (130, 1, 8, 8), generator=draws(0), dtype=torch.uint8)
    said = [outputs(net, images, preprocess=Preprocess(), generator=draws(1), batch_size=b) for b in (None, FEW, MANY)]
    assert said[0].any() and torch.equal(said[0], said[1]) and torch.equal(said[0], said[2])


def test_nothing_that_an_image_s_neighbours_could_change_is_cut_small() -> None:
    assert rows_at_once(steady_net()) == FEW
    assert rows_at_once(steady_net(), train_bn=True) == MANY
    assert rows_at_once(steady_net(coding="bernoulli")) == MANY
    assert rows_at_once(steady_net(readout="current")) == MANY
    assert rows_at_once(Threshold()) == MANY
    on_chip = steady_net()
    vars(next(m for m in on_chip.modules() if hasattr(m, "product")))["product"] = lambda x: x  # as a chip does
    assert rows_at_once(on_chip) == MANY
