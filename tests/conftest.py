"""No test holds a clock or processor time to a bound: machines differ and are busy. Benchmarks say how fast things are.

Limits of time that remain end what hangs (pytest's own, subprocesses', waits for a page); they are many times what a
slow machine needs.

`make test` runs several files at a time (pytest-xdist, a file never in two processes): module fixtures are made once.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook
from tests import shapes

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: the other processes keep the other cores busy
    os.environ.setdefault("OMP_NUM_THREADS", "1")

SOURCES = Path(__file__).parents[1] / "src"
ANNOTATED = [
    ".".join(path.relative_to(SOURCES).with_suffix("").parts)
    for path in sorted(SOURCES.rglob("*.py"))
    if "from jaxtyping import" in path.read_text()
]
"""Modules that annotate shapes: in tests every call of their functions is checked, axes that share a name included."""

install_import_hook(ANNOTATED, f"{shapes.__name__}.shaped_only")

# Hypothesis would fail an example of more than 200 ms, and a slow generator.
settings.register_profile("spikefed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("spikefed")

LONGEST_FIRST = (
    "report/test_docs.py",
    "deploy/test_faults_losses.py",
    "deploy/test_soak.py",
    "deploy/test_faults_clients.py",
    "deploy/test_fleet.py",
    "wire/test_fuzz.py",
    "federated/test_robust_digits.py",
    "deploy/test_faults_server.py",
    "browser/test_report_page.py",
    "experiment/test_run.py",
    "deploy/test_faults_liars.py",
    "experiment/test_documented.py",
    "experiment/test_sweep.py",
    "deploy/test_faults_strangers.py",
)
"""Files that take longest (`pytest --durations`): begun first, and fleets, which mostly wait, beside what computes."""


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Half as many processes again as cores: fleets wait for deadlines and for one another most of the time."""
    return max(2, (os.cpu_count() or 1) * 3 // 2)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In several processes what takes long begins first; everything else stays in its order."""
    if not hasattr(config, "workerinput"):
        return
    here = Path(__file__).parent
    rank = {here / name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))
