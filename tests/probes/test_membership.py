"""Membership inference: areas by hand, an overfitted client is caught, an untrained one is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from spikefed.data import load
from spikefed.errors import ConfigError
from spikefed.networks import ann_twin, build, write_tensors
from spikefed.probes import Measurement, Subject, run_probe
from spikefed.probes.imitation import UPLOADS, imitate
from spikefed.probes.membership import auc, auc_interval, caught, class_weights
from spikefed.training import Preprocess, outputs, rate_cross_entropy, train

MEMBERS = 60


def trained_on(subject: Subject, part: slice) -> Subject:
    return Subject(subject.images[part], subject.labels[part], subject.preprocess, subject.classes)


def digits() -> Subject:
    part = load("digits", "train")
    whole = Subject(part.images, part.labels, Preprocess(), tuple("0123456789"))
    parts = [trained_on(whole, slice(MEMBERS * k, MEMBERS * (k + 1))) for k in range(3)]
    rest = slice(3 * MEMBERS, 3 * MEMBERS + 600)
    return Subject(part.images[rest], part.labels[rest], Preprocess(), whole.classes, parts)


def fitted(net: nn.Module, subject: Subject, epochs: int) -> nn.Module:
    """With labels that are noise for a quarter, so that nothing but memory tells them."""
    optim = torch.optim.Adam(net.parameters(), lr=3e-3)
    draws = torch.Generator().manual_seed(0)
    options = {"epochs": epochs, "batch_size": 20, "preprocess": Preprocess(), "generator": draws}
    train(net, subject.images, subject.labels, lambda o, y: rate_cross_entropy(o, y, 5.0), optim, **options)
    return net.eval()


def noisy(subject: Subject) -> Subject:
    """A client whose labels are wrong for half of its images, as are a stranger's."""
    draw = torch.Generator().manual_seed(5)

    def spoilt(labels: torch.Tensor) -> torch.Tensor:
        wrong = torch.rand(len(labels), generator=draw) < 0.5
        other = torch.randint(0, 10, labels.shape, generator=draw)
        return torch.where(wrong, other, labels)

    parts = [Subject(s.images, spoilt(s.labels), s.preprocess, s.classes) for s in subject.trained]
    return Subject(subject.images, spoilt(subject.labels), subject.preprocess, subject.classes, parts)


def rows(found: Measurement, network: str) -> dict[str, dict]:
    return {str(r["attacker"]): dict(r) for r in found.records if r["network"] == network}


def test_area_is_that_of_scikit_learn() -> None:
    draw = torch.Generator().manual_seed(1)
    inside = torch.randn(40, generator=draw).round(decimals=1) + 0.4
    outside = torch.randn(70, generator=draw).round(decimals=1)
    truth = [1] * 40 + [0] * 70
    scores = torch.cat([inside, outside]).numpy()
    assert auc(inside, outside) == pytest.approx(roc_auc_score(truth, scores), abs=1e-6)
    weights = torch.rand(70, generator=draw)
    weighted = roc_auc_score(truth, scores, sample_weight=[1.0] * 40 + weights.tolist())
    assert auc(inside, outside, weights) == pytest.approx(weighted, abs=1e-6)
    assert auc(torch.ones(3), torch.ones(4)) == 0.5 and auc(torch.ones(3), torch.zeros(4)) == 1.0


def test_interval_covers_a_guess_as_often_as_it_says() -> None:
    draw = torch.Generator().manual_seed(2)
    inside = 0
    for _ in range(300):
        area = auc(torch.randn(30, generator=draw), torch.randn(50, generator=draw))
        low, high = auc_interval(area, 30, 50)
        inside += low <= 0.5 <= high
    assert 0.92 < inside / 300 < 0.98
    assert auc_interval(1.0, 10, 10) == (1.0, 1.0)


def test_strangers_get_the_mix_of_the_members() -> None:
    members = torch.tensor([0, 0, 0, 1])
    strangers = torch.tensor([0, 1, 1, 1, 2])
    weights = class_weights(members, strangers)
    assert weights.tolist() == pytest.approx([0.75, 1 / 12, 1 / 12, 1 / 12, 0.0])


def test_a_network_that_only_knows_its_clients_classes_tells_no_member() -> None:
    class Knows(nn.Module):
        """Always says class 0, the only one of its client."""

        def forward(self, x: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
            noise = torch.randn(1, len(x), 10, generator=torch.Generator().manual_seed(len(x)))
            return noise + 5 * torch.eye(10)[0]

    subject = digits()
    zeros = subject.labels == 0
    known = Subject(subject.images[zeros][:20], subject.labels[zeros][:20], subject.preprocess, subject.classes)
    told = Subject(subject.images, subject.labels, subject.preprocess, subject.classes, [known])
    row = run_probe(Knows(), told, "membership").records[0]
    assert float(row["auc_low"] or 0) < 0.5 < float(row["auc_high"] or 0)


def test_caught_by_hand() -> None:
    strangers = torch.arange(100.0)
    assert caught(torch.tensor([97.0, 98.0, 98.5, 200.0]), strangers) == 0.5  # one stranger, 99, is above 98


@pytest.mark.parametrize("spiking", [False, True])
def test_an_overfitted_client_is_caught(spiking: bool) -> None:
    subject = noisy(digits())
    options = {"input_shape": (1, 8, 8), "classes": 10, "norm": "none", "seed": 1}
    net = build("64FC", steps=4, **options) if spiking else ann_twin("64FC", **options)
    alone = Subject(subject.images, subject.labels, subject.preprocess, subject.classes, subject.trained[:1])
    found = rows(run_probe(fitted(net, subject.trained[0], 100), alone, "membership"), "network")
    assert found["loss"]["auc"] > 0.7 and found["loss"]["auc_low"] > 0.6
    assert found["ratio"]["auc"] > 0.65 and "reference" not in found


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_untrained_network_raises_no_alarm(seed: int) -> None:
    net = build("small", input_shape=(1, 8, 8), classes=10, steps=4, seed=seed)
    for row in run_probe(net, digits(), "membership", hyper={"level": 0.99}).records:
        assert float(row["auc_low"] or 0) <= 0.5 <= float(row["auc_high"] or 0)


def test_uploads_of_clients_and_the_networks_of_the_others_as_reference() -> None:
    subject = noisy(digits())
    options = {"input_shape": (1, 8, 8), "classes": 10, "norm": "none"}
    nets = [fitted(ann_twin("64FC", seed=k, **options), part, 60) for k, part in enumerate(subject.trained)]

    def clients() -> Iterator[tuple[int, nn.Module]]:
        yield from enumerate(nets)

    server = ann_twin("64FC", seed=7, **options)
    found = run_probe(server, subject, "membership", clients=clients, whose="server")
    assert [r["network"] for r in found.records if r["attacker"] == "loss"] == [
        "server",
        *map("client {}".format, range(3)),
    ]
    for client in range(3):
        mine = rows(found, f"client {client}")
        assert mine["reference"]["auc"] > 0.7 and mine["reference"]["members"] == MEMBERS
    assert "reference" not in rows(found, "server")  # it holds what all clients hold: nobody is left to compare with
    assert float(found.headline["auc_largest"] or 0) > 0.7 > float(found.headline["auc"] or 0)


def test_what_a_client_says_gives_less_away_than_its_weights() -> None:
    subject = noisy(digits())
    net = fitted(build("64FC", steps=4, input_shape=(1, 8, 8), classes=10, norm="none", seed=1), subject.trained[0], 60)
    alone = replace(subject, trained=subject.trained[:1])
    server = build("64FC", steps=4, input_shape=(1, 8, 8), classes=10, norm="none", seed=2)
    options = {"clients": lambda: iter([(0, net)]), "hyper": {"imitate": 20}, "whose": "server"}
    found = run_probe(server, alone, "membership", **options)
    losses = {row["upload"]: float(row["auc"] or 0) for row in found.records if row["attacker"] == "loss"}
    assert set(losses) == {"weights", "outputs", "labels"}
    assert losses["weights"] > 0.8 > losses["outputs"] > losses["labels"] > 0.5
    assert run_probe(server, alone, "membership", **options).records == found.records


def test_the_difference_to_an_earlier_round_finds_who_came_in_since_and_nobody_else(tmp_path: Path) -> None:
    subject = noisy(digits())
    net = fitted(ann_twin("64FC", seed=1, input_shape=(1, 8, 8), classes=10, norm="none"), subject.trained[1], 30)
    file = tmp_path / "before.safetensors"
    file.write_bytes(write_tensors(net.state_dict(), facts={}))
    net = fitted(net, subject.trained[0], 12)
    areas = {}
    for client in (0, 1):
        alone = replace(subject, trained=subject.trained[client : client + 1])
        found = rows(run_probe(net, alone, "membership", hyper={"before": str(file)}), "network")
        areas[client] = {attacker: float(row["auc"]) for attacker, row in found.items()}
    assert areas[0]["difference"] > 0.6 > 0.5 > areas[1]["difference"]
    assert areas[1]["loss"] > 0.6  # who was there before is found by other means
    with pytest.raises(ConfigError, match="is no model file"):
        run_probe(net, subject, "membership", hyper={"before": str(tmp_path / "none")})


def test_an_imitator_learns_what_it_was_told_and_begins_anew() -> None:
    subject = digits().first(200)
    for spiking in (True, False):
        options = {"input_shape": (1, 8, 8), "classes": 10}
        teacher = build("64FC", steps=4, **options) if spiking else ann_twin("64FC", **options)
        teacher = fitted(teacher, subject, 20)
        said = outputs(teacher, subject.images, preprocess=Preprocess(), generator=torch.Generator())
        for upload in UPLOADS:
            drawn = torch.Generator().manual_seed(4)
            pupil = imitate(teacher, subject, said, upload, 40, drawn)
            told = outputs(pupil, subject.images, preprocess=Preprocess(), generator=torch.Generator())
            agree = (told.mean(2).argmax(1) == said.mean(2).argmax(1)).double().mean()
            assert agree > 0.8, (spiking, upload)
            fresh = imitate(teacher, subject, said, upload, 0, drawn)
            assert not torch.equal(next(fresh.parameters()), next(teacher.parameters()))


def test_who_trained_on_what_has_to_be_known() -> None:
    subject = digits()
    net = build("small", input_shape=(1, 8, 8), classes=10, steps=2)
    lone = Subject(subject.images, subject.labels, subject.preprocess, subject.classes)
    with pytest.raises(ConfigError, match="give the run's folder"):
        run_probe(net, lone, "membership")
    with pytest.raises(ConfigError, match="at least 4 images"):
        run_probe(net, subject.first(3), "membership")
