"""Markdown tables and bar charts (SVG) from the JSON files of results/bench/, one section per processor.

    python benchmarks/tables.py [--write docs/performance.md]

Of each kind of measurement the newest of a processor counts. ``--write`` replaces what stands between the two marks in
the page; without it the text goes to the terminal.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

OURS = ("spikefed", "spikefed dense", "spikefed bf16", "spikefed rectangle", "spikefed rectangle bf16")
BEGIN, END = "<!-- made by benchmarks/tables.py: begin -->", "<!-- made by benchmarks/tables.py: end -->"
MEMORY_GB = (2, 8, 24)

REFERENCE = "spikingjelly"
"""Whose time over a variant's is the ratio of steps."""

Rows = list[dict[str, Any]]


def processors(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Processor -> contents of its files, oldest first; the processor measured last comes first.

    The same processor held to a narrower instruction set counts as another one.
    """
    files = [(path.stem.split("-", 1)[0], json.loads(path.read_text())) for path in folder.glob("*-*.json")]
    files.sort(key=lambda file: file[1]["provenance"]["finished"])
    found: dict[str, list[dict[str, Any]]] = {}
    for kind, content in files:
        facts = content["provenance"]
        cpu = facts["cpu"] + (", AVX2 alone" if facts["native"] == "avx2" else "")
        found[cpu] = [*found.pop(cpu, []), {"kind": kind, **content}]
    return dict(reversed(found.items()))


def newest(contents: list[dict[str, Any]], kind: str) -> dict[str, Any] | None:
    return next((c for c in reversed(contents) if c["kind"] == kind), None)


def step_tables(contents: list[dict[str, Any]]) -> dict[tuple[str, str, int], Rows]:
    """(task, net, threads) -> rows, each of the variant's newest measurement; training first, networks as they come.

    Every ratio is one within its own run, so rows of different runs stand side by side; but of runs that keep freed
    memory, or of those that do not, whichever the newest one is: the two kinds do not compare.
    """
    kinds: dict[tuple[str, str, int, bool], Rows] = {}
    found: dict[tuple[str, str, int], Rows] = {}
    for content in contents:
        for result in content["results"] if content["kind"] == "steps" else ():
            key = result["task"], result["net"], result["threads"]
            kept = "--keep-memory" in content["provenance"]["command"]
            before = kinds.get((*key, kept), [])
            if _beside_reference(before) != _beside_reference(result["rows"]):
                if before and not _beside_reference(result["rows"]):
                    continue
                before = []
            rows = {row["variant"]: row for row in [*before, *result["rows"]]}
            found[key] = kinds[*key, kept] = list(rows.values())
    return dict(sorted(found.items(), key=lambda item: (item[0][0] != "train", item[0][1:])))


def _beside_reference(rows: Rows) -> bool:
    return any(row["variant"] == REFERENCE for row in rows)


def markdown(folder: Path) -> str:
    parts: list[str] = []
    for cpu, contents in processors(folder).items():
        ours = [c for c in contents if c["kind"] in ("steps", "lif", "layers", "memory", "parity", "fsd")]
        if not ours:
            continue
        last = ours[-1]["provenance"]
        tiles = "with bf16 matrix tiles" if last["amx"] else "no bf16 matrix tiles"
        parts += [f"### {cpu}, {last['cores']} cores ({last['native']}, {tiles})", "", chart(contents, cpu), ""]
        for (task, net, threads), rows in step_tables(contents).items():
            parts += steps(task, net, threads, rows)
        for kind, table in (("lif", lif), ("layers", layers), ("memory", memory), ("parity", parity), ("scale", scale)):
            content = newest(contents, kind)
            parts += table(content) if content else []
        for content in contents:
            parts += fsd(content) if content["kind"] == "fsd" else []
    return "\n".join(parts)


def steps(task: str, net: str, threads: int, rows: Rows) -> list[str]:
    title = {"train": "Training step", "infer": "Inference"}[task]
    clock = "CPU time" if threads == 1 else "wall time"
    lines = [f"**{title}, `{net}`, {threads} thread{'s' * (threads > 1)}** ({clock})", "",
             "| variant | ms | x | range of x |", "|---|---:|---:|---|"]  # fmt: skip
    for r in rows:
        name = f"**{r['variant']}**" if r["variant"] in OURS else r["variant"]
        lines.append(f"| {name} | {r['ms']:.0f} | {r['ratio']:.2f} | {r['ratio_low']:.2f} to {r['ratio_high']:.2f} |")
    x = {r["variant"]: r["ratio"] for r in rows}  # not milliseconds: those of different runs do not compare
    pairs = [(name, "convs alone bf16" if name.endswith("bf16") else "convs alone") for name in OURS]
    shares = [f"{name[9:] or 'float32'} {x[name] / x[alone]:.2f}" for name, alone in pairs if {name, alone} <= {*x}]
    if task == "train" and shares:
        lines += ["", f"Speed as part of the same net's convolutions and linears alone: {', '.join(shares)}."]
    return [*lines, ""]


def lif(content: dict[str, Any]) -> list[str]:
    lines = [f"**The LIF layer alone**, {content['shape']}, forward + backward, float32, 1 thread (CPU time)", "",
             "| variant | ms | x |", "|---|---:|---:|"]  # fmt: skip
    return [*lines, *(f"| {r['variant']} | {r['ms']:.1f} | {r['ratio']:.2f} |" for r in content["rows"]), ""]


def layers(content: dict[str, Any]) -> list[str]:
    densities = [row["density"] for row in content["results"][0]["rows"]]
    lines = [f"**Event lists layer by layer**: times faster than oneDNN in float32, 3x3 on {content['maps']} maps, one"
             " thread (forward / weight gradient / input gradient), by the part of inputs that is not zero, or of"
             " neurons inside the window", "",
             "| layer | " + " | ".join(f"{d:.0%}" for d in densities) + " |",
             "|---|" + "---:|" * len(densities)]  # fmt: skip
    for r in content["results"]:
        cells = [f"{row['forward']:.1f} / {row['weight']:.1f} / {row['input']:.1f}" for row in r["rows"]]
        lines.append(f"| {r['in']} to {r['out']} at {r['side']}x{r['side']} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def memory(content: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for result in content["results"]:
        batch = result["batch"] or {"vgg9": 32, "small": 64, "cifarnet": 8}[result["net"]]
        lines += [f"**Peak memory of a training step, `{result['net']}`, batch {batch}**: highest resident size over"
                  " three steps less the size before the first; last columns: the largest batch that fits, taking the"
                  " step as proportional to the batch (computed, not run)", "",
                  "| variant | step, MB | process, MB | " + " | ".join(f"{gb} GB" for gb in MEMORY_GB) + " |",
                  "|---|---:|---:|" + "---:|" * len(MEMORY_GB)]  # fmt: skip
        for r in result["rows"]:
            base, each = r["process_mb"] - r["step_mb"], r["step_mb"] / batch
            fits = [int((gb * 1024 - base) / each) for gb in MEMORY_GB]
            lines.append(f"| {r['variant']} | {r['step_mb']:.0f} | {r['process_mb']:.0f} | "
                         + " | ".join(f"{n:,}" for n in fits) + " |")  # fmt: skip
        lines.append("")
    return lines


def parity(content: dict[str, Any]) -> list[str]:
    lines = [f"**Learning parity**: `small`, {content['steps']} Adam steps of {content['batch']} Fashion-MNIST images,"
             f" {content['seeds']} seeds, same start and order; loss of the last 50 steps, accuracy on 10,000 test"
             " images (standard error of one run 0.004)", "",
             "| variant | loss | accuracy | CPU s |", "|---|---|---|---:|"]  # fmt: skip
    for name, runs in content["rows"].items():
        loss, accuracy = (", ".join(f"{run[key]:.4f}" for run in runs) for key in ("loss", "accuracy"))
        lines.append(f"| {name} | {loss} | {accuracy} | {sum(run['cpu_s'] for run in runs) / len(runs):.1f} |")
    return [*lines, ""]


def scale(content: dict[str, Any]) -> list[str]:
    lines = ["**Many clients on one machine**: FSD with `small` on digits-size data, 40 images a client, a tenth of the"
             " clients a round, one epoch of everything, checkpoints included (`benchmarks/scale.py`)", "",
             "| clients | sampled | workers | wall s a round | CPU ms a sampled client | peak, MB | checkpoints, MB |",
             "|---:|---:|---:|---:|---:|---:|---:|"]  # fmt: skip
    last = content["everyone"]
    for row in [*content["clients"], *content["workers"], last]:
        sampled = "all, a tenth a round, untrained" if row is last else row["sampled"]
        lines.append(
            f"| {row['clients']:,} | {sampled} | {row['workers']} | {row['wall_s_a_round']:.2f} | "
            f"{row['cpu_ms_a_sampled_client']:.0f} | {row['peak_mb']:,.0f} | {row['checkpoints_mb']:.0f} |"
        )
    gains = ", ".join(f"{w} workers {g:.2f}" for w, g in content["speed_up"]["wall_s_a_round"].items() if w != "1")
    return [*lines, "", f"Times faster than one worker, by the clock: {gains}.", ""]


def fsd(content: dict[str, Any]) -> list[str]:
    lines = [f"**Whole FSD run**, `{content['experiment']}` {' '.join(content['settings'])}, {content['threads']}"
             " thread(s), processor seconds of the whole process", "",
             "| path | CPU s | server accuracy | federated overhead, part of the rounds |",
             "|---|---:|---:|---:|"]  # fmt: skip
    for row in content["rows"]:
        fast = " ".join(["fast", *content.get("fast_settings", [])])
        for mode, name in (("auto", fast), ("reference", "reference")):
            r = row[mode]
            cpu = r.get("cpu_seconds", r["seconds"])
            lines.append(f"| {name} | {cpu:.1f} | {r['accuracy']:.4f} | {r['overhead_share']:.2%} |")
    return [*lines, "", f"Ratio: {content['ratio']:.2f}.", ""]


def chart(contents: list[dict[str, Any]], cpu: str, task: str = "train", threads: int = 1) -> str:
    """Horizontal bars: times faster than SpikingJelly, one group per net."""
    tables = {net: rows for (t, net, n), rows in step_tables(contents).items() if (t, n) == (task, threads)}
    bars = [(net, r["variant"], r["ratio"]) for net, rows in tables.items() for r in rows if r["variant"] != "ann twin"
            and not r["variant"].startswith("convs")]  # fmt: skip
    if not bars:
        return ""
    longest, y, parts = max(b[2] for b in bars), 10, []
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
    title = f"<title>Training step, {cpu}: times faster than SpikingJelly 2.0 multi-step, one thread</title>"
    return "\n".join([head, title, f'<rect width="660" height="{y + 10}" fill="#ffffff"/>', *parts, "</svg>"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("results/bench"))
    parser.add_argument("--write", type=Path, help="page with the two marks")
    given = parser.parse_args()
    text = markdown(given.folder)
    if given.write is None:
        print(text)
        return
    page = given.write.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise SystemExit(f"{given.write} lacks the marks '{BEGIN}' and '{END}'")
    given.write.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
