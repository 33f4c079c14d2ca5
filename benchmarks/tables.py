"""Markdown tables and a bar chart (SVG) from the JSON files of results/bench/; the newest of each kind counts.

python benchmarks/tables.py [--svg docs/images/performance.svg]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

OURS = ("spikefed", "spikefed dense", "spikefed bf16", "spikefed rectangle", "spikefed rectangle bf16")


def newest(folder: Path, kind: str) -> list[dict[str, Any]]:
    """Contents of ``kind-*.json``, oldest first."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob(f"{kind}-*.json"))]


def step_tables(folder: Path) -> dict[tuple[str, str, int], list[dict[str, Any]]]:
    """(net, task, threads) -> rows of the newest measurement."""
    found = {}
    for content in newest(folder, "steps"):
        for result in content["results"]:
            found[result["net"], result["task"], result["threads"]] = result["rows"]
    return found


def markdown(folder: Path) -> str:
    lines: list[str] = []
    for (net, task, threads), rows in sorted(step_tables(folder).items()):
        lines += [
            f"### {net}, {task}, {threads} thread{'s' * (threads > 1)}",
            "",
            "| variant | ms | x | range of x |",
            "|---|---:|---:|---|",
        ]
        for r in rows:
            low, high = f"{r['ratio_low']:.2f}", f"{r['ratio_high']:.2f}"
            name = f"**{r['variant']}**" if r["variant"] in OURS else r["variant"]
            lines.append(f"| {name} | {r['ms']:.0f} | {r['ratio']:.2f} | {low} to {high} |")
        lines.append("")
    for content in newest(folder, "lif")[-1:]:
        lines += ["### LIF layer alone", "", "| variant | ms | x |", "|---|---:|---:|"]
        lines += [f"| {r['variant']} | {r['ms']:.1f} | {r['ratio']:.2f} |" for r in content["rows"]] + [""]
    for content in newest(folder, "memory")[-1:]:
        for result in content["results"]:
            lines += [
                f"### Memory of a step, {result['net']}",
                "",
                "| variant | step, MB | process, MB |",
                "|---|---:|---:|",
            ]
            lines += [f"| {r['variant']} | {r['step_mb']:.0f} | {r['process_mb']:.0f} |" for r in result["rows"]] + [""]
    return "\n".join(lines)


def chart(folder: Path, task: str = "train", threads: int = 1) -> str:
    """Horizontal bars: times faster than SpikingJelly, one group per net."""
    tables = {net: rows for (net, t, n), rows in step_tables(folder).items() if (t, n) == (task, threads)}
    bars = [(net, r["variant"], r["ratio"]) for net, rows in tables.items() for r in rows if r["variant"] != "ann twin"
            and not r["variant"].startswith("convs")]  # fmt: skip
    longest, y, parts = max((b[2] for b in bars), default=1.0), 10, []
    for i, (net, variant, ratio) in enumerate(bars):
        if i == 0 or bars[i - 1][0] != net:
            y += 26
            parts.append(f'<text x="10" y="{y}" font-weight="bold">{net}</text>')
            y += 8
        width = 400 * ratio / longest
        color = "#2f6f9f" if variant in OURS else "#9aa5ab"
        parts.append(f'<text x="190" y="{y + 12}" text-anchor="end">{variant}</text>')
        parts.append(f'<rect x="198" y="{y}" width="{width:.1f}" height="14" fill="{color}"/>')
        parts.append(f'<text x="{204 + width:.1f}" y="{y + 12}">{ratio:.2f}</text>')
        y += 19
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 660 {y + 10}" '
    head += 'font-family="sans-serif" font-size="12" fill="#222">'
    title = "<title>Training step: times faster than SpikingJelly 2.0 multi-step, one thread</title>"
    return "\n".join([head, title, f'<rect width="660" height="{y + 10}" fill="#ffffff"/>', *parts, "</svg>", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("results/bench"))
    parser.add_argument("--svg", type=Path)
    given = parser.parse_args()
    print(markdown(given.folder))
    if given.svg:
        given.svg.parent.mkdir(parents=True, exist_ok=True)
        given.svg.write_text(chart(given.folder), encoding="utf-8")


if __name__ == "__main__":
    main()
