"""Every tensor has exactly one role, for our networks and for a user's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spikefed.networks import ann_twin, build, is_role, roles, state_bytes, wrap
from spikefed.networks.roles import task


@pytest.mark.parametrize("norm", ["none", "bn", "tdbn", "bntt"])
def test_roles_cover_the_whole_state_of_our_networks(norm):
    for net in (
        build("small", input_shape=(1, 8, 8), classes=10, steps=2, norm=norm),
        ann_twin("small", input_shape=(1, 8, 8), classes=10, norm=norm),
    ):
        role_of = roles(net)
        assert list(role_of) == list(net.state_dict())
        for name, role in role_of.items():
            leaf = name.rpartition(".")[2]
            if ".norm." not in name:
                assert role == "weight"
            else:
                assert role == ("bn_affine" if leaf in ("weight", "bias") else "bn_stats")


def test_bytes_by_role_add_up():
    net = build("vgg9-bntt", input_shape=(1, 8, 8), classes=10, steps=3)
    parts = [state_bytes(net, role) for role in ("weight", "bn_affine", "bn_stats")]
    assert sum(parts) == state_bytes(net)
    assert parts[1:] == [4 * 2176 * 3, 2 * 4 * 2176 * 3 + 8 * 8 * 3]


class Leaky(nn.Module):
    """A neuron in the manner of snnTorch: constants as buffers, a threshold, a learnt decay."""

    def __init__(self) -> None:
        super().__init__()
        self.spike_grad = None
        self.register_buffer("threshold", torch.tensor(1.0))
        self.register_buffer("reset_mechanism_val", torch.tensor(0))
        self.beta = nn.Parameter(torch.tensor(0.9))


class Tasks(nn.Module):
    """A module that decides for its own tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.thresholds_a = nn.Parameter(torch.ones(2))
        self.thresholds_b = nn.Parameter(torch.ones(2))

    def tensor_roles(self) -> dict[str, str]:
        return {"thresholds_a": task(0), "thresholds_b": task(1)}


def test_roles_of_foreign_modules_come_from_what_the_modules_are():
    shared = nn.Linear(4, 4)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.GroupNorm(1, 2), Leaky(), shared, shared, Tasks())
    net[0].bias.requires_grad_(False)
    net.register_buffer("mask", torch.ones(3))
    net.register_buffer("scratch", torch.ones(3), persistent=False)
    role_of = roles(wrap(net, steps=2, classes=4))
    assert role_of == {
        "module.mask": "frozen",
        "module.0.weight": "weight",
        "module.0.bias": "frozen",
        "module.1.weight": "bn_affine",
        "module.1.bias": "bn_affine",
        "module.1.running_mean": "bn_stats",
        "module.1.running_var": "bn_stats",
        "module.1.num_batches_tracked": "bn_stats",
        "module.2.weight": "bn_affine",
        "module.2.bias": "bn_affine",
        "module.3.beta": "neuron",
        "module.3.threshold": "frozen",
        "module.3.reset_mechanism_val": "frozen",
        "module.4.weight": "weight",
        "module.4.bias": "weight",
        "module.5.weight": "weight",
        "module.5.bias": "weight",
        "module.6.thresholds_a": "task[0]",
        "module.6.thresholds_b": "task[1]",
    }


@pytest.mark.parametrize(
    ("text", "good"), [("weight", True), ("task[12]", True), ("task", False), ("task[x]", False), ("weights", False)]
)
def test_role_names(text, good):
    assert is_role(text) is good
