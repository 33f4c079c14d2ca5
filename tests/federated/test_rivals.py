"""FedNova, SCAFFOLD, FedDyn, FedDF: each against its paper's equations, computed by hand or by a loop of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from federated.tiny import World
from spikefed.errors import ConfigError
from spikefed.federated import method
from spikefed.federated.contract import Method
from spikefed.federated.messages import from_wire, to_wire
from spikefed.federated.methods.fedavg import FedAvg, FedAvgHyperparameters
from spikefed.federated.methods.feddf import FedDf, FedDfHyperparameters
from spikefed.federated.methods.feddyn import FedDyn, FedDynHyperparameters
from spikefed.federated.methods.fednova import FedNova, effective_steps
from spikefed.federated.methods.scaffold import CONTROL, Scaffold, ScaffoldHyperparameters
from spikefed.federated.setup import Setup
from spikefed.wire import WeightsUplink

STATISTICS = ("norm.running_mean", "norm.running_var", "norm.num_batches_tracked")
TRAINED = ("fc.weight", "fc.bias", "norm.weight", "norm.bias")


def uplink(world: World, client: int, samples: int, shift: float) -> WeightsUplink:
    tensors = {n: t + shift if t.is_floating_point() else t for n, t in world.networks.initial().items()}
    return WeightsUplink(1, client, to_wire(tensors), samples, 0.5)


def play(made: Method, world: World, rounds: int, samples: tuple[int, ...] = (40, 40)) -> dict:
    """A federation of this method, every client in every round."""
    server, down = made.init_server(world.server(0))
    states: dict = {c: {} for c in range(len(samples))}
    for r in range(1, rounds + 1):
        ups = {}
        for c, n in enumerate(samples):
            states[c], ups[c], _ = made.client_round(states[c], down, world.client(c, r, n))
        server, down, _ = made.server_round(server, ups, world.server(r))
    return {"server": server, "down": down, "clients": states}


# FedNova


def test_fednova_of_two_clients_by_hand() -> None:
    """Batches of 10: 40 samples are 4 steps and 10 are 1, so tau_eff = 0.8 * 4 + 0.2 * 1 = 3.4."""
    world = World(FedAvgHyperparameters(local_epochs=1, local_batch=10, optimiser="adam"))
    state, _ = FedNova().init_server(world.server(0))
    state, _, _ = FedNova().server_round(
        state, {0: uplink(world, 0, 40, 1.0), 1: uplink(world, 1, 10, -2.0)}, world.server()
    )
    begun = world.networks.initial()
    moved = 3.4 * (0.8 * 1.0 / 4 + 0.2 * -2.0 / 1)
    assert torch.allclose(state["weights"]["fc.weight"], begun["fc.weight"] + moved, atol=1e-6)
    # Running statistics are the plain mean: 0.8 * 1 - 0.2 * 2.
    assert torch.allclose(state["weights"]["norm.running_var"], begun["norm.running_var"] + 0.4, atol=1e-6)


def test_fednova_of_equal_clients_is_fedavg_to_the_bit() -> None:
    world = World(FedAvgHyperparameters(local_epochs=1, local_batch=8))
    one = play(FedNova(), world, 2)["server"]["weights"]
    two = play(FedAvg(), world, 2)["server"]["weights"]
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("rho", [0.5, 0.9])
def test_effective_steps_are_how_far_a_constant_gradient_goes(rho: float) -> None:
    hyper = FedAvgHyperparameters(local_epochs=3, local_batch=10, optimiser="sgd", momentum=rho)
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optim = torch.optim.SGD([weight], lr=1.0, momentum=rho)
    for _ in range(3 * 4):
        weight.grad = torch.ones_like(weight)
        optim.step()
    assert effective_steps(hyper, 40) == pytest.approx(-weight.item(), rel=1e-12)


def test_fednova_ends_where_the_objective_is_and_fedavg_does_not() -> None:
    """Quadratic losses with minima 1 and -1 and equal shares, but 9 and 1 local steps: the mean loss is least at 0, and
    FedAvg's fixed point lies near the client with more steps."""
    world = World(FedAvgHyperparameters(local_epochs=1, local_batch=10, weighting="uniform", optimiser="adam"))

    def end(made: FedAvg) -> float:
        state, _ = made.init_server(world.server(0))
        for _ in range(150):
            ups = {}
            for client, (goal, samples) in enumerate([(1.0, 90), (-1.0, 10)]):
                tensors = dict(state["weights"])
                tensors["fc.weight"] = goal + (tensors["fc.weight"] - goal) * 0.95 ** (samples // 10)
                ups[client] = WeightsUplink(1, client, to_wire(tensors), samples, 0.5)
            state, _, _ = made.server_round(state, ups, world.server())
        return float(state["weights"]["fc.weight"].mean())

    # To first order in the step; what is left of the bias is that of 9 steps that shrink on their way.
    assert end(FedAvg()) > 0.7
    assert abs(end(FedNova())) < 0.15


# SCAFFOLD


def sgd(**more: object) -> ScaffoldHyperparameters:
    return ScaffoldHyperparameters(**{"local_epochs": 2, "local_batch": 10, "lr": 0.05, **more})


def test_scaffolds_first_round_is_fedavg() -> None:
    world = World(sgd())
    one = play(Scaffold(), world, 1)["server"]["weights"]
    two = play(FedAvg(), world, 1)["server"]["weights"]
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_control_is_the_mean_of_what_the_clients_hold() -> None:
    """c = 1/N sum c_i after every round, although no c_i ever travels (batches of 10 over 40 and 20 samples)."""
    for payload in ("weights", "change"):
        played = play(Scaffold(), World(sgd(payload=payload)), 3, samples=(40, 20, 40))
        for name in TRAINED:
            own = torch.stack([played["clients"][c]["control"][name] for c in range(3)]).mean(dim=0)
            assert torch.allclose(played["server"]["control"][name], own, atol=2e-5), (payload, name)
            assert np.array_equal(played["down"].tensors[CONTROL + name], played["server"]["control"][name].numpy())
        assert not any(CONTROL + name in played["down"].tensors for name in STATISTICS)


def test_a_clients_control_is_its_mean_gradient() -> None:
    """Without correction and with one step of one batch, c_i is the gradient of that batch."""
    world = World(sgd(local_epochs=1, local_batch=40))
    ctx = world.client(0)
    net = world.networks.load()
    net.train()
    out = net(ctx.preprocess(ctx.train.images))
    F.cross_entropy(out.mean(dim=0), ctx.train.labels).backward()
    wanted = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    state, _, _ = Scaffold().client_round({}, None, world.client(0))
    for name in TRAINED:
        assert torch.allclose(state["control"][name], wanted[name], atol=1e-5), name


def test_equal_controls_correct_nothing_and_others_move_every_step() -> None:
    world = World(sgd(local_epochs=1, local_batch=40))
    _, down = Scaffold().init_server(world.server(0))
    zero = {n: torch.zeros_like(t) for n, t in world.networks.initial().items() if n in TRAINED}
    one = {n: torch.full_like(t, 0.25) for n, t in zero.items()}
    notes = {CONTROL + n: t.numpy() for n, t in one.items()}
    down = type(down)(round=1, tensors={**to_wire(world.networks.initial()), **notes}, exact=frozenset())
    _, same, _ = Scaffold().client_round({"control": one}, down, world.client(0))
    _, moved, _ = Scaffold().client_round({"control": zero}, down, world.client(0))
    for name in TRAINED:  # one step of eta = 0.05 along the correction of 0.25
        assert np.allclose(same.tensors[name] - moved.tensors[name], 0.05 * 0.25, atol=1e-6), name


@pytest.mark.parametrize(
    "settings",
    [{"optimiser": "adam"}, {"momentum": 0.9}, {"merge": "median"}, {"payload_down": "change"}, {"send": ["weight"]}],
)
def test_scaffold_refuses_what_its_controls_cannot_be_made_of(settings: dict) -> None:
    with pytest.raises(ConfigError, match="scaffold"):
        Scaffold().check(sgd(**settings), Setup(clients=2))


# FedDyn


def test_feddyn_by_hand() -> None:
    """h = -alpha * share * mean change; x = mean - h / alpha: with everybody there, the mean change counts twice."""
    world = World(FedDynHyperparameters(alpha=0.1))
    state, _ = FedDyn().init_server(world.server(0))
    state, _, _ = FedDyn().server_round(state, {c: uplink(world, c, 10, 0.5) for c in range(2)}, world.server())
    begun = world.networks.initial()
    assert torch.allclose(state["weights"]["fc.weight"], begun["fc.weight"] + 1.0, atol=1e-6)
    assert torch.allclose(state["weights"]["norm.running_var"], begun["norm.running_var"] + 0.5, atol=1e-6)
    assert torch.allclose(state["h"]["fc.weight"], torch.full_like(begun["fc.weight"], -0.05).double(), atol=1e-7)


def test_feddyn_on_quadratics_ends_at_the_minimum_of_the_sum() -> None:
    """Clients that minimise c_k (w - goal_k)^2 / 2 exactly, with goals 0, 1, 5 and curvatures 1, 2, 4: the sum is least
    at 22 / 7, where the mean of the minima would be 2."""
    alpha = 0.5
    world = World(FedDynHyperparameters(alpha=alpha))
    state, _ = FedDyn().init_server(world.server(0))
    gradients = [torch.zeros(3, 4) for _ in range(3)]
    for _ in range(60):
        x = state["weights"]["fc.weight"]
        ups = {}
        for client, (goal, curve) in enumerate([(0.0, 1.0), (1.0, 2.0), (5.0, 4.0)]):
            w = (curve * goal + gradients[client] + alpha * x) / (curve + alpha)
            gradients[client] = gradients[client] - alpha * (w - x)
            ups[client] = WeightsUplink(1, client, to_wire(state["weights"] | {"fc.weight": w}), 10, 0.5)
        state, _, _ = FedDyn().server_round(state, ups, world.server())
    assert torch.allclose(state["weights"]["fc.weight"], torch.full((3, 4), 22 / 7), atol=1e-4)


def test_feddyns_client_keeps_the_gradient_of_its_loss() -> None:
    """g_k -= alpha (w - x), and it is what the next round's loss is corrected by."""
    world = World(
        FedDynHyperparameters(alpha=0.2, local_epochs=1, local_batch=40, optimiser="sgd", momentum=0.0, lr=0.1)
    )
    start = world.networks.initial()
    state, up, _ = FedDyn().client_round({}, None, world.client(0))
    sent = from_wire(up.tensors)
    for name in TRAINED:
        assert torch.allclose(state["gradient"][name], -0.2 * (sent[name] - start[name]), atol=1e-7)
    down = FedAvg()._answer(start, start, None, 1, world.server())
    pulled = {n: torch.full_like(t, 0.3) for n, t in state["gradient"].items()}
    _, other, _ = FedDyn().client_round({"gradient": pulled}, down, world.client(0))
    for name in TRAINED:  # one step: the linear term moves it by lr * 0.3
        assert np.allclose(other.tensors[name] - up.tensors[name], 0.1 * 0.3, atol=1e-6), name


# FedDF


def test_feddf_without_epochs_is_fedavg() -> None:
    hyper = FedDfHyperparameters(server_epochs=0, local_epochs=1)
    one = play(FedDf(), World(hyper), 2)["server"]["weights"]
    two = play(FedAvg(), World(hyper), 2)["server"]["weights"]
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_feddf_brings_the_average_nearer_to_the_ensemble() -> None:
    """Clients of unlike weights, whose mean is nobody's network."""
    world = World(FedDfHyperparameters(server_epochs=30, distil_batch=6, distil_lr=0.02))
    ups = {c: WeightsUplink(1, c, to_wire(world.networks.initial(70 + c)), 10, 0.5) for c in range(3)}
    ctx = world.server()

    def said(weights: dict) -> torch.Tensor:
        net = world.networks.load(weights).eval()
        return net(ctx.preprocess(ctx.public)).mean(dim=0)

    with torch.no_grad():
        teacher = F.softmax(4 * torch.stack([said(from_wire(up.tensors)) for up in ups.values()]).mean(dim=0), dim=1)
        begun = {"weights": world.networks.initial()}
        mean, _, _ = FedAvg().server_round(begun, ups, world.server())
    taught, _, _ = FedDf().server_round(begun, ups, world.server())
    with torch.no_grad():
        far, near = (
            F.kl_div(F.log_softmax(4 * said(s["weights"]), dim=1), teacher, reduction="batchmean")
            for s in (mean, taught)
        )
    assert near < far


def test_feddf_teaches_on_images_that_it_makes_and_not_on_the_public_set() -> None:
    hyper = FedDfHyperparameters(local_epochs=1, server_epochs=2, rows="generator", made_rows=20, made_steps=3)
    world = World(hyper)
    found = play(FedDf(), world, 2)["server"]["weights"]
    again = play(FedDf(), World(hyper), 2)["server"]["weights"]
    assert all(torch.equal(found[name], again[name]) for name in found)
    other = World(hyper)
    other.public = torch.zeros_like(other.public)
    blind = play(FedDf(), other, 2)["server"]["weights"]
    assert all(torch.equal(found[name], blind[name]) for name in found)
    average = play(FedAvg(), World(hyper), 2)["server"]["weights"]
    assert not torch.equal(found["fc.weight"], average["fc.weight"])


@pytest.mark.parametrize("name", ["fednova", "scaffold", "feddyn", "feddf"])
def test_the_order_of_arrival_changes_no_bit(name: str) -> None:
    made = method(name)
    world = World(made.hyperparameters(local_epochs=1))
    state, down = made.init_server(world.server(0))
    ups = {c: made.client_round({}, down, world.client(c, samples=20 + 10 * c))[1] for c in range(3)}
    one, _, _ = made.server_round(state, ups, world.server())
    two, _, _ = made.server_round(state, dict(reversed(ups.items())), world.server())
    assert all(torch.equal(one["weights"][k], two["weights"][k]) for k in one["weights"])
