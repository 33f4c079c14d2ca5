"""The replay of a recorded run: its sums are those of the links, and it says what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from spikefed.errors import ReportError
from spikefed.wire import PacketError, ServerLink, codec_bench, nearest_rows, text_equivalent_bytes
from spikefed.wire.bench import round_lines, table
from spikefed.wire.neighbours import check_near

from .helpers import fsd_like


def record(folder: Path, rounds: int = 3) -> list[dict]:
    story = fsd_like(rounds, n=40, c=5, clients=2)
    (folder / "streams").mkdir()
    for number, step in enumerate(story, start=1):
        arrays = {f"up_{c}": np.packbits(spikes.reshape(-1)) for c, spikes in step["up"].items()}
        if number < rounds:
            arrays["down"] = np.packbits(story[number]["down"].reshape(-1))
        np.savez(folder / "streams" / f"round-{number:04d}.npz", shape=np.array([40, 5, 8]), **arrays)
    return story


def test_sums_and_ideal(tmp_path: Path) -> None:
    story = record(tmp_path)
    near = nearest_rows(np.random.default_rng(0).integers(0, 9, (40, 1, 3, 3), dtype=np.uint8))
    bench = json.loads(json.dumps(codec_bench(tmp_path, near)))
    by_name = {entry["codec"]: entry for entry in bench["codecs"]}
    assert by_name["bitpack"]["upstream_bytes"] == 3 * 2 * (26 + 200)
    assert by_name["bitpack"]["downstream_bytes"] == 2 * 2 * (22 + 200)
    texts = [text_equivalent_bytes(spikes) for step in story for spikes in step["up"].values()]
    assert by_name["json-text"]["upstream_bytes"] == sum(texts)
    for name in ("context", "context+near", "zstd-3", "counts-context", "labels-context"):
        entry = by_name[name]
        assert sum(entry["up_by_round"]) == entry["upstream_bytes"] < by_name["bitpack"]["upstream_bytes"]
        assert 6 * 26 <= entry["upstream_bytes"] - entry["upstream_payload_bytes"] <= 6 * 38
    # Every payload ends in whole bytes: within 3 % and 2 bytes a message of the sum of -log2 p.
    assert bench["ideal"]["upstream_bits"] <= bench["ideal"]["coded_bits"]
    assert bench["ideal"]["coded_bits"] <= 1.03 * bench["ideal"]["upstream_bits"] + 6 * 16
    assert bench["ideal"]["downstream_bits"] <= bench["ideal"]["downstream_coded_bits"]
    rounds = bench["ideal"]["by_round"]
    assert [row["round"] for row in rounds] == [1, 2, 3] and rounds[0]["down_bits"] == 0 < rounds[1]["down_bits"]
    for direction, name in (("up", "coded_bits"), ("down", "downstream_coded_bits")):
        assert sum(row[f"{direction}_coded_bits"] for row in rounds) == bench["ideal"][name]
    assert bench["ideal"]["coded_bits"] == 8 * by_name["context"]["upstream_payload_bytes"]
    assert (
        bench["ideal"]["downstream_coded_bits"] * 2 == 8 * by_name["context"]["downstream_payload_bytes"]
    )  # 2 clients
    assert bench["ideal_near"]["coded_bits"] == 8 * by_name["context+near"]["upstream_payload_bytes"]
    assert by_name["json-text-zstd-19"]["upstream_bytes"] < by_name["json-text"]["upstream_bytes"]
    assert len(list(table(bench))) == len(bench["codecs"])
    lines = list(round_lines(bench))
    assert len(lines) == 1 + 2 * len(bench["codecs"]) + 4 + 4  # a line a direction; entropies; what is above them
    for entry in bench["codecs"]:
        for way in ("up", "down"):
            line = next(line for line in lines if line.split()[:2] == [entry["codec"], way])
            assert [int(cell.replace(",", "")) for cell in line.split()[2:]] == entry[f"{way}_by_round"]


def test_a_run_without_streams_and_a_torn_file(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="record_streams"):
        codec_bench(tmp_path)
    record(tmp_path)
    path = tmp_path / "streams" / "round-0002.npz"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ReportError, match="round-0002"):
        codec_bench(tmp_path)


@pytest.mark.parametrize("bad", [np.zeros((3, 4)), np.full((3, 5), 2), [[-1] * 5, [-1, 0, -1, -1, -1]], [[-2] * 5]])
def test_alike_rows_that_native_code_must_not_see(bad) -> None:
    with pytest.raises(PacketError, match="near"):
        ServerLink(near=np.array(bad))
    assert check_near(None) is None
