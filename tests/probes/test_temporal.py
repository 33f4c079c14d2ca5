"""Temporal information in closed forms: a linear softmax, one-hot profiles, batches, sampled labels, released code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from probes.subjects import CLASSES, network, subject
from spikefed.errors import ConfigError
from spikefed.networks import wrap
from spikefed.probes import (
    Subject,
    centroid_of,
    early_by_information,
    early_by_kl,
    run_probe,
)
from spikefed.probes.information import layer_of, score_gradients
from spikefed.training import prefix_divergences, prefix_means


def part(records: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [row for row in records if row["part"] == name]


def information(net: nn.Module, shown: Subject, **hyper: Any) -> list[float]:
    return [row["information"] for row in part(run_probe(net, shown, "temporal", hyper=hyper).records, "steps")]


def linear(steps: int = 3) -> tuple[nn.Module, nn.Linear]:
    head = nn.Linear(64, CLASSES)
    with torch.no_grad():
        head.weight.copy_(torch.randn(head.weight.shape, generator=torch.Generator().manual_seed(1)) / 4)
        head.bias.copy_(torch.tensor([0.3, 0.0, -0.2, 0.1]))
    return wrap(nn.Sequential(nn.Flatten(), head), steps=steps, classes=CLASSES, readout="current", mode="step"), head


def answers(head: nn.Linear, shown: Subject, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """p and ||x||^2 + 1."""
    x = shown.preprocess(shown.images).flatten(1)
    return (scale * head(x)).softmax(1).detach().double(), x.square().sum(1).double() + 1


def test_of_a_linear_softmax() -> None:
    net, head = linear()
    shown = subject()
    p, seen = answers(head, shown, scale=2.0)
    each = 4 * (p - F.one_hot(shown.labels, CLASSES)).square().sum(1) * seen
    expected = [float(each.mean())] * 3  # every step says the same, so every prefix does
    assert information(net, shown, logit_scale=2.0) == pytest.approx(expected, rel=1e-6)
    [whole] = part(run_probe(net, shown, "temporal").records, "network")
    assert whole["centroid"] == pytest.approx(2.0) and whole["centroid_se"] == pytest.approx(0.0, abs=1e-6)


def test_sampled_labels_reach_the_variance_of_the_score() -> None:
    net, head = linear(steps=1)
    shown = subject(600)
    p, seen = answers(head, shown)
    expected = float(((1 - p.square().sum(1)) * seen).mean())  # E_y ||p - e_y||^2 = 1 - sum p^2
    [row] = part(run_probe(net, shown, "temporal", hyper={"labels": "sampled"}).records, "steps")
    assert abs(row["information"] - expected) < 4 * row["information_se"] < 0.5 * expected
    [true] = information(net, shown)
    assert abs(true - expected) > 4 * row["information_se"], "the labels here are not those of the network"


def test_the_mean_over_labels_is_the_variance_of_the_score() -> None:
    net, head = linear()
    shown = subject()
    p, seen = answers(head, shown, scale=2.0)
    expected = [4 * float(((1 - p.square().sum(1)) * seen).mean())] * 3  # E_y ||p - e_y||^2 = 1 - sum p^2
    assert information(net, shown, logit_scale=2.0, labels="expected") == pytest.approx(expected, rel=1e-6)


def test_the_mean_over_labels_is_what_draws_have_in_the_mean() -> None:
    """Every image many times, so that its labels are drawn as often."""
    net, shown = network(), subject(3)
    often = replace(shown, images=shown.images.repeat(300, 1, 1, 1), labels=shown.labels.repeat(300))
    rows = part(run_probe(net, often, "temporal", hyper={"labels": "sampled"}).records, "steps")
    exact = information(net, shown, labels="expected")
    for row, mean in zip(rows, exact, strict=True):
        assert abs(row["information"] - mean) < 4 * row["information_se"] < 0.4 * mean


def test_the_released_procedure_has_no_mean_over_labels() -> None:
    with pytest.raises(ConfigError, match=r"no mean over labels .* take labels = 'sampled'"):
        information(network(), subject(), labels="expected", released=True)


@pytest.mark.parametrize("labels", ["true", "sampled", "expected"])
def test_the_batch_size_changes_nothing(labels: str) -> None:
    net, shown = network(), subject(23)
    told = [information(net, shown, batch=size) for size in (23, 7, 1)]
    assert told[0] == pytest.approx(told[1], rel=1e-4) and told[0] == pytest.approx(told[2], rel=1e-4)
    if labels == "true":
        released = [information(net, shown, batch=size, released=True) for size in (4, 8)]
        assert released[0] != pytest.approx(released[1], rel=0.1), "squares of batch means do depend on it"


def test_it_is_the_mean_over_single_images_in_their_own_runs() -> None:
    net, shown = network(), subject(6)
    alone = [
        information(net, replace(shown, images=shown.images[n : n + 1], labels=shown.labels[n : n + 1]))
        for n in range(6)
    ]
    expected = torch.tensor(alone, dtype=torch.float64).mean(0).tolist()
    assert information(net, shown) == pytest.approx(expected, rel=1e-4)


def test_gradients_of_the_score_are_autograd_s() -> None:
    outputs = torch.randn(4, 3, CLASSES, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    labels = torch.tensor([[0, 1, 2], [3, 1, 0], [0, 0, 2], [1, 2, 3]])
    for t, gradient in score_gradients(outputs, labels, 1.5):
        leaf = outputs.clone().requires_grad_()
        F.cross_entropy(1.5 * leaf[:t].mean(0), labels[t - 1], reduction="sum").backward()
        assert leaf.grad is not None and torch.allclose(gradient, leaf.grad)


def test_layers_add_up_and_the_affine_part_can_be_left_out() -> None:
    net, shown = network(), subject()
    found = run_probe(net, shown, "temporal").records
    steps = part(found, "steps")
    for row in steps:
        mine = [r["information"] for r in part(found, "layers") if r["steps"] == row["steps"]]
        assert sum(mine) == pytest.approx(row["information"])
    assert {row["layer"] for row in part(found, "layers")} == {"conv1", "fc1", "fc2"}
    assert sum(row["information_share"] for row in steps) == pytest.approx(1.0)
    without = information(net, shown, affine=False)
    assert all(0 < less < row["information"] for less, row in zip(without, steps, strict=True))
    assert layer_of("conv1.norm.weight") == "conv1" and layer_of("module.fc.bias") == "module.fc"


def test_the_released_procedure_by_hand() -> None:
    net, shown = network(), subject(8)
    parameters = [p for p in net.parameters() if p.requires_grad]
    expected = []
    for t in range(1, 5):
        total = 0.0
        for row in (0, 4):
            x, y = shown.preprocess(shown.images[row : row + 4]), shown.labels[row : row + 4]
            grads = torch.autograd.grad(F.cross_entropy(net(x)[:t].mean(0), y), parameters)
            total += sum(float(grad.square().sum()) for grad in grads)
        expected.append(total / (2 - 1))
    assert information(net, shown, batch=4, released=True) == pytest.approx(expected, rel=1e-5)
    [single] = part(run_probe(net, shown, "temporal", hyper={"released": True, "batch": 8}).records, "network")
    assert single["centroid_se"] is None


def test_centroids_of_one_hot_information_and_their_error() -> None:
    for step in range(5):
        profile = torch.zeros(7, 5, dtype=torch.float64)
        profile[:, step] = torch.arange(1, 8)
        assert centroid_of(profile) == (pytest.approx(step + 1), pytest.approx(0.0, abs=1e-12))
    draws = torch.rand(4000, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    centre, error = centroid_of(draws[:400])
    again = torch.tensor([centroid_of(chunk)[0] for chunk in draws.split(400)])
    assert 0.5 < error / float(again.std()) < 2 and abs(centre - 3) < 4 * error
    assert all(value != value for value in centroid_of(torch.zeros(3, 5, dtype=torch.float64)))


def test_the_kl_profile_and_its_direction() -> None:
    outputs = torch.randn(4, 6, CLASSES, generator=torch.Generator().manual_seed(4))
    means = prefix_means(outputs)
    logs = means.log_softmax(2)
    expected = [float(F.kl_div(logs[-1], logs[t], reduction="batchmean", log_target=True)) for t in range(4)]
    assert prefix_divergences(means).tolist() == pytest.approx(expected, abs=1e-6)
    assert prefix_divergences(means, reverse=True).tolist() != pytest.approx(expected, abs=1e-3)
    assert prefix_divergences(means)[-1] == 0


def test_choices_of_steps() -> None:
    ratio = [3.0, 1.0, 0.55, 0.2, 0.0]
    assert [early_by_kl(ratio, level) for level in (0.1, 0.3, 0.6, 2.0)] == [5, 4, 3, 2]
    assert early_by_kl([0.0]) == 1 and early_by_kl([float("nan")] * 3) == 2
    assert [early_by_information([1.0, 2.0, 1.0], level) for level in (0.2, 0.5, 0.75, 1.0)] == [1, 2, 2, 3]
    assert early_by_information([0.0, 0.0]) is None


def test_training_images_and_where_there_are_none() -> None:
    net, shown = network(), subject(10)
    mine, other = subject(30).first(4), replace(subject(30), images=255 - subject(30).images)
    with_training = replace(shown, trained=(mine, other))
    found = run_probe(net, with_training, "temporal", hyper={"split": "train", "images": 6})
    assert found.records[0]["images"] == 6
    both = torch.cat([mine.images[:3], other.images[:3]]), torch.cat([mine.labels[:3], other.labels[:3]])
    same = replace(shown, images=both[0], labels=both[1])
    assert found.records[0]["centroid"] == run_probe(net, same, "temporal").records[0]["centroid"]
    with pytest.raises(ConfigError, match="does not know what this network was trained on"):
        run_probe(net, shown, "temporal", hyper={"split": "train"})
    for p in net.parameters():
        p.requires_grad_(False)
    with pytest.raises(ConfigError, match="needs a network with trainable parameters"):
        run_probe(net, shown, "temporal")


def test_a_killed_probe_goes_on(tmp_path: Any) -> None:
    net, shown = network(), subject(20)
    hyper = {"batch": 5, "labels": "sampled"}
    whole = run_probe(net, shown, "temporal", hyper=hyper)
    seen: list[int] = []

    def stop(done: int, total: int, what: str) -> None:
        seen.append(done)
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_probe(net, shown, "temporal", hyper=hyper, progress=stop, partial=tmp_path / "partial")
    again = run_probe(
        net, shown, "temporal", hyper=hyper, progress=lambda n, *_: seen.append(n), partial=tmp_path / "partial"
    )
    assert again.records == whole.records and seen == [5, 10, 15, 20]
