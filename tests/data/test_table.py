"""Tables as CSV: pictures by path, pixels in columns, rows of numbers, series in long form, people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spikefed import data
from spikefed.errors import DataError

R = np.random.default_rng(0)


def write(path: Path, header: str, rows: list[str], **more: Any) -> str:
    path.write_text("\n".join([header, *rows]) + "\n", encoding=more.get("encoding", "utf-8"))
    return f"csv:{path}"


def test_rows_of_numbers_with_texts_as_facts(tmp_path: Path) -> None:
    values = R.normal(size=(40, 3)).round(4)
    rows = [f"{v[0]},{v[1]},{v[2]},{'ab'[n % 2]},p{n % 4}" for n, v in enumerate(values)]
    name = write(tmp_path / "t.csv", "height,width,mass,label,person", rows)
    train, test = data.load_both(name)
    assert (train.shape, train.values, train.class_names) == ((3, 1, 1), "reals", ("a", "b"))
    assert set(train.columns) == {"person"} and len(train) + len(test) == 40
    known = {tuple(v.astype(np.float32).tolist()): n for n, v in enumerate(values)}
    for part in (train, test):
        for row, label, person in zip(part.images, part.labels.tolist(), part.columns["person"], strict=True):
            n = known[tuple(row.flatten().tolist())]
            assert (label, person) == (n % 2, f"p{n % 4}")


@pytest.mark.parametrize(("encoding", "mark"), [("utf-8-sig", ","), ("utf-8", ";"), ("utf-8", "\t")])
def test_pixels_in_columns_with_any_delimiter_and_byte_order_mark(encoding: str, mark: str, tmp_path: Path) -> None:
    pixels = R.integers(0, 256, (20, 9))
    header = mark.join(["label", *[f"pixel{i}" for i in range(9)], "split"])
    rows = [mark.join([str(n % 2), *map(str, p), "test" if n > 14 else "train"]) for n, p in enumerate(pixels)]
    train, test = data.load_both(write(tmp_path / "t.csv", header, rows, encoding=encoding))
    assert (train.shape, train.values, len(train), len(test)) == ((1, 3, 3), "pixels", 15, 5)
    assert np.array_equal(test.images.numpy().reshape(5, 9), pixels[15:])


def test_series_in_long_form_stand_in_the_order_of_time(tmp_path: Path) -> None:
    values = R.normal(size=(12, 5, 2)).round(4).astype(np.float32)
    rows = [f"{n},{t},{values[n, t, 0]},{values[n, t, 1]},{n % 3},u{n % 2}" for n in range(12) for t in range(5)]
    shuffled = [rows[i] for i in R.permutation(60)]
    train, test = data.load_both(write(tmp_path / "t.csv", "series,time,x,y,label,user", shuffled))
    assert (train.steps, train.shape) == (5, (2, 1, 1)) and len(train) + len(test) == 12
    found = {part.images[i].numpy().tobytes() for part in (train, test) for i in range(len(part))}
    assert found == {v.tobytes() for v in values}


def test_pictures_by_path(tmp_path: Path) -> None:
    rows = []
    for n in range(20):
        Image.fromarray(R.integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(tmp_path / f"{n}.png")
        rows.append(f"{n}.png,{'cat' if n % 2 else 'dog'},dev{n % 3}")
    train, _ = data.load_both(write(tmp_path / "t.csv", "filename,label,device", rows))
    assert train.shape == (3, 6, 6) and train.class_names == ("cat", "dog") and set(train.columns) == {"device"}


@pytest.mark.parametrize(
    ("header", "rows", "sentence"),
    [
        ("x,y2", ["1,2"], "has no column label, labels, class, target; its header has x, y2"),
        ("label", ["1"], "has neither a column of pictures .image. nor columns of numbers; give one"),
        ("label;x", ["1;0,5", "0;-1,5"], r"nor columns of numbers .column 'x' has '0,5': write decimals with a point."),
        ("label,x", ["1,2", " ,3", "0,3", ",4"], "row 3, column 'label': the cell is empty, as 2 are in all"),
        ("label,x,x", ["1,2,3"], "column 'x' stands twice in the header"),
        ("label,x", [], "it holds no images"),
        ("label,x", ["1,2", "1"], "row 3: 1 cells for 2 columns"),
        ("label,x", ["1,2", "0,?"], r"row 3, column 'x': '\?' is no number"),
        ("label,x", ["1,2", "0,nan"], r"1 number is not finite, the first in item 1 at \[0\]"),
        ("label,x,split", ["1,2,dev"], "column of splits has dev; it needs 'train' and 'test'"),
        ("series,x,label", ["a,1,0", "a,2,0", "b,1,1"], "series have 1 to 2 rows; cut or fill them to one length"),
        ("image,label", ["no.png,1"], "no.png is no picture"),
    ],
)
def test_what_is_wrong_is_one_sentence(header: str, rows: list[str], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=sentence) as error:
        data.load_both(write(tmp_path / "t.csv", header, rows))
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="was not found as .*give a .csv file"):
        data.load_both(f"csv:{tmp_path}/none")
    with pytest.raises(DataError, match=r"is a folder, no table; folders of pictures are read as images:"):
        data.load_both(f"csv:{tmp_path}")
