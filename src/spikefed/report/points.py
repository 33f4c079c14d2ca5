"""A reader's own numbers in the figures: ``--points FILE.csv``, a point a line.

=====================  ============================================================================================
column                 holds
=====================  ============================================================================================
``label``              what the point is called
``accuracy``           in [0, 1]
``round``              after which it was measured; without it the point is in no figure over rounds
``upstream_bytes``     of all clients together from round 1 on; likewise ``downstream_bytes``, ``paper_upstream_bytes``
                       (Algorithm 2 payload) and ``text_upstream_bytes`` (the paper's text measure)
=====================  ============================================================================================

``label``, ``accuracy`` and at least one of the others have to be there; cells of the others may be empty.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from spikefed.errors import ReportError
from spikefed.files import counted_from
from spikefed.report.curves import MEASURES
from spikefed.report.text import number_in

NEEDED = ("label", "accuracy")
PLACES = {"rounds": "round", **{measure: key for measure, (key, _) in MEASURES.items()}}
"""What a figure is over, to the column that places a point there."""


@dataclass(frozen=True)
class ReaderPoint:
    """One of the reader's numbers.

    Attributes:
        label: what it is called.
        accuracy: in [0, 1].
        places: where it stands, by key of `PLACES`; absent where the file does not say.
    """

    label: str
    accuracy: float
    places: Mapping[str, float]


def read_points(path: Path | str) -> list[ReaderPoint]:
    """The points of a CSV file in UTF-8, with a header.

    Raises:
        ReportError: no such file, another header, or a cell that is no number: one sentence that says where.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = getattr(error, "strerror", None) or error
        raise ReportError(f"points {path} cannot be read ({why}){counted_from(path)}; give a CSV file") from error
    rows = [(number, row) for number, row in enumerate(rows, start=1) if any(map(str.strip, row))]
    if not rows:
        raise ReportError(f"points {path} is empty; give a header ({_header()}) and a line a point")
    header = [name.strip() for name in rows[0][1]]
    _check_header(header, path)
    if len(rows) < 2:
        raise ReportError(f"points {path} has a header and no point; give a line a point")
    long = next(((number, row) for number, row in rows[1:] if any(map(str.strip, row[len(header) :]))), None)
    if long is not None:
        raise ReportError(
            f"points {path}, line {long[0]}: {len(long[1])} values stand below {len(header)} columns; quote a "
            "label that has commas"
        )
    return [_point(dict(zip(header, row, strict=False)), f"points {path}, line {number}") for number, row in rows[1:]]


def _check_header(header: list[str], path: Path) -> None:
    missing = [name for name in NEEDED if name not in header]
    strange = [name for name in header if name not in (*NEEDED, *PLACES.values())]
    if strange or len(set(header)) < len(header):
        wrong = f"an unknown column '{strange[0]}'" if strange else "a column twice"
        raise ReportError(f"points {path} has {wrong}; its columns are {_header()}")
    if missing or not set(header) & set(PLACES.values()):
        lacks = f"column '{missing[0]}'" if missing else f"a column that places points: {', '.join(PLACES.values())}"
        raise ReportError(f"points {path} lacks {lacks}; its columns are {_header()}")


def _header() -> str:
    return f"{', '.join(NEEDED)} and any of {', '.join(PLACES.values())}"


def _point(cells: dict[str, str], where: str) -> ReaderPoint:
    label = cells.get("label", "").strip()
    if not label:
        raise ReportError(f"{where}: the point has no label; give it a name")
    accuracy = _number(cells, "accuracy", where)
    if accuracy is None or not 0 <= accuracy <= 1:
        raise ReportError(
            f"{where}: accuracy '{cells.get('accuracy', '').strip()}' is no share from 0 to 1; write 0.82 for 82 %"
        )
    found = {place: _number(cells, column, where) for place, column in PLACES.items()}
    places = {place: value for place, value in found.items() if value is not None}
    if not places:
        raise ReportError(f"{where}: nothing says where the point stands; fill in one of {', '.join(PLACES.values())}")
    for place, value in places.items():
        if value < (1 if place == "rounds" else 0):
            least = "below 1" if place == "rounds" else "below 0"
            raise ReportError(f"{where}: {PLACES[place]} {value:g} is {least}; give the number that was counted")
        if value == 0:
            raise ReportError(
                f"{where}: {PLACES[place]} 0 has no place on the logarithmic axis of bytes; leave the cell empty"
            )
    return ReaderPoint(label, accuracy, places)


def _number(cells: Mapping[str, str], column: str, where: str) -> float | None:
    text = cells.get(column, "").strip()
    if not text:
        return None
    value = number_in(text)
    if value is None:
        raise ReportError(f"{where}: {column} '{text}' is no number; write digits alone, such as 0.82 or 1500000")
    return value
