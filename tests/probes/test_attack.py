"""The attack probe: the worst case is no better than any member, draws that judge, signs of masking, bad input."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from probes.subjects import CLASSES, network, subject
from spikefed.errors import ConfigError
from spikefed.files import write_atomic
from spikefed.networks import ann_twin, copy_tensors, write_tensors
from spikefed.probes import Subject, run_probe
from spikefed.probes.attack import AttackHyperparameters
from spikefed.probes.attack.masking import Seen, signs
from spikefed.probes.attack.probe import range_of
from spikefed.probes.attack.tally import Tally, worst
from spikefed.training import Preprocess

QUICK: dict[str, Any] = {
    "steps": 3,
    "apgd_steps": 5,
    "queries": 6,
    "surrogates": ("own", "wide"),
    "eps": (8.0, 32.0),
    "draws": 2,
    "judged": 2,
    "attacks": ("noise", "fgsm", "pgd-stop", "pgd", "pgd-eot", "apgd", "square"),
}


def measured(net: Any = None, images: int = 12, shown: Subject | None = None, **changes: Any) -> Any:
    return run_probe(net or network(), shown or subject(images), "attack", hyper=QUICK | changes, seed=3)


def rows(found: Any, part: str) -> list[dict[str, Any]]:
    return [row for row in found.records if row["part"] == part]


@pytest.mark.parametrize(
    ("coding", "changes"),
    [
        ("direct", {}),
        ("bernoulli", {}),
        ("latency", {}),
        ("bernoulli", {"distance": "l2", "eps": (40.0, 160.0)}),
        ("direct", {"distance": "l2", "eps": (40.0, 160.0), "target": 2}),
        ("bernoulli", {"target": 2}),
    ],
)
def test_the_worst_case_is_no_better_than_any_attack_or_the_clean_image(coding, changes):
    found = measured(network(coding=coding), **changes)
    for case in rows(found, "worst case"):
        same = [row for row in rows(found, "attacks") if row["eps"] in (0.0, case["eps"])]
        assert len(same) > 5 and case["accuracy"] <= min(row["accuracy"] for row in same)


def test_the_worst_case_holds_image_by_image_and_more_attacks_never_help():
    draws = torch.Generator().manual_seed(0)
    tallies = [Tally(3, 20) for _ in range(4)]
    for tally in tallies:
        tally.right = torch.rand(3, 20, generator=draws) < 0.7
        tally.again = tally.right
    for count in range(2, 5):
        every, _ = worst(tallies[:count])
        fewer, _ = worst(tallies[: count - 1])
        assert (every <= fewer).all() and all((every <= tally.right).all() for tally in tallies[:count])


def test_the_choice_of_the_strongest_attack_is_judged_on_other_draws():
    """20 attacks that do nothing: on the draws that chose, chance alone looks like an attack."""
    draws = torch.Generator().manual_seed(0)
    tallies = [Tally(4, 2000) for _ in range(20)]
    for tally in tallies:
        tally.right, tally.again = (torch.rand(4, 2000, generator=draws) < 0.9 for _ in range(2))
    every, again = worst(tallies)
    assert float(every.double().mean()) < 0.2 and float(again.double().mean()) == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize("coding", ["direct", "bernoulli"])
def test_nothing_depends_on_the_size_of_a_batch(coding):
    net = network(coding=coding)
    assert measured(net, batch=12).records == measured(net, batch=5).records


def test_eps_0_leaves_every_image_as_it_was():
    found = measured(network(coding="bernoulli"), eps=(0.0,), masking=False)
    first, *others = rows(found, "attacks")
    assert {row["accuracy"] for row in others} == {first["accuracy"]}
    assert {row["changed_share"] for row in others} == {0.0}
    assert rows(found, "worst case")[0]["accuracy"] == first["accuracy"]


def test_attacks_that_are_the_same_on_a_network_run_once():
    names = {(row["attack"], row["surrogate"]) for row in rows(measured(), "attacks")[1:]}
    assert ("pgd-eot", "own") not in names and ("pgd-stop", "own") not in names and ("apgd", "wide") in names
    drawn = {row["attack"] for row in rows(measured(network(coding="bernoulli")), "attacks")}
    assert {"pgd-eot", "pgd-stop"} <= drawn


def test_an_attack_that_changed_no_pixel_says_so():
    found = measured(network(coding="poisson"), attacks=("pgd-stop",), start=False, masking=True)
    assert "pgd-stop changed no pixel" in {row["check"] for row in rows(found, "masking") if row["flagged"]}
    assert {row["changed_share"] for row in rows(found, "attacks")[1:]} == {0.0}


def test_one_gradient_alone_says_nothing_of_steps():
    looked = [{row["check"] for row in rows(measured(attacks=("pgd",), steps=steps), "masking")} for steps in (1, 2)]
    assert looked[1] - looked[0] == {"loss does not rise with steps"}


@pytest.mark.parametrize(("eps", "seen"), [(1e-4, True), (64.0, False)])
def test_a_loss_that_only_the_draws_move_has_not_risen(eps, seen):
    hyper = QUICK | {"attacks": "pgd", "eps": eps}
    for seed in range(4):
        found = run_probe(network(coding="bernoulli"), subject(40), "attack", hyper=hyper, seed=seed)
        looked = {row["check"]: row["flagged"] for row in rows(found, "masking")}
        assert looked["loss does not rise with steps"] is seen


def test_signs_of_masking_are_seen_and_not_invented():
    honest = Seen({"pgd": 0.2, "pgd-eot": 0.2, "square": 0.4}, 1.0, 3.0, 0.0, 0.1, (), 500)
    assert [row["flagged"] for row in signs(honest)] == [False] * 4
    masked = Seen({"pgd-stop": 0.9, "pgd": 0.7, "pgd-eot": 0.5, "square": 0.3}, 1.0, 1.0, 0.6, 0.1, ("fgsm",), 500)
    assert [row["flagged"] for row in signs(masked)] == [True] * 6


def test_it_goes_on_where_it_was_killed(tmp_path):
    net, shown, place = network(coding="bernoulli"), subject(12), tmp_path / "partial"
    hyper = QUICK | {"batch": 5}
    seen: list[int] = []

    def killed(done: int, total: int, what: str) -> None:
        seen.append(done)
        if done > total * 2 // 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_probe(net, shown, "attack", hyper=hyper, seed=3, partial=place, progress=killed)
    assert place.is_file()
    again: list[int] = []
    found = run_probe(
        net, shown, "attack", hyper=hyper, seed=3, partial=place, progress=lambda done, *_: again.append(done)
    )
    assert found.records == measured(net, batch=5).records and again[0] > 1 and len(again) < again[-1]


def test_a_target_is_reached_more_often_than_without_attack():
    found = measured(target=1, eps=(60.0,), steps=20)
    shares = {row["attack"]: row["target_share"] for row in rows(found, "attacks")[1:]}
    assert shares["pgd"] >= shares["noise"] and shares["pgd"] > 0


def test_spike_flips_have_rows_of_their_own():
    found = measured(network(coding="bernoulli"), flips=(0, 8))
    none, some = rows(found, "spike flips")
    assert none["accuracy"] == rows(found, "attacks")[0]["accuracy"] >= some["accuracy"]
    assert none["spikes_flipped"] == 0 < some["spikes_flipped"] <= 8


def test_spike_flips_are_left_out_where_no_spike_is_drawn():
    assert not rows(measured(flips=(8,)), "spike flips")


def test_transfer_from_the_ann_twin(tmp_path):
    twin = ann_twin("4C3-AP2-12FC", input_shape=(1, 8, 8), classes=CLASSES)
    facts = {"pixels": {"mode": "unit"}}
    write_atomic(tmp_path / "model.safetensors", write_tensors(copy_tensors(twin), None, facts))
    found = measured(attacks=("transfer",), twin=str(tmp_path), masking=False)
    assert [row["attack"] for row in rows(found, "attacks")] == ["none", "transfer", "transfer"]
    assert all(row["changed_share"] == 1 for row in rows(found, "attacks")[1:])


def test_a_twin_of_another_network_is_refused(tmp_path):
    other = ann_twin("8C3-AP2-12FC", input_shape=(1, 8, 8), classes=CLASSES)
    write_atomic(tmp_path / "model.safetensors", write_tensors(copy_tensors(other)))
    with pytest.raises(ConfigError, match="no twin"):
        measured(attacks=("transfer",), twin=str(tmp_path))


def test_pixels_that_are_no_bytes_have_the_range_that_is_shown():
    real = replace(subject(12), images=subject(12).images.float() / 10, preprocess=Preprocess("raw"))
    low, high = range_of(real)
    assert 0 <= low < high <= 25.5
    assert measured(shown=real, eps=(0.5,)).records


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"eps": (300.0,)}, "eps = 300 is beyond"),
        ({"target": 4}, "target = 4 is no class"),
        ({"attacks": ("transfer",)}, "needs the ANN twin"),
        ({"attacks": ("pgd",), "twin": "nowhere"}, r"add it, as attacks = \['pgd', 'transfer'\]"),
        ({"attacks": ("transfer",), "twin": "nowhere"}, "no model of an ANN twin"),
        ({"surrogates": ("tent",)}, "unknown surrogate 'tent'.* or of own, narrow"),
        ({"attacks": ("pdg",)}, "attacks"),
    ],
)
def test_what_cannot_be_is_one_sentence(changes, words):
    with pytest.raises(ConfigError, match=words) as error:
        measured(**changes)
    assert "\n" not in str(error.value)


def test_one_alone_is_a_list_of_one_and_quotes_may_be_lost_in_a_shell():
    read = AttackHyperparameters.model_validate
    given = read({"eps": 8, "attacks": "pgd", "flips": 3, "surrogates": "own"})
    assert (given.eps, given.attacks, given.flips, given.surrogates) == ((8.0,), ("pgd",), (3,), ("own",))
    assert read({"attacks": "[pgd, fgsm]"}).attacks == ("pgd", "fgsm")
    with pytest.raises(ValidationError, match="noise"):
        read({"attacks": "[pdg]"})


@pytest.mark.parametrize(("label", "words"), [(-1, "do not fit"), (4, "do not fit")])
def test_labels_that_are_no_class_are_refused(label, words):
    shown = subject(12)
    with pytest.raises(ConfigError, match=words):
        measured(shown=replace(shown, labels=torch.full_like(shown.labels, label)))


def test_a_set_without_labels_is_refused():
    with pytest.raises(ConfigError, match="0 labels"):
        measured(shown=replace(subject(12), labels=torch.zeros(0, dtype=torch.int64)))
