"""The official event sets in their folders: labels, parts, people, frames; and a federation of speakers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.data.events.writers import aedat2_bytes, aedat3_bytes, nmnist_bytes, random_events, spikes_file

import spikefed
from spikefed import data
from spikefed.data.events import frames, read_aedat2, sets
from spikefed.data.events.records import Events
from spikefed.errors import DataError

R = np.random.default_rng(0)


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def events_of(side: int, last: int = 300_000) -> dict[str, np.ndarray]:
    return random_events(R, 200, side, last)


def nmnist(root: Path) -> dict[tuple[str, int], dict[str, np.ndarray]]:
    made = {}
    for split, count in (("Train", 3), ("Test", 2)):
        for digit in range(10):
            for n in range(count):
                made[split, digit * count + n] = e = events_of(34)
                put(root / "NMNIST" / split / str(digit) / f"{n:05}.bin", nmnist_bytes(e))
    return made


def test_nmnist_by_folder(tmp_path: Path) -> None:
    made = nmnist(tmp_path)
    for split, count in (("train", 3), ("test", 2)):
        part = data.load("n-mnist", split, tmp_path, reading=data.Reading(steps=5))
        assert part.labels.tolist() == [digit for digit in range(10) for _ in range(count)]
        assert (part.steps, part.shape, part.values) == (5, (2, 34, 34), "counts")
        for row in range(len(part)):
            e = made[split.capitalize(), row]
            wanted = frames(Events(e["x"], e["y"], e["t"], e["p"].astype(np.uint8)), 5, (34, 34))
            assert np.array_equal(part.images[row].numpy(), wanted)


def test_lazy_frames_are_those_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nmnist(tmp_path)
    reading = data.Reading(steps=4, size=17, frames="count")
    eager = data.load("n-mnist", "train", tmp_path, reading=reading)
    monkeypatch.setattr(sets, "IN_MEMORY_BYTES", 0)
    lazy = data.load("n-mnist", "train", tmp_path, reading=reading)
    assert isinstance(lazy.images, data.LazyImages) and lazy.shape == (2, 17, 17)
    rows = torch.tensor([7, 0, 29])
    assert torch.equal(lazy.images[rows].int(), eager.images[rows].int())
    assert torch.equal(lazy.subset(rows).images[:].int(), eager.images[rows].int())
    assert lazy.fingerprint() != lazy.subset(range(29)).fingerprint()


def test_cifar10_dvs_takes_the_last_tenth_for_the_test(tmp_path: Path) -> None:
    folder = tmp_path / "CIFAR10DVS"
    for name in ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"):
        for n in range(20):
            put(folder / name / f"cifar10_{name}_{n}.aedat", aedat2_bytes(events_of(128)))
    train, test = data.load_both("cifar10-dvs", tmp_path)
    assert (len(train), len(test)) == (180, 20) and train.class_names[3] == "cat"
    first = read_aedat2(folder / "airplane" / "cifar10_airplane_18.aedat")  # by number, not by text
    assert np.array_equal(test.images[0].numpy(), frames(first, 8, (128, 128)))
    put(folder / "cat" / "cifar10_cat_old.aedat", b"")
    with pytest.raises(DataError, match="cifar10_cat_old.aedat has no number at the end of its name"):
        data.load("cifar10-dvs", "train", tmp_path)


def gesture(root: Path) -> dict[str, dict[str, np.ndarray]]:
    made, folder = {}, root / "DvsGesture"
    for split, people in (("train", ("user01", "user02")), ("test", ("user24",))):
        names = []
        for person in people:
            stem = f"{person}_led"
            made[stem] = e = random_events(R, 2000, 128, 1_100_000)
            put(folder / f"{stem}.aedat", aedat3_bytes(e, list(range(0, 2000, 90))))
            rows = [f"{c + 1},{c * 100_000},{(c + 1) * 100_000}" for c in range(11)]
            put(folder / f"{stem}_labels.csv", "\n".join(["class,startTime_usec,endTime_usec", *rows]).encode())
            names.append(f"{stem}.aedat")
        put(folder / f"trials_to_{split}.txt", "\n".join([*names, ""]).encode())
    return made


def test_dvs128_gesture_is_cut_by_its_tables(tmp_path: Path) -> None:
    made = gesture(tmp_path)
    train, test = data.load_both("dvs128-gesture", tmp_path)
    assert (len(train), len(test)) == (22, 11) and train.labels.tolist() == [*range(11)] * 2
    assert set(train.columns["person"]) == {"user01", "user02"} and set(test.columns["light"]) == {"led"}
    for row, part, stem in ((3, train, "user01_led"), (14, train, "user02_led"), (10, test, "user24_led")):
        e = made[stem]
        inside = (e["t"] >= row % 11 * 100_000) & (e["t"] < (row % 11 + 1) * 100_000)
        assert part.images[row].sum() == inside.sum() > 50
    (tmp_path / "DvsGesture" / "user01_led_labels.csv").write_text("class,start\n1,2\n")
    with pytest.raises(DataError, match="user01_led_labels.csv is no table of class, startTime_usec, endTime_usec"):
        data.load("dvs128-gesture", "train", tmp_path)


def test_a_recording_that_is_empty_or_not_there_is_one_sentence(tmp_path: Path) -> None:
    gesture(tmp_path)
    recording = tmp_path / "DvsGesture" / "user01_led.aedat"
    recording.write_bytes(b"")
    with pytest.raises(DataError, match="user01_led.aedat, byte 0: the file does not begin with #!AER-DAT3"):
        data.load("dvs128-gesture", "train", tmp_path)
    recording.unlink()
    with pytest.raises(DataError, match="user01_led.aedat cannot be read .No such file"):
        data.load("dvs128-gesture", "train", tmp_path)
    nmnist(tmp_path)
    (tmp_path / "NMNIST" / "Train" / "0" / "00000.bin").write_bytes(b"")
    with pytest.raises(DataError, match="00000.bin, byte 0: the file is empty; copy the official file again"):
        data.load("n-mnist", "train", tmp_path)


def speech(root: Path, name: str = "shd") -> None:
    folder = root / name
    folder.mkdir(parents=True)
    rng = np.random.default_rng(4)
    for split, count in (("train", 240), ("test", 60)):
        labels = [int(i) % 2 for i in range(count)]
        trains = []
        for label in labels:  # one class rises, one falls
            t = np.sort(rng.random(60))
            u = np.clip((t if label else 1 - t) * 600 + rng.normal(0, 40, 60), 0, 699)
            trains.append((t, u.astype(int)))
        spikes_file(
            folder / f"{name}_{split}.h5", trains, labels, [f"word {k}" for k in range(20 if name == "shd" else 35)]
        )


@pytest.mark.parametrize("name", ["shd", "ssc"])
def test_spoken_digits_are_series_of_units_with_their_speakers(name: str, tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    speech(tmp_path, name)
    train, test = data.load_both(name, tmp_path)
    assert (train.steps, train.shape) == (8, (1, 1, 700)) and len(test) == 60
    assert train.class_names[1] == "word 1" and set(train.columns["speaker"]) == {0, 1, 2}
    assert train.images.sum() == 240 * 60


def test_a_federation_of_speakers(tiny: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    speech(tmp_path)
    tiny["data"] = {"dataset": "shd", "dir": str(tmp_path), "clients": 3, "partition": "column", "by": "speaker"}
    tiny["data"] |= {"public": 40}
    tiny["network"] = {"name": "small-1d", "steps": 8}
    tiny["training"] |= {"local_epochs": 12, "lr": 0.01}
    tiny["method"] |= {"distil_epochs": 4, "server_epochs": 12}
    result = json.loads((spikefed.run(tiny, out=tmp_path / "run") / "result.json").read_text())
    assert result["accuracy"] > 0.6 and [row["name"] for row in result["people"]] == ["0", "1", "2"]


def test_what_is_not_there_says_where_it_belongs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="N-MNIST was not found in .*: put its official files into .*n-mnist"):
        data.load("n-mnist", "train", tmp_path)
    with pytest.raises(DataError, match="did you mean 'shd'|choose one of"):
        data.dataset_info("shdd")


@pytest.fixture
def tiny() -> dict[str, Any]:
    return {
        "name": "tiny", "rounds": 4, "training": {"local_epochs": 1, "local_batch": 16}, "run": {"threads": 1},
        "method": {"name": "fsd", "distil_epochs": 1, "server_epochs": 1, "distil_batch": 8, "client_reset": "never"},
    }  # fmt: skip
