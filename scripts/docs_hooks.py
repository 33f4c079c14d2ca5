"""Hooks of the documentation build: the command and configuration references are made from the program itself.

A page holds ``<!-- commands -->``, ``<!-- configuration -->`` or ``<!-- public: PACKAGE -->`` where the generated text
goes, so that none can fall behind the code. Tutorial notebooks are run and become pages.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import notebooks  # noqa: E402


def on_files(files: Any, config: Any, **_: Any) -> Any:
    """A page for every notebook; the notebook itself stays, to be downloaded."""
    from mkdocs.structure.files import File

    for file in [f for f in files if f.src_uri.endswith(".ipynb")]:
        path = Path(file.abs_src_path)
        text = notebooks.to_markdown(notebooks.executed(path), path.stem)
        files.append(File.generated(config, file.src_uri.removesuffix(".ipynb") + ".md", content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in the generated parts; a link to a notebook, which a reader of the repository follows, goes to its page."""
    markdown = re.sub(r"\((tutorials/[\w-]+)\.ipynb\)", r"(\1.md)", markdown)
    for mark, make in MARKS:
        if mark in markdown:
            markdown = markdown.replace(mark, make())
    return re.sub(r"<!-- public: ([\w.]+) -->", lambda match: public(match[1]), markdown)


def public(package: str) -> str:
    """A directive for every class and function that a package offers, in the order of its ``__all__``."""
    module = importlib.import_module(package)
    named = {name: getattr(module, name) for name in module.__all__}
    made = [value for value in named.values() if inspect.isclass(value) or inspect.isfunction(value)]
    # Errors have a part of their own, and a name may stand on one page only.
    made = [value for value in made if value.__module__ != "spikefed.errors"]
    return "\n\n".join(f"::: {value.__module__}.{value.__qualname__}" for value in made)


def commands() -> str:
    """Markdown of every command with its arguments and options, as Typer knows them."""
    import typer

    from spikefed.cli import whole

    return "\n".join(_command(typer.main.get_command(whole()), "spikefed"))


def quickstart_time() -> str:
    """How long the quick start took when it was last walked, from the record of scripts/quickstart.py."""
    import json

    path = Path(__file__).parents[1] / "results" / "quickstart.json"
    if not path.is_file():
        return ""
    record = json.loads(path.read_text(encoding="utf-8"))
    runs = sum(c["seconds"] for c in record["commands"] if c["command"].startswith("spikefed"))
    machine, busy = record["machine"], sum(record["load_average"]) / 2
    return (
        f"All of this page, each command copied from it, took {record['seconds'] / 60:.0f} minutes on "
        f"{machine['cores']} cores ({machine['cpu']}, {record['measured']}, load average {busy:.0f}): "
        f"{runs / 60:.0f} in spikefed, the rest in the installation. The first run of own data had ended after "
        f"{record['seconds_to_own_data'] / 60:.0f} minutes."
    )


def report_size() -> str:
    """Size and opening time of a large report, from the record of scripts/report_speed.py."""
    import json

    path = Path(__file__).parents[1] / "results" / "report.json"
    if not path.is_file():
        return ""
    record = json.loads(path.read_text(encoding="utf-8"))
    machine = record["machine"]
    return (
        f"A report of {record['runs']} runs of {record['rounds']} rounds has {record['bytes'] / 1e6:.1f} MB and "
        f"takes {record['work_median_seconds']:.1f} s of processor time to open ({record['browser']}, "
        f"{machine['cores']} cores of {machine['cpu']}, median of {len(record['open_seconds'])}; "
        f"{record['open_median_seconds']:.1f} s by the clock at a load average of {record['load_average']:.0f}, "
        f"{record['measured']}; "
        f"`{record['command']}` measures it again)."
    )


def _command(command: Any, path: str) -> list[str]:
    if hasattr(command, "commands"):
        return [line for name, sub in command.commands.items() for line in _command(sub, f"{path} {name}")]
    lines = [f"## `{path}`", "", _plain(command.help or ""), ""]
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and "--help" not in p.opts]
    usage = " ".join([path, "[OPTIONS]" if options else "", *(_usage(a) for a in arguments)]).replace("  ", " ")
    lines += ["```text", usage.strip(), "```", ""]
    if arguments or options:
        lines += ["| name | meaning | default |", "| --- | --- | --- |"]
        lines += [f"| `{_usage(a)}` | {_plain(getattr(a, 'help', '') or '')} | |" for a in arguments]
        lines += [f"| {_opts(o)} | {_plain(o.help or '')} | {_default(o)} |" for o in options]
    return [*lines, ""]


MARKS = (
    ("<!-- commands -->", commands),
    ("<!-- configuration -->", lambda: configuration()),
    ("<!-- quickstart-time -->", quickstart_time),
    ("<!-- report-size -->", report_size),
)


def _usage(argument: Any) -> str:
    name = (argument.metavar or argument.name or "").upper().strip("[]")
    return f"{name}..." if argument.nargs == -1 else name


def _opts(option: Any) -> str:
    value = "" if option.is_flag else " " + (option.metavar or option.type.name).upper()
    names = ", ".join(f"`{name}{value}`" for name in (*option.opts, *option.secondary_opts))
    return names + (" (may be repeated)" if option.multiple else "")


def _default(option: Any) -> str:
    value = option.default
    if option.required:
        return "required"
    return "" if value in (None, "", (), [], False) or callable(value) else f"`{value}`"


def configuration() -> str:
    """Markdown of every key of the experiment file, table by table, and of every method."""
    from spikefed.experiment.settings import parts

    lines = []
    for part in parts():
        table, _, held = part.heading.partition("  # ")
        title = f"`{table}` with `{held}`" if held else f"`{table}`"
        lines += [f"## {title if part.name else 'Top level'}", "", _plain(part.summary), ""]
        if part.settings:
            lines += ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
            lines += [
                f"| `{s.key}` | {_code(s.type)} | {_code(s.default)} | {_plain(s.meaning)} |" for s in part.settings
            ]
        else:
            lines.append("No keys of its own.")
        lines.append("")
    return "\n".join(lines)


def _code(text: str) -> str:
    return f"`{text.replace('|', chr(92) + '|')}`" if text else ""


def _plain(text: str) -> str:
    """One line that a Markdown table can hold."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[")
