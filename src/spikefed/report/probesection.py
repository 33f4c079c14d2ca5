"""The report's part on probes: a table a probe with the numbers of every method, and below it the rows of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from spikefed.report import columns, text
from spikefed.report.columns import Column
from spikefed.report.curves import mean, spread
from spikefed.report.groups import Group
from spikefed.report.probecurves import figures
from spikefed.report.probefiles import OLD
from spikefed.report.probes import column_of, columns_of, parts_of, settings_text
from spikefed.report.runs import Run, number

MOST_ROWS = 300
"""Of a table on the page; the file has them all."""
EMPTY = (
    '<p class="empty">None of the runs compared here was probed. A table <code>[[probe]]</code> in an experiment file '
    "measures while it runs, and <code>spikefed probe RUN NAME</code> a run that has ended; "
    "<code>spikefed list probes</code> says what there is.</p>"
)


def probe_section(setting: int, groups: Sequence[Group], css: Any) -> str:
    """All probes of a setting's runs; a sentence when there are none.

    Args:
        setting: its number on the page.
        css: gives a group's style class.
    """
    labels = list(dict.fromkeys(label for group in groups for run in group.runs for label in _probed(run)))
    parts = []
    for label in labels:
        mine = [group for group in groups if any(label in _probed(run) for run in group.runs)]
        parts.append(_of_probe(f"probe-{label}-{setting + 1}", label, mine, css))
    return "".join(parts) or EMPTY


def _probed(run: Run) -> dict[str, dict[str, Any]]:
    """The run's probes by label; what an older file says has a part of the report already."""
    return {label: tree for label, tree in run.probes.items() if tree.get("file") != OLD}


def _of_probe(name: str, label: str, groups: Sequence[Group], css: Any) -> str:
    trees = [tree for group in groups for run in group.runs if (tree := _probed(run).get(label))]
    first = trees[0]
    title = str(first.get("title") or label)
    called = title if label == first.get("probe") else f"{title} ({label})"
    rows = [_headline(group, label) for group in groups]
    keys = list(dict.fromkeys(key for row in rows for key in row["means"]))
    told = settings_text(first)
    caption = f"{called}, after the last round that was measured"
    out = [f"<h3>{escape(called)}</h3>", f"<p>{escape(told)}.</p>" if told else ""]
    if keys:
        heads = [Column("method", "Method", lambda row: row["group"].label, "text", css=lambda row: css(row["group"]))]
        heads += [_headline_column(first, key) for key in keys]
        out.append(columns.html(name, caption, heads, rows))
    out.append(figures(label, groups))
    out += [_rows_of(f"{name}-{place}", label, group, css) for place, group in enumerate(groups)]
    return "".join(out)


def _headline(group: Group, label: str) -> dict[str, Any]:
    """Mean and deviation over the seeds of every number of the headline."""
    found = [tree["measurements"][-1]["headline"] for run in group.runs if (tree := _probed(run).get(label))]
    values: dict[str, list[float]] = {}
    for headline in found:
        for key, value in headline.items():
            if (known := number(value)) is not None:
                values.setdefault(key, []).append(known)
    return {
        "group": group,
        "means": {key: mean(each) for key, each in values.items()},
        "spreads": {key: spread(each) for key, each in values.items()},
    }


def _headline_column(tree: Mapping[str, Any], key: str) -> Column:
    like = column_of(tree, key, [])
    return Column(
        key,
        like.title,
        lambda row: row["means"].get(key),
        like.unit if like.numeric else "number",
        like.note,
        spread=lambda row: row["spreads"].get(key),
    )


def _rows_of(name: str, label: str, group: Group, css: Any) -> str:
    """The rows of the group's first run that has them, folded away."""
    run = next(run for run in group.runs if label in _probed(run))
    tree = _probed(run)[label]
    *before, last = tree["measurements"]
    out = []
    if before:
        out.append(_over_rounds(f"{name}-rounds", tree))
    for place, (part, rows) in enumerate(parts_of(last["records"]).items()):
        caption = f"{part.capitalize() or 'Rows'} of round {last['round']}, {text.plural(last['images'], 'image')}"
        shown = rows[:MOST_ROWS]
        out.append(columns.html(f"{name}-{place}", caption, columns_of(tree, shown), shown))
        if len(rows) > len(shown):
            out.append(f"<p>{len(rows) - len(shown):,} rows more are in probes/{escape(label)}.json of the run.</p>")
    seed = "" if run.seed is None else f", seed {run.seed}"
    return (
        f'<details class="fold"><summary><span class="{css(group)}">{escape(group.label)}</span>'
        f"<small>all rows{escape(seed)}</small></summary>{''.join(out)}</details>"
    )


def _over_rounds(name: str, tree: Mapping[str, Any]) -> str:
    """The headline of every round that was measured."""
    measurements = tree["measurements"]
    keys = list(dict.fromkeys(key for m in measurements for key in m["headline"]))
    rows = [{"round": m["round"], **m["headline"]} for m in measurements]
    heads = [Column("round", "Round", lambda row: row["round"]), *(column_of(tree, key, rows) for key in keys)]
    return columns.html(name, "Over the rounds", heads, rows)
