"""FSD: merge, rounding, resets, the first epoch, and a whole round against Algorithm 1 written as plain lines."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from federated.tiny import CLASSES, PUBLIC, STEPS, TinyNet, World
from spikefed.federated.methods.fsd import Fsd, FsdHyperparameters, merge_spikes, merge_weights, round_spikes
from spikefed.wire import SpikeDownlink, SpikeUplink

accuracies = st.dictionaries(st.integers(0, 50), st.floats(0, 1), min_size=1, max_size=8)
SHAPE = (PUBLIC, CLASSES, STEPS)


def random_spikes(seed: int, rate: float = 0.5) -> np.ndarray:
    return (np.random.default_rng(seed).random(SHAPE) < rate).astype(np.uint8)


def test_weights_of_the_specification() -> None:
    weights = merge_weights({0: 0.2, 1: 0.3, 2: 0.4, 3: 0.5})
    assert [round(w, 3) for w in weights.values()] == [0.214, 0.236, 0.261, 0.289]


@given(accuracies, st.floats(0.05, 10))
def test_weights_sum_to_one_and_follow_accuracy(acc: dict[int, float], tau: float) -> None:
    weights = merge_weights(acc, tau)
    assert sum(weights.values()) == pytest.approx(1.0, abs=1e-12)
    for a in acc:
        for b in acc:
            if acc[a] > acc[b]:
                assert weights[a] >= weights[b]
    shuffled = dict(reversed(list(acc.items())))
    assert merge_weights(shuffled, tau) == weights


def test_equal_accuracies_give_the_mean() -> None:
    spikes = {c: random_spikes(c) for c in range(4)}
    merged = merge_spikes(spikes, merge_weights(dict.fromkeys(spikes, 0.7)))
    assert np.allclose(merged, np.mean(list(spikes.values()), axis=0), atol=1e-15)


@given(hnp.arrays(np.uint8, (3, 2, 2, 4), elements=st.integers(0, 1)), st.permutations([0, 1, 2]))
def test_merge_is_blind_to_order_bit_for_bit(spikes: np.ndarray, order: list[int]) -> None:
    weights = merge_weights({0: 0.31, 1: 0.72, 2: 0.93})
    one = merge_spikes({c: spikes[c] for c in range(3)}, weights)
    other = merge_spikes({c: spikes[c] for c in order}, weights)
    assert np.array_equal(one, other) and one.min() >= 0 and one.max() <= 1 + 1e-12


def test_round_ties_and_rest() -> None:
    merged = np.array([[[0.0, 0.49, 0.5, 0.51, 1.0]]])
    assert round_spikes(merged).tolist() == [[[0, 0, 0, 1, 1]]]
    assert round_spikes(merged, "fire").tolist() == [[[0, 0, 1, 1, 1]]]

    two_against_two = merge_spikes(
        {c: np.full((1, 1, 1), c % 2, np.uint8) for c in range(4)}, merge_weights(dict.fromkeys(range(4), 0.5))
    )
    assert round_spikes(two_against_two).item() == 0
    assert torch.equal(torch.tensor(merged).round()[0, 0, :3].to(torch.uint8), torch.zeros(3, dtype=torch.uint8))


@pytest.mark.parametrize("clients", range(2, 101, 2))
def test_half_of_any_number_of_equal_clients_is_a_tie(clients: int) -> None:
    spikes = {c: np.full((1, 1, 1), c % 2, dtype=np.uint8) for c in range(clients)}
    merged = merge_spikes(spikes, merge_weights(dict.fromkeys(spikes, 0.9)))
    assert round_spikes(merged, "silent").item() == 0
    assert round_spikes(merged, "fire").item() == 1


def test_one_client_merges_to_its_own_spikes() -> None:
    world, spikes = World(FsdHyperparameters()), random_spikes(3)
    state, _ = Fsd().init_server(world.server(0))
    _, downlink, diagnostics = Fsd().server_round(state, {7: SpikeUplink(1, 7, spikes, 0.3, bytes(32))}, world.server())
    assert np.array_equal(downlink.spikes, spikes)
    assert diagnostics.weights == {7: 1.0} and downlink.round == 2


def run_client(hyper: FsdHyperparameters, downlink: SpikeDownlink | None, state: dict, round: int = 1):
    world = World(hyper)
    return Fsd().client_round(state, downlink, world.client(0, round)), world


def test_first_epoch_skips_distillation() -> None:
    downlink = SpikeDownlink(1, random_spikes(0), bytes(32))
    (_, without, report), _ = run_client(FsdHyperparameters(distil_epochs=2, local_epochs=1), None, {})
    assert "distil_loss" not in report.values and np.isfinite(report.values["train_loss"])
    (_, nothing, _), _ = run_client(FsdHyperparameters(distil_epochs=0, local_epochs=1), downlink, {})
    assert np.array_equal(without.spikes, nothing.spikes)
    (_, distilled, report), _ = run_client(FsdHyperparameters(distil_epochs=2, local_epochs=1), downlink, {})
    assert np.isfinite(report.values["distil_loss"])
    assert not np.array_equal(without.spikes, distilled.spikes) or distilled.accuracy != without.accuracy


@pytest.mark.parametrize("mode", ["common", "own", "never"])
def test_reset_restores_the_snapshot(mode: str) -> None:
    """With no training at all, what a client uploads shows the weights it started from."""
    hyper = FsdHyperparameters(client_reset=mode, local_epochs=0, distil_epochs=0)  # type: ignore[arg-type]
    world, fsd = World(hyper), Fsd()
    snapshot = copy.deepcopy(world.networks.initial())
    state: dict = {}
    trained = World(hyper.model_copy(update={"local_epochs": 5, "lr": 0.1}))
    state, _, _ = fsd.client_round(state, None, trained.client(0))
    state, uplink, _ = fsd.client_round(state, None, world.client(0, 2))
    start = {
        "common": snapshot,
        "own": TinyNet(world.client(0).seed).state_dict(),
        "never": state.get("weights"),
    }[mode]
    net = TinyNet(0)
    net.load_state_dict(start)  # type: ignore[arg-type]
    expected = net.eval()(world.client(0).preprocess(world.public)).permute(1, 2, 0).to(torch.uint8).numpy()
    assert np.array_equal(uplink.spikes, expected)
    assert ("weights" in state) == (mode == "never")
    # the snapshot itself was not trained along
    assert all(torch.equal(a, b) for a, b in zip(snapshot.values(), world.networks.initial().values(), strict=True))


def test_server_is_never_reset_and_learns() -> None:
    world = World(FsdHyperparameters(server_epochs=3, distil_lr=0.02))
    with torch.no_grad():
        teacher = TinyNet(9)(world.server().preprocess(world.public))
    fsd, target = Fsd(), teacher.permute(1, 2, 0).to(torch.uint8).numpy()
    state, _ = fsd.init_server(world.server(0))
    losses = []
    for round in range(1, 9):
        state, _, diagnostics = fsd.server_round(
            state, {0: SpikeUplink(round, 0, target, 0.5, bytes(32))}, world.server(round)
        )
        losses.append(diagnostics.values["server_distil_loss"])
    assert losses[-1] < 0.9 * losses[0]


def test_order_of_uplinks_never_matters() -> None:
    world, fsd = World(FsdHyperparameters()), Fsd()
    state, _ = fsd.init_server(world.server(0))
    uplinks = {c: SpikeUplink(1, c, random_spikes(c), 0.1 * c, bytes(32)) for c in range(3)}
    one, down, _ = fsd.server_round(state, uplinks, world.server())
    two, other, _ = fsd.server_round(state, dict(reversed(uplinks.items())), world.server())
    assert np.array_equal(down.spikes, other.spikes)
    assert all(torch.equal(one["weights"][k], two["weights"][k]) for k in one["weights"])


def test_steps_are_pure() -> None:
    world, fsd = World(FsdHyperparameters(client_reset="never", optimiser_state="keep")), Fsd()
    state, _, _ = fsd.client_round({}, None, world.client(0, 1))
    before = copy.deepcopy(state)
    downlink = SpikeDownlink(2, random_spikes(1), bytes(32))
    results = [fsd.client_round(state, downlink, world.client(0, 2)) for _ in range(2)]
    assert np.array_equal(results[0][1].spikes, results[1][1].spikes)
    assert all(torch.equal(state["weights"][k], before["weights"][k]) for k in before["weights"])
    assert str(state["local_moments"]) == str(before["local_moments"])


def test_kept_optimiser_state_changes_the_next_round() -> None:
    outcomes = []
    for mode in ("keep", "discard"):
        world = World(FsdHyperparameters(client_reset="never", optimiser_state=mode, local_epochs=2, lr=0.05))  # type: ignore[arg-type]
        state: dict = {}
        for round in (1, 2):
            state, _, _ = Fsd().client_round(state, None, world.client(0, round))
        outcomes.append(state["weights"]["fc.weight"])
    assert not torch.equal(*outcomes)


def test_algorithm_1_as_plain_lines() -> None:
    """The same epoch once through the method and once written out with torch alone; equal bit for bit."""
    hyper = FsdHyperparameters(
        local_epochs=2,
        distil_epochs=1,
        server_epochs=2,
        local_batch=16,
        distil_batch=5,
        shuffle=False,
        **{"lambda": 0.5},
    )
    world, fsd = World(hyper), Fsd()
    s_g = random_spikes(11)
    server_state, _ = fsd.init_server(world.server(0))
    uplinks = {}
    for c in range(2):
        _, uplinks[c], _ = fsd.client_round({}, SpikeDownlink(2, s_g, bytes(32)), world.client(c, 2))
    server_state, downlink, _ = fsd.server_round(server_state, uplinks, world.server(2))

    def signed(x: torch.Tensor) -> torch.Tensor:
        return x.float().div(127.5).sub(1.0)

    def loss_4(spikes: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        p, p_hat = spikes.mean(0).clamp_min(1e-7), target.mean(2)
        total = p_hat.sum(1, keepdim=True)
        p_hat = torch.where(total > 0, p_hat / total.clamp_min(1e-7), torch.full_like(p_hat, 1 / CLASSES))
        return ((spikes - target.permute(2, 0, 1)) ** 2).mean() + 0.5 * -(p_hat * p.log()).sum(1).mean()

    def fit(net: TinyNet, x: torch.Tensor, y: torch.Tensor, epochs: int, batch: int, lr: float, loss) -> None:
        optimiser = torch.optim.Adam(net.parameters(), lr=lr)
        net.train()
        for _ in range(epochs):
            for i in range(0, len(x), batch):
                value = loss(net(signed(x[i : i + batch])), y[i : i + batch])
                optimiser.zero_grad()
                value.backward()
                optimiser.step()

    def ce(spikes: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(spikes.mean(0), labels)

    expected, accuracy = {}, {}
    for c in range(2):
        net, ctx = TinyNet(1), world.client(c, 2)
        fit(net, world.public, torch.tensor(s_g).float(), 1, 5, hyper.distil_lr, loss_4)
        fit(net, ctx.train.images, ctx.train.labels, 2, 16, hyper.lr, ce)
        net.eval()
        expected[c] = net(signed(world.public)).permute(1, 2, 0).to(torch.uint8).numpy()
        scores = net(signed(ctx.validation.images)).mean(0)
        accuracy[c] = float(np.float32((scores.argmax(1) == ctx.validation.labels).float().mean()))
        assert np.array_equal(uplinks[c].spikes, expected[c]) and uplinks[c].accuracy == pytest.approx(accuracy[c])
    w = torch.softmax(torch.tensor([accuracy[0], accuracy[1]], dtype=torch.float64), 0)
    merged = w[0] * torch.tensor(expected[0]).double() + w[1] * torch.tensor(expected[1]).double()
    assert np.array_equal(downlink.spikes, merged.round().to(torch.uint8).numpy())
    net = TinyNet(1)
    fit(net, world.public, merged.float(), 2, 5, hyper.distil_lr, loss_4)
    for name, tensor in net.state_dict().items():
        assert torch.allclose(server_state["weights"][name].double(), tensor.double(), atol=1e-6), name
