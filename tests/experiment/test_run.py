"""Whole runs: reproducible, resumable at any point, honest in bytes, and clear when something is wrong."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

import spikefed
from experiment.runs import fingerprint
from spikefed import data
from spikefed.errors import CheckpointError, ConfigError, DataError, SpikefedError
from spikefed.experiment import RunFolder, run_missing, toml
from spikefed.experiment import config as configs
from spikefed.experiment.build import build
from spikefed.experiment.networks import neuron_for
from spikefed.experiment.pixels import preprocess_for
from spikefed.federated import checkpoint
from spikefed.wire import Ledger, ServerLink


@pytest.mark.parametrize("coding", ["direct", "bernoulli", "poisson"])
def test_same_seed_same_run_other_seed_another(tiny: dict[str, Any], tmp_path: Path, coding: str) -> None:
    tiny["network"]["coding"] = coding
    one = fingerprint(spikefed.run(tiny, out=tmp_path / "one"))
    two = fingerprint(spikefed.run(tiny, out=tmp_path / "two"))
    other = fingerprint(spikefed.run(tiny | {"seed": 1}, out=tmp_path / "other"))
    assert one == two
    assert one[2] != other[2] and one[0] != other[0]


@pytest.mark.parametrize("method", ["fsd", "fedavg"])
def test_bytes_in_the_ledger_are_bytes_produced(tiny: dict[str, Any], tmp_path: Path, method: str) -> None:
    tiny["method"] = {"name": method}
    path = spikefed.run(tiny, out=tmp_path / "run")
    folder = RunFolder(path)
    ledger, lines = folder.read_lines(folder.ledger), folder.read_lines(folder.metrics)
    result = json.loads(folder.result.read_text())
    up = [m for m in ledger if m["direction"] == "up"]
    down = [m for m in ledger if m["direction"] == "down"]
    assert len(up) == 6 and len(down) == (4 if method == "fsd" else 6)
    assert sum(m["encoded_bytes"] for m in up) == result["upstream_bytes"] == lines[-1]["upstream_bytes_total"]
    assert sum(m["encoded_bytes"] for m in down) == result["downstream_bytes"]
    for message in ledger:
        assert message["encoded_bytes"] == message["header_bytes"] + message["payload_bits"] / 8
    if method == "fsd":
        assert all(m["paper_bytes"] == 24 * 10 * 4 / 8 for m in ledger)  # T = 4: half a byte a class
    else:
        with safe_open(folder.model, "np") as file:
            size = sum(file.get_tensor(name).nbytes for name in file.keys())  # noqa: SIM118
        assert all(m["paper_bytes"] == size for m in ledger)
    assert [point["accuracy"] for point in result["curve"]] == [line["server_accuracy"] for line in lines]
    assert result["targets"]["0.99"] is None and result["accuracy"] == lines[-1]["server_accuracy"]


def test_streams_hold_what_travelled(tiny: dict[str, Any], tmp_path: Path) -> None:
    tiny["run"]["record_streams"] = True
    path = spikefed.run(tiny, out=tmp_path / "run")
    files = sorted((path / "streams").iterdir())
    assert [f.name for f in files] == [f"round-{r:04d}.npz" for r in (1, 2, 3)]
    with np.load(files[0]) as arrays:
        shape = tuple(arrays["shape"])
        assert shape == (24, 10, 4) and set(arrays) == {"shape", "up_0", "up_1", "down"}
        spikes = [np.unpackbits(arrays[key], count=960).reshape(shape) for key in ("up_0", "up_1", "down")]
    assert not (spikes[2] & ~(spikes[0] | spikes[1])).any()  # two clients: no voted spike that nobody sent


def _crash_at(tiny: dict[str, Any], out: str, call: int) -> None:
    """Run in a child that is killed just before its n-th durable write or rename."""
    import torch

    torch.set_num_threads(1)
    count = 0

    def guarded(real):
        def wrapper(*args, **kwargs):
            nonlocal count
            count += 1
            if count == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return wrapper

    os.fsync, os.replace = guarded(os.fsync), guarded(os.replace)  # type: ignore[assignment]
    spikefed.run(tiny, out=out, resume=True)


@pytest.mark.parametrize("method", ["fsd", "fedavg"])
def test_killed_at_every_write_and_resumed_equals_uninterrupted(
    tiny: dict[str, Any], tmp_path: Path, method: str
) -> None:
    tiny["method"] = {**tiny["method"], "name": method} if method == "fsd" else {"name": method}
    tiny["run"]["record_streams"] = True
    whole = fingerprint(spikefed.run(tiny, out=tmp_path / "whole"))
    fork = multiprocessing.get_context("fork")
    calls, finished = 0, False
    while not finished:
        calls += 1
        out = tmp_path / f"killed-{calls}"
        child = fork.Process(target=_crash_at, args=(tiny, str(out), calls))
        child.start()
        child.join(120)
        assert child.exitcode in (-signal.SIGKILL, 0)
        finished = child.exitcode == 0
        assert fingerprint(spikefed.run(tiny, out=out, resume=True)) == whole, f"killed at write {calls}"
        assert not list(out.rglob("*.tmp*"))
        assert len(list((out / "streams").glob("*.npz"))) == (3 if method == "fsd" else 0)
    assert calls > 20


@pytest.mark.slow
def test_sigkill_at_random_times(tiny: dict[str, Any], tmp_path: Path) -> None:
    """The command itself, killed from outside again and again until it gets through."""
    tiny["rounds"] = 40  # of a few hundredths of a second: several kills before the end
    file = tmp_path / "tiny.toml"
    file.write_text(toml.dump(tiny))
    whole = fingerprint(spikefed.run(file, out=tmp_path / "whole"))
    command = [sys.executable, "-m", "spikefed", "run", str(file), "--out", str(tmp_path / "killed"), "--resume", "-q"]
    rng, kills = random.Random(0), 0
    for _ in range(40):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        metrics = tmp_path / "killed" / "metrics.jsonl"
        before = metrics.stat().st_size if metrics.exists() else 0
        while process.poll() is None and (metrics.stat().st_size if metrics.exists() else 0) == before:
            time.sleep(0.01)
        time.sleep(rng.random() * 0.2)
        process.kill()
        process.communicate()
        if process.returncode == 0:
            break
        kills += 1
    assert process.returncode == 0 and kills >= 2
    assert fingerprint(tmp_path / "killed") == whole


def test_more_rounds_later_equal_all_at_once(tiny: dict[str, Any], tmp_path: Path) -> None:
    spikefed.run(tiny | {"rounds": 1}, out=tmp_path / "grown")
    spikefed.run(tiny, out=tmp_path / "grown", resume=True)
    assert fingerprint(tmp_path / "grown") == fingerprint(spikefed.run(tiny, out=tmp_path / "whole"))


def test_resume_of_a_finished_run_changes_nothing(tiny: dict[str, Any], tmp_path: Path) -> None:
    path = spikefed.run(tiny, out=tmp_path / "run")
    before = fingerprint(path)
    assert fingerprint(spikefed.run(tiny, out=path, resume=True)) == before


def test_damaged_checkpoint_falls_back_on_the_one_before(tiny: dict[str, Any], tmp_path: Path) -> None:
    path = spikefed.run(tiny, out=tmp_path / "run")
    whole = fingerprint(path)
    newest = sorted((path / "checkpoints").iterdir())[-1]
    newest.write_bytes(newest.read_bytes()[:-7])
    assert fingerprint(spikefed.run(tiny, out=path, resume=True)) == whole


def test_without_a_whole_checkpoint_the_advice_begins_the_run_again(tiny: dict[str, Any], tmp_path: Path) -> None:
    path = spikefed.run(tiny | {"rounds": 2}, out=tmp_path / "run")
    whole = fingerprint(spikefed.run(tiny, out=tmp_path / "whole"))
    for file in (path / "checkpoints").iterdir():
        file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(CheckpointError, match="no checkpoint .* is whole .*; delete .*checkpoints and repeat"):
        spikefed.run(tiny, out=path, resume=True)
    shutil.rmtree(path / "checkpoints")
    assert fingerprint(spikefed.run(tiny, out=path, resume=True)) == whole


@pytest.mark.parametrize("name", ["ledger.jsonl", "metrics.jsonl"])
@pytest.mark.parametrize("how", ["torn", "no text", "missing"])
def test_a_gap_in_metrics_or_ledger_is_refused_and_left_as_it_is(
    tiny: dict[str, Any], tmp_path: Path, name: str, how: str
) -> None:
    path = spikefed.run(tiny | {"rounds": 2}, out=tmp_path / "run")
    file = path / name
    lines = file.read_bytes().splitlines(keepends=True)
    lines[1] = {"torn": lines[1][:20] + b"\n", "no text": b"\xff\xfe\n", "missing": b""}[how]
    file.write_bytes(b"".join(lines))
    with pytest.raises(CheckpointError, match=f"{name} does not hold .* put the file back"):
        spikefed.run(tiny, out=path, resume=True)
    assert file.read_bytes() == b"".join(lines)


def test_a_refused_start_leaves_a_foreign_folder_as_it_was(tiny: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="already holds other files"):
        spikefed.run(tiny, out=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_a_finished_run_says_what_its_network_would_cost(tiny: dict[str, Any], tmp_path: Path) -> None:
    path = spikefed.run(tiny, out=tmp_path / "run")
    found = json.loads((path / "energy.json").read_text())
    rates = json.loads((path / "metrics.jsonl").read_text().splitlines()[-1])["firing_rates"]
    assert found["totals"]["spike_rate"].keys() == rates.keys()
    assert found["totals"]["paper_formula_fp32_pj"] > 0 and len(found["layers"]) >= 2
    spent = found["client_round"]
    assert spent["training_pj"] > 0 and spent["local_samples"] > 0 and "radio_pj" not in spent
    assert "energy" in spikefed.load_run(path).probes, "the key beside totals and layers harms no reader"


def test_folder_of_another_config(tiny: dict[str, Any], tmp_path: Path) -> None:
    path = spikefed.run(tiny, out=tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"training.lr was 0.001 and is now 0.01"):
        spikefed.run(tiny, overrides=["training.lr=0.01"], out=path, resume=True)
    with pytest.raises(ConfigError, match="already holds a run; continue it with --resume"):
        spikefed.run(tiny, out=path)
    with pytest.raises(CheckpointError, match="is at round 3, the config asks for 2"):
        spikefed.run(tiny | {"rounds": 2}, out=path, resume=True)


def test_checkpoint_of_another_version(tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "VERSION", 99)
    path = spikefed.run(tiny | {"rounds": 1}, out=tmp_path / "run")
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="format version 99"):
        spikefed.run(tiny, out=path, resume=True)


def test_full_disk_in_the_middle_then_resume(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fingerprint(spikefed.run(tiny, out=tmp_path / "whole"))
    real, count = os.fsync, 0

    def full(fd: int) -> None:
        nonlocal count
        count += 1
        if count == 14:
            raise OSError(28, "No space left on device")
        real(fd)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left on device.*--resume"):
        spikefed.run(tiny, out=tmp_path / "full")
    monkeypatch.undo()
    assert not list((tmp_path / "full").rglob("*.tmp*"))
    assert fingerprint(spikefed.run(tiny, out=tmp_path / "full", resume=True)) == whole


@pytest.mark.parametrize(
    "changes, error, text",
    [
        ({"data": {"public": 5000}}, DataError, "5,?000"),
        ({"data": {"dataset": "mnist", "dir": "/nonexistent"}}, DataError, "mnist"),
        ({"data": {"dataset": "minst"}}, SpikefedError, "mnist"),
        ({"network": {"steps": 0}}, ConfigError, "network.steps"),
        ({"network": {"name": "vgg9-bn"}}, ConfigError, "vgg9-bntt"),
        ({"wire": {"spikes_up": "zip"}}, ConfigError, "bitpack"),
        ({"network": {"readout": "current"}}, ConfigError, "readout"),
        ({"participation": {"schedule": "list", "rounds": [[9]]}}, ConfigError, "client 9"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_no_folder(
    tiny: dict[str, Any], tmp_path: Path, changes: dict[str, Any], error: type[Exception], text: str
) -> None:
    tree = {**tiny, **{k: {**tiny.get(k, {}), **v} for k, v in changes.items()}}
    with pytest.raises(error, match=text) as caught:
        spikefed.run(tree, out=tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_run_missing_runs_once_and_takes_up_the_rest(tiny: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "tiny.toml"
    file.write_text(toml.dump(tiny))
    first = run_missing([file], tmp_path / "out", seeds=[0])
    stamp = (first[0] / "model.safetensors").stat().st_mtime_ns
    folders = run_missing([file], tmp_path / "out", seeds=[0, 1])
    assert [f.name for f in folders] == ["tiny-seed0", "tiny-seed1"]
    assert (first[0] / "model.safetensors").stat().st_mtime_ns == stamp
    again = run_missing([file], tmp_path / "out", overrides=["rounds=4"], seeds=[0])
    assert json.loads((again[0] / "result.json").read_text())["rounds"] == 4


def test_two_experiments_of_one_name_are_refused(tiny: dict[str, Any], tmp_path: Path) -> None:
    for name, tree in (("a", tiny), ("b", {**tiny, "method": {"name": "fedavg"}})):
        (tmp_path / f"{name}.toml").write_text(toml.dump(tree))
    with pytest.raises(ConfigError, match="two different experiments are named 'tiny'"):
        run_missing([tmp_path / "a.toml", tmp_path / "b.toml"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    twice = run_missing([tmp_path / "a.toml", tmp_path / "a.toml"], tmp_path / "out", seeds=[0, 0])
    assert len(twice) == 1


def test_a_second_process_on_the_folder_is_refused(tiny: dict[str, Any], tmp_path: Path) -> None:
    path = spikefed.run(tiny | {"rounds": 1}, out=tmp_path / "run")
    with RunFolder(path).held(), pytest.raises(ConfigError, match="another process is running"):
        spikefed.run(tiny, out=path, resume=True)
    assert json.loads((spikefed.run(tiny, out=path, resume=True) / "result.json").read_text())["rounds"] == 3


def test_lost_or_damaged_side_files(tiny: dict[str, Any], tmp_path: Path) -> None:
    path = spikefed.run(tiny | {"rounds": 1}, out=tmp_path / "run")
    (path / "provenance.json").write_text("{")
    with pytest.raises(CheckpointError, match="provenance.json cannot be read .*; delete it and repeat the command"):
        spikefed.run(tiny, out=path, resume=True)
    (path / "provenance.json").write_text("[]")
    with pytest.raises(CheckpointError, match="provenance.json holds no JSON table"):
        spikefed.run(tiny, out=path, resume=True)
    (path / "provenance.json").unlink()
    (path / "metrics.jsonl").unlink()
    with pytest.raises(CheckpointError, match="does not hold rounds 1 to 1"):
        spikefed.run(tiny, out=path, resume=True)


@pytest.mark.parametrize(
    "override, text",
    [
        ("network.twin=ann", "network.twin = 'ann' gives none"),
        ("network.readout=current", "network.readout = 'current' gives none"),
        ("wire.spikes_up=float32", "none for spikes"),
        ("wire.weights_down=topk-10", "codes changes of weights"),
        ("wire.weights_up=qsgd-7", "codes changes of weights"),
        ("participation.quorum=5", "can never be reached by 2 clients"),
        ("training.lr=inf", "'training.lr' = inf"),
        ("training.lr=1e300", "'training.lr'"),
        ("method.tau_w=1e-320", "'method.tau_w'"),
        ("run.threads=100000", "'run.threads'"),
        ("method.name=os:system", "method 'os:system' cannot be made"),
        ("preset=../presets/authors", "is not known"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_training(
    tiny: dict[str, Any], tmp_path: Path, override: str, text: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        spikefed.run(tiny, overrides=[override], out=tmp_path / "run")
    assert text in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "name, decay, threshold", [("small", 0.5, 1.0), ("vgg9-bntt", 0.95, 1.0), ("cifarnet", 0.1, 0.25)]
)
def test_one_neuron_key_leaves_the_networks_others(name: str, decay: float, threshold: float) -> None:
    config = configs.from_tree({"network": {"name": name, "neuron": {"strict": False}}})
    neuron = neuron_for(config)
    assert neuron is not None and not neuron.strict
    assert (neuron.decay, neuron.v_threshold) == (decay, threshold)
    assert neuron_for(configs.from_tree({"network": {"name": name}})) is None


def test_pixels_follow_the_coding(tiny: dict[str, Any]) -> None:
    def mode(**network: Any) -> str:
        config = configs.from_tree({"network": network})
        return preprocess_for(config, data.load("digits", "train")).mode

    assert mode(name="vgg9-bntt") == mode(name="small", coding="poisson") == "signed"
    assert mode(name="small") == mode(name="cifarnet") == mode(name="vgg9-bntt", coding="direct") == "unit"


def test_a_round_below_the_quorum_changes_nothing(tiny: dict[str, Any], tmp_path: Path) -> None:
    tiny["participation"] = {"schedule": "list", "rounds": [[0], [0, 1]], "quorum": 2}
    folder = RunFolder(spikefed.run(tiny | {"rounds": 2}, out=tmp_path / "run"))
    lines = folder.read_lines(folder.metrics)
    assert [line["merged"] for line in lines] == [False, True]
    assert lines[0]["downstream_bytes"] == lines[1]["downstream_bytes"] == 0  # nothing was voted before round 2


@pytest.mark.parametrize("method", ["fsd", "fedavg"])
def test_the_downlink_is_coded_once_for_all_clients(
    tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    tiny["data"]["clients"] = 3
    tiny["method"] = {"name": method}
    federation = build(configs.from_tree(tiny))
    server = federation.server(federation.local_transport(), Ledger())
    sent: list[tuple[int, int]] = []
    encode = ServerLink.encode

    def spy(self: ServerLink, message: Any, client: int, **options: Any) -> bytes:
        sent.append((message.round, id(message)))
        return encode(self, message, client, **options)

    monkeypatch.setattr(ServerLink, "encode", spy)
    for _ in range(3):
        server.run_round()
    for round in (2, 3):
        assert len({message for at, message in sent if at == round}) == 1
