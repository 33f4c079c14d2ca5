"""Make the pictures of report, live view and terminal that the README and the documentation show.

Usage: python scripts/screenshots.py [RUNS] [OUT]   (OUT: default docs/images)

RUNS is what ``spikefed compare experiments/sweeps/showcase.toml --out runs/showcase`` leaves; that is the default.
Needs the distribution's Chromium, and the packages playwright and pyte.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import tempfile
import threading
from html import escape
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from spikefed.report import write_report
from spikefed.report.live import make_server
from spikefed.report.runs import load_runs

ROOT = Path(__file__).parents[1]
# A terminal picture that loads no font from anywhere.
TERMINAL = """<!doctype html><meta charset="utf-8"><style>
body { margin: 0; background: #10151b; color: #e6ebf0; }
pre { margin: 0; padding: 22px 26px; font: 15px/1.45 "DejaVu Sans Mono", monospace; }
</style><pre>%s</pre>"""
COLOURS = {"red": "#f08a4b", "green": "#3cc29b", "brown": "#e6b84d", "blue": "#7cc0ee", "magenta": "#e08fbd"}
COLOURS |= {"cyan": "#7cc0ee", "black": "#55606e", "default": "#e6ebf0"}


def main() -> None:
    """Take every picture."""
    runs = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "runs" / "showcase"
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "docs" / "images"
    folders = [run.folder for run in load_runs([runs])]
    out.mkdir(parents=True, exist_ok=True)
    chromium = next(p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n)))
    arguments = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        report = write_report(folders, Path(scratch) / "report.html", title="Four methods on digits").as_uri()
        shoot(browser, report, out / "report-light.png", 1240, 1130, "light")
        shoot(browser, report, out / "report-dark.png", 1240, 1130, "dark")
        shoot(browser, report, out / "report-inside.png", 1240, 1120, "light", "#inside")
        shoot(browser, report, out / "report-phone.png", 375, 760, "light")
        live(browser, folders[0], Path(scratch), out / "live.png")
        terminal(browser, Path(scratch), out / "terminal.png")
        browser.close()


def shoot(browser: Any, url: str, out: Path, width: int, height: int, scheme: str, part: str = "") -> None:
    """One picture of a page, as large as the window."""
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    page.goto(url)
    page.locator("html[data-ready=yes]").wait_for(state="attached")
    if part:
        page.evaluate("document.documentElement.style.scrollBehavior = 'auto'")
        page.evaluate(f"document.querySelector('{part}').scrollIntoView()")
    page.wait_for_timeout(1500)  # figures are drawn when they come into view
    page.screenshot(path=out)
    context.close()


def live(browser: Any, run: Path, scratch: Path, out: Path) -> None:
    """The live page of a run that has not ended: the same files without the closing summary and the last rounds."""
    going = scratch / run.name
    shutil.copytree(run, going, ignore=shutil.ignore_patterns("result.json", "checkpoints", "*.safetensors"))
    lines = (going / "metrics.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (going / "metrics.jsonl").write_text("".join(lines[: max(2, len(lines) - 2)]), encoding="utf-8")
    server = make_server(going)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    shoot(browser, f"http://127.0.0.1:{server.server_port}/", out, 1240, 980, "dark")
    server.shutdown()
    server.server_close()


def terminal(browser: Any, scratch: Path, out: Path) -> None:
    """A short run on a terminal of 100 columns, as it stands within the third round."""
    import pty

    import pyte

    screen = pyte.Screen(100, 12)
    stream = pyte.ByteStream(screen)
    command = ["spikefed", "run", "experiments/fsd-digits.toml"]
    stream.feed(("$ " + " ".join(command) + "\r\n").encode())
    pid, handle = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.environ |= {"COLUMNS": "100", "LINES": "12", "TERM": "xterm-256color"}
        os.execv(sys.executable, [sys.executable, "-m", *command, "--out", str(scratch / "runs")])
    while not re.search(r"round +2/.*client +2/", " ".join(screen.display)):
        stream.feed(os.read(handle, 4096).replace(str(scratch).encode() + b"/runs", b"runs/fsd-digits-seed0"))
    os.kill(pid, signal.SIGKILL)  # the child this function started
    os.waitpid(pid, 0)
    os.close(handle)
    rows = ["".join(_cell(screen.buffer[y][x]) for x in range(screen.columns)).rstrip() for y in range(screen.lines)]
    html = scratch / "terminal.html"
    html.write_text(TERMINAL % "\n".join(rows).rstrip(), encoding="utf-8")
    context = browser.new_context(viewport={"width": 960, "height": 60})
    page = context.new_page()
    page.goto(html.as_uri())
    page.screenshot(path=out, full_page=True)
    context.close()


def _cell(char: Any) -> str:
    text = escape(char.data)
    if char.fg == "default" and not char.bold:
        return text
    colour = COLOURS.get(char.fg.removeprefix("bright"), f"#{char.fg}")
    return f'<span style="color:{colour}{";font-weight:bold" if char.bold else ""}">{text}</span>'


if __name__ == "__main__":
    main()
