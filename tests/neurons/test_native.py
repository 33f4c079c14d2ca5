"""The optional library: found, switched off, refused, and its build that may fail without failing the install."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spikefed import native
from spikefed.errors import ConfigError
from spikefed.neurons import LIF, LIFParameters, norm_lif, record_paths

ROOT = Path(__file__).parents[2]


def test_switched_off_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIKEFED_NATIVE", "0")
    assert native.library() is None and "SPIKEFED_NATIVE" in native.why_not()
    x = torch.randn(4, 3, 5)
    assert LIF(decay=0.5)(x).shape == x.shape  # the reference takes over
    with record_paths() as choices:
        norm_lif(torch.randn(4, 3), LIFParameters(decay=0.5, v_threshold=1.0), steps=2)
    assert choices[0].path == "reference" and "SPIKEFED_NATIVE" in choices[0].reason


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SPIKEFED_NATIVE", raising=False)
    native._load.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    native._load.cache_clear()


@pytest.mark.parametrize("content", [None, b"no library at all"])
def test_missing_or_broken_library_is_a_reason_not_an_error(fresh, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / native.NAME).write_bytes(content)
    fresh.setattr(native, "__file__", str(tmp_path / "native.py"))
    assert native.library() is None
    assert "install" in native.why_not()


@pytest.mark.skipif(native.library() is None, reason="no native library")
def test_another_interface_number_is_refused(fresh) -> None:
    fresh.setattr(native, "ABI", native.ABI + 1)
    assert native.library() is None and "interface" in native.why_not()


@pytest.mark.skipif(
    native.library() is None or sys.platform != "linux", reason="no native library, or another platform"
)
def test_no_second_thread_pool_is_loaded() -> None:
    code = """
import torch
from pathlib import Path
def pools(): return {l.split()[-1] for l in Path("/proc/self/maps").read_text().splitlines() if "omp" in l}
torch.set_num_threads(2); torch.ones(10**6).exp()
before = pools()
from spikefed import native
from spikefed.neurons import LIF
LIF(decay=0.5)(torch.randn(4, 64, 4096))
assert native.lend_threads(native.library()) and pools() == before, pools() ^ before
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(
    not (ROOT / "setup.py").exists() or importlib.util.find_spec("setuptools") is None, reason="no checkout"
)
def test_build_without_a_compiler_succeeds_and_says_so(tmp_path: Path) -> None:
    environment = {**os.environ, "CC": "/nonexistent-cc", "CXX": "/nonexistent-cxx"}
    command = [
        sys.executable,
        "setup.py",
        "build_ext",
        "--build-lib",
        str(tmp_path),
        "--build-temp",
        str(tmp_path / "t"),
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0
    assert "spikefed works without it" in done.stdout + done.stderr
    assert not list(tmp_path.glob("**/*.so"))


def test_keeping_memory_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "other")
    assert native.keep_memory() is False


def test_memory_is_handed_back_once_the_process_has_grown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sys.platform != "linux" or native.resident_bytes() > 10 * 2**20
    sizes = iter([100, 140, 160, 110, 150, 161, 120])
    monkeypatch.setattr(native, "resident_bytes", lambda: next(sizes))
    trim = native.Trim(step=50)  # at 100
    if sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("no malloc_trim in this C library")
    assert [trim(), trim(), trim(), trim()] == [False, True, False, True]  # 140; 160, then 110; 150; 161, then 120


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_holes_between_small_arrays_are_handed_back() -> None:
    script = (
        "import numpy as np; from spikefed import native; native.keep_memory()\n"
        "big, small = [], []\n"
        "for _ in range(200): big.append(np.ones(2**20, np.uint8)); small.append(np.ones(64, np.uint8))\n"
        "trim = native.Trim(step=50 * 2**20); before = native.resident_bytes()\n"
        "big.clear(); trim.step = 0; assert trim(); print(before - native.resident_bytes())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 150 * 2**20


def test_the_switch_of_the_library_is_0_or_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIKEFED_NATIVE", "no")
    with pytest.raises(ConfigError, match="SPIKEFED_NATIVE is 'no'; set it to 0"):
        native.library()
    monkeypatch.setenv("SPIKEFED_NATIVE", "0")
    assert native.library() is None
    found = native._load()[0]
    for said in ("", "1"):
        monkeypatch.setenv("SPIKEFED_NATIVE", said)
        assert native.library() is found
