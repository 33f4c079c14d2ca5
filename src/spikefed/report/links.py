"""Slow links: how long a client's messages take at a stated rate, ``--link NAME=UP[/DOWN[/SHARE]]``.

The three that a report knows by itself are *nominal* rates of their kind, as parameters and not as measurements: no
headers of the layers below, no repeats, no waiting for a slot but the share of time that a sender may be on the air.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from spikefed.errors import ReportError
from spikefed.report.text import number_in

FORM = (
    "NAME=UP, NAME=UP/DOWN or NAME=UP/DOWN/SHARE with bits a second and a share of time, such as 'LoRa=5470/5470/0.01'"
)


@dataclass(frozen=True)
class Link:
    """A link between one client and the server.

    Attributes:
        name: what tables call it.
        up_bps, down_bps: bits a second of each direction, above 0.
        share: of the time in which the link may be used, in (0, 1].
    """

    name: str
    up_bps: float
    down_bps: float
    share: float = 1.0

    def seconds(self, up_bytes: float, down_bytes: float) -> float:
        """How long these bytes of one client take, one direction after the other."""
        return 8 * (up_bytes / self.up_bps + down_bytes / self.down_bps) / self.share

    @property
    def told(self) -> str:
        """The parameters in words."""
        rates = f"{_rate(self.up_bps)} up, {_rate(self.down_bps)} down"
        return rates if self.share == 1.0 else f"{rates}, {100 * self.share:g} % of the time"


LINKS = (
    # LoRaWAN's DR5 in Europe: spreading factor 7, 125 kHz, coding rate 4/5; 1 % duty cycle in its usual sub-bands.
    Link("LoRa", 5_470.0, 5_470.0, 0.01),
    # Category NB1 (3GPP Release 13): peak rates of one device with several tones.
    Link("NB-IoT", 62_500.0, 26_000.0),
    # Category 1 (3GPP Release 8).
    Link("LTE", 5e6, 10e6),
)
"""Kinds of links at nominal rates: assumptions, to be replaced by the rates of a real site."""


def read_link(text: str) -> Link:
    """The link that `FORM` spells.

    Raises:
        ReportError: another form, a rate that is not above 0, a share outside (0, 1].
    """
    name, given, numbers = text.partition("=")
    parts = numbers.split("/")
    if given and re.search(r"\d\s*[kMG]?(bit|bps|b/s)", numbers):
        raise ReportError(f"link '{text}' has a unit; write bits a second as plain numbers, such as 5470")
    if not given or not name.strip() or not 1 <= len(parts) <= 3:
        raise ReportError(f"link '{text}' has another form than {FORM}")
    values = [_number(part, text) for part in parts]
    up = values[0]
    down = values[1] if len(values) > 1 else up
    share = values[2] if len(values) > 2 else 1.0
    if min(up, down) <= 0:
        raise ReportError(f"link '{text}': a rate has to be above 0 bits a second")
    if not 0 < share <= 1:
        raise ReportError(f"link '{text}': a share of time is above 0 and at most 1, such as 0.01 for 1 %")
    return Link(name.strip(), up, down, share)


def _number(text: str, whole: str) -> float:
    value = number_in(text)
    if value is None:
        raise ReportError(f"link '{whole}': '{text.strip()}' is no number; the form is {FORM}")
    return value


def _rate(bps: float) -> str:
    for size, unit in ((1e6, "Mbit/s"), (1e3, "kbit/s")):
        if bps >= size:
            return f"{bps / size:.3g} {unit}"
    return f"{bps:.3g} bit/s"
