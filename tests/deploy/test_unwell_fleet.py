"""A client whose network is NaN and a server that never fires are told alike locally, in a pool, over Flower."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("flwr")

import spikefed  # noqa: E402
from deploy.fleets import HANGS_S, lines  # noqa: E402
from experiment.test_divergence import HERE, config, lines_of  # noqa: E402
from spikefed.deploy.loopback import Loopback, differing  # noqa: E402
from spikefed.deploy.status import status_of, status_text  # noqa: E402
from spikefed.experiment import toml  # noqa: E402


def written(folder: Path) -> Path:
    """Client 1 diverges in every round; with such a threshold nobody's outputs fire."""
    tree = config(HERE + "FsdOne")
    tree["network"] = {"name": "4C3-AP2-12FC", "steps": 4, "neuron": {"threshold": 1e6}}
    file = folder / "unwell.toml"
    file.write_text(toml.dump(tree))
    return file


def told(found: list[dict[str, Any]]) -> list[Any]:
    """Who was dropped for what, and what is not well, round by round."""
    return [
        ([(drop["client"], drop["kind"], drop["reason"]) for drop in line["dropped"]], line["health"]) for line in found
    ]


def check(found: list[dict[str, Any]], run: Path) -> None:
    for line in found:
        assert [(drop["client"], drop["kind"]) for drop in line["dropped"]] == [(1, "diverged")] and line["merged"]
        assert ("silent", "outputs", 1) in [(f["kind"], f["what"], f["since"]) for f in line["health"]]
    said = status_text(status_of(run))
    assert "diverged 2" in said and "not well since round 1: the outputs never fire" in said


def test_local_and_pool_say_the_same(tmp_path: Path) -> None:
    file = written(tmp_path)
    local = spikefed.run(file, out=tmp_path / "local")
    pool = spikefed.run(file, overrides=["run.workers=2"], out=tmp_path / "pool")
    assert differing(local, pool) == [] and told(lines_of(local)) == told(lines_of(pool))
    check(lines_of(local), local)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_fleet_says_the_same(tmp_path: Path, fleet: Callable[..., Loopback], monkeypatch: pytest.MonkeyPatch) -> None:
    here = str(Path(__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")])))
    file = written(tmp_path)
    f = fleet(file)
    f.start()
    assert f.wait("server", HANGS_S) == 0, f.said("server")
    local = spikefed.run(file, out=tmp_path / "local")
    assert differing(local, f.run) == [] and told(lines(f)) == told(lines_of(local))
    check(lines(f), f.run)
