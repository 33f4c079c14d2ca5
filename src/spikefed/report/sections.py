"""The parts of the report that need no script: headline, cards, tables, config and provenance."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html import escape
from typing import Any

from spikefed.report import palette
from spikefed.report.curves import mean
from spikefed.report.equal import default_budgets, equal_rows
from spikefed.report.groups import Group, Setting
from spikefed.report.paper import PRINTED
from spikefed.report.runs import Run, number
from spikefed.report.targets import BASELINE, TargetRow, baseline_of
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


def headline(groups: Sequence[Group], rows: Sequence[TargetRow]) -> str:
    """The finding in one or two plain sentences."""
    return re.sub(r"(?<=\d) (?=[kMGT]?B\b)", "\u00a0", _finding(groups, rows))


def _finding(groups: Sequence[Group], rows: Sequence[TargetRow]) -> str:
    hero = hero_row(groups, rows)
    best = {g.label: b for g in groups if (b := _mean_best(g)) is not None}
    if not best:
        return "No round has finished yet."
    order = sorted(best, key=lambda label: -best[label])
    ends = ", ".join(f"{label} {percent(best[label])}" for label in order[:4])
    ends += f" and {len(order) - 4} more below" if len(order) > 4 else ""
    closing = f"Best server accuracy: {ends}."
    if hero is None:
        return closing
    size = bytes_text(hero.bytes["upstream"])
    start = f"{hero.group.label} reaches {target_text(hero.target)} with {size} sent upstream"
    base = baseline_of(groups)
    ratio = hero.ratio["upstream"]
    if base is None or ratio is None or hero.group is base:
        return f"{start}. {closing}"
    theirs = next(r for r in rows if r.group is base and r.target == hero.target)
    more = "as much" if ratio >= 1 else "of that"
    return f"{start}; {base.label} needs {bytes_text(theirs.bytes['upstream'])}, {times(ratio)} {more}. {closing}"


def hero_row(groups: Sequence[Group], rows: Sequence[TargetRow]) -> TargetRow | None:
    """The row the page leads with: fewest bytes at the highest target that it and FedAvg (if any) both reach."""
    base = baseline_of(groups)
    reached = [r for r in rows if r.complete and r.bytes["upstream"] is not None]
    if base is not None:
        both = {r.target for r in reached if r.group is base}
        reached = [r for r in reached if r.target in both and r.group is not base] or reached
    if not reached:
        return None
    high = max(r.target for r in reached)
    return min((r for r in reached if r.target == high), key=lambda r: r.bytes["upstream"] or 0.0)


def cards(groups: Sequence[Group], rows: Sequence[TargetRow]) -> str:
    """Summary cards of one setting."""
    runs = [run for g in groups for run in g.runs]
    best = max((g for g in groups if _mean_best(g) is not None), key=lambda g: _mean_best(g) or 0.0, default=None)
    hero = hero_row(groups, rows)
    out = []
    if best is not None:
        seeds = [c.best for c in best.curves if c.best is not None]
        out.append(("Best accuracy", percent(_mean_best(best)), f"{best.label}, {_over(len(seeds))}"))
    if hero is not None:
        out.append(
            (
                f"Upstream to {target_text(hero.target)}",
                bytes_text(hero.bytes["upstream"]),
                f"{hero.group.label}, {_rounds_text(hero)}",
            )
        )
        if hero.ratio["upstream"] is not None and hero.group.method != BASELINE:
            base = baseline_of(groups)
            note = f"{base.label if base else ''} sends so many times as much to get there"
            out.append(("Traffic saved", times(hero.ratio["upstream"]), note))
    finished = sum(run.finished for run in runs)
    state = "all finished" if finished == len(runs) else f"{len(runs) - finished} still in progress"
    seeds = len({run.seed for run in runs})
    out.append(("Runs", str(len(runs)), f"{plural(len(groups), 'configuration')}, {plural(seeds, 'seed')}, {state}"))
    dropped = sum(len(e.get("dropped") or []) for run in runs for e in run.rounds)
    expected = sum(len(_expected(e)) for run in runs for e in run.rounds)
    if expected:
        out.append(("Uploads lost", str(dropped), f"or refused, of {expected} expected"))
    spent = [s for run in runs if (s := _run_seconds(run)) is not None]
    if spent:
        out.append(("Computing time", duration(sum(spent)), f"all {plural(len(spent), 'run')} together"))
    return "".join(
        f'<div class="card"><dt>{escape(k)}</dt><dd><strong>{escape(v)}</strong><span>{escape(n)}</span></dd></div>'
        for k, v, n in out
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
            why = f"best {percent(row.best)}" if row.best is not None else "no round yet"
            blank = [Cell("not reached", "", why, "absent")] + [Cell(ABSENT, "", kind="absent") for _ in range(5)]
            out.append([name, target, *blank])
            continue
        note = "" if row.complete else f"{row.reached} of {row.seeds} seeds reached it; mean over those"
        mark = "" if row.complete else f" ({row.reached} of {row.seeds} seeds)"
        sizes = [
            Cell(_size(row, m), row.bytes[m] if row.bytes[m] is not None else "", note)
            for m in ("upstream", "paper", "text")
        ]
        ratios = [Cell(times(r := row.ratio[m]), r if r is not None else "", note) for m in ("upstream", "text")]
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
    caption = "Best server accuracy by the time this much was sent upstream (encoded bytes, all clients together)"
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
        Column("Last accuracy"),
        Column("Best accuracy"),
        Column("Upstream"),
        Column("Downstream"),
        Column("Time"),
        Column("State", False),
    ]
    out = []
    for group in groups:
        for run, curve in zip(group.runs, group.curves, strict=True):
            up, down, spent = curve.total("upstream"), curve.total("downstream"), _run_seconds(run)
            out.append(
                [
                    run.name,
                    Cell(group.label, kind=css_of(group)),
                    Cell(ABSENT if run.seed is None else str(run.seed), run.seed),
                    Cell(str(len(curve.rounds)), len(curve.rounds)),
                    Cell(percent(curve.last), curve.last),
                    Cell(percent(curve.best), curve.best),
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
    return table(f"codecs-{setting + 1}", "Bytes by codec, every message of every run", columns, out)


def unread(groups: Sequence[Group]) -> str:
    """What could not be read, in sight: a curve that lacks a round shall not pass for a whole one."""
    problems = [f"{run.name}: {p}" for g in groups for run in g.runs for p in run.problems]
    if not problems:
        return ""
    items = "".join(f"<li>{escape(p)}</li>" for p in problems[:8])
    items += f"<li>and {len(problems) - 8} more, under “Repeat it”</li>" if len(problems) > 8 else ""
    return f'<div class="trouble"><p>Not everything could be read:</p><ul>{items}</ul></div>'


def configs(groups: Sequence[Group]) -> str:
    """Config, provenance and the command of each group, folded."""
    return "".join(_config(group) for group in groups)


def _config(group: Group) -> str:
    first = group.runs[0]
    told = list(dict.fromkeys(run.command for run in group.runs if run.command))
    commands = [command for command in told if not command.startswith("spikefed.run in ")]
    parts = []
    if commands:
        parts.append(f'<h4>To repeat it</h4><pre class="copy" tabindex="0">{escape(chr(10).join(commands))}</pre>')
    elif told:
        parts.append(
            f"<h4>To repeat it</h4><p>Started by {escape(told[0])}. Save the config below as a file:</p>"
            '<pre class="copy" tabindex="0">spikefed run config.toml --out runs/again</pre>'
        )
    if first.provenance:
        shown = {k: v for k, v in first.provenance.items() if k != "command"}
        rows = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(_plain(v))}</dd></div>" for k, v in shown.items())
        parts.append(f"<h4>Provenance{_of_seed(group)}</h4><dl class='facts'>{rows}</dl>")
    if first.config:
        text = escape(toml_text(first.config))
        parts.append(f'<h4>Config{_of_seed(group)}</h4><pre class="copy" tabindex="0">{text}</pre>')
    problems = [f"{run.name}: {p}" for run in group.runs for p in run.problems]
    if problems:
        items = "".join(f"<li>{escape(p)}</li>" for p in problems)
        parts.append(f'<h4>What could not be read</h4><ul class="problems">{items}</ul>')
    seeds = ", ".join(str(s) for s in group.seeds if s is not None) or ABSENT
    return (
        f'<details class="fold"><summary><span class="{css_of(group)}">{escape(group.label)}</span>'
        f"<small>{plural(len(group.runs), 'run')}, seeds {escape(seeds)}</small></summary>"
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
    """Style rules that give each method its colour, light and dark."""
    rules = []
    for group in {_swatch(g): g for g in groups}.values():
        light, dark = palette.colour_of(group.method)
        rules.append(f".{_swatch(group)}{{--on-light:{light};--on-dark:{dark}}}")
    return "\n".join(rules)


def css_of(group: Group) -> str:
    """Style classes that give a group its colour and marker."""
    return f"method {_swatch(group)}" + (" open" if group.variant % 2 else "")


def _swatch(group: Group) -> str:
    return "m-" + "".join(c if c.isalnum() else "-" for c in group.method)


def _expected(entry: dict[str, Any]) -> set[Any]:
    """Clients an upload was due from in a round, whether or not those left out are among the participants."""
    return {*(entry.get("participants") or []), *(d.get("client") for d in entry.get("dropped") or [])}


def _mean_best(group: Group) -> float | None:
    bests = [c.best for c in group.curves if c.best is not None]
    return mean(bests) if bests else None


def _run_seconds(run: Run) -> float | None:
    values = [number((e.get("seconds") or {}).get("round")) for e in run.rounds if isinstance(e.get("seconds"), dict)]
    known = [v for v in values if v is not None]
    return sum(known) if known else None


def _over(count: int) -> str:
    return "one seed" if count == 1 else f"mean of {count} seeds"


def _rounds_text(row: TargetRow) -> str:
    return f"after {row.rounds:.3g} round{'' if row.rounds == 1 else 's'}, {_over(row.seeds)}"


def _size(row: TargetRow, measure: str) -> str:
    size, deviation = row.bytes[measure], row.bytes_spread[measure]
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
