"""Prediction from arrays, files, data sets and loaders: the same images give the same answers however they come."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from spikefed import data, networks
from spikefed.errors import DataError
from spikefed.models import Model, ModelFacts, Prediction
from spikefed.neurons import LIFParameters
from spikefed.training import Preprocess

TEST = data.load("digits", "test")
IMAGES, LABELS = TEST.images[:300], TEST.labels[:300]


@pytest.fixture(scope="module")
def model() -> Model:
    net = networks.build("4C3-AP2-16FC", input_shape=(1, 8, 8), classes=10, steps=3, coding="bernoulli", seed=1)
    with torch.no_grad():
        for _ in range(40):
            net(IMAGES / 255)  # running statistics under which it fires
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    return Model(net, ModelFacts({"name": "4C3-AP2-16FC"}, (1, 8, 8), 10, Preprocess("unit"), names, seed=3, round=2))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for number, image in enumerate(IMAGES[:12, 0].numpy()):
        Image.fromarray(image).save(tmp_path / f"{number:02d}.png")
    return tmp_path


class Items(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int) -> Any:
        if index >= len(IMAGES):
            raise IndexError(index)
        return IMAGES[index].float() / 255, int(LABELS[index])


@pytest.mark.parametrize(
    "source",
    [
        IMAGES,
        IMAGES.numpy(),
        IMAGES[:, 0],
        IMAGES.float() / 255,
        (IMAGES, LABELS),
        {"images": IMAGES.numpy(), "labels": LABELS.numpy()},
        TEST.subset(range(300)),
        TensorDataset(IMAGES, LABELS),
        Items(),
        DataLoader(Items(), batch_size=7),
        [IMAGES[:100], IMAGES[100:]],
        (image for image in IMAGES),
        [Image.fromarray(image) for image in IMAGES[:, 0].numpy()],
    ],
    ids=lambda source: type(source).__name__,
)
def test_the_same_images_give_the_same_answers(model: Model, source: Any) -> None:
    whole = model.outputs(IMAGES)
    found = model.predict(source)
    assert torch.equal(found.scores, whole.mean(dim=2)) and found.scores.std() > 0
    assert found.truth is None or torch.equal(found.truth, LABELS)
    assert found.accuracy is None or found.accuracy == float((found.labels == LABELS).double().mean())


def test_files_of_every_kind(model: Model, files: Path) -> None:
    wanted = model.predict(IMAGES[:12]).scores
    names = [str(path) for path in sorted(files.glob("*.png"))]
    folder = model.predict(files)
    assert torch.equal(folder.scores, wanted) and folder.images == names
    assert torch.equal(model.predict(names).scores, wanted)
    assert torch.equal(model.predict([Path(name) for name in names]).scores, wanted)
    np.savez(files / "a.npz", test_images=IMAGES[:12, 0].numpy(), test_labels=LABELS[:12].numpy(), train_images=[[0]])
    np.save(files / "a.npy", IMAGES[:12].numpy())
    one = model.predict(files / "a.npz")
    assert torch.equal(one.scores, wanted) and torch.equal(model.predict(files / "a.npy").scores, wanted)
    assert one.truth is not None and one.truth.tolist() == LABELS[:12].tolist()
    assert one.images[1] == f"{files / 'a.npz'}[1]"
    np.savez(files / "named.npz", x=IMAGES[:12], y=np.array(model.class_names)[LABELS[:12]])
    assert torch.equal(model.predict(files / "named.npz").truth, LABELS[:12])  # type: ignore[arg-type]
    np.savez(files / "lone.npz", whatever=IMAGES[:12])
    assert torch.equal(model.predict(files / "lone.npz").scores, wanted)


def test_jpeg_is_read_as_its_pixels(model: Model, files: Path) -> None:
    picture = Image.fromarray(IMAGES[0, 0].numpy())
    picture.save(files / "a.jpeg", quality=95)
    picture.convert("RGB").save(files / "colour.png")
    picture.convert("RGBA").save(files / "clear.png")
    read = np.asarray(Image.open(files / "a.jpeg"))
    assert torch.equal(model.predict(files / "a.jpeg").scores, model.predict(read).scores)
    for name in ("colour.png", "clear.png"):
        found = model.predict(files / name)
        assert torch.equal(found.scores, model.predict(IMAGES[0]).scores)
        assert list(found.notes) == ["pictures in colour were made grey"]


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.png", b"no picture", "a.png cannot be read as a picture"),
        ("a.png", None, "there is no file"),
        ("a.npz", b"PK no", "a.npz is no .npz file of plain arrays"),
        ("a.npy", b"\x93NUMPY", "a.npy is no .npy file of plain numbers"),
    ],
)
def test_damaged_files_are_one_sentence(model: Model, tmp_path: Path, name: str, content: Any, text: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=text) as caught:
        model.predict(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_predicted_is_said(model: Model, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no pictures"):
        model.predict(tmp_path)
    with pytest.raises(DataError, match="no images were given"):
        model.predict([])
    with pytest.raises(DataError, match="no images were given"):
        model.predict(IMAGES[:0])
    with pytest.raises(DataError, match="int holds none"):
        model.predict(7)
    with pytest.raises(DataError, match="a dict with pixel, label; it needs 'images'"):
        model.predict({"pixel": IMAGES, "label": LABELS})
    with pytest.raises(DataError, match="label '10' is none of the network's classes"):
        model.predict((IMAGES, LABELS + 1))
    np.savez(tmp_path / "two.npz", a=IMAGES, b=IMAGES)
    with pytest.raises(DataError, match="two.npz holds a, b; name its images"):
        model.predict(tmp_path / "two.npz")
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "large.png")
    with pytest.raises(DataError, match="it is 30x20 pixels, the network takes 8x8; .*resize=True"):
        model.predict(tmp_path / "large.png")
    assert len(model.predict(tmp_path / "large.png", resize=True)) == 1
    with pytest.raises(DataError, match="floats from 0 to 1; say which numbers are black and white"):
        model.predict(IMAGES.float())
    assert torch.equal(model.predict(IMAGES.float(), levels=(0, 255)).scores, model.predict(IMAGES).scores)


def test_rows_and_csv(model: Model) -> None:
    found = model.predict((IMAGES[:4], LABELS[:4]))
    rows = list(found)
    assert isinstance(rows[0], Prediction) and [row.label for row in rows] == found.labels.tolist()
    table = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert [row["class"] for row in table] == found.names and [int(r["truth"]) for r in table] == LABELS[:4].tolist()
    share = found.scores.max(dim=1).values / found.scores.sum(dim=1).clamp_min(1e-12)
    assert torch.allclose(found.confidence, share) and bool((found.confidence <= 1).all())


def test_silence_is_told_apart() -> None:
    deaf = LIFParameters(decay=0.5, v_threshold=1e6)
    net = networks.build("4C3-AP2", input_shape=(1, 8, 8), classes=10, steps=3, neuron=deaf)
    found = Model(net, ModelFacts({"name": "4C3-AP2"}, (1, 8, 8), 10)).predict(IMAGES[:3])
    assert bool(found.silent.all()) and found.confidence.tolist() == [0, 0, 0] and found.labels.tolist() == [0, 0, 0]


def test_confidence_of_logits_is_their_softmax() -> None:
    net = networks.ann_twin("4C3-AP2", input_shape=(1, 8, 8), classes=10)
    model = Model(net, ModelFacts({"name": "4C3-AP2"}, (1, 8, 8), 10, logit_scale=2.0))
    found = model.predict(IMAGES[:3])
    assert torch.allclose(found.confidence, torch.softmax(2 * found.scores, 1).max(dim=1).values)
    assert not bool(found.silent.any())


def test_statistics_of_batches_are_used_and_put_back() -> None:
    net = networks.build("4C3-AP2", input_shape=(1, 8, 8), classes=10, steps=3)
    model = Model(net, ModelFacts({"name": "4C3-AP2"}, (1, 8, 8), 10, batch_statistics=True))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    one, two = model.predict(IMAGES[:100]), model.predict(IMAGES[:100])
    assert torch.equal(one.scores, two.scores) and not net.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    with pytest.raises(DataError, match="on the statistics of each batch .* one image has not"):
        model.predict(IMAGES[0])
