"""Lying clients: what they change and what they leave honest, by kind of upload."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from federated.tiny import CLASSES, World
from spikefed.errors import ConfigError
from spikefed.federated.attackers import APPLIES, Attacker
from spikefed.federated.contract import ClientReport
from spikefed.federated.methods.fedavg import FedAvg, FedAvgHyperparameters
from spikefed.federated.methods.fsd import Fsd, FsdHyperparameters
from spikefed.wire import CountUplink, LabelUplink, PartialSpikes, PartialSpikeUplink, ProbabilityUplink


def rounds(attack: str, **given: Any) -> tuple[Any, Any]:
    """The same client's FSD upload, honest and lying."""
    world = World(FsdHyperparameters(local_epochs=2, lr=0.05))
    _, honest, _ = Fsd().client_round({}, None, world.client(0))
    _, lie, _ = Attacker(Fsd(), attack, CLASSES, **given).client_round({}, None, world.client(0))  # type: ignore[arg-type]
    return honest, lie


def test_inverted_spikes() -> None:
    honest, lie = rounds("invert-spikes")
    assert np.array_equal(lie.spikes, 1 - honest.spikes) and lie.accuracy == honest.accuracy


def test_claimed_accuracy() -> None:
    honest, lie = rounds("invert-spikes", claim=1.0)
    assert lie.accuracy == 1.0 != honest.accuracy


def test_random_spikes_are_noise_and_repeat() -> None:
    honest, lie = rounds("random")
    assert 0.3 < lie.spikes.mean() < 0.7 and not np.array_equal(honest.spikes, lie.spikes)
    assert np.array_equal(lie.spikes, rounds("random")[1].spikes)


def test_flipped_labels_train_and_validate_the_wrong_way() -> None:
    """The liar's network is that of an honest client whose labels are C - 1 - y; nothing else differs."""
    world, seen = World(FsdHyperparameters(local_epochs=0, distil_epochs=0)), []
    ctx = world.client(0)
    probe = SimpleNamespace(
        uplink_kind="spikes", client_round=lambda s, d, c: (seen.append(c), (s, None, ClientReport()))[1]
    )
    Attacker(probe, "flip-labels", CLASSES).client_round({}, None, ctx)  # type: ignore[arg-type]
    assert (seen[0].train.labels + ctx.train.labels == CLASSES - 1).all()
    assert (seen[0].validation.labels + ctx.validation.labels == CLASSES - 1).all()
    assert seen[0].train.images is ctx.train.images


def test_scaled_weights_scale_the_change() -> None:
    world = World(FedAvgHyperparameters(local_epochs=1, lr=0.05))
    _, downlink = FedAvg().init_server(world.server(0))
    _, honest, _ = FedAvg().client_round({}, downlink, world.client(0))
    _, lie, _ = Attacker(FedAvg(), "scale", CLASSES, factor=-3.0).client_round({}, downlink, world.client(0))
    start = downlink.tensors["fc.weight"]
    assert np.allclose(lie.tensors["fc.weight"] - start, -3 * (honest.tensors["fc.weight"] - start), atol=1e-6)
    assert lie.tensors["norm.num_batches_tracked"] == honest.tensors["norm.num_batches_tracked"]
    assert {n: t.dtype for n, t in lie.tensors.items()} == {n: t.dtype for n, t in honest.tensors.items()}


ID = bytes(32)
HALF = np.tile(np.array([[0, 1]], np.uint8), (5, 8))  # [C, T], every other step fires
MESSAGES = {
    "labels": LabelUplink(1, 0, np.arange(6) % 3, 0.5, ID, 3),
    "counts": CountUplink(1, 0, np.arange(6).reshape(2, 3), 0.5, ID, 8),
    "probabilities": ProbabilityUplink(1, 0, np.full((2, 3), 1 / 3), 0.5, ID),
    "partial-spikes": PartialSpikeUplink(
        1, 0, PartialSpikes(np.array([True, False]), np.eye(2, dtype=np.uint8)[0][:, None, None] * HALF), 0.5, ID
    ),
}


@pytest.mark.parametrize("attack", ["invert-spikes", "random"])
@pytest.mark.parametrize("kind", MESSAGES)
def test_every_kind_of_upload_stays_encodable(attack: str, kind: str) -> None:
    message = MESSAGES[kind]
    inner = SimpleNamespace(uplink_kind=kind, client_round=lambda s, d, c: (s, message, ClientReport()))
    if kind not in APPLIES[attack]:
        with pytest.raises(ConfigError, match="use flip-labels"):
            Attacker(inner, attack, 3)  # type: ignore[arg-type]
        return
    ctx = World(FsdHyperparameters()).client(0)
    _, lie, _ = Attacker(inner, attack, 3).client_round({}, None, ctx)  # type: ignore[arg-type]
    assert lie.encode() != message.encode() and lie.plan() == message.plan()
    if attack == "invert-spikes" and kind == "counts":
        assert np.array_equal(lie.counts, 8 - message.counts)  # type: ignore[attr-defined]
    if attack == "invert-spikes" and kind == "partial-spikes":
        assert np.array_equal(lie.partial.spikes, np.stack([1 - HALF, 0 * HALF]))


def test_other_steps_are_the_methods_own() -> None:
    liar = Attacker(Fsd(), "random", CLASSES)
    assert liar.name == "fsd" and liar.uplink_kind == "spikes" and liar.hyperparameters is FsdHyperparameters
    with pytest.raises(AttributeError):
        _ = Attacker.__new__(Attacker)._method  # no endless recursion while unpickling
