"""Who is compared with whom: one task a section, networks side by side, and keys of later versions part nobody."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from report.synthetic import make_run
from spikefed.experiment import from_tree, toml
from spikefed.report import load_run
from spikefed.report.defaults import complete
from spikefed.report.groups import Group, group_runs, networks_of
from spikefed.report.settings import titles
from spikefed.report.targets import baseline_of, target_rows


def grouped(*folders: Path) -> list[Group]:
    return group_runs([load_run(folder) for folder in folders])


def titles_of(groups: list[Group]) -> list[str]:
    return list(titles(networks_of(groups)).values())


def record(path: Path, seed: int = 0, drop: str = "", **tables: Any) -> Path:
    """A result file with a resolved config, without the key ``drop`` (``table.key``), as an earlier version left it."""
    config = from_tree({"seed": seed, "method": {"name": "fsd"}, **tables}).resolved()
    config = {key: config[key] for key in ("rounds", "data", "network", "training", "method", "participation", "wire")}
    if drop:
        table, _, key = drop.partition(".")
        del config[table][key]
    curve = [{"round": r, "accuracy": 0.3 * r, "upstream_bytes": 100 * r} for r in (1, 2)]
    result = {"name": path.stem, "method": config["method"]["name"], "dataset": "digits", "seed": seed, "curve": curve}
    path.write_text(json.dumps(result | {"config": config}))
    return path


@pytest.mark.parametrize(
    ("key", "values", "said"),
    [
        ("private_per_client", (10_000, 2500), ["10,000 private a client", "2,500 private a client"]),
        ("public", (400, 2000), ["400 public", "2,000 public"]),
        ("public_dataset", ("mnist", "emnist-balanced"), ["public rows of mnist", "public rows of emnist-balanced"]),
        ("test_limit", (100, 2000), ["100 test images", "2,000 test images"]),
        ("validation", (0.1, 0.0), ["10\u00a0% for validation", "0\u00a0% for validation"]),
        ("evaluate_on", ("test", "validation"), ["measured on test data", "measured on validation data"]),
        ("key_of_tomorrow", ("a", "b"), ["key_of_tomorrow=a", "key_of_tomorrow=b"]),
    ],
)
def test_another_task_is_another_comparison_and_its_title_says_which(
    tmp_path: Path, key: str, values: tuple[Any, Any], said: list[str]
) -> None:
    runs = [make_run(tmp_path / str(i), rounds=1, data={key: value}) for i, value in enumerate(values)]
    groups = grouped(*runs)
    assert titles_of(groups) == [f"digits · iid · small · 4 clients · {text}" for text in said]
    assert [g.label for g in groups] == ["FSD", "FSD"]


def test_titles_say_only_what_tells_alike_settings_apart(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "a", rounds=1, data={"public": 400, "validation": 0.1}),
        make_run(tmp_path / "b", rounds=1, data={"public": 800, "validation": 0.1}),
        make_run(tmp_path / "c", rounds=1, data={"public": 8000, "validation": 0.2}, dataset="mnist"),
    ]
    assert titles_of(grouped(*runs)) == [
        "digits · iid · small · 4 clients · 400 public",
        "digits · iid · small · 4 clients · 800 public",
        "mnist · iid · small · 4 clients",
    ]


def test_numbers_of_validation_data_are_called_so_even_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", rounds=1, data={"evaluate_on": "validation"})
    assert titles_of(grouped(run)) == ["digits · iid · small · 4 clients · measured on validation data"]


@pytest.mark.parametrize(
    ("key", "values"), [("dir", ("/a", "/b")), ("shards_per_client", (2, 3)), ("alpha", (0.1, 0.5))]
)
def test_what_changes_no_task_parts_no_comparison(tmp_path: Path, key: str, values: tuple[Any, Any]) -> None:
    """Where files are; how skewed and how many shards, where data are dealt evenly."""
    runs = [make_run(tmp_path / str(i), rounds=1, data={key: value}) for i, value in enumerate(values)]
    assert len({g.setting for g in grouped(*runs)}) == 1


def test_networks_are_compared_and_named_in_the_label(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "a", rounds=1),
        make_run(tmp_path / "b", rounds=1, method="fedavg", network="vgg9"),
        make_run(tmp_path / "c", rounds=1, method="fedavg", extra={"twin": "ann"}),
    ]
    groups = grouped(*runs)
    assert [g.label for g in groups] == ["FSD on small", "FedAvg on vgg9", "FedAvg on small (ANN)"]
    assert titles_of(groups) == ["digits · iid · 3 networks · 4 clients"]
    assert titles_of(groups[:2]) == ["digits · iid · small and vgg9 · 4 clients"]
    assert titles_of([groups[0], groups[2]]) == ["digits · iid · small and its ANN · 4 clients"]
    assert [g.label for g in grouped(*runs[:1])] == ["FSD"]


def test_a_server_of_another_network_than_its_clients_is_said(tmp_path: Path) -> None:
    wide = make_run(tmp_path / "a", rounds=1, network="vgg9", extra={"clients": ["small"]})
    mixed = make_run(tmp_path / "b", rounds=1, extra={"clients": ["vgg5", "vgg9", "vgg11", "vgg5"]})
    same = make_run(tmp_path / "c", rounds=1, method="fedavg", extra={"clients": ["small"]})
    assert titles_of(grouped(wide)) == ["digits · iid · vgg9 for clients of small · 4 clients"]
    assert titles_of(grouped(mixed)) == ["digits · iid · small for clients of 3 networks · 4 clients"]
    assert titles_of(grouped(same)) == ["digits · iid · small · 4 clients"]
    assert [g.label for g in grouped(wide, same)] == ["FSD on vgg9 for clients of small", "FedAvg on small"]


def test_labels_of_a_sweep_stand_beside_networks(tmp_path: Path) -> None:
    """The three sides of the federated-SNN study are one table with one baseline."""
    folders = []
    for label, network, twin in (("snn", "vgg9", "snn"), ("ann", "vgg9", "ann"), ("lab-ann", "vgg9-lab-ann", "ann")):
        size = 2_000_000 if label == "lab-ann" else 800_000
        folder = make_run(
            tmp_path / label, rounds=3, method="fedavg", network=network, extra={"twin": twin}, upload=size
        )
        config = folder / "config.toml"
        config.write_text(f'label = "{label}"\n' + config.read_text())
        folders.append(folder)
    groups = grouped(*folders)
    assert [g.label for g in groups] == ["snn", "ann", "lab-ann"]
    assert {r.base.label for r in target_rows(groups, [0.3]) if r.base} == {"lab-ann"}


def test_a_method_is_measured_against_the_fedavg_of_its_own_network(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "a", rounds=9),
        make_run(tmp_path / "b", rounds=9, network="vgg9"),
        make_run(tmp_path / "c", rounds=9, method="fedavg"),
        make_run(tmp_path / "d", rounds=9, method="fedavg", network="vgg9", upload=8_250_000),
        make_run(tmp_path / "e", rounds=9, method="cfd", network="resnet18"),
    ]
    groups = grouped(*runs)
    small, large, fedavg_small, fedavg_large, alone = groups
    assert baseline_of(groups, small) is fedavg_small and baseline_of(groups, large) is fedavg_large
    assert baseline_of(groups, alone) is fedavg_large  # none on its network: the one that sends most
    assert baseline_of(groups, fedavg_small) is fedavg_large is baseline_of(groups)
    row = target_rows(groups, [0.8])[0]
    assert row.base is fedavg_small and row.ratio["upstream"] == pytest.approx(825_048 / 20_048, rel=0.7)


@pytest.mark.parametrize("drop", ["training.calibrate", "method.rehearse", "data.evaluate_on", "wire.counts"])
def test_a_key_of_a_later_version_parts_no_seeds(tmp_path: Path, drop: str) -> None:
    old = [record(tmp_path / f"{seed}.json", seed, drop) for seed in (0, 1)]
    groups = grouped(*old, record(tmp_path / "2.json", 2))
    assert [g.seeds for g in groups] == [[0, 1, 2]]


def test_a_result_file_and_the_run_folder_it_is_made_from_are_one_configuration(tmp_path: Path) -> None:
    """The file leaves out tables that change no result."""
    result = record(tmp_path / "0.json", 0)
    folder = make_run(tmp_path / "1", seed=1, rounds=1)
    tree = from_tree({"seed": 1, "method": {"name": "fsd"}}).resolved()
    (folder / "config.toml").write_text(toml.dump(tree))
    assert len(grouped(result, folder)) == 1


def test_another_value_of_a_later_key_is_another_configuration(tmp_path: Path) -> None:
    old = record(tmp_path / "0.json", 0, "wire.counts")
    new = record(tmp_path / "1.json", 1, wire={"counts": "fp16"})
    assert [g.label for g in grouped(old, new)] == ["FSD (counts=context)", "FSD (counts=fp16)"]


def test_a_config_that_no_longer_validates_is_shown_by_its_text(tmp_path: Path) -> None:
    new = record(tmp_path / "new.json", 0)
    old = record(tmp_path / "old.json", 1, "data.evaluate_on")
    told = json.loads(old.read_text())
    told["config"]["method"]["gone"] = 3
    told["config"]["network"]["norm"] = "no such norm"
    old.write_text(json.dumps(told))
    groups = grouped(new, old)
    assert len({g.setting for g in groups}) == 1  # the tables that are sound are completed all the same
    assert groups[1].traits["method.gone"] == "3" and groups[1].traits["network.norm"] == "no such norm"
    assert "gone=3" in groups[1].label


def test_a_preset_says_what_a_later_key_is(tmp_path: Path) -> None:
    full = from_tree({"preset": "authors"}).resolved()
    assert full["data"]["validation_overlap"] is True  # where the plain default is false
    old = json.loads(json.dumps(full))
    del old["data"]["validation_overlap"]
    assert complete([full, old])[1]["data"]["validation_overlap"] is True


def test_reading_a_report_imports_no_module_that_a_config_names(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "strangers.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    one: dict[str, Any] = {"data": {"clients": 2}, "method": {"name": "strangers:Method", "a": 1}}
    two: dict[str, Any] = {"data": {}, "method": {"name": "strangers:Method"}}
    filled = complete([one, two])
    assert filled[1]["method"] == two["method"] and filled[1]["data"]["clients"] == 4
    assert "strangers" not in sys.modules


def test_configs_of_one_version_are_taken_as_they_are() -> None:
    """Nothing is completed, and so the methods, with torch behind them, are not loaded."""
    one, two = {"data": {"x": 1}, "method": {"name": "fsd", "a": 1}}, {"data": {"x": 2}, "method": {"name": "cfd"}}
    assert complete([one, {}, two]) == [one, {}, two]


@pytest.mark.parametrize("odd", [{"data": 3}, {"method": "fsd"}, {"method": {"name": ["fsd"]}}, {"training": []}])
def test_odd_tables_do_no_harm(tmp_path: Path, odd: dict[str, Any]) -> None:
    paths = [record(tmp_path / "a.json"), record(tmp_path / "b.json", 1, "wire.counts")]
    told = json.loads(paths[1].read_text())
    told["config"] |= odd
    paths[1].write_text(json.dumps(told))
    assert sum(len(g.runs) for g in grouped(*paths)) == 2
