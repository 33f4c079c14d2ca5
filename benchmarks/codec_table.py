"""Bytes of one upload by round and payload, from results of ``codec_streams``, as tables for docs/wire-format.md.

    python -m benchmarks.codec_table results/codec/RUN.json [...] [--docs docs/wire-format.md]

With ``--docs`` the text between the marks ``<!-- codec-table -->`` and ``<!-- /codec-table -->`` is replaced.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

COLUMNS = {
    "json-text": "JSON text", "json-text-zstd-19": "text, zstd -19", "bitpack": "packed",
    "zstd-19": "packed, zstd -19", "context": "spikes `context`", "context+near": "with alike rows",
    "counts-plain": "counts plain", "counts-context": "counts coded", "labels-plain": "labels plain",
    "labels-context": "labels coded",
}  # fmt: skip
MARKS = "<!-- codec-table -->", "<!-- /codec-table -->"


def by_round(bench: dict[str, Any]) -> list[str]:
    """Markdown: average packet of one upload in bytes, a line a round."""
    found = {entry["codec"]: entry["up_by_round"] for entry in bench["codecs"]}
    names = [name for name in COLUMNS if name in found]
    lines = ["| round | " + " | ".join(COLUMNS[name] for name in names) + " |", "| --- " * (len(names) + 1) + "|"]
    for index in range(bench["rounds"]):
        cells = [f"{found[name][index] / bench['clients']:,.0f}" for name in names]
        lines.append(f"| {index + 1} | " + " | ".join(cells) + " |")
    return lines


def shares(benches: list[dict[str, Any]]) -> list[str]:
    """Markdown: Algorithm 2's payload over what travelled (headers included), cumulative and in the last round."""
    lines = ["| run | after round | up, cumulative | up, last round | down, cumulative | above ideal, up | down |",
             "| --- " * 7 + "|"]  # fmt: skip
    for bench in benches:
        entries = {entry["codec"]: entry for entry in bench["codecs"]}
        name = "context+near" if "context+near" in entries else "context"
        ours, ideal = entries[name], bench["ideal_near" if name == "context+near" else "ideal"]
        paper = entries["bitpack"]["upstream_payload_bytes"]
        cells = [
            f"1/{paper / ours['upstream_bytes']:.1f}",
            f"1/{paper / bench['rounds'] / ours['up_by_round'][-1]:.1f}",
            f"1/{entries['bitpack']['downstream_payload_bytes'] / ours['downstream_bytes']:.1f}",
            f"{ideal['excess']:.2%}", f"{ideal['downstream_excess']:.2%}",
        ]  # fmt: skip
        lines.append(f"| `{bench['run']}` | {bench['rounds']} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", help="the table by round is that of the first")
    parser.add_argument("--docs", type=Path)
    given = parser.parse_args()
    benches = [json.loads(path.read_text(encoding="utf-8")) for path in given.results]
    n, classes, steps = benches[0]["shape"]
    title = f"`{benches[0]['run']}` ({n:,} public rows, {classes} classes, {steps} steps), bytes of one upload:"
    second = "Algorithm 2's bytes over ours, headers included; and our payload bytes above the model's own ideal:"
    text = "\n".join([title, "", *by_round(benches[0]), "", second, "", *shares(benches)])
    print(text)
    if given.docs:
        old = given.docs.read_text(encoding="utf-8")
        (before, rest), end = old.split(MARKS[0]), MARKS[1]
        given.docs.write_text(f"{before}{MARKS[0]}\n{text}\n{end}{rest.split(end)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
