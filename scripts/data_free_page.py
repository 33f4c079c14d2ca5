"""Fill the tables of docs/data-free.md from the files in results/.

python scripts/data_free_page.py
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import audit
import data_free
import one_shot
import private
import public_source
import qcfs
from pages import filled

PAGE = Path("docs/data-free.md")
RESULTS = Path("results")


def seeds(folder: str, study: str) -> list[dict[str, Any]]:
    """The files of a study, a seed each."""
    return [json.loads(path.read_text()) for path in sorted((RESULTS / folder).glob(f"{study}-seed*.json"))]


def sources(study: str) -> Callable[[], str]:
    """The table of public rows."""
    return lambda: public_source.table(seeds("public-source", study))


def conversions(study: str) -> Callable[[], str]:
    """The table of conversions."""
    return lambda: data_free.table(seeds("data-free", study))


TABLES: dict[str, tuple[str, Callable[[], str]]] = {
    "data-free digits": ("data_free", conversions("digits")),
    "data-free fashion": ("data_free", conversions("fashion")),
    "data-free cifar10": ("data_free", conversions("cifar10")),
    "qcfs": ("qcfs", lambda: qcfs.table(sorted((RESULTS / "data-free").glob("qcfs-*.json")))),
    "audit": ("audit", lambda: audit.tables(seeds("audit", "fashion"))),
    "public-source digits": ("public_source", sources("digits")),
    "public-source fashion": ("public_source", sources("fashion")),
    "dp-sgd": ("private", lambda: private.dp_sgd(seeds("private", "fashion"))),
    "leakage": ("private", lambda: private.leakage(seeds("audit", "fashion"), seeds("private", "fashion"))),
    "one-shot": ("one_shot", lambda: one_shot.table(json.loads((RESULTS / "one-shot" / "digits.json").read_text()))),
}


def main() -> None:
    page = PAGE.read_text()
    for name, (script, table) in TABLES.items():
        begin = f"<!-- {name}: made by scripts/{script}.py -->"
        if begin in page:
            page = filled(page, begin, f"<!-- end of {name} -->", table())
    PAGE.write_text(page)


if __name__ == "__main__":
    main()
