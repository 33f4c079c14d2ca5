"""CFD, DS-FL, FD, HDSFL, FSD+, local and central: each method's own law, on a world small enough to check."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from federated.tiny import CLASSES, PUBLIC, STEPS, World
from spikefed.errors import ConfigError
from spikefed.federated.distillation import public_outputs
from spikefed.federated.local import LocalTraining, label_offset
from spikefed.federated.methods.alone import Local
from spikefed.federated.methods.cfd import Cfd, CfdHyperparameters, shares
from spikefed.federated.methods.dsfl import Dsfl, DsflHyperparameters, drawn_rows, reduce_entropy
from spikefed.federated.methods.fd import Fd, FdHyperparameters, class_means, without_own
from spikefed.federated.methods.fsd import Fsd, FsdHyperparameters
from spikefed.federated.methods.fsdplus import FsdPlus, FsdPlusHyperparameters
from spikefed.federated.rowvotes import (
    answered_rows,
    confidences,
    group_spikes,
    labels_of,
    most_active,
    sharpened,
    trains,
    vote_rows,
)
from spikefed.federated.setup import Setup
from spikefed.wire import LabelUplink, ProbabilityDownlink, ProbabilityUplink, SpikeDownlink, SpikeUplink

ID = bytes(32)


def test_cfd_merges_labels_to_their_shares_and_answers_with_the_servers_labels() -> None:
    world = World(CfdHyperparameters(server_epochs=0))
    state, _ = Cfd().init_server(world.server(0))
    votes = {c: np.full(PUBLIC, label) for c, label in enumerate((0, 1, 1, 2))}
    uplinks = {c: LabelUplink(1, c, labels, 0.5, ID, CLASSES) for c, labels in votes.items()}
    merged, _ = Cfd().merge(uplinks, state, world.server())
    assert torch.allclose(merged.goal.target, torch.tensor([0.25, 0.5, 0.25]).expand(PUBLIC, 3))
    _, downlink, _ = Cfd().server_round(state, uplinks, world.server())
    # Dual distillation: what comes back is what the server's network says, here still the initial one.
    net = world.networks.load()
    net.eval()
    with torch.no_grad():
        scores = net(world.server().preprocess(world.public)).mean(0)
    assert np.array_equal(downlink.labels, scores.argmax(1).numpy())


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_cfd_quantises_as_asked_in_both_directions(bits: int) -> None:
    hyper = CfdHyperparameters(bits_up=bits, bits_down=bits, local_epochs=1)
    world = World(hyper)
    up, down = Cfd().exchanges(hyper, (PUBLIC, CLASSES, STEPS), world.networks)
    assert up == down and up.kind == ("labels" if bits == 1 else "counts")
    state, downlink = Cfd().init_server(world.server(0))
    _, uplink, _ = Cfd().client_round({}, downlink, world.client(0))
    assert np.allclose(shares(uplink).sum(axis=1), 1.0)
    if bits > 1:
        assert uplink.levels == 2**bits - 1 and (uplink.counts.sum(axis=1) == uplink.levels).all()
    _, answer, _ = Cfd().server_round(state, {0: uplink}, world.server())
    assert answer.kind == down.kind


def test_entropy_reduction_by_hand() -> None:
    mean = np.array([[0.5, 0.3, 0.2]])
    era = reduce_entropy(mean, DsflHyperparameters(temperature=0.1))
    powers = np.exp(np.array([5.0, 3.0, 2.0]))
    assert np.allclose(era, powers / powers.sum())
    squares = np.array([0.25, 0.09, 0.04])
    assert np.allclose(reduce_entropy(mean, DsflHyperparameters(sharpen="power", beta=2.0)), squares / squares.sum())
    assert reduce_entropy(mean, DsflHyperparameters(sharpen="none")) is mean


def test_dsfl_draws_rows_that_both_sides_know() -> None:
    hyper = DsflHyperparameters(public_per_round=5, local_epochs=1, distil_epochs=1, server_epochs=1)
    world, method = World(hyper), Dsfl()
    state, downlink = method.init_server(world.server(0))
    rows = drawn_rows(1, world.server())
    assert rows is not None and len(rows) == 5 and torch.equal(rows, drawn_rows(1, world.client(1)))
    assert not torch.equal(rows, drawn_rows(2, world.server()))
    _, uplink, _ = method.client_round({}, downlink, world.client(0))
    assert uplink.probabilities.shape == (5, CLASSES)
    state, downlink, _ = method.server_round(state, {0: uplink}, world.server())
    goal = method.client_goal(downlink, world.client(0, 2))
    assert torch.equal(goal.rows, rows) and torch.allclose(goal.target.sum(1), torch.ones(5), atol=1e-5)


def test_dsfl_of_identical_clients_sharpens_their_own_prediction() -> None:
    world = World(DsflHyperparameters())
    p = np.random.default_rng(0).dirichlet(np.ones(CLASSES), PUBLIC)
    uplinks = {c: ProbabilityUplink(1, c, p, 0.5, ID) for c in range(3)}
    merged, _ = Dsfl().merge(uplinks, {}, world.server())
    # Uploads travel as float32, and a temperature of 0.1 magnifies what that rounds.
    assert np.allclose(merged.goal.target, reduce_entropy(p, world.hyper), atol=1e-5)


def test_fd_leaves_the_clients_own_part_out() -> None:
    a = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [np.nan] * 3])
    b = np.array([[0.0, 0.0, 1.0], [np.nan] * 3, [np.nan] * 3])
    counts = np.array([2, 1, 0])
    means = np.array([[0.5, 0.0, 0.5], [0.0, 1.0, 0.0], [np.nan] * 3])
    others = without_own(means, counts, a)
    assert np.array_equal(others[0], b[0])
    assert np.isnan(others[1:]).all()  # nobody else has class 1, nobody at all class 2
    assert np.array_equal(without_own(means, counts, None), means, equal_nan=True)


def test_fd_round_trip_of_two_clients() -> None:
    world, method = World(FdHyperparameters(local_epochs=1, lr=0.01)), Fd()
    server, downlink = method.init_server(world.server(0))
    uplinks = {}
    for c in range(2):
        state = method.init_client(world.client(c, 0))
        _, uplinks[c], _ = method.client_round(state, downlink, world.client(c))
    _, downlink, _ = method.server_round(server, uplinks, world.server())
    both = [uplinks[c].means for c in range(2)]
    assert np.allclose(downlink.means[:, :CLASSES], np.mean(both, axis=0), atol=1e-6)
    assert (downlink.means[:, -1] == 2).all()


def test_class_means_by_hand() -> None:
    rates = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    found = class_means(rates, torch.tensor([0, 0, 0]), 2)
    assert np.allclose(found[0], [0.5, 0.5]) and np.isnan(found[1]).all()


def test_fsd_of_one_client_merges_to_its_spikes() -> None:
    world = World(FsdHyperparameters(local_epochs=1, server_epochs=0))
    state, downlink = Fsd().init_server(world.server(0))
    _, uplink, _ = Fsd().client_round({}, downlink, world.client(0))
    _, downlink, _ = Fsd().server_round(state, {0: uplink}, world.server())
    assert np.array_equal(downlink.spikes, uplink.spikes)


def test_fsd_plus_without_its_levers_is_fsd() -> None:
    plain = {"local_epochs": 1, "distil_epochs": 1, "server_epochs": 1, "local_loss": "ce-rate", "logit_scale": 1.0}
    off = {"groups": STEPS, "confidence": 0.0, "answer": "vote", "label_weight": 0.0, "rehearse": 0.0}
    off["client_reset"] = "common"
    ends = []
    for method, hyper in ((Fsd(), FsdHyperparameters(**plain)), (FsdPlus(), FsdPlusHyperparameters(**plain, **off))):
        world = World(hyper)
        world.networks.network.steps = STEPS  # type: ignore[assignment]
        server, downlink = method.init_server(world.server(0))
        states = {c: {} for c in range(3)}
        for round in (1, 2):
            uplinks = {}
            for c in states:
                states[c], uplinks[c], _ = method.client_round(states[c], downlink, world.client(c, round))
            server, downlink, _ = method.server_round(server, uplinks, world.server(round))
        ends.append((downlink.spikes, server["weights"]["fc.weight"]))
    assert np.array_equal(ends[0][0], ends[1][0])
    assert torch.allclose(ends[0][1], ends[1][1], atol=1e-6)


def test_fsd_plus_without_its_levers_distils_on_silent_rows_as_fsd_does() -> None:
    hyper = FsdPlusHyperparameters(groups=STEPS, confidence=0.0, answer="vote", label_weight=0.0)
    world = World(hyper)
    world.networks.network.steps = STEPS  # type: ignore[assignment]
    spikes = (torch.rand(PUBLIC, CLASSES, STEPS, generator=torch.Generator().manual_seed(1)) > 0.5).numpy()
    spikes[3] = False
    downlink = SpikeDownlink(2, spikes.astype(np.uint8), ID)
    mine, theirs = FsdPlus().client_goal(downlink, world.client(0)), Fsd().client_goal(downlink, world.client(0))
    assert mine.rows is None and torch.equal(mine.target, theirs.target)
    outputs = torch.rand(STEPS, PUBLIC, CLASSES)
    assert torch.equal(mine.loss(outputs, mine.target), theirs.loss(outputs, theirs.target))
    # A server that answers for itself is silent where it does not know: nothing to learn there.
    own = FsdPlus().client_goal(downlink, World(FsdPlusHyperparameters(groups=STEPS)).client(0))
    assert own.rows is not None and 3 not in own.rows.tolist()


def test_fd_and_dsfl_with_drawn_rows_have_nothing_to_say_again() -> None:
    for method, hyper in ((Fd(), FdHyperparameters()), (Dsfl(), DsflHyperparameters(public_per_round=4))):
        assert method.repeated(None, 3, World(hyper).server(3)) is None  # type: ignore[arg-type]
    whole = ProbabilityDownlink(2, np.full((PUBLIC, CLASSES), 1 / CLASSES), ID)
    again = Dsfl().repeated(whole, 3, World(DsflHyperparameters()).server(3))
    assert again is not None and again.round == 3 and np.array_equal(again.probabilities, whole.probabilities)


def test_methods_without_accuracies_refuse_to_clip_them() -> None:
    for hyper in (CfdHyperparameters, DsflHyperparameters):
        with pytest.raises(ValidationError, match="vote"):
            hyper(vote="clipped")


def test_the_power_mean_stays_sharp_where_powers_would_vanish() -> None:
    mean = np.array([[0.2, 0.3, 0.5]])
    assert np.allclose(reduce_entropy(mean, DsflHyperparameters(sharpen="power", beta=1e4)), [[0.0, 0.0, 1.0]])


def test_groups_of_a_train() -> None:
    train = np.array([[[1, 0, 0, 1, 0, 0, 0, 0]]], dtype=np.uint8)
    assert group_spikes(train, 8).tolist() == train.tolist()
    assert group_spikes(train, 4).tolist() == [[[1, 1, 0, 0]]]  # one of two steps is half
    assert group_spikes(train, 2).tolist() == [[[1, 0]]]
    assert group_spikes(train, 1).tolist() == [[[0]]]


@pytest.mark.parametrize("total, share", [(12, 0.25), (2000, 0.25), (400, 0.1), (7, 0.5)])
def test_answered_rows_are_disjoint_in_a_round_and_all_in_the_end(total: int, share: float) -> None:
    clients = int(1 / share)
    rows = [answered_rows(total, share, c, 1) for c in range(clients)]
    count = max(1, int(share * total + 0.5))
    assert all(len(r) == count and (np.diff(r) > 0).all() for r in rows)
    if clients * count <= total:
        assert len(np.unique(np.concatenate(rows))) == clients * count
    rounds = -(-total // count)
    assert len(np.unique(np.concatenate([answered_rows(total, share, 0, e) for e in range(1, rounds + 1)]))) == total
    assert np.array_equal(answered_rows(5, 1.0, 3, 9), np.arange(5))


def test_few_clients_soon_answer_for_all_rows() -> None:
    said = [answered_rows(1000, 0.1, client, round) for round in (1, 2, 3) for client in range(4)]
    assert len(np.unique(np.concatenate(said))) == 1000  # 12 tenths, 3 rounds


def test_votes_by_row() -> None:
    sure = np.array([[[1], [0]], [[1], [0]]], dtype=np.uint8)
    unsure = np.array([[[1], [1]], [[0], [0]]], dtype=np.uint8)
    assert confidences(sure).tolist() == [1.0, 1.0] and confidences(unsure).tolist() == [0.0, 0.0]
    answers, weights = {0: sure, 1: unsure}, {0: 0.5, 1: 0.5}
    known = {0: np.array([True, True]), 1: np.array([True, False])}
    merged, heard = vote_rows(answers, known, weights, confidence=0.0)
    assert merged[:, :, 0].tolist() == [[1.0, 0.5], [1.0, 0.0]] and heard.all()
    trusting, _ = vote_rows(answers, known, weights, confidence=np.log(3.0))
    assert trusting[0, 1, 0] == pytest.approx(0.25)  # the sure client counts three times
    # A weight that vanished in the softmax hears nothing, rather than dividing by it.
    merged, heard = vote_rows(answers, known, {0: 0.0, 1: 1.0}, 0.0)
    assert np.isfinite(merged).all() and heard.tolist() == [True, False]
    _, heard = vote_rows({0: sure}, {0: np.array([False, True])}, {0: 1.0}, 0.0)
    assert heard.tolist() == [False, True]


def test_a_label_is_one_bit_for_the_most_active_class() -> None:
    spikes = np.array([[[0, 0, 1], [1, 1, 0], [0, 0, 0]], [[1, 0, 0], [0, 1, 0], [0, 0, 0]]], dtype=np.uint8)
    labels = most_active(spikes)
    assert labels.tolist() == [1, 0]  # equal counts: the smaller class
    assert trains(LabelUplink(1, 0, labels, 0.5, ID, 3))[:, :, 0].tolist() == [[0, 1, 0], [1, 0, 0]]


def test_fsd_plus_with_labels_votes_and_answers_with_the_most_active_class() -> None:
    hyper = FsdPlusHyperparameters(send="labels", answer="vote", server_epochs=0, confidence=0.0)
    world, method = World(hyper), FsdPlus()
    world.networks.network.steps = STEPS  # type: ignore[assignment]
    state, _ = method.init_server(world.server(0))
    uplinks = {c: LabelUplink(1, c, np.full(PUBLIC, label), 0.5, ID, CLASSES) for c, label in enumerate((2, 0, 2))}
    merged, _ = method.merge(uplinks, state, world.server())
    assert torch.allclose(
        merged.goal.target, torch.tensor([1 / 3, 0.0, 2 / 3]).expand(PUBLIC, STEPS, 3).transpose(1, 2)
    )
    _, downlink, _ = method.server_round(state, uplinks, world.server())
    assert downlink.kind == "labels" and (downlink.labels == 2).all()
    goal = method.client_goal(downlink, world.client(0, 2))
    assert len(goal.target) == PUBLIC and (goal.target[:, 2] == 1).all()


def test_a_label_without_the_lead_is_not_sent() -> None:
    trains_of = [[1, 1, 1, 1], [0, 0, 0, 0]], [[1, 1, 1, 1], [1, 1, 0, 0]], [[0, 0, 0, 0], [0, 0, 0, 0]]
    spikes = np.array(trains_of, dtype=np.uint8)  # leads 1, 0.5 and 0
    assert labels_of(spikes, 0.0).tolist() == [0, 0, -1]  # silence names no class
    assert labels_of(spikes, 0.5).tolist() == [0, 0, -1]
    assert labels_of(spikes, 0.6).tolist() == [0, -1, -1]
    said = trains(LabelUplink(1, 0, labels_of(spikes, 0.6), 0.5, ID, 2))
    assert said[:, :, 0].tolist() == [[1, 0], [0, 0], [0, 0]]


@pytest.mark.parametrize("steps", [5, 10, 12, 20])
def test_the_lead_is_counted_in_whole_spikes(steps: int) -> None:
    first = np.arange(1, steps)
    spikes = np.zeros((len(first), 2, steps), dtype=np.uint8)
    for row, count in enumerate(first):
        spikes[row, 0, :count], spikes[row, 1, : count - 1] = 1, 1
    assert (labels_of(spikes, 1 / steps) == 0).all()  # every row leads by one spike, however many there are
    assert (labels_of(spikes, 1.01 / steps) == -1).all()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"rehearse": 0.0}, "no client would learn"),
        ({"send": "labels", "groups": 2}, "a label has no steps"),
        ({"abstain": 0.5}, "abstain is for labels"),
        ({"liars": 2}, "liars = 2 is for vote 'trimmed', which fsd\\+ does not have"),
    ],
)
def test_levers_that_would_do_nothing_are_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        FsdPlus().check(FsdPlusHyperparameters(**given), Setup())


def test_groups_that_do_not_divide_the_steps_are_refused() -> None:
    with pytest.raises(ConfigError, match="does not divide"):
        FsdPlus().exchanges(FsdPlusHyperparameters(groups=3), (PUBLIC, CLASSES, STEPS), World(None).networks)


@pytest.mark.parametrize(("ties", "voted"), [("first", [0.0, 1.0, 0.0]), ("shared", [0.0, 0.5, 0.5])])
def test_the_voted_class_of_a_tie(ties: Literal["first", "shared"], voted: list[float]) -> None:
    method, hyper = FsdPlus(), FsdPlusHyperparameters(label_ties=ties, label_weight=1.0)
    target = np.array([[[0], [1], [1]]], dtype=np.uint8)
    goal = method._goal(target, STEPS, hyper)
    outputs = torch.zeros(STEPS, 1, 3, requires_grad=True)
    plain = method._goal(target, STEPS, hyper.model_copy(update={"label_weight": 0.0}))
    (goal.loss(outputs, goal.target) - plain.loss(outputs, plain.target)).backward()
    assert outputs.grad is not None
    # Cross-entropy against the voted shares at even odds, spread over the steps by the mean.
    assert torch.allclose(outputs.grad.sum(dim=0)[0], torch.full((3,), 1 / 3) - torch.tensor(voted))


def test_fsd_plus_distils_on_no_row_without_a_label() -> None:
    world, method = World(FsdPlusHyperparameters(send="labels", answer="vote", server_epochs=0, abstain=0.5)), FsdPlus()
    world.networks.network.steps = STEPS  # type: ignore[assignment]
    state, _ = method.init_server(world.server(0))
    labels = np.full((2, PUBLIC), -1)
    labels[0, :4], labels[1, 3:7] = 2, 1
    uplinks = {c: LabelUplink(1, c, labels[c], 0.5, ID, CLASSES) for c in range(2)}
    merged, _ = method.merge(uplinks, state, world.server())
    assert merged.goal.rows is not None and merged.goal.rows.tolist() == list(range(7))
    _, downlink, _ = method.server_round(state, uplinks, world.server())
    assert downlink.labels.tolist() == [2] * 3 + [-1] + [1] * 3 + [-1] * (PUBLIC - 7)  # row 3: a tie is no lead
    goal = method.client_goal(downlink, world.client(0, 2))
    assert goal.rows is not None and goal.rows.tolist() == [0, 1, 2, 4, 5, 6]


def test_rehearsal_holds_what_was_distilled_while_a_client_trains_on_its_own() -> None:
    """Public rows all say class 0; the client's own data never does. Only who rehearses still says so afterwards."""
    rates = {}
    for weight in (0.0, 20.0):
        hyper = FsdPlusHyperparameters(rehearse=weight, local_epochs=10, lr=0.05, groups=STEPS, label_weight=0.0)
        world, method = World(hyper), FsdPlus()
        world.networks.network.steps = STEPS  # type: ignore[assignment]
        client = world.client(0)
        keep = client.train.labels > 0
        own = replace(client, train=replace(client.train, images=client.train.images[keep],
                                            labels=client.train.labels[keep]))  # fmt: skip
        spikes = np.zeros((PUBLIC, CLASSES, STEPS), dtype=np.uint8)
        spikes[:, 0] = 1
        state, _, _ = method.client_round({}, SpikeDownlink(1, spikes, ID), own)
        net = world.networks.load(state["weights"])
        rates[weight] = public_outputs(net, own).mean(dim=(0, 2))[0].item()
    assert rates[20.0] > rates[0.0] + 0.3


def test_calibration_adds_the_log_frequencies_of_the_clients_own_labels() -> None:
    world = World(LocalTraining(calibrate=0.5, logit_scale=2.0))
    client = world.client(0)
    own = replace(client, train=replace(client.train, labels=torch.tensor([0] * 30 + [1] * 10)))
    assert CLASSES == 3
    expected = 0.25 * torch.tensor([30 / 41, 10 / 41, 1 / 41]).log()  # class 2 without a sample counts as one
    offset = label_offset(own, CLASSES)
    assert offset is not None and torch.allclose(offset, expected)
    assert label_offset(World(LocalTraining()).client(0), CLASSES) is None


def test_sharpening_keeps_certainty_and_the_middle() -> None:
    s = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    assert np.allclose(sharpened(s, 2.0), [0.0, 0.1, 0.5, 0.9, 1.0])
    assert sharpened(s, 1.0) is s


def test_fsd_plus_remembers_rows_of_earlier_rounds() -> None:
    hyper = FsdPlusHyperparameters(row_share=0.5, server_epochs=0, groups=1, confidence=0.0, label_weight=0.0)
    world, method = World(hyper), FsdPlus()
    world.networks.network.steps = STEPS  # type: ignore[assignment]
    state, _ = method.init_server(world.server(0))
    state, _, first = method.server_round(state, {0: upload(world, 0, 1, 1)}, world.server(1))
    assert first.values["rows_heard"] == 0.5
    state, _, second = method.server_round(state, {0: upload(world, 0, 2, 0)}, world.server(2))
    assert second.values["rows_heard"] == 1.0
    fired = np.unpackbits(state["answers"]["0"], count=PUBLIC * CLASSES).reshape(PUBLIC, CLASSES)
    assert fired[answered_rows(PUBLIC, 0.5, 0, 1)].all() and not fired[answered_rows(PUBLIC, 0.5, 0, 2)].any()


def test_fsd_plus_forgets_the_answers_of_clients_set_aside() -> None:
    hyper = FsdPlusHyperparameters(server_epochs=0, confidence=0.0, label_weight=0.0)
    world, method = World(hyper), FsdPlus()
    world.networks.network.steps = STEPS  # type: ignore[assignment]
    empty, _ = method.init_server(world.server(0))
    assert method.forget(empty, [1]) == empty
    state, _, _ = method.server_round(empty, {c: upload(world, c, 1, int(c > 0)) for c in range(3)}, world.server(1))
    only = {0: upload(world, 0, 2, 0)}
    _, _, all_three = method.server_round(state, only, world.server(2))
    forgotten = method.forget(state, [1, 2])
    _, _, alone = method.server_round(forgotten, only, world.server(2))
    assert all_three.values["global_firing_rate"] == 1.0 and alone.values["global_firing_rate"] == 0.0
    assert set(state["answers"]) == {"0", "1", "2"} and set(forgotten["answers"]) == {"0"}


def upload(world: World, client: int, round: int, value: int) -> SpikeUplink:
    count = len(answered_rows(PUBLIC, world.hyper.row_share, client, round))  # type: ignore[attr-defined]
    return SpikeUplink(round, client, np.full((count, CLASSES, 1), value, dtype=np.uint8), 0.5, ID)


def test_local_sends_nothing_and_trains() -> None:
    world, method = World(LocalTraining(local_epochs=3, lr=0.05)), Local()
    state = method.init_client(world.client(0, 0))
    after, message, report = method.client_round(state, None, world.client(0))
    assert message is None and np.isfinite(report.values["train_loss"])
    assert not torch.equal(after["weights"]["fc.weight"], state["weights"]["fc.weight"])
