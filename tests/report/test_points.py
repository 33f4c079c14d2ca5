"""A reader's own numbers: read as they stand, and wrong files said in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import spikefed
from report.synthetic import make_run
from spikefed.cli.main import whole
from spikefed.errors import ReportError
from spikefed.report import read_points, write_report


def test_points_are_what_the_file_says_wherever_it_says_where_they_stand(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text(
        "\ufefflabel, accuracy,round,upstream_bytes\n\nTable 2,0.82,,873000\nours,0.9,4,\n", encoding="utf-8"
    )
    table, ours = read_points(file)
    assert (table.label, table.accuracy, table.places) == ("Table 2", 0.82, {"upstream": 873000.0})
    assert ours.places == {"rounds": 4.0}
    folder = make_run(tmp_path / "run", rounds=3)
    assert "Table 2" in spikefed.plot(folder, "upstream", points=file).svg
    assert "Table 2" not in spikefed.plot(folder, points=file).svg and "ours" in spikefed.plot(folder, points=file).svg


WRONG = {
    "": "is empty; give a header",
    "label,accuracy,round\n": "a header and no point",
    "label,accuracy,rounds\na,0.5,1\n": "an unknown column 'rounds'; its columns are label, accuracy and any of round",
    "label,round\na,1\n": "lacks column 'accuracy'",
    "label,accuracy\na,0.5\n": "lacks a column that places points: round, upstream_bytes",
    "label,label,accuracy,round\na,a,0.5,1\n": "has a column twice",
    "label,accuracy,round\na,82,1\n": "line 2: accuracy '82' is no share from 0 to 1; write 0.82 for 82 %",
    "label,accuracy,round\na,,1\n": "line 2: accuracy '' is no share",
    "label,accuracy,round\n\n ,0.5,1\n": "line 3: the point has no label",
    "label,accuracy,upstream_bytes\na,0.5,1.2 MB\n": "upstream_bytes '1.2 MB' is no number",
    "label,accuracy,upstream_bytes\na,0.5,nan\n": "upstream_bytes 'nan' is no number",
    "label,accuracy,upstream_bytes\na,0.5,-3\n": "upstream_bytes -3 is below 0",
    "label,accuracy,upstream_bytes\na,0.5,0\n": "upstream_bytes 0 has no place on the logarithmic axis",
    "label,accuracy,round\na,0.5,0\n": "round 0 is below 1",
    "label,accuracy,round\na,0.5,\n": "nothing says where the point stands",
    "label,accuracy,round\nTable 2, ours,0.5,1\n": "line 2: 4 values stand below 3 columns; quote a label",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_file_is_one_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises(ReportError) as found:
        read_points(tmp_path / "mine.csv")
    assert WRONG[text] in str(found.value) and "mine.csv" in str(found.value) and "\n" not in str(found.value)


def test_what_is_no_csv_leaves_no_report(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", rounds=2)
    (tmp_path / "mine.csv").write_bytes(b"\xff\xfe\x00a")
    for name, what in (("mine.csv", "cannot be read"), ("none.csv", "No such file"), ("run", "Is a directory")):
        with pytest.raises(ReportError, match=what):
            write_report([folder], tmp_path / "report.html", points=tmp_path / name)
    arguments = ["report", str(folder), "--out", str(tmp_path / "report.html"), "--points", str(tmp_path / "none.csv")]
    said = CliRunner().invoke(whole(), arguments)
    assert said.exit_code != 0 and not (tmp_path / "report.html").exists()
