"""An allocation that the system refuses is one sentence and exit code 2; other failures stay what they are."""

from __future__ import annotations

import importlib
import sys

import pytest

entry = importlib.import_module("spikefed.cli.main")  # the package's own `main` is the function

CPU = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 360 bytes. Error code 12"
CUDA = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.1 GiB"


@pytest.mark.parametrize(
    ("failed", "said"),
    [
        (RuntimeError(CPU), "there is not enough memory for 360 bytes"),
        (RuntimeError(CUDA), "there is not enough memory for 20.00 GiB"),
        (MemoryError(), "there is not enough memory"),
        (RuntimeError("shapes cannot be multiplied"), ""),
    ],
)
def test_what_is_said_of_it(failed: MemoryError | RuntimeError, said: str) -> None:
    assert entry.memory_wanted(failed) == said


@pytest.mark.parametrize("text", [CPU, "a defect"])
def test_the_command_line_ends_with_it(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> None:
        raise RuntimeError(text)

    monkeypatch.setattr(entry, "whole", lambda: fails)
    monkeypatch.setattr(entry, "quiet_libraries", lambda: None)
    monkeypatch.setattr(sys, "argv", ["spikefed", "run", "a.toml"])
    if text == CPU:
        with pytest.raises(SystemExit) as ended:
            entry.main()
        assert ended.value.code == 2
        assert "not enough memory for 360 bytes; take fewer images" in " ".join(capsys.readouterr().err.split())
    else:
        with pytest.raises(RuntimeError, match="a defect"):
            entry.main()
