"""Rows of numbers and standard input: the same images give the same answers as arrays do."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from spikefed import data, networks
from spikefed.errors import DataError
from spikefed.models import Model, ModelFacts
from spikefed.models.rows import rows_of

TEST = data.load("digits", "test")
IMAGES, LABELS = TEST.images[:8], TEST.labels[:8]


@pytest.fixture(scope="module")
def model() -> Model:
    net = networks.build("4C3-AP2", input_shape=(1, 8, 8), classes=10, steps=3)
    with torch.no_grad():
        for _ in range(40):
            net(IMAGES / 255)
    return Model(net, ModelFacts({"name": "4C3-AP2"}, (1, 8, 8), 10))


def text_of(labelled: bool, levels: float = 1) -> str:
    lines = [",".join(str(v / levels if levels != 1 else v) for v in image.flatten().tolist()) for image in IMAGES]
    if not labelled:
        return "\n".join(lines) + "\n"
    head = ",".join(["label", *(f"pixel{i}" for i in range(64))])
    return "\n".join([head, *(f"{int(y)},{line}" for y, line in zip(LABELS, lines, strict=True))])


def piped(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))


def test_csv_files_with_and_without_a_heading(model: Model, tmp_path: Path) -> None:
    ours = model.predict(IMAGES)
    for name, text in (("a", text_of(False)), ("b", text_of(True)), ("c", text_of(False, 255.0))):
        (tmp_path / f"{name}.csv").write_text(text)
        found = model.predict(tmp_path / f"{name}.csv")
        assert torch.equal(found.scores, ours.scores) and found.images[0] == f"{tmp_path / f'{name}.csv'}[0]"
        assert (found.accuracy is not None) == (name == "b")
    assert found.seconds > 0


def test_standard_input_of_every_kind(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = model.predict(IMAGES)
    array, both, picture = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(array, IMAGES.numpy())
    np.savez(both, images=IMAGES.numpy(), labels=LABELS.numpy())
    Image.fromarray(IMAGES[0, 0].numpy()).save(picture, format="PNG")
    for given in (array.getvalue(), both.getvalue(), text_of(True).encode()):
        piped(monkeypatch, given)
        found = model.predict("-")
        assert torch.equal(found.scores, ours.scores) and found.images[1] == "standard input[1]"
    piped(monkeypatch, picture.getvalue())
    assert torch.equal(model.predict(Path("-")).scores, ours.scores[:1])


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (b"", "standard input gave nothing"),
        (b"\xff\xfe\x00nothing", "holds neither a picture, nor .npy, .npz or lines of numbers"),
        (b"1,2,3\n", "line 1 has 3 numbers, an image 1x8x8 has 64"),
    ],
)
def test_bad_input_is_one_sentence(model: Model, monkeypatch: pytest.MonkeyPatch, given: bytes, text: str) -> None:
    piped(monkeypatch, given)
    with pytest.raises(DataError, match=text):
        model.predict("-")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1,2\n3,x\n", "line 2 holds 'x', which is no number"),
        ("a,b\n", "holds a heading and no rows"),
        ("\n\n", "holds no rows"),
    ],
)
def test_bad_rows(text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        rows_of(text, "it", (2,))


def test_whole_numbers_stay_whole_and_names_stay_names() -> None:
    images, labels = rows_of("y,a,b\ncat,1,2\ndog,3,4\n", "it", (1, 2))
    assert images.dtype == np.int64 and images.tolist() == [[[1, 2]], [[3, 4]]]
    found: Any = labels
    assert found.tolist() == ["cat", "dog"]
    assert rows_of("1.0,2.0\n", "it", (2,))[0].dtype == np.float64
