"""Tables: ``csv:FILE`` with a header line.

==============================================  ====================================================================
column                                          what it is
==============================================  ====================================================================
``label`` (``class``, ``target``, ``y``)        the class, a number or a text
``image`` (``path``, ``file``, ``filename``)    a picture's path, from the table's folder
``split`` (``part``)                            train or test (val counts as test where there is no test)
``series`` (``recording``) with ``time``        rows of one series share it, and stand in the order of ``time``
(``t``, ``step``)
``pixel0``, ``pixel1``, ... (or ``1x1``, ...)   grey levels 0..255 of a square picture
other columns of numbers                        the values: of a time step of a series, else of a row
other columns of texts, and ``person``,         facts of the item: a client each with ``data.partition = "column"``
``client``, ``user``, ``subject``, ``device``
==============================================  ====================================================================
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spikefed.data.folder import Look, looks_like
from spikefed.data.locate import search_folders
from spikefed.data.parts import Part, Reading, part_of
from spikefed.errors import DataError
from spikefed.files import counted_from

CSV = "csv:"
LABEL = ("label", "labels", "class", "target", "y")
PICTURE = ("image", "path", "file", "filename", "image_path")
SPLIT = ("split", "part", "subset")
SERIES = ("series", "recording", "sequence", "series_id")
TIME = ("time", "t", "step", "timestamp")
OWNERS = ("person", "client", "user", "user_id", "subject", "device", "participant", "speaker")
_PIXEL = re.compile(r"(pixel|px|p)_?\d+|\d+x\d+")


def read_table(name: str, data_dir: Path | str | None, reading: Reading) -> dict[str, Part]:
    """The parts of ``csv:FILE``.

    Raises:
        DataError: not found, no header that is known, a cell that is no number, or series of several lengths.
    """
    path = _file(name, data_dir)
    header, rows = _rows(path)
    _refuse_twins(header, path)
    known = {key.strip().lower(): place for place, key in enumerate(header)}
    label = _first(known, LABEL)
    if label is None:
        raise DataError(f"{path} has no column {', '.join(LABEL[:4])}; its header has {', '.join(header[:8])}.")
    _refuse_no_label(rows, label, header, path)
    split = _first(known, SPLIT)
    series = _first(known, SERIES)
    time = _first(known, TIME)
    picture = _first(known, PICTURE)
    named = {place for place in (label, split, series, time, picture) if place is not None}
    facts = [p for key, p in known.items() if p not in named and (key in OWNERS or not _numeric(rows, p))]
    values = [p for p in range(len(header)) if p not in named and p not in facts]
    if picture is None and not values:
        raise DataError(
            f"{path} has neither a column of pictures (image) nor columns of numbers{_comma(rows, header, facts)}; "
            "give one of them."
        )
    parts = _split(rows, split, path)
    made = {}
    for word, mine in parts.items():
        where = f"{path.name} ({word})"
        if picture is not None:
            images = _pictures(path, [row[picture] for row in mine], reading)
            items = mine
            kind = reading
        elif series is not None:
            images, items = _series(mine, series, time, values, header, path)
            kind = Reading("series", steps=reading.steps)
        else:
            images = _numbers(mine, values, header, path)
            items = mine
            square = all(_PIXEL.fullmatch(header[p].strip().lower()) for p in values) and math.isqrt(len(values)) ** 2
            if square == len(values):
                side = math.isqrt(square)
                images = images.reshape(-1, side, side).astype(np.int64)
                kind = Reading("images")
            else:
                kind = Reading("rows")
        columns = {header[p].strip(): _column([row[p] for row in items]) for p in facts}
        made[word] = part_of(images, _column([row[label] for row in items]), where, kind, columns=columns)
    return made


def _file(name: str, data_dir: Path | str | None) -> Path:
    path = Path(name.removeprefix(CSV)).expanduser()
    roots = [Path()] if path.is_absolute() else [*([Path()] if data_dir is None else []), *search_folders(data_dir)]
    for place in (p for root in roots for p in (root / path, root / f"{path}.csv")):
        if place.is_file():
            return place
    _refuse_folder(name, [root / path for root in roots])
    looked = ", ".join(str(root / path) for root in roots)
    raise DataError(
        f"{name} was not found as {looked}{counted_from(roots[0] / path)}: give a .csv file; with data.dir (or "
        "--data-dir) it counts from there."
    )


def _refuse_folder(name: str, places: Sequence[Path]) -> None:
    held = next((place for place in places if place.is_dir()), None)
    if held is not None:
        raise DataError(f"{name}: {held} is a folder, no table; folders of pictures are read as images:{held}.")


def _rows(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            sample = file.read(4096)
            file.seek(0)
            delimiter = max(",;\t", key=sample.partition("\n")[0].count)
            table = [row for row in csv.reader(file, delimiter=delimiter) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table of text: {error}; save it as CSV in UTF-8.") from error
    if len(table) < 2:
        raise DataError(f"{path}: it holds no images; give it a header line and rows.")
    header = table[0]
    rows = table[1:]
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise DataError(f"{path}, row {number}: {len(row)} cells for {len(header)} columns; complete the row.")
    return header, rows


def _refuse_twins(header: list[str], path: Path) -> None:
    names = [key.strip() for key in header]
    twin = next((key for place, key in enumerate(names) if key and key in names[:place]), None)
    if twin is not None:
        raise DataError(f"{path}: column '{twin}' stands twice in the header; give each column a name of its own.")


def _refuse_no_label(rows: list[list[str]], place: int, header: list[str], path: Path) -> None:
    empty = [number for number, row in enumerate(rows, 2) if not row[place].strip()]
    if empty:
        raise DataError(
            f"{path}, row {empty[0]}, column '{header[place]}': the cell is empty, as {len(empty)} "
            f"{'is' if len(empty) == 1 else 'are'} in all; fill it in, or leave the row out."
        )


def _comma(rows: list[list[str]], header: list[str], places: Sequence[int]) -> str:
    """What to say of numbers with a comma in the place of the point."""
    found = ((p, row[p].strip()) for row in rows[:1] for p in places)
    told = next(((header[p], cell) for p, cell in found if _is_number(cell.replace(",", ".", 1))), None)
    return "" if told is None else f" (column '{told[0]}' has '{told[1]}': write decimals with a point)"


def _first(known: dict[str, int], names: Sequence[str]) -> int | None:
    return next((known[name] for name in names if name in known), None)


def _numeric(rows: list[list[str]], place: int) -> bool:
    """Whether at least half of a column's first cells are numbers: a stray text among them is a mistake to name."""
    cells = [row[place].strip() for row in rows[:50]]
    return 2 * sum(map(_is_number, cells)) >= len(cells)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numbers(rows: list[list[str]], places: Sequence[int], header: list[str], path: Path) -> np.ndarray:
    try:
        return np.array([[row[p] for p in places] for row in rows], dtype=np.float64)
    except ValueError:
        for number, row in enumerate(rows, 2):
            for p in places:
                try:
                    float(row[p])
                except ValueError as error:
                    raise DataError(
                        f"{path}, row {number}, column '{header[p]}': '{row[p]}' is no number; fill it in, or leave "
                        "the row out."
                    ) from error
        raise


def _column(cells: list[str]) -> np.ndarray:
    """Whole numbers where all are, else texts."""
    texts = [cell.strip() for cell in cells]
    try:
        return np.array([int(text) for text in texts], dtype=np.int64)
    except ValueError:
        return np.array(texts)


def _split(rows: list[list[str]], place: int | None, path: Path) -> dict[str, list[list[str]]]:
    if place is None:
        return {"train": rows}
    words = {row[place].strip().lower() for row in rows}
    if "train" not in words:
        raise DataError(f"{path}: column of splits has {', '.join(sorted(words)[:6])}; it needs 'train' and 'test'.")
    test = next((word for word in ("test", "val", "valid", "validation") if word in words), None)
    chosen = {"train": "train", **({"test": test} if test else {})}
    return {part: [row for row in rows if row[place].strip().lower() == word] for part, word in chosen.items()}


def _series(
    rows: list[list[str]], key: int, time: int | None, places: Sequence[int], header: list[str], path: Path
) -> tuple[np.ndarray, list[list[str]]]:
    """``[N, T, F]``, and the first row of each series."""
    by_name: dict[str, list[list[str]]] = {}
    for row in rows:
        by_name.setdefault(row[key], []).append(row)
    if time is not None:
        stamps = {name: _numbers(mine, [time], header, path)[:, 0] for name, mine in by_name.items()}
        by_name = {n: [mine[i] for i in np.argsort(stamps[n], kind="stable")] for n, mine in by_name.items()}
    lengths = {len(mine) for mine in by_name.values()}
    if len(lengths) > 1:
        short, long = min(lengths), max(lengths)
        raise DataError(
            f"{path}: series have {short} to {long} rows; cut or fill them to one length, or give windows of equal "
            "length names of their own."
        )
    values = np.stack([_numbers(mine, places, header, path) for mine in by_name.values()])
    return values, [mine[0] for mine in by_name.values()]


def _pictures(path: Path, names: list[str], reading: Reading) -> np.ndarray:
    places = [str(path.parent / name.strip()) for name in names]
    look: Look = looks_like(places, reading.size)
    return np.stack([look.read(place) for place in places])
