"""Colours and markers: no two methods of a page alike, no two configurations of a method alike."""

from __future__ import annotations

import json
import re
from pathlib import Path

from report.synthetic import make_run
from spikefed.report import load_run, palette
from spikefed.report.groups import group_runs
from spikefed.report.sections import css_of, swatches


def test_methods_of_the_package_have_a_colour_each() -> None:
    from spikefed.federated import METHODS

    colours = palette.colours_of(METHODS)
    assert len(set(colours.values())) == len(METHODS)
    assert {name: palette.colour_of(name) for name in METHODS} == colours  # the same in every report


def test_twenty_methods_of_one_page_differ_known_or_not() -> None:
    names = ["fsd", "fedavg", "cfd", "local", "central", *(f"mine.{i}:Method" for i in range(15))]
    colours = palette.colours_of(names)
    for theme in (0, 1):
        assert len({pair[theme] for pair in colours.values()}) == 20
    assert len(palette.colours_of([*palette.METHODS, *(f"m{i}" for i in range(40))])) == len(palette.METHODS) + 40


def test_configurations_of_one_method_have_a_marker_each() -> None:
    for method in ("fsd", "fedavg", "mine:Method"):
        assert len({palette.symbol_of(method, variant) for variant in range(20)}) == 20
    assert palette.symbol_of("fedavg") == "square" and palette.symbol_of("fedavg", 1) == "square-open"


def test_the_plain_configuration_has_the_method_s_own_marker(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, method="fedavg", rounds=1, extra={"k": name}) for name in ("ternary", "plain")]
    result = json.loads((runs[0] / "result.json").read_text())
    (runs[0] / "result.json").write_text(json.dumps(result | {"label": "fedavg+ternary"}))
    groups = group_runs([load_run(run) for run in runs])
    assert [(g.label, g.symbol) for g in groups] == [("fedavg+ternary", "square-open"), ("FedAvg", "square")]


def test_dots_in_tables_have_the_shape_of_the_figures(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / str(k), method="fedavg", rounds=1, extra={"steps2": k}) for k in range(3)]
    groups = group_runs([load_run(run) for run in [*runs, make_run(tmp_path / "adam", method="fedadam", rounds=1)]])
    rules = swatches(groups)
    assert len({css_of(group) for group in groups}) == 4
    assert all(f".s-{group.symbol}::before{{clip-path:polygon(" in rules for group in groups)
    for symbol in palette.ALL_SYMBOLS[1:]:
        for outline in (palette.outline_of(symbol), palette.outline_of(f"{symbol}-open")):
            places = [int(n) for n in re.findall(r"(-?\d+)%", outline)]
            assert len(places) >= 8 and min(places) >= 0 and max(places) <= 100
        assert palette.outline_of(symbol) != palette.outline_of(f"{symbol}-open")
    assert palette.outline_of("circle") == "none"
