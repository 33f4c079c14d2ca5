"""The report's table of time to a target on slow links."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from spikefed.report.costs import TERMS, Terms, seconds_to, totals_of
from spikefed.report.curves import mean, spread
from spikefed.report.groups import Group
from spikefed.report.links import Link
from spikefed.report.targets import TargetRow
from spikefed.report.text import ABSENT, Cell, Column, percent, span_text, table, target_text


def links_table(setting: int, rows: Sequence[TargetRow], css: Callable[[Group], str], terms: Terms = TERMS) -> str:
    """One row a method and target: seconds of computing, and of computing and carrying on every link.

    Args:
        setting: its place on the page.
        rows: of the setting, target by target.
        css: gives a group's style class.
        terms: links, and the devices' speed.
    """
    if not any(row.reached for row in rows):
        return '<p class="empty">No target has been reached yet, so there is no time to speak of.</p>'
    columns = [Column("Method", False), Column("Target"), Column("Computing", note="one client, and the server")]
    columns += [Column(link.name, note=link.told) for link in terms.links]
    out = []
    for row in rows:
        name = Cell(row.group.label, kind=css(row.group))
        cells = [_cell(row, link, terms) for link in (None, *terms.links)]
        out.append([name, Cell(target_text(row.target), row.target), *cells])
    caption = "Time until the server first reaches a target accuracy, computing and carrying its messages"
    breaks = {i for i, row in enumerate(rows) if i and row.target != rows[i - 1].target}
    return f"<p>{escape(terms_told(rows, terms))}</p>" + table(f"links-{setting + 1}", caption, columns, out, breaks)


def terms_told(rows: Sequence[TargetRow], terms: Terms = TERMS) -> str:
    """What the table takes for granted, in sentences."""
    told = "; ".join(f"{link.name}: {link.told}" for link in terms.links)
    speed = "as fast as the machine of the run" if terms.slowdown == 1 else f"{terms.slowdown:g} times slower than it"
    sentences = [
        f"Rates are parameters, not measurements ({told}; --link sets others): without headers of the layers below, "
        "repeats or waiting.",
        f"Clients are devices of their own that compute and send at the same time, {speed} (--slowdown).",
    ]
    mute = [row.group.label for row in rows if row.reached and not _timed(row)]
    if mute:
        sentences.append(f"The files of {', '.join(dict.fromkeys(mute))} tell no seconds: carrying alone.")
    return " ".join(sentences)


def _timed(row: TargetRow) -> bool:
    group = row.group
    return any(totals_of(run, curve, "seconds") for run, curve in zip(group.runs, group.curves, strict=True))


def times_to(row: TargetRow, link: Link | None, terms: Terms = TERMS) -> list[float]:
    """Seconds of every seed that reached the row's target."""
    pairs = zip(row.group.runs, row.group.curves, strict=True)
    found = [seconds_to(run, curve, row.target, link, terms) for run, curve in pairs]
    return [seconds for seconds in found if seconds is not None]


def _cell(row: TargetRow, link: Link | None, terms: Terms) -> Cell:
    times = times_to(row, link, terms)
    if not row.reached:
        best = f"best round {percent(row.best)}" if row.best is not None else "no round yet"
        return Cell("not reached" if link is None else ABSENT, "", best, "absent")
    if not times:
        return Cell(ABSENT, "", "the run's files do not tell", "absent")
    deviation = spread(times)
    text = span_text(mean(times)) + (f" ± {span_text(deviation)}" if deviation else "")
    mark = "" if row.complete else f" ({row.reached} of {row.seeds} seeds)"
    computing = times_to(row, None, terms)
    part = f"{percent(mean(computing) / mean(times), 0)} of it computing" if link and computing and mean(times) else ""
    return Cell(text + mark, mean(times), part)
