"""The top of the report: the finding, cards, and what to know before any of it is believed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import Any

from spikefed.federated.findings import lasting
from spikefed.report.curves import mean
from spikefed.report.groups import Group, common_rounds, networks_of, talkers
from spikefed.report.takehome import MEAN, VOTE, home_rows, verdicts
from spikefed.report.targets import BASELINE, TargetRow, baseline_of
from spikefed.report.text import bytes_text, duration, percent, plural, target_text, times

MOST_NAMES = 4
MOST_FINDINGS = 8


def headline(groups: Sequence[Group], rows: Sequence[TargetRow]) -> str:
    """The finding in two or three plain sentences, with what clients take home where it was measured."""
    told = " ".join(filter(None, [_finding(groups, rows), _taken_home(groups), _one_seed(groups)]))
    return re.sub(r"(?<=\d) (?=[kMGT]?B\b)", "\u00a0", told)


def _taken_home(groups: Sequence[Group]) -> str:
    """Whether the methods that send something are better for their clients than staying alone; else what they hold."""
    speaking = talkers(groups)
    rows = [row for row in home_rows(groups) if row.group in speaking]
    if found := verdicts(rows):
        return " ".join(found[:MOST_NAMES])
    homes = [f"{row.group.label} {percent(mean(row.values[MEAN]))}" for row in rows[:MOST_NAMES]]
    return f"Clients take home, each its own network: {', '.join(homes)}." if homes else ""


def _one_seed(groups: Sequence[Group]) -> str:
    """Whose numbers are of one seed alone; nothing where there are several."""
    run = [g for g in groups if any(c.rounds for c in g.curves)]
    alone = [g for g in run if sum(bool(c.rounds) for c in g.curves) == 1]
    if not alone:
        return ""
    if len(alone) == len(run):
        return "All of it is one seed: another may say otherwise."
    return f"Of one seed alone, so another may say otherwise: {_names(alone)}."


def _finding(groups: Sequence[Group], rows: Sequence[TargetRow]) -> str:
    if all(g.last is None for g in groups):
        return "No round has finished yet."
    speaking = talkers(groups)
    ends = _lasts(speaking)
    closing = f"Server accuracy after the last round: {ends}." if ends else ""
    if len(speaking) < len(groups) and (mute := _lasts([g for g in groups if g.silent])):
        closing = f"{closing} Without a byte sent upstream: {mute}.".strip()
    hero = hero_row(groups, rows)
    if hero is None:
        return closing
    size = bytes_text(hero.bytes["upstream"])
    start = f"{hero.group.label} reaches {target_text(hero.target)} with {size} sent upstream"
    base = hero.base
    ratio = hero.ratio["upstream"]
    if base is None or ratio is None or hero.group is base:
        return f"{start}. {closing}"
    theirs = next(r for r in rows if r.group is base and r.target == hero.target)
    more = "as much" if ratio >= 1 else "of that"
    return f"{start}; {base.label} needs {bytes_text(theirs.bytes['upstream'])}, {times(ratio)} {more}. {closing}"


def hero_row(groups: Sequence[Group], rows: Sequence[TargetRow]) -> TargetRow | None:
    """The row the page leads with: fewest bytes at the highest target that it and its FedAvg (if any) both reach.

    A row that sends nothing upstream leads only where no other reaches a target: it has no traffic to speak of.
    """
    reached = [r for r in rows if r.complete and r.bytes["upstream"] is not None]
    reached = [r for r in reached if r.bytes["upstream"]] or reached
    there = {(id(r.group), r.target) for r in reached}
    beside = [r for r in reached if r.base is not r.group and (id(r.base), r.target) in there]
    reached = beside or reached
    if not reached:
        return None
    high = max(r.target for r in reached)
    return min((r for r in reached if r.target == high), key=lambda r: r.bytes["upstream"] or 0.0)


def cards(groups: Sequence[Group], rows: Sequence[TargetRow]) -> str:
    """Summary cards of one setting."""
    runs = [run for g in groups for run in g.runs]
    # The last round, not the best one: who picks that by the images it is measured on flatters the unsteady method.
    first = max((g for g in talkers(groups) if g.last is not None), key=lambda g: g.last or 0.0, default=None)
    hero = hero_row(groups, rows)
    out = []
    if first is not None:
        seeds = [c.last for c in first.curves if c.last is not None]
        out.append(("Highest after the last round", percent(first.last), f"{first.label}, {_over(len(seeds))}"))
    if homes := [row for row in home_rows(talkers(groups)) if row.values[MEAN]]:
        best = max(homes, key=lambda row: mean(row.values[MEAN]))
        together = f"their vote {percent(mean(best.values[VOTE]))}" if best.values[VOTE] else ""
        out.append(
            ("Clients take home", percent(mean(best.values[MEAN])), f"{best.group.label}, own networks; {together}")
        )
    if hero is not None:
        out.append(
            (
                f"Upstream to {target_text(hero.target)}",
                bytes_text(hero.bytes["upstream"]),
                f"{hero.group.label}, {_rounds_text(hero)}",
            )
        )
        if hero.ratio["upstream"] is not None and hero.group.method != BASELINE:
            note = f"{hero.base.label if hero.base else ''} sends so many times as much to get there"
            out.append(("Traffic saved", times(hero.ratio["upstream"]), note))
    finished = sum(run.finished for run in runs)
    state = "all finished" if finished == len(runs) else f"{len(runs) - finished} still in progress"
    seeds = len({run.seed for run in runs})
    out.append(("Runs", str(len(runs)), f"{plural(len(groups), 'configuration')}, {plural(seeds, 'seed')}, {state}"))
    dropped = sum(len(e.get("dropped") or []) for run in runs for e in run.rounds)
    expected = sum(len(_expected(e)) for g in groups if _uploads(g) for run in g.runs for e in run.rounds)
    if expected:
        out.append(("Uploads lost", str(dropped), f"or refused, of {expected} expected"))
    spent = [run.seconds for run in runs if run.seconds is not None]
    if spent:
        out.append(
            (
                "Computing time",
                duration(sum(spent)),
                f"all {len(spent)} runs together" if len(spent) > 1 else "of one run",
            )
        )
    return "".join(
        f'<div class="card"><dt>{escape(k)}</dt><dd><strong>{escape(v)}</strong><span>{escape(n)}</span></dd></div>'
        for k, v, n in out
    )


def caveats(groups: Sequence[Group]) -> str:
    """In what the runs of one setting are unlike each other, beyond their labels; empty where in nothing."""
    told = []
    if common := common_rounds(groups):
        lengths: dict[int, list[Group]] = {}
        for group in groups:
            for count in dict.fromkeys(len(c.rounds) for c in group.curves if c.rounds):
                lengths.setdefault(count, []).append(group)
        listed = "; ".join(f"{plural(n, 'round')}: {_names(lengths[n])}" for n in sorted(lengths, reverse=True))
        told.append(
            f"The runs have unequal numbers of rounds ({listed}). Last accuracies, totals and the front compare "
            "them as they are; the table of runs also has the best of the first "
            f"{plural(common, 'round')}, which all have."
        )
    networks = [name for found in networks_of(groups).values() for name in found]
    if len(networks) > 1:
        listed = "; ".join(f"{name}: {_names([g for g in groups if g.networks == name])}" for name in networks)
        sentence = f"The networks differ ({listed})."
        if base := baseline_of(groups):
            sentence += f" Ratios to FedAvg are to {base.label}"
            others = any(g.method != BASELINE for g in groups)
            sentence += ", of a method to the FedAvg on its own network where there is one." if others else "."
        told.append(sentence)
    return "".join(f'<p class="caveat">{escape(sentence)}</p>' for sentence in told)


def health(groups: Sequence[Group]) -> str:
    """What was not well in rounds of these runs, with what to try; empty where nothing was."""
    told: dict[str, list[str]] = {}
    for group in groups:
        for run in group.runs:
            for finding in lasting(run.rounds):
                seed = "" if run.seed is None or len(group.runs) == 1 else f", seed {run.seed}"
                told.setdefault(finding["text"], []).append(f"{group.label}{seed}: {_rounds(finding['rounds'])}")
    if not told:
        return ""
    items = [f"<li>{escape(text)} <small>({escape('; '.join(where))})</small></li>" for text, where in told.items()]
    more = f"<li>and {len(items) - MOST_FINDINGS} more, in metrics.jsonl</li>" if len(items) > MOST_FINDINGS else ""
    return f'<div class="trouble"><p>Not well:</p><ul>{"".join(items[:MOST_FINDINGS])}{more}</ul></div>'


def _rounds(numbers: Sequence[int]) -> str:
    first, last = numbers[0], numbers[-1]
    return f"round {first}" if first == last else f"{len(numbers)} rounds, {first} to {last}"


def unread(groups: Sequence[Group]) -> str:
    """What could not be read, in sight: a curve that lacks a round shall not pass for a whole one."""
    problems = [f"{run.name}: {p}" for g in groups for run in g.runs for p in run.troubles]
    if not problems:
        return ""
    items = "".join(f"<li>{escape(p)}</li>" for p in problems[:8])
    items += f"<li>and {len(problems) - 8} more, under “Repeat it”</li>" if len(problems) > 8 else ""
    return f'<div class="trouble"><p>Not everything could be read, or agrees:</p><ul>{items}</ul></div>'


def _lasts(groups: Sequence[Group]) -> str:
    """Labels with their accuracy after the last round, highest first."""
    last = {g.label: g.last for g in groups if g.last is not None}
    order = sorted(last, key=lambda label: -last[label])
    ends = ", ".join(f"{label} {percent(last[label])}" for label in order[:MOST_NAMES])
    return ends + (f" and {len(order) - MOST_NAMES} more below" if len(order) > MOST_NAMES else "")


def _names(groups: Sequence[Group]) -> str:
    labels = list(dict.fromkeys(g.label for g in groups))
    more = f" and {len(labels) - MOST_NAMES} more" if len(labels) > MOST_NAMES else ""
    return ", ".join(labels[:MOST_NAMES]) + more


def _uploads(group: Group) -> bool:
    """Whether its clients send anything; a method all of whose uploads were lost does, too."""
    return not group.silent or any(e.get("dropped") for run in group.runs for e in run.rounds)


def _expected(entry: dict[str, Any]) -> set[Any]:
    """Clients an upload was due from in a round, whether or not those left out are among the participants."""
    return {*(entry.get("participants") or []), *(d.get("client") for d in entry.get("dropped") or [])}


def _over(count: int) -> str:
    return "one seed" if count == 1 else f"mean of {count} seeds"


def _rounds_text(row: TargetRow) -> str:
    return f"after {row.rounds:.3g} round{'' if row.rounds == 1 else 's'}, {_over(row.seeds)}"
