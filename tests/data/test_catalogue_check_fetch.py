from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from spikefed.data import DatasetInfo, check, dataset_info, datasets, fetch, load
from spikefed.data.fetch import fetch_folder
from spikefed.errors import DataError


def test_every_set_is_described() -> None:
    names = [info.name for info in datasets()]
    assert len(set(names)) == len(names)
    assert {"digits", "mnist", "fashion-mnist", "cifar10", "cifar100"} <= set(names)
    emnist = {n.removeprefix("emnist-") for n in names if n.startswith("emnist-")}
    assert emnist == {"balanced", "byclass", "bymerge", "letters", "digits", "mnist"}
    for info in datasets():
        assert dataset_info(info.name) is info
        assert set(info.sizes) == {"train", "test"} and info.licence and info.source and info.title
        for form in info.forms:
            for official in (*form.files["train"], *form.files["test"], *sum(form.members.values(), ())):
                assert re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}|None", str(official.checksum))
        known = {f.name: f for form in info.forms for files in form.files.values() for f in files}
        for name, addresses in info.urls.items():
            assert known[name].checksum and addresses  # never fetched without a checksum


def test_published_sizes() -> None:
    sizes = {n: (i.classes, *i.sizes.values()) for n, i in ((i.name, i) for i in datasets())}
    assert sizes["mnist"] == sizes["fashion-mnist"] == (10, 60000, 10000)
    assert sizes["emnist-byclass"] == (62, 697932, 116323) and sizes["emnist-bymerge"] == (47, 697932, 116323)
    assert sizes["emnist-balanced"] == (47, 112800, 18800) and sizes["emnist-letters"] == (26, 124800, 20800)
    assert sizes["cifar100"] == (100, 50000, 10000) and sizes["cifar100-coarse"][0] == 20
    assert len(dataset_info("mnist").files) == 4 and dataset_info("digits").files == ()


def row(name: str, folder: Path):
    (only,) = check(folder, [name])
    return only


def test_check_reports_each_state(mini: tuple[DatasetInfo, Path], tmp_path: Path) -> None:
    _, folder = mini
    good = row("mini", tmp_path)
    assert (good.status, good.folder, good.counts, good.message) == ("ok", folder, {"train": 40, "test": 20}, "")
    assert [f.checksum for f in good.files] == ["ok"] * 4
    assert all(f.size_bytes == f.expected_bytes for f in good.files)

    path = folder / "mini-test-labels-idx1-ubyte.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:10])
    bad = row("mini", tmp_path)
    assert bad.status == "bad" and bad.counts == {"train": 40} and "is truncated (10 of" in bad.message
    assert [f.checksum for f in bad.files] == ["ok", "ok", "ok", "wrong"]

    path.unlink()
    half = row("mini", tmp_path)
    assert half.status == "partial" and half.counts == {"train": 40} and "lacks mini-test-labels" in half.message

    missing = row("mini", tmp_path / "nowhere")
    assert (missing.status, missing.folder, missing.files, missing.counts) == ("missing", None, (), {})
    assert "spikefed data fetch mini" in missing.message


def test_check_of_everything_in_an_empty_folder(tmp_path: Path) -> None:
    states = {r.name: r.status for r in check(tmp_path)}
    assert states.pop("digits") == "ok"
    assert states.pop("watch") == ("ok" if importlib.util.find_spec("seglearn") else "missing")
    assert set(states.values()) == {"missing"}
    with pytest.raises(DataError, match="unknown data set"):
        check(tmp_path, ["nothing"])


def test_fetch_verifies_and_tries_the_next_address(mini: tuple[DatasetInfo, Path], tmp_path: Path) -> None:
    info, official = mini
    asked: list[str] = []

    def first_is_down(url: str, output: str, _pooch: object) -> None:
        asked.append(url)
        if "first" in url:
            raise ConnectionError("no route")
        Path(output).write_bytes((official / url.rsplit("/", 1)[-1]).read_bytes())

    target = tmp_path / "fresh"
    paths = fetch("mini", target, downloader=first_is_down)
    assert paths == [target / "mini" / name for name in info.urls]
    assert len(load("mini", "train", target)) == 40 and len(asked) == 8
    assert fetch("mini", target, downloader=first_is_down) == paths and len(asked) == 8  # kept, not asked again
    paths[0].write_bytes(b"damaged")
    fetch("mini", target, downloader=first_is_down)
    assert len(load("mini", "train", target)) == 40 and len(asked) == 10  # only the damaged one


def test_fetch_refuses_what_is_not_official(mini: tuple[DatasetInfo, Path], tmp_path: Path) -> None:
    def wrong(_url: str, output: str, _pooch: object) -> None:
        Path(output).write_bytes(b"<html>a login page</html>")

    target = tmp_path / "fresh"
    with pytest.raises(DataError) as caught:
        fetch("mini", target, downloader=wrong)
    text = str(caught.value)
    assert "could not be fetched" in text and "first.invalid" in text and "second.invalid" in text
    assert [p for p in target.rglob("*") if p.is_file()] == []  # nothing half-written
    assert fetch("digits", target) == []


def test_fetch_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPIKEFED_DATA", str(tmp_path))
    assert fetch_folder() == tmp_path and fetch_folder("x") == Path("x")
    monkeypatch.delenv("SPIKEFED_DATA")
    assert fetch_folder().name == "spikefed"
