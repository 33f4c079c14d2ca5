"""Steps of small networks without autograd around the chain: the bits of the steps through it, whatever is trained."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from spikefed import networks
from spikefed.networks import learn_thresholds
from spikefed.neurons import LIFParameters, Rectangle, chain, record_paths, use_kernels
from spikefed.neurons import chain as chains
from spikefed.training import (
    CrossTerm,
    DistillationLoss,
    Mask,
    Preprocess,
    distillation_loss,
    held,
    loops,
    optimiser,
    rate_cross_entropy,
    train,
)
from spikefed.training.lrschedule import half_cosine
from spikefed.training.smallsteps import small_steps

pytestmark = pytest.mark.skipif(not chain.available(), reason="no native kernels for chains on this processor")
STEPS, COUNT, BATCH = 4, 11, 4


def network(**more: Any) -> networks.SpikingNetwork:
    plan = {"input_shape": (1, 8, 8), "classes": 5, "steps": STEPS, "seed": 1, **more}
    return networks.build("6C3-AP2-10C3-AP2-12FC", **plan)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


IMAGES = torch.randint(0, 256, (COUNT, 1, 8, 8), generator=draws(1), dtype=torch.uint8)
LABELS = torch.randint(0, 5, (COUNT,), generator=draws(2))
TRAINS = torch.rand(COUNT, 5, STEPS, generator=draws(3))


def on_labels(outputs: Tensor, labels: Tensor) -> Tensor:
    return rate_cross_entropy(outputs, labels, 4.0)


def on_trains(outputs: Tensor, target: Tensor) -> Tensor:
    return distillation_loss(outputs, target, 0.1, CrossTerm())


def trained(net: networks.SpikingNetwork, optim: Any, loss: Any, targets: Tensor, **more: Any) -> list[Tensor]:
    """All that two epochs leave."""
    options: dict[str, Any] = {"epochs": 2, "batch_size": BATCH, "preprocess": Preprocess(), **more}
    generator = draws()
    value = train(net, IMAGES, targets, loss, optim, generator=generator, **options)
    moments = [t for p in net.parameters() for t in optim.state.get(p, {}).values() if isinstance(t, Tensor)]
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    left = [torch.tensor(value), generator.get_state(), *net.state_dict().values(), *moments, *gradients]
    return [t.detach().clone() for t in left]


def both(monkeypatch: pytest.MonkeyPatch, run: Any) -> tuple[list[Tensor], list[Tensor]]:
    """What a function leaves here, and with every step through autograd."""
    taken: list[bool] = []

    def watching(*given: Any) -> Any:
        taken.append(small_steps(*given) is not None)
        return small_steps(*given)

    with monkeypatch.context() as patch:
        patch.setattr(loops, "small_steps", watching)
        here = run()
        assert taken == [True]
        patch.setattr(loops, "small_steps", lambda *_: None)
        return here, run()


OPTIMISERS = [("adam", 0.0, 0.1), ("adamw", 0.0, 0.1), ("sgd", 0.9, 0.01), ("sgd", 0.0, 0.0)]


@pytest.mark.parametrize(("name", "momentum", "decay"), OPTIMISERS)
def test_every_optimiser_leaves_the_bits_of_steps_through_autograd(monkeypatch, name, momentum, decay) -> None:
    def run() -> list[Tensor]:
        net = network()
        return trained(net, optimiser(net, name, 3e-2, momentum, decay), on_labels, LABELS)

    here, there = both(monkeypatch, run)
    assert len(here) == len(there) and all(map(torch.equal, here, there))


NETWORKS = [
    {"readout": "current"},
    {"norm": "bntt"},
    {"norm": "none"},
    {"coding": "bernoulli"},
    {"precision": "bfloat16"},
    {"neuron": LIFParameters(decay=0.5, v_threshold=0.7, surrogate=Rectangle())},
]


@pytest.mark.parametrize("more", NETWORKS)
@pytest.mark.parametrize(
    ("loss", "targets"), [(on_labels, LABELS), (on_trains, TRAINS), (DistillationLoss(0.1), TRAINS)]
)
def test_every_network_and_loss_leaves_the_bits_of_steps_through_autograd(monkeypatch, more, loss, targets) -> None:
    def run() -> list[Tensor]:
        net = network(**{k: v for k, v in more.items() if k != "precision"})
        net.precision = more.get("precision", "float32")
        return trained(net, optimiser(net, "adam", 3e-2), loss, targets)

    here, there = both(monkeypatch, run)
    assert len(here) == len(there) and all(map(torch.equal, here, there))


def test_a_loss_that_looks_at_parameters_itself_has_both_gradients(monkeypatch) -> None:
    def run() -> list[Tensor]:
        net = network()
        begin = [p.detach().clone() for p in net.parameters()]

        def loss(outputs: Tensor, labels: Tensor) -> Tensor:
            moved = [(p - old).square().sum() for p, old in zip(net.parameters(), begin, strict=True)]
            return on_labels(outputs, labels) + torch.stack(moved).sum()

        return trained(net, optimiser(net, "adam", 3e-2), loss, LABELS)

    here, there = both(monkeypatch, run)
    assert all(map(torch.equal, here, there))


def test_a_loss_of_parameters_alone_moves_by_it_alone(monkeypatch) -> None:
    def run() -> list[Tensor]:
        net = network()
        weight = net.layers[0].weight
        return trained(net, optimiser(net, "sgd", 3e-2), lambda *_: weight.square().sum(), LABELS)

    here, there = both(monkeypatch, run)
    assert all(map(torch.equal, here, there))


def test_a_mask_held_by_the_optimiser_holds(monkeypatch) -> None:
    def run() -> list[Tensor]:
        net = network()
        mask = Mask({next(iter(net.state_dict())): kept})
        optim = held(optimiser(net, "adam", 3e-2), mask.on(net))
        left = trained(net, optim, on_labels, LABELS)
        assert not net.layers[0].weight[~kept].any() and net.layers[0].weight[kept].all()
        return left

    kept = torch.rand(6, 1, 3, 3, generator=draws(4)) < 0.5
    here, there = both(monkeypatch, run)
    assert all(map(torch.equal, here, there))


def test_tensors_that_somebody_moved_in_memory_are_found_again(monkeypatch) -> None:
    def run() -> list[Tensor]:
        net = network()

        def loss(outputs: Tensor, labels: Tensor) -> Tensor:
            for p in net.parameters():
                p.data = p.data.clone()
            for layer in net.layers:
                if layer.norm is not None:
                    layer.norm.running_mean.data = layer.norm.running_mean.data.clone()
            return on_labels(outputs, labels)

        return trained(net, optimiser(net, "adam", 3e-2), loss, LABELS)

    here, there = both(monkeypatch, run)
    assert all(map(torch.equal, here, there))


def test_a_schedule_is_followed(monkeypatch) -> None:
    def run() -> list[Tensor]:
        net = network()
        optim = optimiser(net, "adam", 3e-2)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optim, 0.5)

        def loss(outputs: Tensor, labels: Tensor) -> Tensor:
            optim.param_groups[0]["lr"] *= 0.9
            return on_labels(outputs, labels)

        left = trained(net, optim, loss, LABELS)
        schedule.step()
        return left

    here, there = both(monkeypatch, run)
    assert all(map(torch.equal, here, there))


def test_a_batch_that_is_not_small_goes_through_autograd_with_the_same_draws(monkeypatch) -> None:
    def run() -> list[Tensor]:
        net = network(coding="bernoulli")
        return trained(net, optimiser(net, "adam", 3e-2), on_labels, LABELS)

    monkeypatch.setattr(chains, "MOST_WORK", 0)
    here, there = both(monkeypatch, run)
    assert all(map(torch.equal, here, there))


@pytest.mark.parametrize("kind", ["ours", "torch's", "mask", "schedule", "cosine"])
def test_steps_through_autograd_in_between_leave_no_gradient_behind(monkeypatch, kind) -> None:
    """Full batches are not small, the last short one is; who reads ``p.grad`` finds this step's."""
    net = network()
    maps = [64, 16, 1]
    works = [STEPS * layer.weight.numel() * m for layer, m in zip(net.layers, maps, strict=False)]
    monkeypatch.setattr(chains, "MOST_WORK", BATCH * max(works) - 1)
    chains.planned.cache_clear()

    def run() -> list[Tensor]:
        net = network()
        optim = optimiser(net, "adam", 3e-2)
        if kind == "torch's":
            optim = torch.optim.Adam(net.parameters(), lr=3e-2)
        if kind == "mask":
            held(optim, Mask({next(iter(net.state_dict())): torch.ones(6, 1, 3, 3).bool()}).on(net))
        if kind == "schedule":
            torch.optim.lr_scheduler.ExponentialLR(optim, 0.9)
        with half_cosine(optim, 9) if kind == "cosine" else nullcontext():
            return trained(net, optim, DistillationLoss(0.1), TRAINS, epochs=3)

    here, there = both(monkeypatch, run)
    assert all(map(torch.equal, here, there))


@pytest.mark.parametrize("how", ["cleared", "loaded", "loaded with another rate"])
def test_an_optimiser_that_is_given_another_state_goes_on_from_it(monkeypatch, how) -> None:
    def run() -> list[Tensor]:
        net = network()
        optim = optimiser(net, "adam", 3e-2)
        done: list[int] = []

        def augment(x: Tensor, _: torch.Generator) -> Tensor:
            done.append(1)
            if len(done) == 4 and how == "cleared":
                optim.state.clear()
            elif len(done) == 4:
                state = copy.deepcopy(optim.state_dict())
                state["param_groups"][0]["lr"] *= 1.0 if how == "loaded" else 0.1
                optim.load_state_dict(state)
            return x

        return trained(net, optim, DistillationLoss(0.1), TRAINS, augment=augment)

    here, there = both(monkeypatch, run)
    assert len(here) == len(there) and all(map(torch.equal, here, there))


def test_parameters_that_no_layer_or_more_than_one_has_go_through_autograd() -> None:
    apart = network()
    apart.temperature = torch.nn.Parameter(torch.ones(3))
    tied = networks.build("6C3-6C3-6C3-AP2-12FC", input_shape=(1, 8, 8), classes=5, steps=STEPS, seed=1)
    assert small_steps(tied, optimiser(tied, "adam", 3e-2)) is not None
    tied.layers[2].weight = tied.layers[1].weight
    for net in (apart, tied):
        assert small_steps(net, optimiser(net, "adam", 3e-2)) is None


def test_a_loss_built_on_the_distillation_loss_is_its_own(monkeypatch) -> None:
    class Threefold(DistillationLoss):
        def __call__(self, spikes: Tensor, target: Tensor) -> Tensor:
            return 3 * super().__call__(spikes, target)

    def run() -> list[Tensor]:
        net = network()
        return trained(net, optimiser(net, "sgd", 3e-2), Threefold(0.1), TRAINS)

    here, there = both(monkeypatch, run)
    assert all(map(torch.equal, here, there))


def test_who_must_see_a_graph_or_a_call_gets_it() -> None:
    def found(net: Any, optim: Any = None) -> bool:
        return small_steps(net, optim or optimiser(net, "adam", 3e-2)) is not None

    net = network()
    assert found(net)
    assert not found(torch.nn.Linear(2, 3))
    assert not found(net, torch.optim.SGD([net.layers[0].weight], lr=0.1))
    handle = net.register_forward_hook(lambda *_: None)
    assert not found(net)
    handle.remove()
    handle = net.layers[0].weight.register_hook(lambda grad: None)
    assert not found(net)
    handle.remove()
    with record_paths():
        assert not found(net)
    with torch.no_grad():
        assert not found(net)
    assert not found(learn_thresholds(network(), "layer"))
    net = network()
    net.forward = lambda x, generator=None: type(net).forward(net, 0.5 * x, generator)
    assert not found(net)
    assert found(network(), None)


def test_the_reference_path_learns_the_same_up_to_the_order_of_sums() -> None:
    results = []
    for mode in ("auto", "reference"):
        net = network(readout="current")
        with use_kernels(mode):
            trained(net, optimiser(net, "sgd", 3e-2), on_labels, LABELS)
        results.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    assert (results[0] - results[1]).norm() < 1e-4 * results[1].norm()
