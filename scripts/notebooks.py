"""Run tutorial notebooks and turn them into pages: code, then what it printed or drew.

Usage: python scripts/notebooks.py NOTEBOOK ...   (runs each in an empty folder; ends with code 1 if a cell fails)

The sources in docs/tutorials hold no outputs. The documentation build runs them too and keeps what they gave under
build/notebooks, by the bytes of the notebook and of the package, so that an unchanged one is not run again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "build" / "notebooks"


def execute(path: Path) -> Any:
    """The notebook with outputs, run from top to bottom in an empty folder.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(notebook, timeout=1200, kernel_name="python3", resources={"metadata": {"path": folder}})
        client.create_kernel_manager()
        # Sockets in the file system, which only this user reads: no port, and no warning about one.
        client.km.transport, client.km.ip = "ipc", str(Path(folder) / "kernel")
        client.execute()
    return notebook


def executed(path: Path) -> Any:
    """As `execute`, from the folder of kept results where nothing has changed."""
    import nbformat

    digest = hashlib.sha256(path.read_bytes())
    for file in sorted((ROOT / "src").rglob("*.py")):
        digest.update(file.read_bytes())
    kept = KEPT / f"{path.stem}-{digest.hexdigest()[:16]}.ipynb"
    if not kept.is_file():
        KEPT.mkdir(parents=True, exist_ok=True)
        for old in KEPT.glob(f"{path.stem}-*.ipynb"):
            old.unlink()
        kept.write_text(nbformat.writes(execute(path)), encoding="utf-8")
    return nbformat.read(kept, as_version=4)


def to_markdown(notebook: Any, name: str) -> str:
    """The page of an executed notebook."""
    parts = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        magic, _, rest = cell.source.partition("\n")
        if magic.startswith("%%writefile "):
            parts.append(f'```python title="{magic.split()[1]}"\n{rest}\n```')
            continue
        parts.append(f"```python\n{cell.source}\n```")
        parts += [text for output in cell.outputs if (text := _output(output))]
    parts.insert(1, f"[Download this notebook]({name}.ipynb){{ .md-button download }}")
    return "\n\n".join(parts) + "\n"


def _output(output: Any) -> str:
    if output.output_type == "stream":
        return f"```{{ .text .output }}\n{_plain(output.text)}\n```"
    data = output.get("data", {})
    if "text/html" in data:
        # Style blocks are the site's business; a blank line would end raw HTML in Markdown.
        html = re.sub(r"<style.*?</style>", "", data["text/html"], flags=re.DOTALL)
        body = "\n".join(line.strip() for line in html.splitlines() if line.strip())
        return f'<div class="output">\n{body}\n</div>'
    if "text/plain" in data:
        return f"```{{ .text .output }}\n{_plain(data['text/plain'])}\n```"
    return ""


def _plain(text: str) -> str:
    """Text without the folder it happened in, which is another at every run."""
    return re.sub(r"/\S*/tmp\w{8}/", "", text).rstrip()


def _children_s() -> float:
    """Processor time of the processes that have ended, seconds."""
    used = os.times()
    return used.children_user + used.children_system


def main() -> int:
    """Run the notebooks given; of each the seconds by the clock and of processor time, as JSON on the last line."""
    seconds: dict[str, dict[str, float]] = {}
    for name in sys.argv[1:]:
        started, worked = time.perf_counter(), _children_s()
        try:
            execute(Path(name))
        except Exception as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
        clock, work = time.perf_counter() - started, _children_s() - worked
        seconds[Path(name).stem] = {"clock": round(clock, 1), "processor": round(work, 1)}
    print(json.dumps(seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
