"""SpikingJelly's SNASNet at any width, and our weights in it."""

from __future__ import annotations

import importlib
import os
import sys
import types
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikefed.networks import GraphNetwork
from spikefed.networks.cells import Cell


def peer() -> Any:
    """SpikingJelly's ``snas_net`` module; the package around it imports much that this file does not need."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base = pytest.importorskip("spikingjelly.activation_based", exc_type=ImportError)
        name = "spikingjelly.activation_based.model"
        if name not in sys.modules:
            package = types.ModuleType(name)
            package.__path__ = [os.path.join(os.path.dirname(str(base.__file__)), "model")]
            sys.modules[name] = package
            try:
                return importlib.import_module(f"{name}.snas_net")
            finally:
                del sys.modules[name]
        return importlib.import_module(f"{name}.snas_net")


def released(cell: Cell, dataset: str, pool: int, steps: int = 5) -> nn.Module:
    """As the library builds it: 256 channels for ``cifar10``, 128 for ``cifar100``."""
    kind = "backward" if cell.backward else "forward"
    args = types.SimpleNamespace(
        threshold=1.0, tau=4 / 3, timestep=steps, second_avgpooling=pool, dataset=dataset, celltype=kind
    )
    return peer().SNASNet(args, torch.tensor([[int(code) for code in row] for row in cell.rows]))


def narrow(cell: Cell, *, width: int, side: int, classes: int, vote: int, hidden: int, pool: int, steps: int) -> Any:
    """The same network with other sizes: its own parts, put together as in its constructor."""
    snas = peer()
    net = released(cell, "cifar100", pool, steps)
    args = types.SimpleNamespace(threshold=1.0, tau=4 / 3)
    make = snas.Neuronal_Cell_backward if cell.backward else snas.Neuronal_Cell
    wide = 2 * width
    net.stem = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width))
    net.cell1, net.cell2 = make(args, width, width, net.con_mat), make(args, wide, wide, net.con_mat)
    net.downconv1[0] = nn.BatchNorm2d(width)
    net.downconv1[2] = nn.Conv2d(width, wide, 3, 1, 1, bias=False)
    net.downconv1[3], net.last_act[0] = nn.BatchNorm2d(wide), nn.BatchNorm2d(wide)
    net.classifier[0] = nn.Identity()  # dropout draws otherwise
    net.classifier[1] = nn.Linear(wide * (side // 2 // pool) ** 2, hidden, bias=False)
    net.classifier[3] = nn.Linear(hidden, vote * classes)
    net.boost = nn.AvgPool1d(vote, vote)
    return net


def take(theirs: Any, ours: GraphNetwork, cell: Cell) -> dict[str, str]:
    """Copy our tensors into theirs; gives their parameter names by ours."""
    places = {
        "stem": ("stem.0", "stem.1"),
        "down.fire": (None, "downconv1.0"),
        "down.conv": ("downconv1.2", "downconv1.3"),
        "last": (None, "last_act.0"),
        "fc1": ("classifier.1", None),
        "fc2": ("classifier.3", None),
    }
    forward = [(i, j) for j in range(1, 4) for i in range(j)]
    back = [(i, j) for j in range(3) for i in range(j + 1, 4)]
    for number in (1, 2):
        for pairs, part in ((forward, "cell_architecture"), (back, "cell_architecture_back")):
            for index, (i, j) in enumerate(pairs):
                if cell.rows[i][j] in "23":
                    at = f"cell{number}.{part}.{index}"
                    places[f"cell{number}.op{i}{j}"] = (f"{at}.1", f"{at}.2")
    names = {}
    for mine, (weights, norm) in places.items():
        for theirs_at, ours_at, kinds in ((weights, mine, ("weight", "bias")), (norm, f"{mine}.norm", NORM)):
            for kind in kinds if theirs_at else ():
                names[f"{ours_at}.{kind}"] = f"{theirs_at}.{kind}"
    state, into = ours.state_dict(), dict(theirs.named_parameters()) | dict(theirs.named_buffers())
    assert sorted(name for name in state if not name.endswith("num_batches_tracked")) == sorted(
        name for name in names if name in state
    )
    with torch.no_grad():
        for mine, name in names.items():
            if mine in state:
                into[name].copy_(state[mine])
    return {mine: name for mine, name in names.items() if mine in state}


NORM = ("weight", "bias", "running_mean", "running_var")


def mean_output(net: Any, x: Tensor) -> Tensor:
    """Their network's outputs, neurons cleared before."""
    functional = importlib.import_module("spikingjelly.activation_based.functional")
    functional.reset_net(net)
    return net(x)
