"""How large a report of 60 runs x 50 rounds is, and how long a browser takes to open it.

Usage: python scripts/report_speed.py [OUT]   (OUT: default results/report.json, which the documentation shows)

The runs are made up in the documented format (tests/report/synthetic.py). "Open" is from the address being typed to
the first figure being drawn, in the distribution's Chromium, headless, each time in a fresh window.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from report.synthetic import make_run  # noqa: E402  # pyright: ignore[reportMissingImports]
from spikefed.experiment.provenance import machine  # noqa: E402
from spikefed.report import write_report  # noqa: E402

METHODS = ("fsd", "fsd+", "cfd", "fedavg")
SEEDS, ROUNDS, TIMES = 15, 50, 5


def opened(browser: Browser, page: Path) -> tuple[float, float]:
    """Seconds until the first figure is drawn, by the clock and of the page's own work (processor time)."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    inspector = context.new_cdp_session(tab)
    inspector.send("Performance.enable", {"timeDomain": "threadTicks"})
    started = time.perf_counter()
    tab.goto(page.as_uri())
    tab.locator('figure[data-figure="acc-rounds"] .scatterlayer .trace').first.wait_for()
    seconds = time.perf_counter() - started
    metrics = {m["name"]: m["value"] for m in inspector.send("Performance.getMetrics")["metrics"]}
    context.close()
    return seconds, metrics["TaskDuration"]


def main() -> None:
    """Measure and write."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "results" / "report.json"
    chromium = next(p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n)))
    arguments = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        folder = Path(scratch)
        runs = [make_run(folder / f"{m}{s}", method=m, seed=s, rounds=ROUNDS) for m in METHODS for s in range(SEEDS)]
        started = time.perf_counter()
        page = write_report(runs, folder / "report.html")
        written = time.perf_counter() - started
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        seconds = [opened(browser, page) for _ in range(TIMES)]
        clock, work = ([round(s[k], 2) for s in seconds] for k in (0, 1))
        record = {
            "runs": len(runs),
            "rounds": ROUNDS,
            "bytes": page.stat().st_size,
            "open_seconds": clock,
            "open_median_seconds": statistics.median(clock),
            "work_seconds": work,
            "work_median_seconds": statistics.median(work),
            "write_seconds": round(written, 2),
            "browser": f"Chromium {browser.version}",
            "machine": machine(),
            "measured": date.today().isoformat(),
            "load_average": round(os.getloadavg()[0], 1),
            "command": "python scripts/report_speed.py",
        }
        browser.close()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"{out}: {record['bytes'] / 1e6:.2f} MB, {record['open_median_seconds']:.2f} s")


if __name__ == "__main__":
    main()
