"""Put the report together: one HTML file that needs nothing else and asks nobody for anything."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import cache
from html import escape
from importlib import resources
from pathlib import Path

from spikefed.errors import ReportError
from spikefed.report import sections, summary
from spikefed.report.byclient import clients_table
from spikefed.report.costs import TERMS, Terms
from spikefed.report.energy import energy_table
from spikefed.report.groups import Group, group_runs, networks_of
from spikefed.report.linktable import links_table
from spikefed.report.packed import plotly_packed
from spikefed.report.paired import paired_table
from spikefed.report.payload import payload, to_json
from spikefed.report.pictures import sheets
from spikefed.report.points import ReaderPoint, read_points
from spikefed.report.probesection import probe_section
from spikefed.report.runs import Run, load_runs
from spikefed.report.settings import Setting, titles
from spikefed.report.takehome import home_table
from spikefed.report.targets import TargetRow, default_targets, target_rows
from spikefed.report.taskmatrix import stages_table
from spikefed.report.text import plural
from spikefed.version import __version__

MOST_NAMES = 5  # methods named in a title; more take several lines
SCRIPTS = ("core.js", "unpack.js", "tables.js", "figures.js", "inside.js", "main.js")


def check_targets(targets: Sequence[float]) -> None:
    """Refuse targets that are no accuracies.

    Raises:
        ReportError: one sentence that names the first of them.
    """
    for target in targets:
        if not 0.0 < target <= 1.0:
            raise ReportError(f"target {target:g} is no accuracy; give fractions above 0 and up to 1, such as 0.82")


def write_report(
    runs: Sequence[Path | str],
    out: Path | str,
    targets: Sequence[float] | None = None,
    title: str | None = None,
    warn: Callable[[str], None] | None = None,
    points: Path | str | Sequence[ReaderPoint] = (),
    terms: Terms = TERMS,
) -> Path:
    """Write one offline HTML report over run folders, grouped by config, with bands over seeds.

    Args:
        runs: run folders (finished or in progress), folders of runs, or result files; at least one.
        out: the file to write; it appears whole or not at all.
        targets: server accuracies in (0, 1] of the byte table; by default those that the runs name, or
            two or three whole percents of the curves.
        title: the page's heading.
        warn: called with a sentence for each thing in the folders that could not be read or contradicts another; the
            page says it too.
        points: numbers of your own for the figures, or the CSV file that holds them (`spikefed.report.points`).
        terms: links, speed and radio of the devices (`spikefed.report.costs`).

    Returns:
        ``out`` as a path.

    Raises:
        ReportError: no runs are given, a folder is no run, a target is no accuracy, or points cannot be read.
    """
    if not runs:
        raise ReportError("a report needs at least one run folder; give the folders that 'spikefed run' printed")
    check_targets(targets or ())
    own = read_points(points) if isinstance(points, Path | str) else points
    read = load_runs(runs)
    if warn is not None:
        for run in read:
            for problem in run.troubles:
                warn(f"{run.folder}: {problem}")
    page = render(read, targets, title, own, terms)
    out = Path(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _write(out, page)
    except OSError as error:
        raise ReportError(f"report '{out}' cannot be written: {error.strerror or error}; give another --out") from error
    return out


def render(
    runs: Sequence[Run],
    targets: Sequence[float] | None = None,
    title: str | None = None,
    points: Sequence[ReaderPoint] = (),
    terms: Terms = TERMS,
) -> str:
    """The report as one HTML text.

    Args:
        runs: what was read.
        targets: as for `write_report`.
        title: as for `write_report`.
        points: the reader's own numbers.
        terms: of the devices.
    """
    groups = group_runs(runs)
    named = titles(networks_of(groups))
    rows: list[TargetRow] = []
    parts: dict[str, list[str]] = {}
    for place, setting in enumerate(named):
        mine = [g for g in groups if g.setting == setting]
        found = target_rows(mine, sorted(targets) if targets else default_targets(mine))
        rows += found
        for name, html in _sections(place, setting, mine, found, terms):
            parts.setdefault(name, []).append(_for_setting(place, html))
    now = datetime.now().astimezone()
    fields = {
        "TITLE": escape(title or default_title(groups)),
        "SUBTITLE": escape(_subtitle(runs, groups)),
        "SETTINGS": _setting_picker(list(named.values())),
        "STYLE": asset("style.css") + "\n" + sections.swatches(groups),
        "MOTIF": motif(),
        "MADE": f'<time datetime="{now:%Y-%m-%dT%H:%M%z}">{now:%d %B %Y, %H:%M}</time>',
        "VERSION": escape(__version__),
        "DATA": to_json(payload(groups, rows, points, terms)),
        "PLOTLY": plotly_packed(),
        "SCRIPT": "\n".join(asset(name) for name in SCRIPTS),
        **{name: "\n".join(html) for name, html in parts.items()},
    }
    return fill(asset("report.html"), fields)


def _sections(
    place: int, setting: Setting, groups: Sequence[Group], rows: Sequence[TargetRow], terms: Terms
) -> Iterator[tuple[str, str]]:
    """The parts of one setting, by their place in the page.

    Args:
        place: the setting's number.
        setting: what it is.
        groups: its groups.
        rows: their targets.
        terms: of the devices.
    """
    css = sections.css_of
    yield (
        "SUMMARY",
        f'<p class="lede">{escape(summary.headline(groups, rows))}</p><dl class="cards">{summary.cards(groups, rows)}'
        f"</dl>{summary.caveats(groups)}{summary.health(groups)}{summary.unread(groups)}",
    )
    yield "PAIRED", paired_table(place, groups, css)
    yield "HOME", home_table(place, groups, css) + clients_table(place, groups, css)
    yield "STAGES", stages_table(place, groups, css)
    yield "TARGETS", sections.targets_table(place, rows) + sections.printed_table(setting)
    yield "LINKS", links_table(place, rows, css, terms)
    yield "EQUAL", sections.equal_table(place, groups)
    yield "RUNS", sections.runs_table(place, groups)
    yield "CODECS", sections.codec_table(place, groups)
    yield "ENERGY", energy_table(place, groups, css)
    yield "PROBES", probe_section(place, groups, css) + sheets(groups)
    yield "CONFIGS", sections.configs(groups)


def default_title(groups: Sequence[Group]) -> str:
    """What is compared, on what."""
    methods = list(dict.fromkeys(g.title for g in groups))
    datasets = list(dict.fromkeys(g.setting.dataset for g in groups))
    head = " and ".join(filter(None, [", ".join(methods[:-1]), methods[-1]]))
    if len(methods) > MOST_NAMES:
        head = f"{len(methods)} methods"
    return f"{head} on {' and '.join(filter(None, [', '.join(datasets[:-1]), datasets[-1]]))}"


def fill(template: str, fields: dict[str, str]) -> str:
    """Replace each ``{{NAME}}``. Values are not looked at again, so a value may hold braces."""
    out = []
    for piece in template.split("{{"):
        name, closed, rest = piece.partition("}}")
        out.append(fields[name] + rest if closed and name in fields else ("{{" + piece if out else piece))
    return "".join(out)


@cache
def asset(name: str) -> str:
    """A file of the page folder."""
    return (resources.files("spikefed.report") / "page" / name).read_text(encoding="utf-8")


def _for_setting(place: int, html: str) -> str:
    hidden = "" if place == 0 else " hidden"
    return f'<div class="for-setting" data-setting="{place}"{hidden}>{html}</div>' if html else ""


def _setting_picker(labels: Sequence[str]) -> str:
    if len(labels) == 1:
        return f'<p class="setting-name">{escape(labels[0])}</p>'
    options = "".join(f'<option value="{i}">{escape(label)}</option>' for i, label in enumerate(labels))
    return f'<label class="picker">Compared on <select id="setting">{options}</select></label>'


def _subtitle(runs: Sequence[Run], groups: Sequence[Group]) -> str:
    open_runs = sum(not run.finished for run in runs)
    parts = [plural(len(runs), "run"), plural(len(groups), "configuration")]
    if open_runs:
        parts.append(f"{open_runs} still in progress")
    return ", ".join(parts)


def motif() -> str:
    """The header's ornament: a raster of spikes, the same on every page."""
    rng = random.Random(2216)
    ticks = []
    for row in range(14):
        rate = 0.08 + 0.3 * rng.random()
        ticks += [f"M{8 * step + 4} {9 * row + 2}v5" for step in range(60) if rng.random() < rate]
    attributes = 'class="motif" viewBox="0 0 480 126" aria-hidden="true" focusable="false"'
    return f'<svg {attributes}><path d="{"".join(ticks)}"/></svg>'


def _write(out: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(name, 0o644)
        os.replace(name, out)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
