"""What a run tells: bars on a terminal, whole plain lines in a log, HTML in a notebook."""

from __future__ import annotations

import io
import re
import sys
import types
from pathlib import Path
from typing import Any

import pyte
import pytest
from rich.console import Console

import spikefed
from spikefed.experiment import config as configs
from spikefed.experiment.progress import Console_, Notebook, Quiet, default, sparks


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Recorder(Quiet):
    def __init__(self) -> None:
        self.clients: list[tuple[int, int, int]] = []

    def client(self, round: int, done: int, total: int) -> None:
        self.clients.append((round, done, total))


def test_every_client_of_every_round_is_told(tiny: dict[str, Any], tmp_path: Path) -> None:
    seen = Recorder()
    spikefed.run(tiny, out=tmp_path / "run", progress=seen)
    assert seen.clients == [(r, c, 2) for r in (1, 2, 3) for c in (1, 2)]


def test_a_listener_that_knows_only_rounds_still_works(tiny: dict[str, Any], tmp_path: Path) -> None:
    class Old:
        rounds = 0

        def begin(self, *_: Any) -> None: ...
        def end(self, *_: Any) -> None: ...
        def warn(self, *_: Any) -> None: ...
        def close(self) -> None: ...
        def round(self, line: dict[str, Any]) -> None:
            self.rounds += 1

    old: Any = Old()
    spikefed.run(tiny, out=tmp_path / "run", progress=old)
    assert old.rounds == 3


def test_a_terminal_shows_rounds_and_clients(tiny: dict[str, Any], tmp_path: Path) -> None:
    out = Terminal()
    console = Console(
        file=out, force_terminal=True, width=100, height=20, legacy_windows=False, _environ={"TERM": "xterm"}
    )
    shown: list[str] = []

    class Watched(Console_):
        def client(self, round: int, done: int, total: int) -> None:
            super().client(round, done, total)
            assert self._bar is not None
            self._bar.refresh()
            shown.append("\n".join(screen(out)))

    spikefed.run(tiny, out=tmp_path / "run", progress=Watched(console))
    assert re.search(r"round +1/3 .*accuracy 0\.\d{4}", shown[2]) and re.search(r"client +1/2 .*training", shown[2])
    last = "\n".join(screen(out))
    assert re.search(r"round +3/3", last) and "client" not in last.split("round", 1)[1]


def screen(out: io.StringIO) -> list[str]:
    terminal = pyte.Screen(100, 20)
    pyte.Stream(terminal).feed(out.getvalue().replace("\n", "\r\n"))
    return [line.rstrip() for line in terminal.display]


@pytest.mark.parametrize("environ", [{}, {"FORCE_COLOR": "1"}, {"TERM": "dumb", "CI": "true"}])
def test_a_log_has_whole_lines_and_no_bars(tiny: dict[str, Any], tmp_path: Path, environ: dict[str, str]) -> None:
    out = io.StringIO()
    tiny["name"] = "n" * 90
    progress = Console_(Console(file=out, _environ=environ), pulse_s=0.0)
    spikefed.run(tiny, out=tmp_path / "run", progress=progress)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).splitlines()
    assert "\x1b" not in out.getvalue() or "FORCE_COLOR" in environ
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", "".join(lines)), "control characters"
    starts = [line[:10] for line in lines]
    assert starts == ["n" * 10, *(s for r in (1, 2, 3) for s in (f"round {r}/3 ",) * 2)]
    assert "1 of 2 clients have answered" in lines[1] and lines[0].endswith(str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("method", "pooled", "wanted"),
    [
        ("fedavg", False, "digits, 2 clients, seed 0"),
        ("fedavg", True, "digits, the data of 2 clients in one hand, seed 0"),
        ("central", False, "digits, the data of 2 clients in one hand, seed 0"),
    ],
)
def test_who_holds_the_data_is_said_first(
    tiny: dict[str, Any], tmp_path: Path, method: str, pooled: bool, wanted: str
) -> None:
    out = io.StringIO()
    config = configs.from_tree(tiny | {"method": {"name": method}, "data": tiny["data"] | {"pooled": pooled}})
    Console_(Console(file=out)).begin(config, 0, tmp_path)
    assert wanted in out.getvalue().replace("\n", " ")


def test_names_are_not_markup(tmp_path: Path) -> None:
    out = io.StringIO()
    Console_(Console(file=out)).warn("client [bold]3[/] sent [red]")
    assert out.getvalue() == "warning: client [bold]3[/] sent [red]\n"


def test_a_notebook_is_told_apart_and_its_display_updated(
    tiny: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(default(), Quiet)
    pages: list[str] = []
    handle = types.SimpleNamespace(update=pages.append)
    shell = types.SimpleNamespace(get_ipython=lambda: types.SimpleNamespace(kernel=1))
    display = types.SimpleNamespace(HTML=str, display=lambda page, display_id: (pages.append(page), handle)[1])
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    assert isinstance(default(), Notebook)
    tiny["name"] = "a.b"
    spikefed.run(tiny, out=tmp_path / "run")
    assert len(pages) == 1 + 3 * 2 + 3
    assert 'value="0.5"' in pages[1] and "round 0 of 3, client 1 of 2" in pages[1]
    assert "round 3 of 3" in pages[-1] and "accuracy 0." in pages[-1] and "<script" not in pages[-1]


def test_sparks_run_from_lowest_to_highest() -> None:
    assert sparks([0.0, 0.5, 1.0]) == "▁▅█" and sparks([0.3]) == "▁"
