"""Accuracy against scikit-learn, scipy and plain loops; clients and their vote by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from probes.subjects import CLASSES, network, subject
from spikefed.probes import run_probe
from spikefed.probes.accuracy import calibration_error, wilson


def rows(records: list[dict[str, Any]], part: str) -> list[dict[str, Any]]:
    return [row for row in records if row["part"] == part]


@pytest.mark.parametrize(("right", "count"), [(0, 10), (10, 10), (3, 7), (861, 1000), (1, 1)])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_the_interval_is_scipy_s(right: int, count: int, level: float) -> None:
    expected = binomtest(right, count).proportion_ci(level, method="wilson")
    assert wilson(right, count, level) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert wilson(0, 0) == (0.0, 1.0)


def test_the_calibration_error_is_the_sum_of_guo_et_al() -> None:
    draws = torch.Generator().manual_seed(3)
    confidence, right = torch.rand(500, generator=draws), torch.rand(500, generator=draws) < 0.7
    confidence[:3] = torch.tensor([0.0, 1.0, 0.5])
    expected = 0.0
    for low in range(10):
        inside = [i for i in range(500) if min(int(float(confidence[i]) * 10), 9) == low]
        gap = sum(float(right[i]) for i in inside) - sum(float(confidence[i]) for i in inside)
        expected += abs(gap) / 500
    assert calibration_error(confidence, right, 10) == pytest.approx(expected, abs=1e-6)
    assert calibration_error(torch.ones(4), torch.ones(4, dtype=torch.bool), 15) == 0.0


def test_classes_and_cells_are_scikit_learn_s() -> None:
    net, shown = network(), subject(200)
    found = run_probe(net, shown, "accuracy").records
    with torch.no_grad():
        said = net(shown.preprocess(shown.images)).mean(0).argmax(1)
    truth, numbers = shown.labels.numpy(), list(range(CLASSES))
    precision, recall, _, count = precision_recall_fscore_support(truth, said.numpy(), labels=numbers, zero_division=0)
    classes = rows(found, "classes")
    assert [row["class"] for row in classes] == list(shown.classes)
    assert [row["images"] for row in classes] == list(count)
    assert [row["recall"] for row in classes] == pytest.approx(list(recall))
    assert [row["precision"] or 0.0 for row in classes] == pytest.approx(list(precision))
    cells = {(row["class"], row["said"]): row["images"] for row in rows(found, "confusion")}
    for true, line in enumerate(confusion_matrix(truth, said.numpy(), labels=numbers)):
        assert [cells.get((shown.classes[true], name), 0) for name in shown.classes] == list(line)
    [server] = rows(found, "networks")
    assert server["accuracy"] == pytest.approx(float((said == shown.labels).float().mean()))
    assert server["accuracy_low"] < server["accuracy"] < server["accuracy_high"]


def test_clients_and_the_vote_of_their_mean_outputs() -> None:
    net, shown, others = network(), subject(100), [network(seed=5), network(seed=6)]
    found = run_probe(net, shown, "accuracy", clients=lambda: iter(enumerate(others)))
    with torch.no_grad():
        each = [other(shown.preprocess(shown.images)).mean(0) for other in others]
    expected = [(scores.argmax(1) == shown.labels).double().mean().item() for scores in (*each, each[0] + each[1])]
    told = rows(found.records, "networks")
    assert [row["network"] for row in told] == ["network", "client 0", "client 1", "merged vote"]
    assert [row["accuracy"] for row in told[1:]] == pytest.approx(expected)
    assert found.headline["vote_accuracy"] == pytest.approx(expected[2])
    assert found.headline["client_accuracy_mean"] == pytest.approx(sum(expected[:2]) / 2)
    alone = run_probe(net, shown, "accuracy", clients=lambda: iter(enumerate(others)), hyper={"clients": False})
    assert alone.records[0] == told[0] and len(rows(alone.records, "networks")) == 1


def test_one_client_s_network_in_a_server_s_place_has_its_interval() -> None:
    net, shown = network(), subject(100)
    told = [
        run_probe(net, shown, "accuracy", whose="client 0", clients=lambda count=count: iter(enumerate([net] * count)))
        for count in (1, 2)
    ]
    alone, of_two = [found.headline for found in told]
    assert alone["accuracy_low"] < alone["accuracy"] == alone["client_accuracy_mean"] < alone["accuracy_high"]
    assert "accuracy_low" not in of_two and of_two["accuracy"] == of_two["client_accuracy_mean"]


def test_confidence_by_softmax_grows_with_its_factor_and_by_share_is_a_share() -> None:
    net, shown = network(), subject()
    told = [
        run_probe(net, shown, "accuracy", hyper=hyper).records[0]["confidence"]
        for hyper in ({"confidence": "softmax"}, {"confidence": "softmax", "logit_scale": 10.0}, {})
    ]
    assert 1 / CLASSES < told[0] < told[1] <= 1  # type: ignore[operator]
    with torch.no_grad():
        scores = net(shown.preprocess(shown.images)).mean(0)
    total = scores.sum(1, keepdim=True)
    share = torch.where(total > 0, scores / total, torch.full_like(scores, 1 / CLASSES))
    assert told[2] == pytest.approx(float(share.gather(1, scores.argmax(1)[:, None]).mean()))


def test_a_class_without_an_image_or_an_answer_has_no_share() -> None:
    shown = subject()
    shown.labels.fill_(2)
    classes = rows(run_probe(network(), shown, "accuracy").records, "classes")
    assert [row["recall"] is None for row in classes] == [True, True, False, True]


def test_currents_have_a_softmax_and_no_share() -> None:
    net, shown = network(readout="current"), subject()
    found, told = (run_probe(net, shown, "accuracy", hyper=h).records[0] for h in ({}, {"confidence": "softmax"}))
    assert found == told
