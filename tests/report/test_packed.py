"""The drawing library in a page is the one that plotly ships, in less than half of the room."""

from __future__ import annotations

import base64
import re
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import spikefed
from experiment.test_take_home import config
from spikefed.report import write_report
from spikefed.report.packed import packed, plotly_js, plotly_packed
from spikefed.report.write import asset


def unpacked(text: str, size: int) -> bytes:
    return zlib.decompress(base64.b85decode(text.replace(",", "<"))[:size])


@given(st.binary(max_size=200))
def test_what_is_packed_comes_back_and_ends_no_script(data: bytes) -> None:
    text, size = packed(data)
    assert unpacked(text, size) == data and len(text) % 5 == 0
    assert not {"<", "/", "\n", '"', "'", "\\"} & set(text)


def test_the_page_reads_the_same_digits() -> None:
    (digits,) = re.findall(r'DIGITS = "(.*)";', asset("unpack.js"))
    last = (base64.b85encode(place.to_bytes(4, "big")).decode()[-1] for place in range(85))
    assert digits == "".join(last).replace("<", ",")


def test_the_element_holds_the_library_under_its_licence() -> None:
    found = re.fullmatch(
        r'<script type="text/plain" id="plotly" data-bytes="(\d+)">(/\*.*?\*/)\n(\S+)</script>',
        plotly_packed(),
        re.DOTALL,
    )
    assert found is not None and "MIT" in found[2]
    assert unpacked(found[3], int(found[1])).decode() == plotly_js()


@pytest.mark.slow
def test_a_report_of_two_runs_is_below_two_megabytes(tmp_path: Path) -> None:
    runs = [
        spikefed.run(config(name, rounds=10, seed=seed), out=tmp_path / f"{name}{seed}")
        for seed, name in enumerate(("never reset", "weights"))
    ]
    page = write_report(runs, tmp_path / "report.html")
    assert page.stat().st_size < 2_000_000
