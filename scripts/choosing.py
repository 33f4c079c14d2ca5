"""The tables of docs/choosing.md, from the files under results/; no number of that page is typed.

python scripts/choosing.py
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Any

from spikefed.files import write_atomic

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "choosing.md"
STUDY = "fashion-mnist-mini"
MONTH = 24 * 30
"""Rounds, at one an hour."""
SHOWN = ("central", "local", "fedavg", "fedavg+stc", "fd", "ds-fl", "cfd+", "hdsfl", "fsd", "fsd+", "fsd+labels")
"""Methods of the first table; docs/results.md has all."""


def runs(folder: str) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Results by method and partition, a seed each."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for path in sorted((ROOT / "results" / folder).glob("*-seed*.json")):
        stem = path.stem.rpartition("-seed")[0]
        for partition in ("iid", "dirichlet-0.1"):
            if stem.endswith(f"-{partition}"):
                found[stem.removesuffix(f"-{partition}"), partition].append(json.loads(path.read_text()))
    return found


def spread(values: list[float]) -> str:
    """Mean in per cent, smallest to largest behind it."""
    text = f"{100 * mean(values):.1f}"
    return text if len(values) < 2 else f"{text} ({100 * min(values):.1f} to {100 * max(values):.1f})"


def size(count: float) -> str:
    """Bytes as people say them."""
    for unit, step in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= step:
            return f"{count / step:.3g} {unit}"
    return f"{count:.0f} bytes" if count else "nothing"


def client_round(result: dict[str, Any], way: str) -> float:
    """Bytes of a client and round, one way."""
    return result[f"{way}stream_bytes"] / (result["rounds"] * result["config"]["data"]["clients"])


def methods() -> list[str]:
    found = runs(STUDY)
    head = "| method | alike data, % | skewed data, % | up, a client and round | seeds |"
    lines = [head, "| --- | --- | --- | --- | --- |"]
    for name in SHOWN:
        alike, skewed = found.get((name, "iid"), []), found.get((name, "dirichlet-0.1"), [])
        if not alike or not skewed:
            continue
        up = mean(client_round(result, "up") for result in alike)
        cells = [spread([r["accuracy"] for r in each]) for each in (alike, skewed)]
        lines.append(f"| `{name}` | {cells[0]} | {cells[1]} | {size(up)} | {min(len(alike), len(skewed))} |")
    return lines


def month() -> list[str]:
    found = runs(STUDY)
    lines = ["| method | up | down | public set, once |", "| --- | --- | --- | --- |"]
    for name in SHOWN:
        for result in found.get((name, "iid"), [])[:1]:
            up, down = (client_round(result, way) * MONTH for way in ("up", "down"))
            if up or down:
                public = 0 if name.startswith("fedavg") else result["public_set_bytes"]
                lines.append(f"| `{name}` | {size(up)} | {size(down)} | {size(public)} |")
    return lines


def codecs() -> list[str]:
    total: dict[str, list[float]] = defaultdict(list)
    files = sorted((ROOT / "results/codec").glob(f"fsd-{STUDY}-seed*.json"))
    for path in files:
        told = json.loads(path.read_text())
        for row in told["codecs"]:
            total[row["codec"]].append(row["upstream_bytes"] / (told["rounds"] * told["clients"]))
    plain = mean(total["bitpack"])
    head = f"| codec of `fsd`, {len(files)} seeds | up, a client and round | beside one bit a spike |"
    lines = [head, "| --- | --- | --- |"]
    for name, values in total.items():
        lines.append(f"| {name} | {size(mean(values))} | {mean(values) / plain:.3f} |")
    return lines


def rows() -> list[str]:
    lines = ["| public rows in a round (`fsd+`, seed 11) | alike data, % | skewed data, % |", "| --- | --- | --- |"]
    for name in ("recommended", "half-the-rows", "quarter-of-the-rows"):
        files = [ROOT / f"results/fsdplus-levers/{name}-{p}-seed11.json" for p in ("iid", "dirichlet-0.1")]
        if all(file.is_file() for file in files):
            told = [json.loads(file.read_text()) for file in files]
            cells = " | ".join(f"{100 * result['accuracy']:.1f}" for result in told)
            lines.append(f"| {'all' if name == 'recommended' else name.replace('-', ' ')} | {cells} |")
    return lines


def liars() -> list[str]:
    told = json.loads((ROOT / "results/robust" / f"{STUDY}.json").read_text())["runs"]
    found: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in told:
        found[one["method"], one["rule"]][one["attack"]].append(one["accuracy"])
    lines = ["| method | vote or merge | nobody lies, % | one of four flips labels, % |", "| --- | --- | --- | --- |"]
    for (method, rule), attacks in found.items():
        if attacks["none"] and attacks["flip-labels"]:
            lines.append(f"| `{method}` | {rule} | {spread(attacks['none'])} | {spread(attacks['flip-labels'])} |")
    return lines


def files() -> list[str]:
    told = json.loads((ROOT / "results/export/fashion-mnist.json").read_text())
    lines = [
        f"| file of one network, {told['images']:,} test images | accuracy, % | images of another class | flash | RAM "
        "| ms an image |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    speed = told["time"]["ms_an_image"]
    own = f"| the network itself | {100 * told['accuracy']:.2f} | | | | {speed['network']} |"
    lines.append(own)
    for name, row in told["files"].items():
        flash, ram = (size(row[key]) if key in row else "" for key in ("flash_bytes", "ram_bytes"))
        other = f"{row['other_class_than_network']:,}"
        lines.append(f"| {name} | {100 * row['accuracy']:.2f} | {other} | {flash} | {ram} | {speed.get(name, '')} |")
    return lines


TABLES = {
    "methods": methods,
    "month": month,
    "codecs": codecs,
    "rows": rows,
    "liars": liars,
    "files": files,
}


def filled(page: str) -> str:
    """The page with every table made anew.

    Raises:
        SystemExit: a table has no place on the page.
    """
    for name, make in TABLES.items():
        begin, end = f"<!-- {name}: made by scripts/choosing.py -->", f"<!-- end of {name} -->"
        if page.count(begin) != 1 or page.count(end) != 1:
            raise SystemExit(f"docs/choosing.md has no place for table '{name}'; write {begin} and {end}")
        head, _, rest = page.partition(begin)
        page = head + begin + "\n\n" + "\n".join(make()) + "\n\n" + end + rest.partition(end)[2]
    return page


if __name__ == "__main__":
    write_atomic(PAGE, filled(PAGE.read_text(encoding="utf-8")))
