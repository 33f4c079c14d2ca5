"""Losses on prefixes by hand, by finite differences and against autograd's gradient of the readout."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.networks import build, wrap
from spikefed.training import (
    centroid,
    centroid_loss,
    head_information,
    hidden_of,
    prefix_cross_entropy,
    prefix_means,
    rate_cross_entropy,
    subset_cross_entropy,
)
from spikefed.training.temporal import prefix_weights

LABELS = torch.tensor([0, 2, 1])


def values(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_prefix_means_and_weights_by_hand() -> None:
    assert prefix_means(torch.tensor([[4.0], [0.0], [2.0]])).flatten().tolist() == [4.0, 2.0, 2.0]
    # T = 2, kappa = 2 ln 3: exponents -ln(3) / 2 and ln(3) / 2, so the second weighs three times the first.
    assert prefix_weights(2, 2 * torch.tensor(3.0).log().item()).tolist() == pytest.approx([0.25, 0.75])
    assert prefix_weights(5, 0.0).tolist() == pytest.approx([0.2] * 5)
    rising = prefix_weights(6, 3.0)
    assert (rising.diff() > 0).all() and torch.allclose(prefix_weights(6, -3.0), rising.flip(0))


def test_prefix_loss_is_its_sum_and_ends_in_the_plain_loss() -> None:
    outputs = values(4, 3, 3)
    weights = prefix_weights(4, -1.5)
    each = [F.cross_entropy(2 * outputs[: t + 1].mean(0), LABELS) for t in range(4)]
    expected = sum(float(w) * float(loss) for w, loss in zip(weights, each, strict=True))
    assert float(prefix_cross_entropy(outputs, LABELS, 2.0, -1.5)) == pytest.approx(expected)
    late = prefix_cross_entropy(outputs, LABELS, 1.0, 1000.0)
    assert float(late) == pytest.approx(float(rate_cross_entropy(outputs, LABELS)))
    early = prefix_cross_entropy(outputs, LABELS, 1.0, -1000.0)
    assert float(early) == pytest.approx(float(F.cross_entropy(outputs[0], LABELS)))


def test_subset_loss_teaches_its_steps_alone() -> None:
    outputs = values(4, 3, 3).requires_grad_()
    loss = subset_cross_entropy(outputs, LABELS, 1.0, (1, 3))
    loss.backward()
    assert outputs.grad is not None
    assert outputs.grad.abs().sum((1, 2)).gt(0).tolist() == [True, False, True, False]
    assert torch.isclose(subset_cross_entropy(outputs, LABELS), rate_cross_entropy(outputs, LABELS))
    with pytest.raises(ConfigError, match="names step 5, but the network has steps 1 to 4"):
        subset_cross_entropy(outputs, LABELS, 1.0, (1, 5))


def test_head_information_is_the_gradient_of_a_linear_readout() -> None:
    hidden, weight, bias = values(4, 3, 5), values(3, 5, seed=1), values(3, seed=2)
    outputs = hidden @ weight.T + bias
    told = head_information(outputs, hidden, LABELS, scale=2.0)
    for t in range(4):
        for n in range(3):
            w, b = weight.clone().requires_grad_(), bias.clone().requires_grad_()
            logits = 2.0 * (hidden[: t + 1, n] @ w.T + b).mean(0)
            grads = torch.autograd.grad(F.cross_entropy(logits[None], LABELS[n : n + 1]), (w, b))
            assert float(told[t, n]) == pytest.approx(sum(float(g.square().sum()) for g in grads))


def test_centroid_of_one_hot_information_is_its_step() -> None:
    for step in range(1, 7):
        information = torch.zeros(6)
        information[step - 1] = 3.0
        assert float(centroid(information)) == step
    assert float(centroid(torch.ones(6))) == pytest.approx(3.5)
    assert float(centroid(torch.zeros(6))) == pytest.approx(3.5)


def test_centroid_loss_by_finite_differences() -> None:
    outputs, hidden = values(3, 3, 3).requires_grad_(), values(3, 3, 4, seed=5).requires_grad_()
    assert torch.autograd.gradcheck(lambda o, h: centroid_loss(o, h, LABELS, 1.5, 0.7), (outputs, hidden))
    assert torch.isclose(centroid_loss(outputs, hidden, LABELS, 1.0, 0.0), rate_cross_entropy(outputs, LABELS))


class Own(nn.Module):
    """A user's network of one step."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x.flatten(1)).relu())


@pytest.mark.parametrize("mode", ["step", "sequence"])
def test_what_enters_the_readout_of_a_users_network(mode: str) -> None:
    module = Own() if mode == "step" else nn.Sequential(nn.Flatten(2), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    net = wrap(module, steps=3, classes=3, readout="current", mode=mode)  # type: ignore[arg-type]
    last = [m for m in net.modules() if isinstance(m, nn.Linear)][-1]
    with hidden_of(net) as hidden:
        for _ in range(2):
            outputs = net(torch.rand(5, 1, 2, 2))
            assert torch.allclose(hidden(outputs) @ last.weight.T + last.bias, outputs)
    assert not net._forward_pre_hooks and not last._forward_pre_hooks


class Headfirst(nn.Module):
    """Its readout is made first, and a layer that feeds back is called behind it at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.first, self.back = nn.Linear(6, 3), nn.Linear(4, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        outputs, state = [], torch.zeros(len(x), 6)
        for _ in range(3):
            seen = (self.first(x.flatten(1)) + state).relu()
            outputs.append(self.head(seen))
            state = self.back(seen.square())
        return torch.stack(outputs)


def test_the_readout_is_the_layer_that_gave_the_outputs_wherever_it_stands() -> None:
    module = Headfirst()
    net = wrap(module, steps=3, classes=3, readout="current", mode="images")
    with hidden_of(net) as hidden:
        outputs = net(torch.rand(5, 1, 2, 2))
        assert torch.allclose(module.head(hidden(outputs)), outputs)


def test_what_enters_the_readout_of_ours() -> None:
    net = build("4C3-AP2-6FC", input_shape=(1, 8, 8), classes=3, steps=3, readout="current", norm="none")
    with hidden_of(net) as hidden:
        outputs = net(torch.rand(5, 1, 8, 8))
        last = net.layers[-1]
        currents = hidden(outputs) @ last.weight.T + (0 if last.bias is None else last.bias)
    assert torch.allclose(currents, outputs, atol=1e-6)
    alone = wrap(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), steps=1, classes=3, readout="current", mode="step")
    with hidden_of(alone) as hidden:
        assert hidden(alone(torch.rand(5, 1, 2, 2))).shape == (1, 5, 4)


def test_a_network_without_a_linear_readout_is_refused() -> None:
    net = wrap(nn.Sequential(nn.Conv2d(1, 3, 2), nn.Flatten()), steps=2, classes=3, readout="current", mode="step")
    with pytest.raises(ConfigError, match="no linear readout"), hidden_of(net):
        pass
