"""The command in provenance.json can be pasted into a shell, whatever it holds."""

from __future__ import annotations

import shlex

import pytest

from spikefed.experiment import from_tree
from spikefed.experiment.provenance import command, provenance
from spikefed.federated.methods.fsd import Fsd


@pytest.mark.parametrize("program", ["/usr/local/bin/spikefed", "/lib/spikefed/__main__.py"])
def test_a_shell_gives_the_same_words_back(program: str) -> None:
    words = ["run", "my file.toml", "--set", "run.targets=[0.5, 0.8]", "--set", "name=it's"]
    assert shlex.split(command([program, *words])) == ["spikefed", *words]


class Named(Fsd):
    title = "Median vote"


class Nameless(Fsd):
    """Inherits the title of another method, which is not its own."""


class Heir(Named):
    """Inherits that of an own one."""


def test_the_title_of_an_own_method_is_kept_for_reports() -> None:
    told = {made: provenance(from_tree({"method": {"name": f"{__name__}:{made}"}})) for made in ("Named", "Heir")}
    assert {facts["method_title"] for facts in told.values()} == {"Median vote"}
    for name in (f"{__name__}:Nameless", "fsd"):
        assert "method_title" not in provenance(from_tree({"method": {"name": name}}))


def test_a_script_is_named_and_a_notebook_is_not_mistaken_for_one() -> None:
    assert command(["study.py", "--seed", "3"]) == "python study.py --seed 3"
    assert command(["/lib/ipykernel_launcher.py", "-f", "/tmp/k.json"]) == "spikefed.run in a notebook"
    assert command(["-c"]) == command([""]) == "spikefed.run in a Python session"
