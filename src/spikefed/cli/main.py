"""Entry point: errors as one sentence, exit codes.

Exit codes: 0 done; 2 bad input (config, data, run folder, checkpoint, arguments); 3 some jobs of a comparison have no
result; 130 interrupted; 1 a defect of spikefed.
"""

from __future__ import annotations

import logging
import re
import sys
import warnings

import typer

from spikefed.cli import (
    convert,
    deploy,
    energy,
    inspect,
    models,
    pages,
    plan,
    privatesnn,
    probe,
    runs,
    search,
    synthesise,
)
from spikefed.cli.app import add_groups, app
from spikefed.cli.console import error, errors
from spikefed.errors import SpikefedError, UnfinishedError

INTERRUPTED = 130
GO_ON = (["compare"], ["privatesnn"], ["probe"], ["search"])
"""Commands that take up what they began when they are repeated."""
ORDER = [
    module.__name__
    for module in (runs, pages, inspect, models, convert, synthesise, privatesnn, deploy, energy, plan, probe, search)
]
"""Of the commands in the help; importing a module has registered its own."""

app.registered_commands.sort(key=lambda command: ORDER.index(getattr(command.callback, "__module__", ORDER[-1])))
add_groups()


def whole() -> typer.Typer:
    """The app with the commands of every module in it."""
    return app


def quiet_libraries() -> None:
    """Keep warnings and log lines of libraries, the user's among them, off our console.

    ``python -W`` or PYTHONWARNINGS brings the warnings back.
    """
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())  # else Python itself prints what nobody handles


def memory_wanted(failed: MemoryError | RuntimeError) -> str:
    """What to say of an allocation that the system refused; empty for any other failure."""
    text = str(failed)
    found = re.search(r"[Tt]ried to allocate ([\d.]+) (bytes|[KMGT]iB)", text)
    if not isinstance(failed, MemoryError) and not found:
        return ""
    return "there is not enough memory" + (f" for {found[1]} {found[2]}" if found else "")


def main() -> None:
    """Run the command line; every `SpikefedError` becomes one sentence and exit code 2 (3: see above)."""
    quiet_libraries()
    try:
        whole()()
    except SpikefedError as stopped:
        error(str(stopped))
        sys.exit(3 if isinstance(stopped, UnfinishedError) else 2)
    except (MemoryError, RuntimeError) as failed:
        if not (wanted := memory_wanted(failed)):
            raise
        error(f"{wanted}; take fewer images, time steps or weights at once")
        sys.exit(2)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:  # what Typer makes of Ctrl-C, without a word
            again = "repeat the command to go on" if sys.argv[1:2] in GO_ON else "a run goes on with --resume"
            errors.print(f"interrupted; {again}", highlight=False)
        raise
