"""A headless Chromium of the distribution, driven by Playwright; tests skip where either is missing."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)
ARGUMENTS = ["--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker("slow")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A running browser for the whole session."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install playwright)")
    if CHROMIUM is None:
        pytest.skip("no Chromium found (on Debian: apt-get install chromium)")
    # Chromium's own sandbox needs user namespaces, which root in a container has not.
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS + sandbox)
        yield browser
        browser.close()


class Watched:
    """A page that remembers every console error and every request."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.errors: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda m: self.errors.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: self.errors.append(str(e)))
        page.on("request", lambda r: self.requests.append(r.url))

    def open(self, url: str) -> Any:
        self.page.goto(url)
        self.page.locator("html[data-ready=yes]").wait_for(state="attached")
        return self.page


@pytest.fixture
def watched(chromium: Any, request: pytest.FixtureRequest) -> Iterator[Watched]:
    """A fresh page; ``@pytest.mark.parametrize("watched", [{...}], indirect=True)`` passes context options."""
    options = {"viewport": {"width": 1280, "height": 900}, "accept_downloads": True} | getattr(request, "param", {})
    context = chromium.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(120_000)
    yield Watched(page)
    context.close()


@pytest.fixture(scope="session")
def axe_source() -> str:
    """The accessibility checker's script, as its Python package ships it."""
    package = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    return (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


def until(page: Any, expression: str, timeout_s: float = 120.0) -> None:
    """Wait for a JavaScript expression to be true (Playwright's own wait needs eval, which the pages forbid)."""
    deadline = time.monotonic() + timeout_s
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"still false after {timeout_s} s: {expression}"
        page.wait_for_timeout(50)


def serious_faults(page: Any, axe_source: str) -> list[str]:
    """Serious and critical findings of axe-core, one line each."""
    page.evaluate(axe_source)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{v['id']}: {v['help']} at {[n['target'] for n in v['nodes']][:3]}"
        for v in found["violations"]
        if v["impact"] in ("serious", "critical")
    ]
