"""The parts of the report that need no script: tables, config and provenance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape

from spikefed.report import palette
from spikefed.report.equal import default_budgets, equal_rows
from spikefed.report.groups import Group, common_rounds
from spikefed.report.paper import PRINTED
from spikefed.report.runs import number
from spikefed.report.settings import Setting
from spikefed.report.targets import TargetRow
from spikefed.report.text import (
    ABSENT,
    Cell,
    Column,
    bytes_text,
    duration,
    percent,
    plural,
    table,
    target_text,
    times,
)


def targets_table(setting: int, rows: Sequence[TargetRow]) -> str:
    """The paper's Tables 1 and 2 in form, with spread over seeds."""
    if not rows:
        return '<p class="empty">No accuracy has been measured yet, so there is no target to speak of.</p>'
    columns = [
        Column("Method", False),
        Column("Target"),
        Column("Rounds"),
        Column("Upstream, encoded", note="bytes of the messages as they were really encoded, all clients together"),
        Column("Algorithm 2", note="the paper's packed payload: one bit a class and time step, or 4 bytes a weight"),
        Column("As text", note="what the paper's tables count: integers as text, weights pickled"),
        Column("Ratio to FedAvg", note="FedAvg's encoded bytes over this method's, at the same target"),
        Column("Ratio, as text", note="the same in the paper's own measure"),
    ]
    out = []
    for row in rows:
        name = Cell(row.group.label, kind=css_of(row.group))
        target = Cell(target_text(row.target), row.target)
        if not row.reached:
            why = f"best round {percent(row.best)}" if row.best is not None else "no round yet"
            blank = [Cell("not reached", "", why, "absent")] + [Cell(ABSENT, "", kind="absent") for _ in range(5)]
            out.append([name, target, *blank])
            continue
        note = "" if row.complete else f"{row.reached} of {row.seeds} seeds reached it; mean over those"
        mark = "" if row.complete else f" ({row.reached} of {row.seeds} seeds)"
        sizes = [
            Cell(_size(row, m), row.bytes[m] if row.bytes[m] is not None else "", note)
            for m in ("upstream", "paper", "text")
        ]
        over = f"against {row.base.label}" if row.base else ""
        ratios = [
            Cell(times(r := row.ratio[m]), r if r is not None else "", note or over) for m in ("upstream", "text")
        ]
        out.append([name, target, Cell(_plus(row.rounds, row.rounds_spread) + mark, row.rounds, note), *sizes, *ratios])
    caption = "Bytes sent upstream until the server first reaches a target accuracy"
    breaks = {i for i, row in enumerate(rows) if i and row.target != rows[i - 1].target}
    return table(f"targets-{setting + 1}", caption, columns, out, breaks)


def equal_table(setting: int, groups: Sequence[Group]) -> str:
    """Accuracy at equal upstream bytes, with spread over seeds; empty before any bytes were sent."""
    budgets = default_budgets(groups)
    if not budgets:
        return ""
    columns = [Column("Method", False), *(Column(f"within {bytes_text(b)}") for b in budgets)]
    out = []
    for row in equal_rows(groups, budgets):
        cells = []
        for accuracy, deviation, spent in zip(row.accuracy, row.deviation, row.spent, strict=True):
            if accuracy is None:
                cells.append(Cell(ABSENT, "", "not every seed had finished a round within these bytes", "absent"))
                continue
            text = percent(accuracy) + (f" ± {100 * deviation:.1f}" if deviation is not None else "")
            cells.append(Cell(text, accuracy, "the whole run sent less than this" if spent else ""))
        out.append([Cell(row.group.label, kind=css_of(row.group)), *cells])
    caption = "Server accuracy of the best round within so many bytes sent upstream (encoded, all clients together)"
    return table(f"equal-{setting + 1}", caption, columns, out)


def printed_table(setting: Setting) -> str:
    """The paper's own cells for this data set, folded away; empty for other data."""
    printed = PRINTED.get(setting.dataset)
    if not printed:
        return ""
    columns = [Column("Network", False), Column("Target"), Column("FSD, as text"), Column("FedAvg"), Column("Ratio")]
    rows = [
        [
            network,
            Cell(target_text(target), target),
            Cell(bytes_text(fsd * 1e6), fsd * 1e6),
            Cell(bytes_text(fedavg * 1e6), fedavg * 1e6),
            Cell(times(fedavg / fsd), fedavg / fsd),
        ]
        for network, target, fsd, fedavg in printed
    ]
    body = table(f"paper-{setting.dataset}", f"Printed in the FSD paper for {setting.dataset}", columns, rows)
    return (
        '<details class="fold"><summary>What the paper printed for this data set</summary>'
        "<p>Liu et al., J. Phys. Conf. Ser. 2216 (2022) 012078, Tables 1 and 2: other networks (37 to 45 million "
        "weights for DTSNN), one seed. Its FSD column counts integers sent as text, so compare it with the "
        f"“as text” columns above, never with encoded bytes.</p>{body}</details>"
    )


def runs_table(setting: int, groups: Sequence[Group]) -> str:
    """Every run, one row each."""
    columns = [
        Column("Run", False),
        Column("Method", False),
        Column("Seed"),
        Column("Rounds"),
        Column("Last accuracy", note="after the last round"),
        Column("Best round", note="the highest of all rounds, picked by the images it is measured on, so it flatters"),
        Column("Upstream"),
        Column("Downstream"),
        Column("Time"),
        Column("State", False),
    ]
    common = common_rounds(groups)
    if common:
        columns.insert(6, Column(f"Best of the first {plural(common, 'round')}"))
    out = []
    for group in groups:
        for run, curve in zip(group.runs, group.curves, strict=True):
            even = [Cell(percent(first := curve.best_of_first(common)), first)] if common else []
            up = curve.total("upstream")
            down = curve.total("downstream")
            spent = run.seconds
            out.append(
                [
                    run.name,
                    Cell(group.label, kind=css_of(group)),
                    Cell(ABSENT if run.seed is None else str(run.seed), run.seed),
                    Cell(str(len(curve.rounds)), len(curve.rounds)),
                    Cell(percent(curve.last), curve.last),
                    Cell(percent(curve.best), curve.best),
                    *even,
                    Cell(bytes_text(up), up),
                    Cell(bytes_text(down), down),
                    Cell(duration(spent), spent),
                    "finished" if run.finished else "in progress",
                ]
            )
    return table(f"runs-{setting + 1}", "All runs", columns, out) + _public_note(groups)


def _public_note(groups: Sequence[Group]) -> str:
    """What no byte count here holds: the images that both ends need beforehand."""
    found = (number((run.result or {}).get("public_set_bytes")) for group in groups for run in group.runs)
    sizes = {size for size in found if size}
    if not sizes:
        return ""
    told = " or ".join(bytes_text(size) for size in sorted(sizes))
    return (
        f"<p>The public set ({told} of raw pixels) is on every device beforehand and in none of these figures; methods "
        "that send weights need none.</p>"
    )


def codec_table(setting: int, groups: Sequence[Group]) -> str:
    """Bytes by direction, kind and codec, from the ledgers; empty when no run has one."""
    columns = [
        Column("Method", False),
        Column("Direction", False),
        Column("Kind", False),
        Column("Codec", False),
        Column("Messages"),
        Column("Payload"),
        Column("Headers"),
        Column("Encoded"),
        Column("Share"),
    ]
    out = []
    for group in groups:
        sums: dict[tuple[str, str, str], list[float]] = {}
        for message in (m for run in group.runs for m in run.ledger):
            key = tuple(str(message.get(k, "")) for k in ("direction", "kind", "codec"))
            row = sums.setdefault((key[0], key[1], key[2]), [0.0, 0.0, 0.0, 0.0])
            row[0] += 1
            row[1] += (number(message.get("payload_bits")) or 0.0) / 8
            row[2] += number(message.get("header_bytes")) or 0.0
            row[3] += number(message.get("encoded_bytes")) or 0.0
        total = sum(row[3] for row in sums.values()) or 1.0
        for (direction, kind, codec), (count, payload, header, encoded) in sums.items():
            out.append(
                [
                    Cell(group.label, kind=css_of(group)),
                    {"up": "upstream", "down": "downstream"}.get(direction, direction),
                    kind,
                    codec,
                    Cell(f"{count:,.0f}", count),
                    Cell(bytes_text(payload), payload),
                    Cell(bytes_text(header), header),
                    Cell(bytes_text(encoded), encoded),
                    Cell(percent(encoded / total), encoded / total),
                ]
            )
    if not out:
        return ""
    runs = [run for group in groups for run in group.runs]
    told = sum(bool(run.ledger) or group.silent for group in groups for run in group.runs)
    whose = "every run" if told == len(runs) else f"the {told} of {plural(len(runs), 'run')} that have a ledger"
    return table(f"codecs-{setting + 1}", f"Bytes by codec, every message of {whose}", columns, out)


def configs(groups: Sequence[Group]) -> str:
    """Config, provenance and the command of each group, folded."""
    return "".join(_config(group) for group in groups)


def _config(group: Group) -> str:
    first = group.runs[0]
    started = list(dict.fromkeys(run.command for run in group.runs if run.command))
    commands = [command for command in started if not command.startswith("spikefed.run in ")]
    parts = []
    if commands:
        parts.append(f'<h4>To repeat it</h4><pre class="copy" tabindex="0">{escape(chr(10).join(commands))}</pre>')
    elif started:
        parts.append(
            f"<h4>To repeat it</h4><p>Started by {escape(started[0])}. Save the config below as a file:</p>"
            '<pre class="copy" tabindex="0">spikefed run config.toml --out runs/again</pre>'
        )
    if first.provenance:
        shown = {k: v for k, v in first.provenance.items() if k not in ("command", "network_outputs")}
        rows = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(_plain(v))}</dd></div>" for k, v in shown.items())
        parts.append(f"<h4>Provenance{_of_seed(group)}</h4><dl class='facts'>{rows}</dl>")
    if first.config:
        text = escape(toml_text(first.config))
        parts.append(f'<h4>Config{_of_seed(group)}</h4><pre class="copy" tabindex="0">{text}</pre>')
    problems = [f"{run.name}: {p}" for run in group.runs for p in run.troubles]
    if problems:
        items = "".join(f"<li>{escape(p)}</li>" for p in problems)
        parts.append(f'<h4>What could not be read</h4><ul class="problems">{items}</ul>')
    seeds = [str(s) for s in group.seeds if s is not None]
    told = f", seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}" if seeds else ""
    return (
        f'<details class="fold"><summary><span class="{css_of(group)}">{escape(group.label)}</span>'
        f"<small>{plural(len(group.runs), 'run')}{escape(told)}</small></summary>"
        f"{''.join(parts) or '<p>The run folder holds neither config nor provenance.</p>'}</details>"
    )


def toml_text(config: dict[str, object], prefix: str = "") -> str:
    """A config as TOML, plain values first, then tables."""
    lines = [f"{k} = {_plain(v, quote=True)}" for k, v in config.items() if not isinstance(v, dict)]
    for key, value in config.items():
        if isinstance(value, dict):
            body = toml_text(value, f"{prefix}{key}.")
            lines.append(f"\n[{prefix}{key}]" + (f"\n{body}" if body else ""))
    return "\n".join(lines).strip("\n")


def swatches(groups: Sequence[Group]) -> str:
    """Style rules that give each method its colour, light and dark, and each configuration its marker."""
    rules = []
    for group in {_swatch(g): g for g in groups}.values():
        light, dark = group.colour
        rules.append(f".{_swatch(group)}{{--on-light:{light};--on-dark:{dark}}}")
    for symbol in dict.fromkeys(g.symbol for g in groups):
        if (outline := palette.outline_of(symbol)) != "none":
            rules.append(f".s-{symbol}::before{{clip-path:{outline};border-radius:0;width:.85rem;height:.85rem}}")
    return "\n".join(rules)


def css_of(group: Group) -> str:
    """Style classes that give a group its colour and marker."""
    return f"method {_swatch(group)} s-{group.symbol}"


def _swatch(group: Group) -> str:
    return "m-" + "".join(c if c.isalnum() else "-" for c in group.method)


def _size(row: TargetRow, measure: str) -> str:
    size = row.bytes[measure]
    deviation = row.bytes_spread[measure]
    return bytes_text(size) + (f" ± {bytes_text(deviation)}" if size is not None and deviation else "")


def _plus(value: float | None, deviation: float | None) -> str:
    if value is None:
        return ABSENT
    return f"{value:.3g}" + (f" ± {deviation:.2g}" if deviation else "")


def _of_seed(group: Group) -> str:
    return f" (seed {group.runs[0].seed})" if len(group.runs) > 1 and group.runs[0].seed is not None else ""


def _plain(value: object, quote: bool = False) -> str:
    if isinstance(value, str) and not quote:
        return value
    return json.dumps(value, ensure_ascii=False, default=str)
