"""Make the pictures of report, live view and terminal that the README and the documentation show.

Usage: python scripts/screenshots.py [RUNS] [OUT]   (RUNS: folder left by ``make demo``; OUT: default docs/images)

Needs the distribution's Chromium, and the playwright package.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from spikefed.report import write_report
from spikefed.report.live import make_server

ROOT = Path(__file__).parents[1]
# A terminal picture that loads no font from anywhere.
TERMINAL = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: #10151b; }}
pre {{ margin: 0; padding: 22px 26px; font: 15px/1.45 "DejaVu Sans Mono", monospace; color: {foreground}; background: #10151b; }}
{stylesheet}
</style><pre>{code}</pre>"""


def main() -> None:
    """Take every picture."""
    runs = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "runs" / "demo"
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "docs" / "images"
    folders = sorted(p for p in runs.iterdir() if (p / "metrics.jsonl").is_file())
    out.mkdir(parents=True, exist_ok=True)
    chromium = next(p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n)))
    arguments = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        report = write_report(folders, Path(scratch) / "report.html").as_uri()
        shoot(browser, report, out / "report-light.png", 1240, 1130, "light")
        shoot(browser, report, out / "report-dark.png", 1240, 1130, "dark")
        shoot(browser, report, out / "report-inside.png", 1240, 1120, "light", "#inside")
        shoot(browser, report, out / "report-phone.png", 375, 760, "light")
        fsd = next((f for f in folders if "fsd" in f.name), folders[0])
        live(browser, fsd, Path(scratch), out / "live.png")
        terminal(browser, Path(scratch), out / "terminal.png")
        browser.close()
    shrink(out)


def shoot(browser: Any, url: str, out: Path, width: int, height: int, scheme: str, part: str = "") -> None:
    """One picture of a page, as large as the window."""
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    page.goto(url)
    page.wait_for_function("document.documentElement.dataset.ready === 'yes'")
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
    """What a short run prints on a terminal, with its colours."""
    from rich.console import Console
    from rich.terminal_theme import TerminalTheme
    from rich.text import Text

    command = ["spikefed", "run", "experiments/fsd-digits.toml", "--set", "rounds=4", "--out", str(scratch / "shot")]
    env = os.environ | {"FORCE_COLOR": "1", "COLUMNS": "100", "TERM": "xterm-256color"}
    words = [sys.executable, "-m", *command]
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    shown = "$ " + " ".join(command[:-2]) + "\n" + (done.stdout + done.stderr).replace(str(scratch), "runs")
    console = Console(record=True, width=100, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
    console.print(Text.from_ansi(shown))
    grey, blue, green, orange = (230, 235, 240), (124, 192, 238), (60, 194, 155), (240, 138, 75)
    theme = TerminalTheme((16, 21, 27), grey, [(16, 21, 27), orange, green, orange, blue, blue, blue, grey])
    html = scratch / "terminal.html"
    html.write_text(console.export_html(theme=theme, code_format=TERMINAL), encoding="utf-8")
    context = browser.new_context(viewport={"width": 980, "height": 200})
    page = context.new_page()
    page.goto(html.as_uri())
    page.screenshot(path=out, full_page=True)
    context.close()


def shrink(out: Path) -> None:
    """Pictures with 128 colours are a third of the size and look the same."""
    from PIL import Image

    for path in out.glob("*.png"):
        Image.open(path).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
