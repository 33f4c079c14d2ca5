"""Files for a paper: every PDF opens and says what it shows, every table compiles, numbers are those of the report."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import ImageFont
from typer.testing import CliRunner

import spikefed
from report.synthetic import make_comparison, make_run
from spikefed.cli.main import whole
from spikefed.errors import ReportError
from spikefed.report import pdffont, read_points, write_figures
from spikefed.report.latex import Read, escaped, latex, tables_of
from spikefed.report.pdf import pdf, width_of
from spikefed.report.shapes import Dot, Label
from spikefed.report.shapes import Path as Line


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("figures")
    (root / "mine.csv").write_text("label,accuracy,round,upstream_bytes\nours (50 %),0.9,4,120000\n")
    folder = root / "paper"
    write_figures(make_comparison(root / "runs"), folder, [0.8, 0.99], read_points(root / "mine.csv"))
    return folder


def test_every_figure_is_there_as_pdf_svg_and_csv(written: Path) -> None:
    names = {path.name for path in written.iterdir()}
    wanted = {f"accuracy-{over}" for over in ("rounds", "upstream", "downstream", "paper", "text")}
    wanted |= {f"targets-{measure}" for measure in ("upstream", "downstream", "paper", "text")}
    assert {f"{name}.{kind}" for name in wanted for kind in ("pdf", "svg", "csv")} <= names
    assert {f"table-{name}-1.tex" for name in ("targets", "equal", "runs", "paired")} <= names
    assert not [name for name in names if name.startswith(".")]


def test_every_pdf_opens_and_has_its_titles(written: Path) -> None:
    pypdf = pytest.importorskip("pypdf")
    for file in sorted(written.glob("*.pdf")):
        (page,) = pypdf.PdfReader(file, strict=True).pages
        text = page.extract_text()
        assert "FedAvg" in text and page.mediabox.width == 640, file.name
        over = {"rounds": "Round", "energy": "one client, from round", "seconds": "and the server, from round"}
        wanted = over.get(file.stem.removeprefix("accuracy-"), "bytes of all clients, from round 1 on")
        assert wanted in text, file.name
        for font in page["/Resources"]["/Font"].values():
            told = font.get_object()
            assert told["/BaseFont"] == "/Aileron-Regular" and len(told["/Widths"]) == 224
            held = told["/FontDescriptor"]["/FontFile2"]
            assert len(held.get_data()) == held["/Length1"] > 5000, "the font is not in the file"
    (page,) = pypdf.PdfReader(written / "accuracy-upstream.pdf").pages
    assert "Server accuracy, mean over seeds" in page.extract_text() and "ours (50 %)" in page.extract_text()
    (page,) = pypdf.PdfReader(written / "targets-upstream.pdf").pages
    assert "not reached (best round" in page.extract_text()


def test_svg_and_csv_say_the_same(written: Path) -> None:
    for file in sorted(written.glob("*.svg")):
        assert ElementTree.fromstring(file.read_text()).tag.endswith("svg")
        rows = list(csv.reader(io.StringIO(file.with_suffix(".csv").read_text())))
        assert len(rows) > 4 and len({len(row) for row in rows}) == 1
    curves = list(csv.DictReader(io.StringIO((written / "accuracy-upstream.csv").read_text())))
    assert curves[-1]["label"] == "ours (50 %)" and float(curves[-1]["bytes"]) == 120000
    fedavg = [row for row in curves if row["label"] == "FedAvg"]
    low, high = (float(fedavg[-1][f"accuracy_{end}_seed"]) for end in ("lowest", "highest"))
    assert low < float(fedavg[-1]["accuracy_mean"]) < high


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here; the structure is tested above")
def test_every_table_compiles_with_plain_pdflatex(written: Path, tmp_path: Path) -> None:
    inputs = "\n".join(f"\\input{{{file}}}\\clearpage" for file in sorted(written.glob("*.tex")))
    figures = "\n".join(
        f"\\noindent\\includegraphics[width=\\textwidth]{{{file}}}" for file in sorted(written.glob("*.pdf"))
    )
    body = f"\\usepackage{{graphicx}}\\begin{{document}}{inputs}{figures}\\end{{document}}"
    (tmp_path / "paper.tex").write_text(f"\\documentclass{{article}}{body}")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:].decode(errors="replace")
    assert b"Overfull" not in done.stdout, "a table is wider than the text"
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000


def test_a_table_has_as_many_cells_a_line_as_columns(written: Path) -> None:
    for file in sorted(written.glob("*.tex")):
        text = file.read_text()
        columns = text.partition("\\begin{tabular}{")[2].partition("}")[0]
        inside = text.partition("\\hline\n")[2].rpartition("\\end{tabular}")[0].replace("\\&", "")
        lines = [line for line in inside.splitlines() if line.endswith("\\\\")]
        assert len(lines) > 1 and {line.count("&") + 1 for line in lines} == {len(columns)}, file.name


def test_a_wide_table_breaks_its_headings_and_long_cells() -> None:
    words = ["Method", "Seeds in common", "what it says of the two methods", "last column of all the columns"]
    rows = [words, ["FSD", "3", "the interval is around zero: not told apart", "a text as long as the others are"]]
    wide = latex(Read("t", "wide", [False, True, False, False], rows))
    assert r"\begin{tabular}[b]{@{}r@{}}Seeds in \\ common\end{tabular}" in wide and "\\tabcolsep" not in wide
    assert r"\begin{tabular}[t]{@{}l@{}}the interval is around \\ zero: not told apart\end{tabular}" in wide
    narrow = latex(Read("t", "narrow", [False, True], [["Method", "Seeds in common"], ["FSD", "3"]]))
    assert "Method & Seeds in common \\\\\n" in narrow


def test_letters_that_latex_takes_for_commands_are_said() -> None:
    assert escaped("a_b & 5\u00a0% ± 1 − {x}") == r"a\_b \& 5~\% $\pm$ 1 $-$ \{x\}"
    assert escaped("C:\\x ^ ~ é 漢") == r"C:\textbackslash{}x \textasciicircum{} \textasciitilde{} é ?"
    page = '<div class="table-block" data-table="t"><table><caption>A &amp; B</caption><thead><tr><th class="num">x'
    page += "</th></tr></thead><tbody><tr><th>1 <small>± 2</small></th></tr></tbody></table></div>"
    (table,) = tables_of(page)
    assert "\\caption{A \\& B}" in latex(table) and "1 $\\pm$ 2 \\\\" in latex(table)


def test_a_pdf_is_the_same_bytes_for_the_same_figure_and_takes_any_text() -> None:
    pypdf = pytest.importorskip("pypdf")
    shapes = [
        Line([(0, 0), (10, 10), (10, 0)], "#ff0000", closed=True, opacity=0.5),
        Line([(0, 0), (9, 9)], "#00ff00", 2, "3 1"),
        Dot((5, 5), 2, "#0000ff"),
        Label((50, 20), "(a) \\ 5 % − 漢 é", "middle"),
        Label((9, 50), "up", "end", turned=True),
    ]
    made = pdf(shapes, 100, 60, "title (x)")
    assert made == pdf(shapes, 100, 60, "title (x)")
    reader = pypdf.PdfReader(io.BytesIO(made), strict=True)
    assert reader.metadata is not None and reader.metadata.title == "title (x)"
    assert "(a) \\ 5 % – ? é" in reader.pages[0].extract_text() and "up" in reader.pages[0].extract_text()
    assert width_of("ii") < width_of("WW")
    assert set(reader.pages[0]["/Resources"]["/Font"]) == {"/E", "/F"}, "é is not in the embedded font"


def test_the_embedded_font_is_read_as_freetype_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    font = pdffont.embedded()
    assert font is not None and font.data[:4] == bytes([0, 1, 0, 0])
    whole = ImageFont.load_default(1000)
    assert isinstance(whole, ImageFont.FreeTypeFont)
    for letter in "Aim%0-±":
        assert font.widths[letter] == round(whole.getlength(letter)), letter
    assert font.spelt("1 − 2\u00a0×") == "1 - 2 x" and font.spelt("é") is None
    monkeypatch.setattr("spikefed.report.pdf.embedded", lambda: None)  # a Pillow without it
    assert b"/BaseFont /Helvetica" in pdf([Label((50, 20), "text")], 100, 60, "t")


def test_plot_saves_a_pdf_by_its_name(tmp_path: Path) -> None:
    drawn = spikefed.plot(make_run(tmp_path / "run", rounds=2))
    assert drawn.save(tmp_path / "a.pdf").read_bytes().startswith(b"%PDF-1.4")
    with pytest.raises(ReportError, match="cannot be written"):
        drawn.save(tmp_path / "none" / "a.pdf")


def test_the_command_writes_both_and_says_where(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", rounds=2)
    out = tmp_path / "report.html"
    arguments = ["report", str(folder), "--out", str(out), "--figures", str(tmp_path / "paper")]
    said = CliRunner().invoke(whole(), arguments)
    assert said.exit_code == 0 and f"{tmp_path / 'paper'}: " in said.stdout and out.is_file()
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError, match="name another folder with --figures"):
        write_figures([folder], tmp_path / "file")
