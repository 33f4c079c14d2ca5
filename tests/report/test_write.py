"""The page: one file, nothing from outside, the right numbers in it, whole or not there."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from report.synthetic import make_comparison, make_run
from spikefed.errors import ReportError
from spikefed.report import write_report
from spikefed.report.text import bytes_text, duration, percent, short_duration, times
from spikefed.report.write import fill


class Tables(HTMLParser):
    """Collects the cells of every table by its name."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.name = ""
        self.inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if "data-table" in dict(attrs):
            self.name = dict(attrs)["data-table"] or ""
            self.tables[self.name] = []
        if tag == "tr" and self.name:
            self.tables[self.name].append([])
        if tag in ("td", "th"):
            self.inside = True
            self.tables[self.name][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.tables[self.name][-1][-1] += data


def without_plotly(page: str) -> str:
    head, _, rest = page.partition('<script type="text/plain" id="plotly"')
    assert rest, "the plotting library is inlined"
    return head + rest.partition("</script>")[2]


def read_tables(page: str) -> dict[str, list[list[str]]]:
    parser = Tables()
    parser.feed(without_plotly(page))
    return parser.tables


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("runs")
    out = write_report(make_comparison(root), root / "deep" / "report.html", targets=[0.8, 0.99])
    assert list(out.parent.iterdir()) == [out]
    return out.read_text(encoding="utf-8")


def test_nothing_comes_from_outside(page: str) -> None:
    own = without_plotly(page)
    assert page.count("plotly.js v") == 1
    assert "default-src 'none'" in own
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", own)
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|sendBeacon", own)


def test_target_table_has_the_papers_columns_and_says_not_reached(page: str) -> None:
    head, *rows = read_tables(page)["targets-1"]
    assert head[:4] == ["Method", "Target", "Rounds", "Upstream, encoded"]
    assert len(rows) == 2 * 4
    fedavg = next(r for r in rows if r[0] == "FedAvg" and r[1].startswith("80"))
    assert fedavg[6] == "1.00\u00a0×"
    assert all(r[2] == "not reached" for r in rows if r[1].startswith("99"))


def test_every_run_is_in_the_run_table(page: str) -> None:
    head, *rows = read_tables(page)["runs-1"]
    assert len(rows) == 8 and {r[9] for r in rows} == {"finished"}


def test_codec_table_adds_up_the_ledger(page: str) -> None:
    rows = read_tables(page)["codecs-1"][1:]
    cfd_up = next(r for r in rows if r[0] == "CFD" and r[1] == "upstream")
    assert cfd_up[4] == "40" and cfd_up[5] == bytes_text(40 * 2600) and cfd_up[7] == bytes_text(40 * 2648)


def test_commands_and_config_are_there(page: str) -> None:
    assert "spikefed run experiments/fsd-faithful-digits.toml --set seed=0" in page
    assert "config_hash" in page and "distil_lr = 0.001" in page


def test_data_is_compact_json_with_every_run(page: str) -> None:
    text = re.search(r'id="data">(.*?)</script>', page, re.S)
    assert text
    data = json.loads(text[1])
    assert len(data["runs"]) == 8 and len(data["groups"]) == 4
    fsd = data["groups"][0]
    assert fsd["label"] == "FSD default" and len(fsd["mean"]) == 10
    assert all(low <= m <= high for low, m, high in zip(fsd["low"], fsd["mean"], fsd["high"], strict=True))
    raster = data["runs"][0]["raster"]
    assert raster["shape"] == [24, 10, 8] and len(raster["trains"]["down"]) == 24 * 10 * 8


def test_text_of_a_run_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", rounds=1)
    evil = "</script><script>alert(1)</script>"
    result = json.loads((folder / "result.json").read_text()) | {"name": evil, "dataset": evil}
    (folder / "result.json").write_text(json.dumps(result))
    page = write_report([folder], tmp_path / "r.html", title=evil).read_text()
    assert evil not in page and page.count("<script>alert") == 0


def test_a_run_without_a_round_makes_a_page(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", rounds=1, finished=False)
    (folder / "metrics.jsonl").write_text("")
    page = write_report([folder], tmp_path / "r.html").read_text()
    assert "No round has finished yet." in page and "1 still in progress" in page


def test_not_a_number_in_the_metrics_does_not_spoil_the_data(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", rounds=2)
    metrics = folder / "metrics.jsonl"
    metrics.write_text(re.sub(r'"server_accuracy": [0-9.]+', '"server_accuracy": NaN', metrics.read_text(), count=1))
    page = write_report([folder], tmp_path / "r.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])  # type: ignore[index]
    assert data["runs"][0]["acc"][0] is None


@pytest.mark.parametrize(("targets", "says"), [([0.0], "0"), ([82.0], "82")])
def test_a_target_that_is_no_accuracy_is_refused(tmp_path: Path, targets: list[float], says: str) -> None:
    with pytest.raises(ReportError, match=f"target {says} is no accuracy"):
        write_report([make_run(tmp_path / "a", rounds=1)], tmp_path / "r.html", targets=targets)


def test_no_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="at least one run"):
        write_report([], tmp_path / "r.html")


def test_an_unwritable_place_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError, match="cannot be written"):
        write_report([make_run(tmp_path / "a", rounds=1)], tmp_path / "file" / "r.html")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "file"]


def test_the_size_of_sixty_runs_of_fifty_rounds(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / f"{m}{s}", method=m, seed=s, rounds=50, extra={"k": m})
        for m in ("fsd", "cfd", "fedavg")
        for s in range(20)
    ]
    assert write_report(runs, tmp_path / "r.html").stat().st_size < 8_000_000


def test_number_formats() -> None:
    assert [bytes_text(b) for b in (0, 999, 80_000, 1_734_000, 16_620_288, 148_551_000)] == [
        *("0 B", "999 B", "80.0 kB", "1.73 MB", "16.6 MB", "149 MB"),
    ]
    assert (
        bytes_text(320.5) == "321 B" and bytes_text(1125) == "1.13 kB" and percent(0.3125) == "31.3\u00a0%"
    )  # as in JS
    assert bytes_text(1e60).endswith(" TB") and bytes_text(float("inf")) == "inf TB"
    assert bytes_text(999_600) == "1.00 MB" and bytes_text(None) == "–"
    assert [times(t) for t in (1.794, 31.0, 170.2)] == ["1.79\u00a0×", "31.0\u00a0×", "170\u00a0×"]
    assert [duration(s) for s in (3.14, 48, 200, 7500)] == ["3.1 s", "48 s", "3 min 20 s", "2 h 05 min"]
    measured = [short_duration(s) for s in (1.33e-5, 0.0123, 0.0, 3.14, None)]
    assert measured == ["13.3 µs", "12.3 ms", "0.0 s", "3.1 s", duration(None)]


def test_fill_does_not_read_values_again() -> None:
    assert fill("a {{X}} b {{Y}} {{Z}}", {"X": "{{Y}}", "Y": "1"}) == "a {{Y}} b 1 {{Z}}"


def test_energy_is_the_mean_over_seeds_and_says_where_it_is_missing(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / str(seed), seed=seed) for seed in range(3)]
    rows = read_tables(write_report(runs, tmp_path / "r.html").read_text(encoding="utf-8"))["energy-1"]
    assert rows[1][2:] == ["303\u00a0nJ", "1.2\u00a0µJ", "3.96\u00a0×", "1.2", "5.11"]
    for run in runs:
        (run / "energy.json").unlink()
    page = write_report(runs, tmp_path / "r.html").read_text(encoding="utf-8")
    assert "energy-1" not in read_tables(page) and "spikefed energy RUN" in page


def test_what_could_not_be_read_is_in_sight_and_said(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", rounds=3, finished=False)
    metrics = folder / "metrics.jsonl"
    metrics.write_text(metrics.read_text()[:-40])
    said: list[str] = []
    page = write_report([folder], tmp_path / "r.html", warn=said.append).read_text()
    assert said == [f"{folder}: the last line of metrics.jsonl is torn and was left out"]
    summary = page[page.index('id="summary"') : page.index('id="accuracy"')]
    assert "the last line of metrics.jsonl is torn" in summary


def test_a_run_from_a_notebook_says_how_to_repeat_it(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", rounds=1)
    facts = json.loads((folder / "provenance.json").read_text())
    (folder / "provenance.json").write_text(json.dumps(facts | {"command": "spikefed.run in a notebook"}))
    page = write_report([folder], tmp_path / "r.html").read_text()
    assert "Started by spikefed.run in a notebook" in page and "spikefed run config.toml" in page


def test_the_public_set_is_named_where_a_run_knows_it(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    assert "public set (" not in without_plotly(write_report([folder], tmp_path / "without.html").read_text())
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps(result | {"public_set_bytes": 1_568_000}))
    assert "public set (1.57 MB of raw pixels)" in without_plotly(
        write_report([folder], tmp_path / "with.html").read_text()
    )
