"""The benchmark scripts run: the GPU script at toy sizes, its refusal without a GPU, the plan of `make bench`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "benchmarks"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="no checkout")


def script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=900)


def test_gpu_script_runs_at_toy_size(tmp_path: Path) -> None:
    done = script("gpu.py", "--dry-run", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    content = json.loads(next(tmp_path.glob("gpu-dry-*.json")).read_text())
    assert content["dry_run"] is True and len(content["check"]) == 48
    assert all(row["gradient_error"] < 1e-4 and row["spikes_that_differ"] == 0 for row in content["check"])
    assert content["clients"]["largest_difference_after_a_step"] < 1e-5
    assert {"spikefed", "spikefed graphed", "convs alone"} <= set(content["steps"][0]["ms"])
    assert content["paper_round"]["trained_images"] == 400_000


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_script_says_when_there_is_no_gpu(tmp_path: Path) -> None:
    done = script("gpu.py", "--out", str(tmp_path))
    assert done.returncode == 2 and "no CUDA GPU" in done.stderr and not list(tmp_path.iterdir())


def test_plan_of_make_bench_names_scripts_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import run

    for quick in (True, False):
        lines = run.plan(quick, "data", 2)
        assert all((FOLDER / line[0]).exists() for line in lines) and lines[-1][0] == "tables.py"
    assert not any(line[0] in ("parity.py", "fsd_round.py") for line in run.plan(True, None, 1))


def test_tables_fill_the_page_between_their_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    begin, end = (f"<!-- made by benchmarks/tables.py: {word} -->" for word in ("begin", "end"))
    page.write_text(f"before\n{begin}\nstale\n{end}\nafter\n")
    for _ in range(2):  # the second time changes nothing
        done = script("tables.py", "--folder", str(FOLDER.parent / "results" / "bench"), "--write", str(page))
        assert done.returncode == 0, done.stderr
        text = page.read_text()
        assert text.startswith("before\n") and text.endswith("after\n") and "stale" not in text
        assert text.count("**Training step, `vgg9`, 1 thread**") >= 1 and text.count("made by") == 2
    page.write_text("no marks")
    assert script("tables.py", "--folder", str(tmp_path), "--write", str(page)).returncode != 0


def test_rows_of_different_runs_meet_by_their_ratios_and_only_within_a_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import tables

    def run(command: str, **rows: tuple[float, float]) -> dict:
        found = [
            {"variant": name.replace("_", " "), "ms": ms, "ratio": x, "ratio_low": x, "ratio_high": x}
            for name, (ms, x) in rows.items()
        ]
        results = [{"task": "train", "net": "small", "threads": 1, "rows": found}]
        return {"kind": "steps", "provenance": {"command": command}, "results": results}

    quick = run("steps.py --keep-memory", spikingjelly=(100.0, 1.0), convs_alone=(50.0, 2.0), norse=(100.0, 1.0))
    slow = run("steps.py --keep-memory", spikingjelly=(300.0, 1.0), spikefed=(100.0, 3.0))
    other = run("steps.py", spikingjelly=(100.0, 1.0), norse=(50.0, 2.0))
    alone = run("steps.py --keep-memory", spikefed=(100.0, 1.0), spikefed_bf16=(50.0, 2.0))  # beside no reference
    (rows,) = tables.step_tables([alone, other, quick, slow, alone]).values()
    assert {row["variant"]: row["ratio"] for row in rows} == {
        "spikingjelly": 1.0, "convs alone": 2.0, "norse": 1.0, "spikefed": 3.0
    }  # fmt: skip
    text = "\n".join(tables.steps("train", "small", 1, rows))
    assert "linears alone: float32 1.50." in text  # 3.0 / 2.0, where milliseconds of two runs would give 0.5
    (rows,) = tables.step_tables([quick, slow, other]).values()
    assert [row["variant"] for row in rows] == ["spikingjelly", "norse"]


def test_memory_table_says_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import tables

    rows = [{"variant": "spikefed", "step_mb": 320.0, "process_mb": 704.0}]  # 10 MB an image, 384 MB besides
    text = "\n".join(tables.memory({"results": [{"net": "vgg9", "batch": None, "rows": rows}]}))
    assert "| spikefed | 320 | 704 | 166 | 780 | 2,419 |" in text


def test_cpu_scripts_run_at_small_size(tmp_path: Path) -> None:
    out = ["--out", str(tmp_path)]
    few = "convs alone,spikefed,spikefed dense,spikefed rectangle bf16"
    for name, *arguments in (
        ("steps.py", "--nets", "small", "--rounds", "1", "--tasks", "train,infer", "--variants", few),
        ("lif.py", "--rounds", "1"),
        ("layers.py", "--maps", "2", "--repeats", "1", "--layers", "1"),
        ("memory.py", "--nets", "small", "--batch", "4", "--variants", "spikefed"),
        ("keep_memory.py", "--small", "--rounds", "1"),
    ):
        done = script(name, *arguments, *out)
        assert done.returncode == 0, f"{name}: {done.stderr}"
    rows = json.loads(next(tmp_path.glob("steps-*.json")).read_text())["results"][0]["rows"]
    assert [row["variant"] for row in rows] == few.split(",") and rows[0]["ratio"] == 1.0
    assert script("tables.py", "--folder", str(tmp_path)).stdout.count("| spikefed |") == 2


def test_the_plan_benchmark_names_experiments_that_exist_and_what_a_plan_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import plan

    from spikefed.experiment import load

    assert len(plan.CASES) == 6
    for file, settings in plan.CASES.values():
        assert load(plan.EXPERIMENTS / file, settings).rounds <= 12
    figures = {"time_s": {"ratio": 1.4}, "memory_bytes": {"ratio": 0.6}, "training_pj": {"ratio": None}}
    assert plan.outside([{"name": "a", "figures": figures}]) == ["a: memory_bytes 0.6"]


def test_precision_refuses_finished_folders_of_another_commit_or_config(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import precision

    folder = tmp_path / "float32-seed0"
    folder.mkdir()
    (folder / "seconds.json").write_text("1.5")
    (folder / "metrics.jsonl").write_text('{"server_accuracy": 0.5, "server_loss": 1.0}\n')
    monkeypatch.setattr(precision, "commit", lambda: "abc")
    for said, wrong in ((("abc", "h1"), None), (("old", "h1"), "commit is old"), (("abc", "h2"), "config hash is h2")):
        (folder / "provenance.json").write_text(json.dumps({"commit": said[0], "config_hash": said[1]}))
        if wrong is None:
            assert precision.run([], folder, "h1")["accuracy"] == [0.5]
            continue
        with pytest.raises(SystemExit, match=wrong):
            precision.run([], folder, "h1")
