"""Grouping by config, seed bands, and the byte table: hand-made curves with known answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from report.synthetic import make_run
from spikefed.report import load_run
from spikefed.report.curves import band_of
from spikefed.report.equal import best_within, default_budgets, equal_rows
from spikefed.report.groups import group_runs
from spikefed.report.targets import default_targets, target_rows


def hand_made(folder: Path, method: str, seed: int, accuracies: list[float], step: int) -> Path:
    folder.mkdir()
    (folder / "config.toml").write_text(f'seed = {seed}\n[method]\nname = "{method}"\n[data]\ndataset = "digits"\n')
    lines = [
        {"round": r, "server_accuracy": a, "upstream_bytes": step, "text_upstream_bytes": 5 * step}
        for r, a in enumerate(accuracies, start=1)
    ]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


@pytest.fixture
def groups(tmp_path: Path):
    runs = [
        hand_made(tmp_path / "a", "fsd", 0, [0.5, 0.7, 0.8, 0.85], 10),
        hand_made(tmp_path / "b", "fsd", 1, [0.4, 0.6, 0.7, 0.81], 10),
        hand_made(tmp_path / "c", "fedavg", 0, [0.6, 0.8, 0.9], 1000),
        hand_made(tmp_path / "d", "fedavg", 1, [0.7, 0.8, 0.9], 1000),
    ]
    return group_runs([load_run(r) for r in runs])


def test_seeds_of_one_config_share_a_group(groups) -> None:
    assert [(g.label, g.seeds) for g in groups] == [("FSD", [0, 1]), ("FedAvg", [0, 1])]


def test_bytes_rounds_and_ratio_at_a_target(groups) -> None:
    fsd, fedavg = target_rows(groups, [0.8])
    assert fsd.rounds == 3.5 and fsd.rounds_spread == pytest.approx(0.5**0.5)
    assert fsd.bytes["upstream"] == 35  # rounds 3 and 4 at 10 bytes a round
    assert fedavg.bytes["upstream"] == 2000
    assert fsd.ratio["upstream"] == pytest.approx(2000 / 35)
    assert fsd.ratio["text"] == pytest.approx(10_000 / 175)
    assert fsd.bytes["paper"] is None
    assert fedavg.ratio["upstream"] == 1


def test_no_ratio_unless_every_seed_arrives(groups) -> None:
    fsd, fedavg = target_rows(groups, [0.85])
    assert (fsd.reached, fsd.seeds, fsd.complete) == (1, 2, False)
    assert fsd.bytes["upstream"] == 40 and fsd.ratio["upstream"] is None
    assert fedavg.complete


def test_not_reached_says_the_best_instead(groups) -> None:
    fsd = target_rows(groups, [0.9])[0]
    assert (fsd.reached, fsd.rounds, fsd.bytes["upstream"], fsd.best) == (0, None, None, 0.85)


def test_default_targets_are_reachable_whole_percents(groups) -> None:
    targets = default_targets(groups)
    assert targets == [0.72, 0.81, 0.9]  # 0.9 x 0.81 and 0.81 (every seed arrives), 0.9 (the best only)
    assert all(r.complete for r in target_rows(groups, targets[:2]))


def test_band_covers_the_rounds_all_seeds_have(groups) -> None:
    longer, shorter = groups[0].curves[0], groups[1].curves[0]
    band = band_of([longer, shorter])
    assert band.rounds == [1, 2, 3]
    assert band.mean == pytest.approx([0.55, 0.75, 0.85])
    assert band.low == [0.5, 0.7, 0.8] and band.high == [0.6, 0.8, 0.9]
    assert band.totals["upstream"] == [505, 1010, 1515]
    assert band.totals["paper"] is None


def test_labels_name_what_differs(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "a", rounds=1, extra={"norm": "bntt"}),
        make_run(tmp_path / "b", rounds=1, extra={"norm": "tdbn"}),
        make_run(tmp_path / "c", rounds=1, preset="faithful"),
        make_run(tmp_path / "d", rounds=1, dataset="mnist"),
    ]
    groups = group_runs([load_run(r) for r in runs])
    assert [g.label for g in groups] == ["FSD (norm=bntt)", "FSD (norm=tdbn)", "FSD faithful", "FSD"]
    assert [g.setting.dataset for g in groups] == ["digits"] * 3 + ["mnist"]


def test_the_plain_configuration_has_the_solid_line_in_any_order(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "a", rounds=1, preset="faithful"), make_run(tmp_path / "b", rounds=1)]
    assert [(g.label, g.variant) for g in group_runs([load_run(r) for r in runs])] == [("FSD faithful", 1), ("FSD", 0)]


def test_rounds_and_names_do_not_part_seeds(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "a", rounds=2, seed=0), make_run(tmp_path / "b", rounds=3, seed=1)]
    assert len(group_runs([load_run(r) for r in runs])) == 1


def test_accuracy_at_equal_bytes(groups) -> None:
    budgets = [9, 10, 25, 999, 1000, 2500]
    fsd, fedavg = equal_rows(groups, budgets)
    assert fsd.accuracy == [None, *map(pytest.approx, [0.45, 0.65, 0.83, 0.83, 0.83])]
    assert fsd.deviation[1] == pytest.approx(0.1 / 2**0.5)
    assert fsd.spent == [False, False, False, True, True, True]  # 40 bytes were all it ever sent
    assert fedavg.accuracy == [None, None, None, None, pytest.approx(0.65), pytest.approx(0.8)]
    assert fedavg.spent == [False] * 6


def test_bytes_to_a_target_and_accuracy_at_those_bytes_agree(groups) -> None:
    for group in groups:
        for curve in group.curves:
            for target in (0.5, 0.6, 0.7, 0.8):
                place = curve.first_at(target)
                totals = curve.totals["upstream"]
                assert place is not None and totals is not None
                reached, before = best_within(curve, totals[place]), best_within(curve, totals[place] - 1)
                assert reached is not None and reached >= target and (before is None or before < target)


def test_budgets_are_round_and_within_what_was_sent(groups) -> None:
    assert default_budgets(groups) == [10, 100, 1000]
    assert default_budgets(groups[:1]) == [10, 20, 40]
    assert default_budgets([]) == []


def test_the_label_of_a_variant_names_its_group(tmp_path: Path) -> None:
    names = []
    for place, (method, label) in enumerate([("fsd", "fsd+"), ("fsd", ""), ("fedavg", "fedavg"), ("fedavg", "stc")]):
        folder = hand_made(tmp_path / str(place), method, 0, [0.5], 10)
        config = folder / "config.toml"
        config.write_text((f'label = "{label}"\n' if label else "") + config.read_text())
        names.append(folder)
    groups = group_runs([load_run(folder) for folder in names])
    assert sorted(g.label for g in groups) == ["FSD", "FedAvg", "fsd+", "stc"]
    assert len({(g.method, g.variant) for g in groups}) == 4
