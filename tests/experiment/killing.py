"""A run whose process is killed in the middle of a round, once, and what resuming it must give."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from experiment.runs import fingerprint
from spikefed.experiment import toml

KILLED = """
import os, pathlib, signal
from {module} import {name} as Base

class Killed(Base):
    name = "killed"

    def client_round(self, state, downlink, ctx):
        first = pathlib.Path("killed-once")
        if ctx.round == {round} and ctx.client == 1 and not first.exists():
            first.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().client_round(state, downlink, ctx)
"""


def check_killed_is_whole(folder: Path, tables: dict[str, Any], base: str, round: int) -> None:
    """Killed in client 1's step and resumed, a run ends like one that was left alone.

    Args:
        folder: an empty one.
        tables: the experiment; its method's name is replaced.
        base: the method's class, as ``module:Class``.
        round: in which the process is killed.
    """
    module, _, name = base.partition(":")
    (folder / "killedmethod.py").write_text(KILLED.format(module=module, name=name, round=round))
    method = {**tables["method"], "name": "killedmethod:Killed"}
    (folder / "killed.toml").write_text(toml.dump({**tables, "method": method}))
    command = [sys.executable, "-m", "spikefed", "run", "killed.toml", "--quiet", "--out"]
    paths = [str(folder), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}

    def run(out: str, *more: str) -> int:
        return subprocess.run([*command, out, *more], cwd=folder, env=environment, check=False).returncode

    assert run("parts") == -signal.SIGKILL
    assert run("parts", "--resume") == 0 and run("whole") == 0
    assert fingerprint(folder / "parts") == fingerprint(folder / "whole")
