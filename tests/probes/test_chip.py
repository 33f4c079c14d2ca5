"""The probe `chip`: its rows, its baseline, resuming, and what a newcomer would write wrong."""

from __future__ import annotations

import pytest

from probes.subjects import network, subject
from spikefed.errors import ConfigError
from spikefed.probes import Chip, Subject, run_probe
from spikefed.probes.chip import settings


def measured(**hyper):
    given = {"chips": 2, "repairs": ["none", "adapt"], "profile": "ideal"} | hyper
    return run_probe(network(), subject(), Chip(), hyper=given, seed=1)


def rows(found, part: str):
    return [row for row in found.records if row["part"] == part]


def test_on_ideal_chips_nothing_is_lost() -> None:
    found = measured()
    digital, none, _ = rows(found, "accuracy")
    assert none["accuracy"] == digital["accuracy"] and none["pc2_most"] < 1e-9
    assert found.headline["accuracy"] == found.headline["digital_accuracy"]


def test_every_setting_chip_and_repair_has_its_row() -> None:
    found = measured(ages_s=[1.0, 1e6], reads=[0.1], tiles=[32], profile="pcm", repairs=["none", "gain", "soft"])
    assert len(rows(found, "chips")) == (1 + 2 + 1 + 1) * 2 * 3
    kinds = [(row["setting"], row["value"]) for row in rows(found, "accuracy")[1:]]
    assert kinds[::3] == [("pcm", None), ("age_s", 1.0), ("age_s", 1e6), ("noise.read", 0.1), ("tile", 32)]
    assert {row["layer"] for row in rows(found, "layers")} == {"conv1", "fc1", "fc2"}
    assert rows(found, "energy")[0]["energy_pj"] > 0


def test_noise_raises_pc2() -> None:
    found = measured(reads=[0.05, 0.1, 0.2, 0.4])
    values = [row["pc2"] for row in rows(found, "accuracy") if row.get("setting") == "noise.read"]
    assert values[::2] == sorted(values[::2]) and values[0] == pytest.approx(0.05**2 / 4, rel=0.3)


def test_repairs_look_at_training_images_where_they_are_known() -> None:
    plain = subject(12)
    trained = [subject(8), subject(4)]
    known = Subject(plain.images, plain.labels, plain.preprocess, plain.classes, trained)
    found = run_probe(network(), known, Chip(), hyper={"profile": "ideal", "repairs": ["none"], "chips": 1}, seed=1)
    alone = run_probe(network(), plain, Chip(), hyper={"profile": "ideal", "repairs": ["none"], "chips": 1}, seed=1)
    assert rows(found, "accuracy")[1]["accuracy"] * 12 == pytest.approx(
        round(rows(found, "accuracy")[1]["accuracy"] * 12)
    )
    assert rows(alone, "accuracy")[1]["accuracy"] * 6 == pytest.approx(
        round(rows(alone, "accuracy")[1]["accuracy"] * 6)
    )


def test_a_probe_that_was_cut_short_goes_on(tmp_path) -> None:
    given = {"profile": "pcm", "chips": 2, "reads": [0.1], "changes": {"noise.read_when": "each"}}
    path = tmp_path / "partial"
    whole = run_probe(network(), subject(), Chip(), hyper=given, seed=1)

    def stop(done, total, what):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_probe(network(), subject(), Chip(), hyper=given, seed=1, partial=path, progress=stop)
    assert run_probe(network(), subject(), Chip(), hyper=given, seed=1, partial=path).records == whole.records


def test_a_profile_that_was_edited_between_begins_anew(tmp_path) -> None:
    mine = tmp_path / "mine.toml"
    given = {"profile": str(mine), "chips": 2, "repairs": ["none"]}
    mine.write_text("[noise]\nread = 0.8\n")

    def stop(done, total, what):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_probe(network(), subject(), Chip(), hyper=given, seed=1, partial=tmp_path / "partial", progress=stop)
    mine.write_text("[noise]\nread = 0.0\n")
    found = run_probe(network(), subject(), Chip(), hyper=given, seed=1, partial=tmp_path / "partial")
    assert found.records == run_probe(network(), subject(), Chip(), hyper=given, seed=1).records


@pytest.mark.parametrize(
    ("hyper", "said"),
    [
        ({"profile": "rrram"}, "chip profile 'rrram' is not known; the nearest is 'rram'"),
        ({"repairs": ["bn"]}, "'repairs' of probe 'chip': 'bn' is not known"),
        ({"changes": {"noise.reed": 1}}, "has no key 'noise.reed'; the nearest is 'noise.read'"),
        ({"adc_bits": [0]}, "'converters.adc_bits' = 0"),
        ({"ohms": [-1.0], "profile": "rram"}, "'wires.row_ohm' = -1.0: a resistance is 0 or more ohm"),
        ({"ohms": [5.0], "profile": "fefet"}, "wires have ohms, so cells need siemens"),
        ({"ages_s": [-1.0]}, "a chip cannot be -1 seconds old"),
        ({"chips": 0}, "'chips' = 0"),
    ],
)
def test_what_cannot_be_is_said_before_a_run(hyper, said) -> None:
    with pytest.raises(ConfigError, match=said):
        measured(**hyper)


def test_a_network_without_norms_is_measured_but_not_repaired() -> None:
    bare = network(norm="none")
    found = run_probe(bare, subject(), Chip(), hyper={"repairs": ["none", "gain"], "chips": 1, "profile": "pcm"})
    assert len(rows(found, "accuracy")) == 3
    with pytest.raises(ConfigError, match="no batch normalisation to repair"):
        run_probe(bare, subject(), Chip(), hyper={"chips": 1})


def test_the_middle_comes_first() -> None:
    chosen = Chip.hyperparameters(profile="pcm", age_s=60.0, cell_bits=[2])
    assert [(name, age) for name, _, _, age in settings(chosen)] == [("pcm", 60.0), ("cell.bits", 60.0)]
