"""The suite's own rules: no clock in a bound, and the files that begin first exist."""

from __future__ import annotations

import re
from pathlib import Path

from conftest import LONGEST_FIRST

HERE = Path(__file__).parent


def test_no_test_reads_a_clock_for_a_bound() -> None:
    """`time.monotonic` may end a wait for something that hangs; whatever measures belongs into benchmarks/."""
    clocks = re.compile(
        r"\b(process_time|thread_time|perf_counter|getrusage|timeit|os\.times|time\.time\(|monotonic_ns|time_ns|datetime\.now)(?:\b|(?<=\())"
    )
    sources = {path: path.read_text(encoding="utf-8") for path in HERE.rglob("*.py") if path != Path(__file__)}
    assert len(sources) > 100
    assert [str(path.relative_to(HERE)) for path, text in sources.items() if clocks.search(text)] == []


def test_what_begins_first_is_there() -> None:
    assert [name for name in LONGEST_FIRST if not (HERE / name).is_file()] == []
