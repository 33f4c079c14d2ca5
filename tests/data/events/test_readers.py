"""Readers of official event files: what was written comes back, other readers agree, what is broken is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.data.events.peers import peer
from tests.data.events.writers import (
    HEAD2,
    HEAD3,
    aedat2_bytes,
    aedat3_bytes,
    nmnist_bytes,
    packet,
    random_events,
    spikes_file,
)

from spikefed.data.events import Events, frames, read_aedat2, read_aedat3, read_nmnist, read_spikes
from spikefed.data.events.aedat import index_aedat3
from spikefed.errors import DataError


def cuts_of(rng: np.random.Generator, count: int) -> list[int]:
    return sorted({0, *rng.integers(0, max(count, 1), 3).tolist()})


FORMATS: dict[str, tuple[Callable[[Path], Events], int, int, Callable[..., bytes]]] = {
    "nmnist": (read_nmnist, 34, 9_000_000, lambda rng, e: nmnist_bytes(e)),
    "aedat2": (read_aedat2, 128, 1 << 31, lambda rng, e: aedat2_bytes(e)),
    "aedat3": (read_aedat3, 128, 1 << 33, lambda rng, e: aedat3_bytes(e, cuts_of(rng, len(e["t"])))),
}


def same(read: Events, written: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(getattr(read, key), written[key]) for key in "xytp")


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", list(FORMATS))
def test_random_files_come_back_and_frames_hold_every_event(name: str, count: int, tmp_path: Path) -> None:
    read, side, last, write = FORMATS[name]
    rng, path = np.random.default_rng(1), tmp_path / "file"
    for _ in range(count):
        fewest = 1 if name == "nmnist" else 0  # N-MNIST has no header: a file without events is a file without bytes
        events = random_events(rng, int(rng.integers(fewest, 40)), side, last)
        path.write_bytes(write(rng, events))
        got = read(path)
        assert same(got, events)
        steps, size = int(rng.integers(1, 12)), int(rng.integers(1, side + 1))
        for by in ("time", "count"):
            made = frames(got, steps, (side, side), by=by, size=size)  # type: ignore[arg-type]
            assert made.sum() == len(got)
            assert np.array_equal(made.sum((0, 2, 3)), np.bincount(got.p, minlength=2))


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_random_trains_of_hdf5_come_back(count: int, tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    rng = np.random.default_rng(2)
    trains = []
    for _ in range(count):
        length = int(rng.integers(0, 30))
        trains.append((np.sort(rng.random(length) * 1.4), rng.integers(0, 700, length)))
    spikes_file(tmp_path / "shd_train.h5", trains, [i % 20 for i in range(count)], [str(k) for k in range(20)])
    file = read_spikes(tmp_path / "shd_train.h5")
    assert file.labels.tolist() == [i % 20 for i in range(count)] and file.names[3] == "3"
    for (seconds, units), got in zip(trains, file.events(np.arange(count)), strict=True):
        assert np.array_equal(got.x, units)
        assert np.array_equal(got.t, np.rint(seconds.astype(np.float16).astype(np.float64) * 1e6).astype(np.int64))
        assert frames(got, 10, (1, 700), polarities=1).sum() == len(units)


def test_float16_seconds_never_overflow(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    seconds = np.array([0.0, 0.5, 1.0, 65_504.0])  # the last is the largest float16
    spikes_file(tmp_path / "f.h5", [(seconds, np.arange(4))], [0], ["a"])
    (got,) = read_spikes(tmp_path / "f.h5").events(np.array([0]))
    assert got.t.tolist() == [0, 500_000, 1_000_000, 65_504_000_000]


def test_the_clock_runs_over(tmp_path: Path) -> None:
    t = np.array([1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 5])
    events = {"x": np.arange(6), "y": np.arange(6), "t": t, "p": np.arange(6) % 2}
    (tmp_path / "a3").write_bytes(aedat3_bytes(events, [0, 3]))
    (tmp_path / "a2").write_bytes(aedat2_bytes(events))
    assert same(read_aedat3(tmp_path / "a3"), events) and same(read_aedat2(tmp_path / "a2"), events)


def test_invalid_events_signals_and_other_packets_are_left_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    events = random_events(rng, 30, 128, 1000)
    valid = rng.integers(0, 2, 30)
    (tmp_path / "a3").write_bytes(aedat3_bytes(events, [0, 7, 20], valid))
    assert same(read_aedat3(tmp_path / "a3"), {k: v[valid == 1] for k, v in events.items()})
    signal = np.array([[0x8000, 4]], ">u4").tobytes()
    (tmp_path / "a2").write_bytes(aedat2_bytes(events) + signal)
    assert same(read_aedat2(tmp_path / "a2"), events)


@pytest.mark.parametrize("name", list(FORMATS))
def test_truncated_and_changed_files_are_refused_with_the_byte_or_still_whole(name: str, tmp_path: Path) -> None:
    read, side, last, write = FORMATS[name]
    rng, path = np.random.default_rng(3), tmp_path / "file"
    refused = 0
    for _ in range(400):
        content = bytearray(write(rng, random_events(rng, 12, side, last)))
        if rng.random() < 0.5:
            del content[int(rng.integers(0, len(content))) :]
        else:
            for at in rng.integers(0, len(content), 3):
                content[at] = int(rng.integers(0, 256))
        path.write_bytes(content)
        try:
            got = read(path)
        except DataError as error:
            refused += 1
            assert f"{path}, byte " in str(error) and "\n" not in str(error)
        else:
            assert len(got) <= 12 + 400 and (got.x < side).all() and (got.y < side).all() and (got.p < 2).all()
    assert refused > 100


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("nmnist", b"", "byte 0: the file is empty; copy the official file again"),
        ("aedat2", b"", "byte 0: the file does not begin with #!AER-DAT2"),
        ("aedat3", b"", "byte 0: the file does not begin with #!AER-DAT3"),
        ("nmnist", b"\0" * 12, "byte 10: the last event has 2 of its 5 bytes"),
        ("nmnist", bytes([1, 1, 0, 0, 0, 0, 240, 0, 0, 0, 34, 0, 0, 0, 9]), "byte 10: an event at column 34, row 0 of"),
        ("aedat2", HEAD2 + b"\0" * 13, f"byte {len(HEAD2) + 8}: the last event has 5 of its 8 bytes"),
        ("aedat2", HEAD2 + b"\0" * 8 + b"\1" + b"\0" * 7, "address 0x1000000 is none of a DVS128"),
        ("aedat2", HEAD3, "byte 0: the file does not begin with #!AER-DAT2"),
        ("aedat2", b"#!AER-DAT2.0", "byte 0: a header line has no end"),
        ("aedat3", HEAD2, "byte 0: the file does not begin with #!AER-DAT3"),
        ("aedat3", HEAD3.replace(b"END", b"END-"), "the header has no #!END-HEADER"),
        ("aedat3", HEAD3 + b"\0" * 9, f"byte {len(HEAD3)}: a packet header has 9 of its 28 bytes"),
        ("aedat3", HEAD3 + packet(1, b"", 8, 2), f"byte {len(HEAD3)}: a packet of 2 events runs 16 bytes over the end"),
        ("aedat3", HEAD3 + packet(1, b"\0" * 18, 9, 2), "no packet of this format .type 1, 9 bytes an event"),
        ("aedat3", HEAD3 + packet(40, b"", 8, 0), "no packet of this format .type 40"),
        ("aedat3", HEAD3 + packet(1, b"\1\0\0\1" + b"\0" * 4, 8, 1), f"byte {len(HEAD3) + 28}: an event at column 128"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence_with_its_byte(name: str, content: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        FORMATS[name][0](tmp_path / "file")
    with pytest.raises(DataError, match="cannot be read"):
        FORMATS[name][0](tmp_path / "absent")


def test_no_hdf5_and_hdf5_of_something_else(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(DataError, match="text.h5 is no whole HDF5 file"):
        read_spikes(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["labels"] = [1]
    with pytest.raises(DataError, match="has no 'spikes/times'; it is none of SHD's or SSC's files"):
        read_spikes(tmp_path / "other.h5")
    spikes_file(tmp_path / "wide.h5", [(np.array([0.1]), np.array([700]))], [0], ["a"])
    with pytest.raises(DataError, match="item 0: a spike without a time or of a unit outside 0 to 699"):
        read_spikes(tmp_path / "wide.h5").events(np.array([0]))


def test_cut_and_changed_hdf5_is_refused_with_its_item_or_still_whole(tmp_path: Path) -> None:
    """HDF5 has no word on bytes, so file and item are named.

    Changed structure is not tried at random: on some of it the HDF5 library itself ends the process.
    """
    rng, path = np.random.default_rng(4), tmp_path / "file.h5"
    trains = [(rng.random(n), rng.integers(0, 700, n)) for n in (5, 0, 9)]
    spikes_file(path, trains, [0, 2, 1], ["a", "b", "c"])
    whole = path.read_bytes()

    def outcome(content: bytes) -> str:
        path.write_bytes(content)
        try:
            found = read_spikes(path)
            assert all((train.x < 700).all() for train in found.events(np.arange(len(found.labels))))
        except DataError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            return str(error)
        return ""

    assert outcome(whole) == ""
    assert all("no whole HDF5 file" in outcome(whole[:cut]) for cut in rng.integers(0, len(whole), 40))
    assert "item 0: HDF5 cannot read it" in outcome(whole.replace(b"GCOL", b"XCOL"))
    place = whole.index(trains[2][1].astype("<u2").tobytes())
    said = [outcome(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :]) for at in range(place, place + 18)]
    assert all("item 2" in text for text in said if text) and 0 < sum(map(bool, said)) < 18


# Other readers. Where they differ from the format, the difference stands here.


def test_tonic_reads_the_same_nmnist_and_spikingjelly_takes_overflow_marks_for_events(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    events = random_events(rng, 500, 34, 300_000)
    (tmp_path / "f.bin").write_bytes(nmnist_bytes(events))
    late = {**events, "t": events["t"] + (1 << 23)}
    (tmp_path / "late.bin").write_bytes(nmnist_bytes(late))
    io = peer("tonic.io")
    for name, wanted in (("f.bin", events), ("late.bin", late)):
        theirs = io.read_mnist_file(str(tmp_path / name), dtype=np.dtype([(k, int) for k in "xytp"]))
        assert all(np.array_equal(theirs[k], wanted[k]) for k in "xytp")
    jelly = peer("spikingjelly.datasets.utils")
    theirs = jelly.load_ATIS_bin(tmp_path / "f.bin")
    assert all(np.array_equal(theirs[k], events[k]) for k in "xytp")
    assert len(jelly.load_ATIS_bin(tmp_path / "late.bin")["t"]) > 500  # marks given out as events of row 240


def test_tonic_and_spikingjelly_on_aedat3(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    events = random_events(rng, 500, 128, 1 << 30)
    address = events["x"] << 17 | events["y"] << 2 | events["p"] << 1 | 1
    words = np.stack([address, events["t"]], axis=1).astype("<u4")
    clean = HEAD3 + packet(1, words[:100].tobytes(), 8, 100) + packet(1, words[100:].tobytes(), 8, 400)
    (tmp_path / "clean").write_bytes(clean)
    (tmp_path / "mixed").write_bytes(aedat3_bytes(events, [0, 100]))
    assert same(read_aedat3(tmp_path / "clean"), events) and same(read_aedat3(tmp_path / "mixed"), events)
    theirs = peer("spikingjelly.datasets.utils").load_aedat_v3(tmp_path / "mixed")
    assert all(np.array_equal(theirs[k], events[k]) for k in "xytp")
    io = peer("tonic.io")
    try:
        _, theirs = io.read_dvs_ibm(str(tmp_path / "clean"))
    except ValueError:  # tonic 1.7.0 returns three values of its header where its readers take two
        return
    assert all(np.array_equal(theirs[k], events[k]) for k in "xytp")


def test_spikingjelly_on_aedat2(tmp_path: Path) -> None:
    cifar10_dvs = peer("spikingjelly.datasets.cifar10_dvs")
    events = random_events(np.random.default_rng(7), 500, 128, 1 << 30)
    (tmp_path / "f.aedat").write_bytes(aedat2_bytes(events))
    theirs = cifar10_dvs._load_origin_data(tmp_path / "f.aedat")
    assert all(np.array_equal(theirs[k], events[k]) for k in "xytp")


def test_frames_beside_spikingjelly_and_tonic() -> None:
    """By count SpikingJelly's last frame takes the rest of the division; by time its bins are whole microseconds."""
    jelly = peer("spikingjelly.datasets.utils")
    e = random_events(np.random.default_rng(8), 4000, 34, 80_001)
    e["t"][0], e["t"][-1] = 0, 80_000
    events = Events(e["x"], e["y"], e["t"], e["p"].astype(np.uint8))
    for by, word in (("count", "number"), ("time", "time")):
        theirs = jelly.integrate_events_by_fixed_frames_number(e, word, 8, 34, 34)
        assert np.array_equal(frames(events, 8, (34, 34), by=by), theirs)  # type: ignore[arg-type]
    theirs = jelly.integrate_events_by_fixed_frames_number(e, "number", 7, 34, 34).sum((1, 2, 3))
    ours = frames(events, 7, (34, 34), by="count").sum((1, 2, 3))
    assert theirs.tolist() == [571] * 6 + [574] and set(ours.tolist()) == {571, 572} and ours.sum() == 4000
    tonic = peer("tonic.functional.to_frame")
    given = np.zeros(4000, np.dtype([(k, int) for k in "xytp"]))
    for k in "xytp":
        given[k] = e[k]
    made = tonic.to_frame_numpy(given, (34, 34, 2), n_time_bins=8)
    assert made.sum() == 3999  # the event at the end of the last window is lost; its others are ours
    assert np.array_equal(made[:-1], frames(events, 8, (34, 34))[:-1])


def test_the_callers_events_are_left_alone_and_none_give_empty_frames() -> None:
    none = Events(*(np.zeros(0, np.int64) for _ in range(3)), np.zeros(0, np.uint8))
    assert frames(none, 4, (34, 34)).shape == (4, 2, 34, 34) and not frames(none, 4, (34, 34), by="count").any()
    crowd = Events(*(np.zeros(70_000, np.int64) for _ in range(3)), np.ones(70_000, np.uint8))
    assert frames(crowd, 2, (34, 34))[0, 1, 0, 0] == 70_000  # no 16-bit wrap
    with pytest.raises(DataError, match="give at least 1, no more"):
        frames(none, 4, (34, 34), size=35)


def test_packets_chosen_by_number_are_those_of_the_whole(tmp_path: Path) -> None:
    events = random_events(np.random.default_rng(9), 300, 128, 1 << 30)
    (tmp_path / "f").write_bytes(aedat3_bytes(events, [0, 50, 120, 200]))
    whole, mapped = read_aedat3(tmp_path / "f"), index_aedat3(tmp_path / "f", mapped=True)
    part = mapped.events(slice(1, 3))
    assert np.array_equal(part.t, whole.t[50:200]) and mapped.first_times()[0] == whole.t[0]
