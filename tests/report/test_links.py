"""Links as a reader types them, and how long bytes take on them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikefed.errors import ReportError
from spikefed.report.links import LINKS, Link, read_link

RATES = st.floats(1.0, 1e9)


@given(RATES, RATES, st.floats(0.001, 1.0))
def test_a_link_that_is_written_down_is_read_again(up: float, down: float, share: float) -> None:
    assert read_link(f"field = {up!r}/{down!r}/{share!r}") == Link("field", up, down, share)


@given(RATES, st.floats(0.0, 1e9), st.floats(0.0, 1e9))
def test_time_grows_with_bytes_and_falls_with_the_rate(rate: float, up: float, down: float) -> None:
    link = Link("a", rate, rate)
    assert link.seconds(up, down) == pytest.approx(link.seconds(up, 0) + link.seconds(0, down))
    assert Link("b", 2 * rate, 2 * rate).seconds(up, down) == pytest.approx(link.seconds(up, down) / 2)
    assert Link("c", rate, rate, 0.5).seconds(up, down) == pytest.approx(2 * link.seconds(up, down))


def test_one_rate_stands_for_both_directions_and_the_whole_time() -> None:
    assert read_link("LAN=1e6") == Link("LAN", 1e6, 1e6, 1.0)
    assert read_link("LAN=1000").seconds(125, 0) == 1.0
    assert Link("LoRa", 5470, 5470, 0.01).told == "5.47 kbit/s up, 5.47 kbit/s down, 1 % of the time"
    assert [link.name for link in LINKS] == ["LoRa", "NB-IoT", "LTE"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("LoRa", "has another form than NAME=UP"),
        ("=5470", "has another form"),
        ("a=1/2/0.5/4", "has another form"),
        ("LoRa=5.47 kbit/s", "has a unit; write bits a second as plain numbers"),
        ("LoRa=fast", "'fast' is no number"),
        ("LoRa=nan", "'nan' is no number"),
        ("LoRa=0", "a rate has to be above 0"),
        ("LoRa=5470/-1", "a rate has to be above 0"),
        ("LoRa=5470/5470/1", ""),
        ("LoRa=5470/5470/10", "a share of time is above 0 and at most 1"),
    ],
)
def test_a_slip_of_the_reader_is_one_sentence(text: str, says: str) -> None:
    if not says:
        assert read_link(text).share == 1.0
        return
    with pytest.raises(ReportError, match=says):
        read_link(text)
