"""Surrogates: the gradient stated is the derivative of the function stated, the support is what it says, text
round-trips."""

from __future__ import annotations

import math
import pickle

import pytest
import torch

from spikefed.errors import ConfigError
from spikefed.neurons import ATan, LIFParameters, Rectangle, Surrogate, Triangle, lif_hard, lif_soft, surrogate

ALL = [Rectangle(), Rectangle(width=0.5), Rectangle(2.0, 0.3), Triangle(), Triangle(1.0, 0.5), ATan(), ATan(alpha=5.0)]


@pytest.mark.parametrize("shape", ALL, ids=str)
def test_grad_is_the_derivative_of_the_stated_smooth_function(shape: Surrogate) -> None:
    x = torch.linspace(-2.5, 2.5, 1001, dtype=torch.float64) + 1.3e-4  # off the kinks
    step = 1e-6
    finite = (shape.smooth(x + step) - shape.smooth(x - step)) / (2 * step)
    torch.testing.assert_close(shape.grad(x), finite, rtol=1e-6, atol=1e-6)


def test_values_by_hand() -> None:
    x = torch.tensor([-0.5, -0.49, 0.0, 0.49, 0.5], dtype=torch.float64)
    assert Rectangle().grad(x).tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]
    assert Rectangle(width=0.5).grad(torch.tensor([0.0, 0.25])).tolist() == [2.0, 0.0]
    assert Triangle().grad(torch.tensor([-1.0, -0.5, 0.0, 2.0])).tolist() == pytest.approx([0.0, 0.15, 0.3, 0.0])
    assert ATan().grad(torch.tensor([0.0, 1 / math.pi])).tolist() == pytest.approx([1.0, 0.5])


@pytest.mark.parametrize("shape", ALL, ids=str)
def test_nothing_outside_the_support_and_something_inside(shape: Surrogate) -> None:
    edge = shape.support
    if math.isinf(edge):
        assert (shape.grad(torch.tensor([-1e3, 1e3])) > 0).all()
    else:
        assert shape.grad(torch.tensor([-edge, edge, 3 * edge])).abs().sum() == 0
        assert (shape.grad(torch.tensor([-0.99 * edge, 0.99 * edge])) > 0).all()


@pytest.mark.parametrize(("run", "kind"), [(lif_hard, "hard"), (lif_soft, "soft")])
def test_window_of_the_neuron_is_half_a_unit_around_the_threshold(run, kind) -> None:
    theta = 1.0
    x = torch.linspace(0.0, 2.0, 81).reshape(1, 1, 81).requires_grad_()
    spikes, _ = run(x, None, LIFParameters(kind=kind, decay=0.3, v_threshold=theta))
    spikes.sum().backward()
    inside = (x.detach() - theta).abs() < 0.5
    assert torch.equal(x.grad != 0, inside)


@pytest.mark.parametrize("shape", ALL, ids=str)
def test_text_and_pickle_round_trip(shape: Surrogate) -> None:
    assert surrogate(str(shape)) == shape
    assert pickle.loads(pickle.dumps(shape)) == shape
    assert hash(surrogate(str(shape))) == hash(shape)


def test_parse() -> None:
    assert surrogate("rectangle") == Rectangle()
    assert surrogate("atan:alpha=3") == ATan(3.0) == surrogate("arctan: alpha=3")
    for text, told in [
        ("step", "rectangle"),
        ("atan:beta=1", "alpha"),
        ("atan:alpha=x", "alpha"),
        ("atan:alpha=-1", "positive"),
    ]:
        with pytest.raises(ConfigError, match=told):
            surrogate(text)
