"""The command in provenance.json can be pasted into a shell, whatever it holds."""

from __future__ import annotations

import shlex

import pytest

from spikefed.experiment.provenance import command


@pytest.mark.parametrize("program", ["/usr/local/bin/spikefed", "/lib/spikefed/__main__.py"])
def test_a_shell_gives_the_same_words_back(program: str) -> None:
    words = ["run", "my file.toml", "--set", "run.targets=[0.5, 0.8]", "--set", "name=it's"]
    assert shlex.split(command([program, *words])) == ["spikefed", *words]


def test_a_script_is_named_and_a_notebook_is_not_mistaken_for_one() -> None:
    assert command(["study.py", "--seed", "3"]) == "python study.py --seed 3"
    assert command(["/lib/ipykernel_launcher.py", "-f", "/tmp/k.json"]) == "spikefed.run in a notebook"
    assert command(["-c"]) == command([""]) == "spikefed.run in a Python session"
