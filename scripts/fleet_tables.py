"""The measured tables of docs/deploy.md, from the newest files of results/bench: ``python scripts/fleet_tables.py``.

No number of these tables is typed in by hand: each stands between two markers and is replaced whole.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pages import filled

from spikefed.experiment.progress import size
from spikefed.files import write_atomic

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "deploy.md"
OURS, IDLE = "spikefed over Flower", "spikefed over Flower, nothing trained"
STOCK = "stock Flower FedAvg, nothing trained"


def newest(kind: str) -> dict[str, Any] | None:
    """The last measurement of a kind."""
    paths = sorted((ROOT / "results" / "bench").glob(f"{kind}-*.json"))
    return json.loads(paths[-1].read_text()) if paths else None


def origin(content: dict[str, Any], script: str) -> str:
    """Where the figures come from."""
    facts = content["provenance"]
    load = f", load {facts['load'][0]} at the end" if facts.get("load") else ""
    commit = f", commit {facts['commit'][:7]}" if facts.get("commit") else ""
    return f"{facts['cpu']}, {facts['cores']} cores{load}; `python benchmarks/{script}.py`{commit}."


def overhead() -> list[str]:
    """Seconds and bytes of a round, beside stock Flower."""
    content = newest("deploy")
    if content is None:
        return ["Not measured."]
    lines = [
        "| fleet | s a round | packet, up | packet, down | protocol, up | protocol, down |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in (OURS, IDLE):
        row = content[name]
        beyond = row["wire_bytes_per_client_and_round_beyond_the_ledger"]
        up = row["ledger_bytes"]["up"] / row["rounds"] / row["clients"]
        down = row["ledger_bytes"]["down"] / (row["rounds"] - 1) / row["clients"]
        lines.append(
            f"| {name} | {row['seconds_per_round']:.2f} | {size(up)} | {size(down)} | {size(beyond['up'])} | "
            f"{size(beyond['down'])} |"
        )
    row = content[STOCK]
    beyond = row["wire_bytes_per_client_and_round_beyond_the_arrays"]
    array = size(row["array_bytes"])
    wire = f"{size(beyond['up'])} | {size(beyond['down'])}"
    lines.append(f"| {STOCK} | {row['seconds_per_round']:.2f} | {array} | {array} | {wire} |")
    clients, rounds = content[OURS]["clients"], content[OURS]["rounds"]
    same = not content[OURS]["ledger_differs_from_bytes_at_clients"] and content[OURS]["metrics_agree_with_ledger"]
    told = "the same, packet by packet" if same else "NOT the same"
    return [
        *lines,
        "",
        f"{clients} clients, {rounds} rounds, Flower {content['flwr']}. Bytes in the ledger and bytes that the clients "
        f"took and gave are {told}. {origin(content, 'deploy')}",
    ]


def soak() -> list[str]:
    """What the long run with kills came to."""
    content = newest("soak")
    if content is None:
        return ["Not measured."]
    kills = ", ".join(f"{name} {count}" for name, count in sorted(content["kills"].items()))
    rows = {
        "rounds": f"{content['rounds']}, in {content['seconds'] / 60:.0f} minutes",
        "killed with SIGKILL": f"{sum(content['kills'].values())} times: {kills}",
        "rounds lost or out of order": "none" if content["rounds_in_order"] else "SOME",
        "rounds without a merge": ", ".join(map(str, content["rounds_without_merge"])) or "none",
        "uploads dropped": str(content["dropped"]),
        "final model and ledger": "; ".join(f"{n} differs" for n in content["differs_from_one_process"])
        or "byte for byte those of one undisturbed process",
        "processes left over": str(content["left_over_processes"]),
    }
    for name, memory in sorted(content["memory"].items()):
        rows[f"memory, {name}"] = f"{memory['mb']:.0f} MB, {100 * memory['growth']:+.1f} %"
    lines = ["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())]
    return [*lines, "", origin(content, "soak")]


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name, lines in {"overhead": overhead(), "soak": soak()}.items():
        begin, end = f"<!-- {name}: made by scripts/fleet_tables.py -->", f"<!-- end of {name} -->"
        page = filled(page, begin, end, "\n".join(lines))
    write_atomic(PAGE, page)


if __name__ == "__main__":
    main()
