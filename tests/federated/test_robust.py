"""Robust votes and means: laws, one arbitrary liar, and the switches in FSD and FedAvg."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from federated.tiny import CLASSES, PUBLIC, STEPS, World
from spikefed.federated import robust
from spikefed.federated.methods.fedavg import FedAvg, FedAvgHyperparameters
from spikefed.federated.methods.fsd import Fsd, FsdHyperparameters, merge_spikes, merge_weights, round_spikes
from spikefed.wire import SpikeUplink, WeightsUplink

VOTES = ("weighted", "median", "trimmed", "clipped", "agreement")
MERGES = ("mean", "median", "trimmed", "krum")
SHAPE = (6, 2, 4)
bits = hnp.arrays(np.uint8, (4, *SHAPE), elements=st.integers(0, 1))
UNIFORM = dict.fromkeys(range(4), 0.25)


def by_client(stack: np.ndarray) -> dict[int, np.ndarray]:
    return dict(enumerate(stack))


@pytest.mark.parametrize("how", VOTES)
@given(stack=bits, order=st.permutations(range(4)))
def test_votes_are_blind_to_order_bit_for_bit(how: str, stack: np.ndarray, order: list[int]) -> None:
    weights = merge_weights({0: 0.2, 1: 0.9, 2: 0.4, 3: 0.7})
    one, used = robust.vote(by_client(stack), weights, how)  # type: ignore[arg-type]
    other, again = robust.vote({c: stack[c] for c in order}, {c: weights[c] for c in order}, how)  # type: ignore[arg-type]
    assert np.array_equal(one, other) and used == again
    assert one.min() >= 0 and one.max() <= 1 + 1e-12 and sum(used.values()) == pytest.approx(1)


@pytest.mark.parametrize("how", VOTES)
@given(spikes=hnp.arrays(np.uint8, SHAPE, elements=st.integers(0, 1)), clients=st.integers(1, 7))
def test_unanimity_is_kept(how: str, spikes: np.ndarray, clients: int) -> None:
    merged, _ = robust.vote(dict.fromkeys(range(clients), spikes), dict.fromkeys(range(clients), 1 / clients), how)  # type: ignore[arg-type]
    assert np.array_equal(round_spikes(merged), spikes) and np.allclose(merged, spikes)


@given(bits)
def test_what_reduces_to_the_plain_vote(stack: np.ndarray) -> None:
    spikes = by_client(stack)
    plain = merge_spikes(spikes, UNIFORM)
    assert np.array_equal(robust.vote(spikes, UNIFORM, "weighted")[0], plain)
    # Equal accuracies: clipping changes nothing.
    assert robust.clipped_accuracies(dict.fromkeys(spikes, 0.6)) == dict.fromkeys(spikes, 0.6)
    # Nobody assumed to lie: nothing is trimmed.
    assert np.allclose(robust.trimmed_mean(spikes, 0), plain, atol=1e-15)
    # The rounded median is the majority of the plain vote at equal weights, ties silent in both.
    assert np.array_equal(round_spikes(robust.coordinate_median(spikes)), round_spikes(plain))
    # Equal agreement leaves the weights as they were.
    same = dict.fromkeys(spikes, stack[0])
    assert robust.agreement_weights(same, UNIFORM) == pytest.approx(UNIFORM)


@pytest.mark.parametrize("how", ["median", "trimmed"])
@given(stack=bits, seat=st.integers(0, 3), claim=st.floats(0, 1))
def test_one_arbitrary_liar_of_four_flips_nothing_that_the_honest_agree_on(
    how: str, stack: np.ndarray, seat: int, claim: float
) -> None:
    """``stack[seat]`` is whatever the liar wants, its accuracy whatever it claims."""
    weights = merge_weights({c: claim if c == seat else 0.5 for c in range(4)}, tau_w=0.01)
    merged, _ = robust.vote(by_client(stack), weights, how, liars=1)  # type: ignore[arg-type]
    honest = np.delete(stack, seat, axis=0)
    agreed = (honest == honest[0]).all(axis=0)
    assert np.array_equal(round_spikes(merged)[agreed], honest[0][agreed])


@given(bits, st.integers(0, 3))
def test_a_false_accuracy_claim_flips_the_plain_vote_but_not_the_clipped_one(stack: np.ndarray, seat: int) -> None:
    claims = {c: 1.0 if c == seat else 0.5 for c in range(4)}
    stack[:] = stack[0]
    stack[seat] = 1 - stack[0]
    truth, spikes = 1 - stack[seat], by_client(stack)
    assert np.array_equal(round_spikes(merge_spikes(spikes, merge_weights(claims, 0.1))), stack[seat])
    clipped = merge_weights(robust.clipped_accuracies(claims), 0.1)
    assert np.array_equal(round_spikes(robust.vote(spikes, clipped, "clipped")[0]), truth)


@given(st.dictionaries(st.integers(0, 9), st.floats(0, 1), min_size=2))
def test_a_clipped_claim_never_outweighs_the_median_client(claims: dict[int, float]) -> None:
    clipped = robust.clipped_accuracies(claims)
    assert max(clipped.values()) <= np.median(list(claims.values()))
    assert all(clipped[c] <= claims[c] for c in claims)


def honest_and(liar: np.ndarray, noise: float = 0.05) -> dict[int, np.ndarray]:
    """Three clients that err independently around one truth (a spike in ten), and a liar as client 2."""
    rng = np.random.default_rng(0)
    truth = (rng.random((200, 10, 8)) < 0.1).astype(np.uint8)
    spikes = {c: (truth ^ (rng.random(truth.shape) < noise)).astype(np.uint8) for c in (0, 1, 3)}
    return spikes | {2: liar if liar.size else 1 - truth}


@pytest.mark.parametrize(
    "liar",
    [np.zeros(0), np.ones((200, 10, 8)), np.zeros((200, 10, 8)),
     (np.random.default_rng(5).random((200, 10, 8)) < 0.1)],
    ids=["inverted", "all-fire", "silent", "random"],
)  # fmt: skip
def test_agreement_takes_the_liars_say(liar: np.ndarray) -> None:
    spikes = honest_and(liar.astype(np.uint8))
    weights = robust.agreement_weights(spikes, UNIFORM)
    assert weights[2] < 0.01 and sum(weights.values()) == pytest.approx(1)
    assert all(weights[c] == pytest.approx(1 / 3, abs=0.02) for c in (0, 1, 3))


def test_agreement_by_hand() -> None:
    """Two equal trains and their inverse: correlations +1, -1, -1; medians over the others 0, 0, -1."""
    a = np.array([[[1, 0, 0, 1]]], dtype=np.uint8)
    assert robust.agreements({0: a, 1: a, 2: 1 - a}) == pytest.approx({0: 0.0, 1: 0.0, 2: -1.0})
    four = robust.agreements({0: a, 1: a, 2: 1 - a, 3: a})
    assert four == pytest.approx({0: 1.0, 1: 1.0, 2: -1.0, 3: 1.0})
    b = np.array([[[1, 0, 1, 0]]], dtype=np.uint8)
    assert robust.agreements({0: a, 1: b}) == pytest.approx({0: 0.0, 1: 0.0})
    assert robust.agreement_weights({0: a, 1: b}, {0: 0.3, 1: 0.7}) == {0: 0.3, 1: 0.7}


def test_trimmed_mean_by_hand() -> None:
    column = {c: np.array([v]) for c, v in enumerate([5.0, -1000.0, 1.0, 3.0, 1e9])}
    assert robust.trimmed_mean(column, 1).item() == 3.0
    assert robust.trimmed_mean(column, 2).item() == 3.0 == robust.trimmed_mean(column, 99).item()
    assert robust.trimmed_mean({0: np.array([1.0]), 1: np.array([2.0])}, 1).item() == 1.5


@given(hnp.arrays(np.float64, (3, 5), elements=st.floats(-10, 10)), st.floats(allow_nan=False, allow_infinity=False))
def test_one_liar_cannot_leave_the_honest_range(honest: np.ndarray, lie: float) -> None:
    arrays = by_client(np.concatenate([honest, np.full((1, 5), lie)]))
    for merged in (robust.coordinate_median(arrays), robust.trimmed_mean(arrays, 1)):
        assert (merged >= honest.min(axis=0) - 1e-9).all() and (merged <= honest.max(axis=0) + 1e-9).all()


def states(seed: int, liars: dict[int, float], clients: int = 7) -> dict[int, dict[str, np.ndarray]]:
    """Weights that scatter around 1; a liar's are scaled by its factor."""
    rng = np.random.default_rng(seed)
    return {
        c: {
            "w": ((1 + 0.1 * rng.standard_normal((3, 4))) * liars.get(c, 1.0)).astype(np.float32),
            "count": np.array(10 + c, dtype=np.int64),
        }
        for c in range(clients)
    }


@given(st.integers(0, 99), st.floats(-50, -1) | st.floats(3, 50), st.permutations(range(7)))
def test_krum_takes_an_honest_one(seed: int, factor: float, order: list[int]) -> None:
    liars = {order[0]: factor, order[1]: factor * 1.01}
    tensors = states(seed, liars)
    chosen = robust.krum(tensors, liars=2)
    assert chosen not in liars
    assert robust.krum({c: tensors[c] for c in order}, liars=2) == chosen


@given(st.integers(0, 99), st.floats(-50, -1) | st.floats(3, 50), st.integers(0, 3))
def test_krum_of_four_with_one_far_liar(seed: int, factor: float, seat: int) -> None:
    assert robust.krum(states(seed, {seat: factor}, clients=4), liars=1) != seat


def test_krum_by_hand() -> None:
    tensors = {c: {"w": np.array([v], dtype=np.float32)} for c, v in enumerate([0.0, 1.0, 1.5, 1.75, 9.0])}
    clients, distances = robust.squared_distances(tensors)
    assert clients == [0, 1, 2, 3, 4] and distances[0].tolist() == [0.0, 1.0, 2.25, 1.75**2, 81.0]
    # n = 5, f = 1: two nearest; sums: 0: 3.25, 1: 0.25 + 0.5625, 2: 0.0625 + 0.25, 3: 0.0625 + 0.5625
    assert robust.krum(tensors, liars=1) == 2
    assert robust.krum({5: tensors[0]}, liars=1) == 5


@pytest.mark.parametrize("how", MERGES)
def test_merged_tensors_keep_dtypes_and_ignore_order(how: str) -> None:
    tensors = states(3, {}, clients=4)
    merged, used = robust.merge_tensors(tensors, UNIFORM, how)  # type: ignore[arg-type]
    other, _ = robust.merge_tensors(dict(reversed(tensors.items())), UNIFORM, how)  # type: ignore[arg-type]
    assert {n: a.dtype for n, a in merged.items()} == {n: a.dtype for n, a in tensors[0].items()}
    assert all(np.array_equal(merged[n], other[n]) for n in merged)
    assert sum(used.values()) == pytest.approx(1)
    if how == "median":
        assert merged["count"] == 12 and np.allclose(merged["w"], np.median([t["w"] for t in tensors.values()], axis=0))
    if how == "krum":
        assert any(np.array_equal(merged["w"], t["w"]) for t in tensors.values())


def test_label_votes() -> None:
    labels = {0: np.array([0, 1, 2, -1]), 1: np.array([0, 2, 2, -1]), 2: np.array([0, 0, 1, -1])}
    shares = {c: robust.one_hot(row, 3) for c, row in labels.items()}
    assert all(np.allclose(s.sum(axis=1), 1) for s in shares.values())
    weights = {0: 0.2, 1: 0.5, 2: 0.3}
    assert robust.vote(shares, weights)[0].argmax(axis=1).tolist() == [0, 2, 2, 0]
    assert robust.vote(shares, weights, "median")[0].argmax(axis=1).tolist() == [0, 0, 2, 0]
    assert np.allclose(robust.normalised(robust.vote(shares, weights, "median")[0]).sum(axis=1), 1)


def spikes_of_four() -> dict[int, SpikeUplink]:
    rng = np.random.default_rng(1)
    truth = (rng.random((PUBLIC, CLASSES, STEPS)) < 0.4).astype(np.uint8)
    near = {c: (truth ^ (rng.random(truth.shape) < 0.05)).astype(np.uint8) for c in (0, 1, 2)}
    return {c: SpikeUplink(1, c, s, 0.6, bytes(32)) for c, s in (near | {3: 1 - truth}).items()}


@pytest.mark.parametrize("how", VOTES)
def test_fsd_takes_the_vote_that_its_switch_names(how: str) -> None:
    world, fsd, uplinks = World(FsdHyperparameters(vote=how)), Fsd(), spikes_of_four()  # type: ignore[arg-type]
    state, _ = fsd.init_server(world.server(0))
    _, downlink, diagnostics = fsd.server_round(state, uplinks, world.server())
    spikes = {c: u.spikes for c, u in uplinks.items()}
    merged, used = robust.vote(spikes, UNIFORM, how)  # type: ignore[arg-type]
    assert np.array_equal(downlink.spikes, round_spikes(merged))
    assert diagnostics.weights == pytest.approx(used)
    honest = (spikes[0] == spikes[1]) & (spikes[1] == spikes[2])
    assert np.array_equal(downlink.spikes[honest], spikes[0][honest])


@pytest.mark.parametrize("how", ["median", "trimmed", "krum"])
def test_fedavg_with_a_robust_merge_stays_near_the_honest(how: str) -> None:
    world, fedavg = World(FedAvgHyperparameters(merge=how)), FedAvg()  # type: ignore[arg-type]
    state, _ = fedavg.init_server(world.server(0))
    tensors = {}
    for c in range(4):
        rng = np.random.default_rng(c)
        factor = -30.0 if c == 2 else 1.0
        tensors[c] = {
            n: t.numpy() * np.float32(factor * rng.uniform(0.95, 1.05)) if t.is_floating_point() else t.numpy()
            for n, t in world.networks.initial().items()
        }
    uplinks = {c: WeightsUplink(1, c, t, 10, 0.5) for c, t in tensors.items()}
    new, downlink, diagnostics = fedavg.server_round(state, uplinks, world.server())
    start = world.networks.initial()["fc.weight"]
    assert (new["weights"]["fc.weight"] - start).abs().max() <= 0.06 * start.abs().max()
    assert sum(diagnostics.weights.values()) == pytest.approx(1)
    assert np.array_equal(downlink.tensors["fc.weight"], new["weights"]["fc.weight"].numpy())
    plain = World(FedAvgHyperparameters())
    far, _, _ = fedavg.server_round(state, uplinks, plain.server())
    assert (far["weights"]["fc.weight"] - start).abs().max() > start.abs().max()
