"""TensorBoard's own reader finds every number of the run again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from report.synthetic import make_run
from spikefed.errors import ReportError
from spikefed.report import load_run
from spikefed.report.tensorboard import write_events

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_every_round_is_there_under_its_number(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    folder = make_run(tmp_path / "run", rounds=4, drop=True)
    found = read(write_events(folder))
    run = load_run(folder)
    accuracies = [(e["round"], pytest.approx(e["server_accuracy"], abs=1e-6)) for e in run.rounds]
    assert found["server/accuracy"] == accuracies
    assert [step for step, _ in found["clients/weight/3"]] == [1, 2, 3, 4]
    assert [value for _, value in found["clients/dropped"]] == [0, 1, 0, 0]
    assert found["bytes/upstream_total"][-1][1] == run.rounds[-1]["upstream_bytes_total"]


def test_writing_again_replaces(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    folder = make_run(tmp_path / "run", rounds=2)
    write_events(folder, tmp_path / "logs")
    assert len(read(write_events(folder, tmp_path / "logs"))["server/accuracy"]) == 2


def test_without_the_package_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ReportError, match=r"pip install 'spikefed\[tensorboard\]'"):
        write_events(make_run(tmp_path / "run", rounds=1))
