"""Client by client, from whatever a run says of its clients."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from report.synthetic import make_run
from report.test_write import read_tables
from spikefed.report import load_run, write_report
from spikefed.report.byclient import MOST, client_rows, clients_table
from spikefed.report.groups import group_runs
from spikefed.report.sections import css_of


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Client 2 missed the last round; client 1 is a person with data of its own; client 3's network is kept."""
    folder = make_run(tmp_path / "run", rounds=3)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        for client in line["clients"]:
            if (client["client"], line["round"]) != (2, 3):
                client["test_accuracy"] = 0.5 + 0.1 * line["round"] + 0.01 * client["client"]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = json.loads((folder / "result.json").read_text())
    people = [{"client": 1, "name": "ann", "accuracy": 0.7, "own_accuracy": 0.9}, "damaged"]
    (folder / "result.json").write_text(json.dumps(result | {"people": people}))
    (folder / "clients").mkdir()
    (folder / "clients" / "client-3.safetensors").write_bytes(b"")
    return folder


def test_each_row_is_a_clients_last_word(run: Path) -> None:
    rows = client_rows(group_runs([load_run(run)]))
    assert [row.client for row in rows] == [0, 1, 2, 3]
    assert [row.told["round"] for row in rows] == [3, 3, 2, 3]
    assert rows[2].share("test_accuracy") == pytest.approx(0.72)
    assert [row.kept for row in rows] == [False, False, False, True]
    assert (rows[1].told["name"], rows[1].share("own_accuracy"), rows[0].share("own_accuracy")) == ("ann", 0.9, None)


def test_the_page_has_them_and_runs_that_say_nothing_have_no_table(run: Path, tmp_path: Path) -> None:
    page = write_report([run], tmp_path / "report.html").read_text()
    head, *rows = read_tables(page)["clients-1"]
    assert head == [
        "Method", "Seed", "Client", "Name", "Last round", "Own network, test set", "Own network, own data",
        "Run’s network, own data", "Kept",
    ]  # fmt: skip
    assert rows[1][2:] == ["1", "ann", "3", "81.0\u00a0%", "90.0\u00a0%", "70.0\u00a0%", "no"] and rows[3][-1] == "yes"
    plain = make_run(tmp_path / "plain", rounds=2)
    assert clients_table(0, group_runs([load_run(plain)]), css_of) == ""


def test_a_page_is_no_data_base(run: Path) -> None:
    for client in range(4, MOST + 10):
        (run / "clients" / f"client-{client}.safetensors").write_bytes(b"")
    text = clients_table(0, group_runs([load_run(run)]), css_of)
    assert text.count("<tr") == MOST + 1 and f"the first {MOST} of {MOST + 10} rows" in text
