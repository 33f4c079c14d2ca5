"""The report in a real browser: drawn, sortable, downloadable, silent on the network, usable on a phone."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image

from browser.conftest import Watched, serious_faults, until
from report.synthetic import make_comparison, make_run
from spikefed.report import write_report
from spikefed.report.latex import latex, tables_of

FIGURES = ["acc-rounds", "acc-bytes", "bytes-target", "bytes-round", "pareto"]
FIGURES += ["client-acc", "client-weight", "firing", "class-spikes", "raster", "confusion", "energy-layers", "seconds"]
PHONE = {"viewport": {"width": 375, "height": 740}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    runs = make_comparison(root / "runs") + [make_run(root / "runs" / "other", dataset="mnist", rounds=3)]
    return write_report(runs, root / "report.html", targets=[0.8, 0.99])


def draw_all(page: Any) -> None:
    """Scroll through the page, so that figures drawn on sight are drawn."""
    for name in FIGURES:
        figure = page.locator(f'figure[data-figure="{name}"]')
        if figure.is_visible():
            figure.scroll_into_view_if_needed()
            figure.locator(".plot svg.main-svg").first.wait_for()


def column(page: Any, table: str, place: int) -> list[str]:
    cells = f'[data-table="{table}"] tbody tr:not([hidden]) > :nth-child({place})'
    return [text.strip() for text in page.locator(cells).all_inner_texts()]


def test_every_figure_is_drawn_without_error_or_request(watched: Watched, report: Path) -> None:
    page = watched.open(report.as_uri())
    draw_all(page)
    for name in FIGURES:
        marks = page.locator(f'figure[data-figure="{name}"] .plot :is(path, image, text)')
        assert marks.count() > 10, name
    assert page.locator('figure[data-figure="acc-rounds"] .scatterlayer .trace').count() >= 4
    assert watched.errors == []
    assert [r for r in watched.requests if not r.startswith(("data:", "blob:"))] == [report.as_uri()]


def test_tables_sort_both_ways_and_filter(watched: Watched, report: Path) -> None:
    page = watched.open(report.as_uri())
    head = page.locator('[data-table="runs-1"] thead th').nth(5)
    head.locator("button").click()
    rising = [float(v.split()[0]) for v in column(page, "runs-1", 6)]
    assert rising == sorted(rising) and head.get_attribute("aria-sort") == "ascending"
    head.locator("button").press("Enter")
    assert [float(v.split()[0]) for v in column(page, "runs-1", 6)] == rising[::-1]
    page.get_by_role("searchbox", name="All runs").fill("fedavg")
    assert column(page, "runs-1", 2) == ["FedAvg"] * 3


def test_lost_uploads_stand_beside_their_client(watched: Watched, report: Path) -> None:
    page = watched.open(report.as_uri())
    assert column(page, "clients-fsd-default-digits", 3) == ["0", "1", "0", "0"]


def test_bytes_sort_by_size_not_by_text(watched: Watched, report: Path) -> None:
    page = watched.open(report.as_uri())
    page.locator('[data-table="targets-1"] thead th').nth(3).locator("button").click()
    first, *_, last = column(page, "targets-1", 1)[:4]
    assert (first, last) == ("CFD", "FedAvg")


def test_csv_of_a_table_parses_with_plain_numbers(watched: Watched, report: Path) -> None:
    page = watched.open(report.as_uri())
    with page.expect_download() as download:
        page.locator('[data-table="targets-1"] button', has_text="CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))))
    assert len(rows) == 8 and download.value.suggested_filename == "targets-1.csv"
    cfd = next(r for r in rows if r["Method"] == "CFD" and r["Target"] == "0.8")
    assert float(cfd["Upstream, encoded"]) % (4 * 2648) == 0


@pytest.mark.parametrize("name", ["acc-bytes", "confusion"])
def test_figures_export_as_svg_png_and_csv(watched: Watched, report: Path, name: str) -> None:
    page = watched.open(report.as_uri())
    figure = page.locator(f'figure[data-figure="{name}"]')
    saved = {}
    for kind in ("SVG", "PNG", "CSV"):
        with page.expect_download() as download:
            figure.get_by_role("button", name=kind).click()
        assert download.value.suggested_filename.endswith(f".{kind.lower()}")
        saved[kind] = Path(download.value.path()).read_bytes()
    assert ElementTree.fromstring(saved["SVG"]).tag == "{http://www.w3.org/2000/svg}svg"
    assert Image.open(io.BytesIO(saved["PNG"])).size == (1800, 1120)
    rows = list(csv.reader(io.StringIO(saved["CSV"].decode())))
    assert len(rows) > 5 and len({len(r) for r in rows}) == 1
    assert watched.errors == []


def test_a_legend_chip_hides_its_method(watched: Watched, report: Path) -> None:
    page = watched.open(report.as_uri())
    traces = "document.querySelectorAll('figure[data-figure=acc-rounds] .scatterlayer .trace').length"
    page.locator('figure[data-figure="acc-rounds"] .scatterlayer .trace').first.wait_for()
    before = page.evaluate(traces)
    page.get_by_role("button", name="CFD", exact=True).click()
    until(page, f"{traces} < {before}")
    assert page.get_by_role("button", name="CFD", exact=True).get_attribute("aria-pressed") == "false"


def test_another_setting_changes_tables_and_figures(watched: Watched, report: Path) -> None:
    page = watched.open(report.as_uri())
    assert page.locator('[data-table="runs-2"]').is_hidden()
    page.locator("#setting").select_option("1")
    assert page.locator('[data-table="runs-1"]').is_hidden()
    assert len(column(page, "runs-2", 1)) == 1
    assert page.locator("#run option").count() == 1
    assert watched.errors == []


def test_another_byte_measure_is_taken_up_everywhere(watched: Watched, report: Path) -> None:
    page = watched.open(report.as_uri())
    page.locator('figure[data-figure="acc-bytes"] select').select_option("text")
    axis = page.locator('figure[data-figure="acc-bytes"] .xtitle')
    axis.wait_for()
    until(page, "document.querySelector('figure[data-figure=acc-bytes] .xtitle').textContent.includes('text')")
    assert page.locator('figure[data-figure="pareto"] select').input_value() == "text"


def test_the_theme_button_turns_the_page_and_the_figures(watched: Watched, report: Path) -> None:
    page = watched.open(report.as_uri())
    paper = "getComputedStyle(document.body).backgroundColor"
    plot = "document.querySelector('figure[data-figure=acc-rounds] .main-svg').style.background"
    page.locator('figure[data-figure="acc-rounds"] .main-svg').first.wait_for()
    before = page.evaluate(paper), page.evaluate(plot)
    page.locator("#theme").click()
    after = page.evaluate(paper), page.evaluate(plot)
    assert all(a != b for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("watched", [PHONE], indirect=True)
def test_a_phone_shows_all_without_sideways_scrolling(watched: Watched, report: Path) -> None:
    page = watched.open(report.as_uri())
    draw_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    small = page.evaluate(
        "[...document.querySelectorAll('button, select')].filter(e => e.offsetParent && !e.matches('.sort'))"
        ".filter(e => e.getBoundingClientRect().height < 32).map(e => e.outerHTML.slice(0, 80))"
    )
    assert small == []
    assert watched.errors == []


@pytest.mark.parametrize(
    "watched", [{"color_scheme": "light"}, {"color_scheme": "dark"}], indirect=True, ids=["light", "dark"]
)
def test_no_serious_accessibility_fault(watched: Watched, report: Path, axe_source: str) -> None:
    page = watched.open(report.as_uri())
    draw_all(page)
    for summary in page.locator("summary:visible").all():
        summary.click()
    assert serious_faults(page, axe_source) == []


def test_neighbouring_ticks_differ_however_flat_the_curve(watched: Watched, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "flat", rounds=2)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line, accuracy in zip(lines, (0.9083, 0.9139), strict=True):
        line["server_accuracy"] = accuracy
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = watched.open(write_report([folder], tmp_path / "flat.html").as_uri())
    ticks = page.locator('figure[data-figure="acc-rounds"] .ytick text')
    ticks.first.wait_for()
    labels = ticks.all_text_contents()
    assert len(labels) > 2 and len(set(labels)) == len(labels)
    assert page.locator('figure[data-figure="acc-bytes"] .xtick text').count() >= 2  # however short the range


def test_keyboard_reaches_the_skip_link_first(watched: Watched, report: Path) -> None:
    page = watched.open(report.as_uri())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_neighbouring_figures_and_cards_stand_at_one_height(watched: Watched, report: Path) -> None:
    page = watched.open(report.as_uri())
    draw_all(page)
    top = "e => Math.round(e.getBoundingClientRect().top + scrollY)"
    for left, right in (("acc-rounds", "acc-bytes"), ("bytes-round", "pareto"), ("client-acc", "client-weight")):
        plots = [page.locator(f'figure[data-figure="{name}"] .plot').evaluate(top) for name in (left, right)]
        assert plots[0] == plots[1], (left, right)
    numbers = page.locator(".for-setting:not([hidden]) .card strong").evaluate_all(f"all => all.map({top})")
    assert len(numbers) == 6 and len(set(numbers)) == 1


def test_targets_are_points_and_who_has_none_is_there_in_words(watched: Watched, tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "low", top=0.5), make_run(tmp_path / "local", method="local", top=0.97)]
    runs += [make_run(tmp_path / f"cfd-{s}", method="cfd", seed=s, upload=2_600 + s) for s in range(2)]
    page = watched.open(write_report(runs, tmp_path / "r.html", targets=[0.7]).as_uri())
    figure = page.locator('figure[data-figure="bytes-target"]')
    figure.scroll_into_view_if_needed()
    figure.locator(".textpoint text").first.wait_for()
    assert figure.locator(".bars path").count() == 0, "no bar without a zero"
    labels = [text.strip() for text in figure.locator(".textpoint text").all_text_contents()]
    assert "not reached" in labels and "0 B" in labels
    rows = page.locator('[data-table="targets-1"] tbody tr', has_text="CFD")
    assert rows.locator("td").nth(2).inner_text().split(" ±")[0] in labels
    assert figure.locator(".xtitle").text_content() == "Upstream, encoded: bytes of all clients, from round 1 on"
    assert figure.locator(".xerror").count() >= 1, "the seeds' range"


def test_axes_say_what_is_summed_and_over_how_many_seeds(watched: Watched, report: Path) -> None:
    page = watched.open(report.as_uri())
    draw_all(page)
    title = "document.querySelector('figure[data-figure=%s] .%stitle').textContent"
    assert page.evaluate(title % ("acc-rounds", "y")) == "Server accuracy, mean over seeds"
    assert page.evaluate(title % ("acc-bytes", "x")).endswith("bytes of all clients, from round 1 on")
    assert page.evaluate(title % ("bytes-round", "y")).endswith("bytes of all clients, each round")


def test_a_readers_own_points_stand_in_the_figures(watched: Watched, tmp_path: Path) -> None:
    runs = make_comparison(tmp_path / "runs")
    (tmp_path / "mine.csv").write_text("label,accuracy,round,upstream_bytes\nmine <b>,0.9,5,100000\nlate,0.5,7,\n")
    page = watched.open(write_report(runs, tmp_path / "r.html", points=tmp_path / "mine.csv").as_uri())
    draw_all(page)
    for name, found in (("acc-rounds", ["mine <b>", "late"]), ("acc-bytes", ["mine <b>"]), ("pareto", ["mine <b>"])):
        assert page.locator(f'figure[data-figure="{name}"] .textpoint text').all_text_contents() == found, name
    assert watched.errors == []


@pytest.mark.parametrize("name", ["acc-bytes", "bytes-target", "confusion"])
def test_a_figure_prints_alone_as_a_pdf_of_its_size(watched: Watched, report: Path, name: str) -> None:
    pypdf = pytest.importorskip("pypdf")
    page = watched.open(report.as_uri())
    page.evaluate("window.print = () => { window.printed = true; }")
    figure = page.locator(f'figure[data-figure="{name}"]')
    title = figure.locator("h3").inner_text()
    figure.get_by_role("button", name=f"Print {title} alone").click()
    until(page, "window.printed === true")
    reader = pypdf.PdfReader(io.BytesIO(page.pdf(prefer_css_page_size=True, print_background=True)))
    assert len(reader.pages) == 1 and reader.pages[0].mediabox.width == pytest.approx(675, abs=2)  # 900 px at 96 dpi
    text = " ".join(reader.pages[0].extract_text().split())
    assert title in text and "Runs" not in text
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("#sheet").count() == 0 and page.locator("#main").is_visible()


def test_the_latex_of_a_table_is_that_of_the_package(watched: Watched, report: Path) -> None:
    page = watched.open(report.as_uri())
    wanted = {table.name: latex(table) for table in tables_of(report.read_text(encoding="utf-8"))}
    for name in ("targets-1", "runs-1"):
        with page.expect_download() as download:
            page.locator(f'[data-table="{name}"]').get_by_role("button", name="Download as LaTeX").click()
        assert Path(download.value.path()).read_text(encoding="utf-8") == wanted[name]
    assert watched.errors == []


def test_captions_say_who_is_left_out_and_how_far_a_scale_goes(watched: Watched, tmp_path: Path) -> None:
    runs = [make_run(tmp_path / method, method=method, rounds=3) for method in ("fsd", "local", "central")]
    page = watched.open(write_report(runs, tmp_path / "r.html").as_uri())
    draw_all(page)
    for name in ("acc-bytes", "bytes-round", "pareto"):
        said = page.locator(f'figure[data-figure="{name}"] figcaption').inner_text()
        assert said.endswith("Not shown, as 0 bytes have no place on the axis: Local only, Central."), name
    assert "Not shown" not in page.locator('figure[data-figure="acc-rounds"] figcaption').inner_text()
    assert page.locator('figure[data-figure="firing"] figcaption').inner_text().endswith("from 0 to 0.20.")
    page.get_by_role("button", name="Local only", exact=True).click()
    until(page, "!document.querySelector('figure[data-figure=acc-bytes] figcaption').textContent.includes('Local')")
    shape = "getComputedStyle(document.querySelector('[data-table=runs-1] .m-fsd'), '::before').clipPath"
    assert page.evaluate(shape) == "none"
    assert "polygon" in page.evaluate(shape.replace("m-fsd", "m-local"))


def test_equal_weights_are_a_line_in_the_middle(watched: Watched, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", rounds=3)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        for client in line["clients"]:
            client |= {"weight": 0.25, "firing_rate": None}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = watched.open(write_report([folder], tmp_path / "r.html").as_uri())
    figure = page.locator('figure[data-figure="client-weight"]')
    figure.scroll_into_view_if_needed()
    figure.locator(".ytick text").first.wait_for()
    ticks = [float(text) for text in figure.locator(".ytick text").all_text_contents()]
    assert min(ticks) > 0.19 and max(ticks) < 0.31
    heads = page.locator("#client-table thead th").all_inner_texts()
    assert "Weight" in " ".join(heads) and "Firing rate" not in " ".join(heads)  # a column of nothing is left out


def test_every_method_of_the_package_is_told_apart() -> None:
    """By colour, dash or marker: no two methods share all three, and FSD+ is nowhere near FSD."""
    from spikefed.federated import METHODS
    from spikefed.report import palette

    looks = {name: (palette.colour_of(name), palette.dash_of(name, 0), palette.symbol_of(name)) for name in METHODS}
    assert len(set(looks.values())) == len(looks)

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for theme in (0, 1):
        pair = sorted(luminance(palette.colour_of(name)[theme]) + 0.05 for name in ("fsd", "fsd+"))
        assert pair[1] / pair[0] > 2


def test_print_has_every_figure_and_no_buttons(watched: Watched, report: Path) -> None:
    page = watched.open(report.as_uri())
    page.emulate_media(media="print")
    assert page.locator("#run-name").inner_text() == "FSD default, seed 0: fsd-default-digits"
    assert page.locator(".tools:visible, .bar:visible, #theme:visible").count() == 0
    assert page.pdf().count(b"/Type /Page\n") >= 2


@pytest.mark.parametrize("watched", [{"color_scheme": "dark"}], indirect=True, ids=["dark"])
def test_paper_is_light_whatever_the_screen_and_the_screen_comes_back(watched: Watched, report: Path) -> None:
    page = watched.open(report.as_uri())
    plot = "document.querySelector('figure[data-figure=confusion] .main-svg')?.style.background"
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    until(page, f"{plot} === 'rgb(255, 255, 255)'")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.documentElement.dataset.theme === undefined")


@pytest.mark.parametrize("watched", [{"java_script_enabled": False}], indirect=True)
def test_tables_stand_without_script(watched: Watched, report: Path) -> None:
    watched.page.goto(report.as_uri())
    assert len(column(watched.page, "targets-1", 1)) == 8


def test_sixty_runs_of_fifty_rounds_open(watched: Watched, tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / f"{m}{s}", method=m, seed=s, rounds=50) for m in ("fsd", "cfd", "fedavg") for s in range(20)
    ]
    out = write_report(runs, tmp_path / "big.html")
    assert out.stat().st_size < 8_000_000
    page = watched.open(out.as_uri())  # scripts/report_speed.py says how long it takes
    page.locator('figure[data-figure="acc-rounds"] .scatterlayer .trace').first.wait_for()
    assert watched.errors == []


def test_a_browser_that_cannot_unpack_the_library_says_so_and_keeps_the_tables(watched: Watched, report: Path) -> None:
    watched.page.add_init_script("delete window.DecompressionStream;")
    page = watched.open(report.as_uri())
    assert "cannot unpack the drawing library" in page.locator("p.caveat").first.inner_text()
    assert page.locator("figure svg").count() == 0 and page.locator("#targets table tbody tr").count() > 0
    assert page.locator("#targets button.sort").count() > 0, "tables sort all the same"
