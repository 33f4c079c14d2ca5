"""A user's module in every manner of taking time becomes a network; what is no spiking network is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.networks import SpikingNetwork, build, build_own, describe, wrap
from spikefed.neurons import LIF

STEPS, CLASSES, SHAPE = 5, 3, (1, 4, 4)
NEURON: Any = {"decay": 0.5, "v_threshold": 0.2}


class Whole(nn.Module):
    """Images in, all time steps out; ``order`` is that of the output."""

    def __init__(self, classes: int = CLASSES, steps: int = STEPS, order: str = "TBC") -> None:
        super().__init__()
        self.fc, self.lif, self.steps, self.order = nn.Linear(16, classes), LIF(**NEURON), steps, order

    def forward(self, x: Tensor) -> Tensor:
        out = self.lif(self.fc(x.flatten(1)).expand(self.steps, -1, -1))
        return out if self.order == "TBC" else out.permute(1, 2, 0)


class Step(nn.Module):
    """One time step a call: a threshold without memory."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return (self.fc(x.flatten(1)) > 0).float()


class Sequence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(16, CLASSES), LIF(**NEURON)

    def forward(self, x: Tensor) -> Tensor:
        return self.lif(self.fc(x.flatten(2)))


def own(source: Any, **changes: Any) -> Any:
    return build_own(source, **{"input_shape": SHAPE, "classes": CLASSES, "steps": STEPS} | changes)


@pytest.mark.parametrize(
    ("source", "mode"),
    [(Whole, "images"), (lambda: Whole(order="BCT"), "images"), (Step, "step"), (Sequence, "sequence")],
)
def test_the_way_of_taking_time_is_seen_from_the_outputs(source: Any, mode: str) -> None:
    net = own(source)
    assert net.mode == mode
    out = net(torch.rand(7, *SHAPE))
    assert out.shape == (STEPS, 7, CLASSES) and set(out.unique().tolist()) <= {0.0, 1.0}


def test_both_orders_give_the_same_spikes_also_for_batches_as_large_as_t_or_c() -> None:
    first, second = own(lambda: Whole(order="TBC")), own(lambda: Whole(order="BCT"))
    for size in (1, 2, CLASSES, STEPS, 8):
        x = torch.rand(size, *SHAPE)
        assert torch.equal(first(x), second(x)), size


def test_the_seed_makes_the_weights_and_the_global_generator_stays() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    weights = [own(Whole, seed=seed).state_dict()["module.fc.weight"] for seed in (1, 1, 2)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert torch.equal(state, torch.get_rng_state())


def test_a_module_keeps_its_own_weights_and_is_copied() -> None:
    mine = Whole()
    net = own(mine, seed=9)
    assert torch.equal(net.module.fc.weight, mine.fc.weight) and net.module is not mine


def test_a_maker_gets_the_sizes_it_asks_for() -> None:
    assert own(Whole, classes=6, steps=4)(torch.rand(2, *SHAPE)).shape == (4, 2, 6)
    made = own(lambda input_shape, **other: wrap(Step(), steps=STEPS, classes=CLASSES, input_shape=input_shape))
    assert made.input_shape == SHAPE and made.mode == "step"
    zoo = own(lambda input_shape, classes, steps: build("4C3", input_shape=input_shape, classes=classes, steps=steps))
    assert isinstance(zoo, SpikingNetwork)


def test_an_own_generator_argument_makes_its_coding_repeatable() -> None:
    class Coded(Whole):
        def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
            return super().forward((torch.rand(x.shape, generator=generator) < x).float())

    net, x = own(Coded), torch.full((4, *SHAPE), 0.5)
    outs = [net(x, generator=torch.Generator().manual_seed(s)) for s in (0, 0)]
    assert torch.equal(*outs)


def test_describe_counts_it() -> None:
    table = describe(own(Whole))
    assert table.weights == 16 * CLASSES + CLASSES and table.input_shape == SHAPE


@pytest.mark.parametrize(
    ("source", "changes", "sentence"),
    [
        (
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, CLASSES)),
            {},
            "gives values such as .*not spikes; end it with",
        ),
        (
            lambda: nn.Linear(4, 4),
            {},
            r"does not map images to spikes: with B = 2, T = 5, 3 classes, \[2, 1, 4, 4\] gives",
        ),
        (lambda: Whole(steps=4), {}, r"\[2, 1, 4, 4\] gives \[4, 2, 3\].*it must give \[T, B, classes\]"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(9, 2)), {}, r"fails with RuntimeError: mat1 and mat2"),
        (lambda: 4, {}, "gave int; it must be, or give, a torch.nn.Module"),
        (lambda: 1 / 0, {}, r"could not be made: ZeroDivisionError: division by zero \(.*test_own.py, line"),
        (
            lambda: wrap(Step(), steps=2, classes=CLASSES),
            {},
            "has 2 time steps and 3 classes, the experiment has 5 and 3",
        ),
        (Whole, {"coding": "poisson"}, "makes its own time steps, so network.coding = 'poisson' would have no effect"),
        ("no_such_module:Net", {}, "names module 'no_such_module', which Python does not find"),
        ("python:Net", {}, r"was an object of the Python program that started the run"),
    ],
)
def test_what_is_no_spiking_network_is_refused_in_one_sentence(source: Any, changes: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as error:
        own(source, **changes)
    assert "\n" not in str(error.value)


def test_currents_are_fine_where_the_config_says_so() -> None:
    net = own(lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, CLASSES)), readout="current")
    assert net(torch.rand(2, *SHAPE)).shape == (STEPS, 2, CLASSES)


def test_a_module_names_its_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netsmodule.py").write_text("from tests.networks.test_own import Whole\n\nnumber = 3\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert own("netsmodule:Whole").mode == "images"
    with pytest.raises(ConfigError, match="is int; name a function or class"):
        own("netsmodule:number")
    sys.modules.pop("netsmodule")
