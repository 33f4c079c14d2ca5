"""QCFS: values on a grid, gradients through the floor, what it is refused for."""

from __future__ import annotations

import math

import pytest
import torch

from spikefed import experiment
from spikefed.errors import ConfigError
from spikefed.experiment import from_tree
from spikefed.interop import flat
from spikefed.networks import QCFS, ann_twin, build, quantise, roles

SHAPE = (1, 8, 8)


def of(levels: int, threshold: float) -> QCFS:
    made = QCFS(levels)
    torch.nn.init.constant_(made.log_threshold, math.log(threshold))
    return made


def test_values_by_hand() -> None:
    """L = 4, lambda = 2: steps of 0.5, halves round up, the ends are clipped."""
    z = torch.tensor([-3.0, 0.2, 0.25, 0.7, 0.75, 1.9, 2.0, 9.0])
    assert of(4, 2.0)(z).tolist() == pytest.approx([0, 0, 0.5, 0.5, 1.0, 2.0, 2.0, 2.0])


@pytest.mark.parametrize("levels", [1, 4, 8])
def test_it_gives_one_more_value_than_levels_and_the_more_the_nearer_to_a_clipped_relu(levels: int) -> None:
    z = torch.linspace(-2, 4, 2001)
    found = of(levels, 3.0)(z)
    assert len(found.unique()) == levels + 1
    assert float((found.detach() - z.clamp(0, 3)).abs().max()) <= 3 / (2 * levels) + 1e-5


def test_gradients_pass_the_floor_and_stop_at_the_ends() -> None:
    activation = of(4, 2.0)
    z = torch.tensor([-1.0, 0.6, 1.3, 5.0], requires_grad=True)
    activation(z).sum().backward()
    assert z.grad is not None
    assert z.grad.tolist() == pytest.approx([0, 1, 1, 0])
    assert activation.log_threshold.grad is not None
    # d h / d lambda is 1 where it is clipped above, 0 below, the rounding error in lambdas inside.
    assert float(activation.log_threshold.grad) == pytest.approx(2.0 * (1 + (0.5 - 0.6 + 1.5 - 1.3) / 2), abs=1e-5)


def test_every_hidden_layer_has_its_own_threshold_of_role_neuron() -> None:
    net = quantise(ann_twin("6C3-AP2-12FC", input_shape=SHAPE, classes=4), 8)
    learnt = [name for name, role in roles(net).items() if role == "neuron"]
    assert learnt == ["conv1.qcfs.log_threshold", "fc1.qcfs.log_threshold"]


def test_weights_begin_as_without_it() -> None:
    plain = ann_twin("6C3-12FC", input_shape=SHAPE, classes=4, seed=3).state_dict()
    other = quantise(ann_twin("6C3-12FC", input_shape=SHAPE, classes=4, seed=3), 4).state_dict()
    assert all(torch.equal(plain[name], other[name]) for name in plain)


@pytest.mark.parametrize(
    ("make", "levels", "told"),
    [
        (lambda: ann_twin("12FC", input_shape=SHAPE, classes=4), 0, "1 to 64 levels and not 0"),
        (lambda: build("12FC", input_shape=SHAPE, classes=4, steps=2), 4, "network.twin = 'ann'"),
        (lambda: ann_twin("resnet19", input_shape=(3, 16, 16), classes=4), 4, "row"),
        (lambda: torch.nn.Linear(2, 2), 4, "row"),
    ],
)
def test_refused(make, levels: int, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        quantise(make(), levels)


def test_no_exporter_takes_it_for_relu() -> None:
    net = quantise(ann_twin("12FC", input_shape=SHAPE, classes=4), 4)
    with pytest.raises(ConfigError, match="convert RUN --recipe qcfs"):
        flat(net)


def test_config_keys() -> None:
    plain = {"name": "x", "data": {"dataset": "digits"}, "network": {"twin": "ann"}, "method": {"name": "fedavg"}}
    with_it = {**plain, "network": {"twin": "ann", "qcfs": 4}}
    assert from_tree(plain).hash() != from_tree(with_it).hash()
    with pytest.raises(ConfigError, match="network.twin = 'ann', or leave it out"):
        experiment.build(from_tree({**plain, "network": {"qcfs": 4}}))
    with pytest.raises(ConfigError, match="qcfs"):
        from_tree({**plain, "network": {"twin": "ann", "qcfs": 0}})
