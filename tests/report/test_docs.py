"""The documentation builds without a warning, names every command and key, and what it shows works."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from html import unescape
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]  # the first build runs the tutorial notebooks


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs", reason="the docs extra is not installed")
    pytest.importorskip("mkdocstrings", reason="the docs extra is not installed")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    env = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=3500)
    assert built.returncode == 0, built.stderr
    assert "WARNING -" not in built.stderr  # not the notice about MkDocs 2, which has no dash
    return out


def text_of(site: Path, page: str) -> str:
    return unescape(re.sub(r"<[^>]+>", "", (site / page / "index.html").read_text(encoding="utf-8")))


def test_every_command_and_option_is_in_the_reference(site: Path) -> None:
    from spikefed.cli import whole

    typer = pytest.importorskip("typer")
    page = text_of(site, "reference/cli")

    def walk(command: object, path: str) -> list[tuple[str, list[str]]]:
        if commands := getattr(command, "commands", None):
            return [found for name, sub in commands.items() for found in walk(sub, f"{path} {name}")]
        return [(path, [o for p in command.params for o in p.opts if o.startswith("--")])]  # type: ignore[attr-defined]

    found = walk(typer.main.get_command(whole()), "spikefed")
    # The package's own modules, not a list kept here, say how many there must be.
    modules = (ROOT / "src" / "spikefed" / "cli").glob("*.py")
    assert len(found) == sum(len(re.findall(r"^@\w*app\.command", m.read_text(), re.M)) for m in modules) >= 16
    for path, options in found:
        assert path in page
        section = page.split(f"{path}¶", 1)[-1].split("¶", 1)[0]
        assert [o for o in options if o not in section and o != "--help"] == [], path


def keys_by_table(site: Path, page: str) -> dict[str, set[str]]:
    """Heading of each section, with the names in the first column of its table."""
    html = (site / page / "index.html").read_text(encoding="utf-8")
    found = {}
    for section in re.split(r"<h2", html)[1:]:
        heading = unescape(re.sub(r"<[^>]+>", "", section[: section.index("</h2>")].partition(">")[2]))
        found[heading.removesuffix("¶").strip()] = set(re.findall(r"<tr>\s*<td><code>([^<]+)</code></td>", section))
    return found


def test_every_key_of_every_table_is_in_the_reference(site: Path) -> None:
    """Keys from the JSON schemas, which know nothing of the hook that writes the page."""
    from spikefed.experiment import Experiment
    from spikefed.federated import METHODS
    from spikefed.federated.local import LocalTraining
    from spikefed.probes import PROBES

    shown = keys_by_table(site, "reference/config")
    top = Experiment.model_json_schema()
    wanted: dict[str, set[str]] = {}

    def walk(schema: dict[str, Any], name: str) -> None:
        inner = {}
        for key, field in schema["properties"].items():
            kinds = [field, *field.get("anyOf", []), *field.get("allOf", [])]
            refs = [kind["$ref"].rsplit("/", 1)[-1] for kind in kinds if "$ref" in kind]
            for table in (top["$defs"][ref] for ref in refs):
                if "properties" in table:
                    inner[key] = table
        wanted[name] = set(schema["properties"]) - set(inner) - ({"training", "method"} if name == "" else set())
        for key, table in inner.items():
            walk(table, f"{name}.{key}".strip("."))

    walk(top, "")
    for name, probe in PROBES.items():
        wanted[f'probe]] with name = "{name}"'] = set(probe.hyperparameters.model_json_schema()["properties"])
    training = LocalTraining.model_json_schema(by_alias=True)
    top = training
    walk(training, "training")
    for name, cls in METHODS.items():
        top = cls.hyperparameters.model_json_schema(by_alias=True)
        walk({"properties": {k: v for k, v in top["properties"].items() if k not in training["properties"]}}, "method")
        wanted[f'method] with name = "{name}"'] = wanted.pop("method")
    assert {"attack", "deploy", "network.neuron", "wire", "run", "method.tailor"} <= set(wanted)
    for table, keys in wanted.items():
        heading = "Top level" if not table else f"[{table}" if "]" in table else f"[{table}]"
        heading = f"[{heading}" if table.startswith("probe]]") else heading
        assert keys <= shown[heading], (table, keys - shown[heading])


def test_every_key_of_a_resolved_config_is_in_the_reference(site: Path) -> None:
    """What a run writes into its config.toml is what the page explains, and the other way round."""
    from spikefed.experiment import from_tree
    from spikefed.experiment.folder import flatten
    from spikefed.federated import METHODS

    shown = keys_by_table(site, "reference/config")
    for name in METHODS:
        tree = from_tree({"method": {"name": name}, "network": {"neuron": {"kind": "hard"}}}).resolved()
        for path in flatten(tree):
            table, _, key = path.rpartition(".")
            heading = f'[method] with name = "{name}"' if table == "method" else f"[{table}]" if table else "Top level"
            assert key in shown[heading] or path == "method.name", path


def test_every_key_of_a_sweep_file_is_in_the_reference(site: Path) -> None:
    from spikefed.experiment.sweep import Sweep

    page = (site / "reference" / "sweeps" / "index.html").read_text(encoding="utf-8")
    named = set(re.findall(r"<code>(\w+)</code>", " ".join(re.findall(r"<tr>\s*<td>(.*?)</td>", page))))
    assert set(Sweep.model_fields) <= named


API = {
    "api": ["spikefed"],
    "api-neurons": ["spikefed.neurons"],
    "api-networks": ["spikefed.networks"],
    "api-data": ["spikefed.data", "spikefed.training", "spikefed.training.attacks"],
    "api-federated": ["spikefed.federated"],
    "api-wire": ["spikefed.wire"],
    "api-energy": ["spikefed.hardware"],
    "api-probes": ["spikefed.probes"],
}


@pytest.mark.parametrize("page", API)
def test_every_public_class_and_function_is_in_the_reference(site: Path, page: str) -> None:
    html = (site / "reference" / page / "index.html").read_text(encoding="utf-8")
    for package in API[page]:
        module = importlib.import_module(package)
        offered = {name: getattr(module, name) for name in module.__all__}
        named = {n: v.__qualname__ for n, v in offered.items() if inspect.isclass(v) or inspect.isfunction(v)}
        errors = (site / "reference" / "api" / "index.html").read_text(encoding="utf-8")
        pages = {n: errors if offered[n].__module__ == "spikefed.errors" else html for n in named}
        assert [n for n, real in named.items() if f'.{real}"' not in pages[n]] == [], package


def test_the_cite_page_names_every_method_and_the_package_s_version(site: Path) -> None:
    import spikefed
    from spikefed.federated import METHODS

    page = (site / "cite" / "index.html").read_text(encoding="utf-8")
    assert [name for name in METHODS if f"<code>{name}</code>" not in page and name != "fsd"] == []
    for text in (text_of(site, "cite"), (ROOT / "CITATION.cff").read_text()):
        assert spikefed.__version__ in text and "10.1088/1742-6596/2216/1/012078" in text


def test_no_page_asks_another_server(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = r"<(?:script|img|link|iframe)\b[^>]*?(?:src|href)=[\"']?(https?://[^\"'> ]+)"
        assert re.findall(loaded, page.read_text(encoding="utf-8")) == [], page


NOTEBOOKS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))


def test_notebooks_are_small_and_hold_no_outputs() -> None:
    assert len(NOTEBOOKS) >= 4
    for path in NOTEBOOKS:
        cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
        assert [c for c in cells if c["outputs"] or c["execution_count"]] == [], path.name
        assert path.stat().st_size < 20_000


@pytest.fixture
def notebooks(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module scripts/notebooks.py."""
    pytest.importorskip("nbclient", reason="the docs extra is not installed")
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("notebooks")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(notebooks: Any, path: Path) -> None:
    """As the site has it: run when it or the package has changed, else kept from when it ran."""
    cells = [cell for cell in notebooks.executed(path).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    assert all(output.output_type != "error" for cell in cells for output in cell.outputs)


def test_the_notebook_script_says_how_long_each_took_and_which_cell_failed(notebooks: Any, tmp_path: Path) -> None:
    import nbformat

    def run(code: str) -> subprocess.CompletedProcess[str]:
        path = tmp_path / "tiny.ipynb"
        nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)]), path)
        command = [sys.executable, "scripts/notebooks.py", str(path)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)

    said = json.loads(run("print(1)").stdout.splitlines()[-1])
    assert list(said) == ["tiny"] and set(said["tiny"]) == {"clock", "processor"}
    failed = run("1 / 0")
    assert failed.returncode == 1 and "tiny.ipynb" in failed.stderr and "ZeroDivisionError" in failed.stderr


def test_notebooks_are_pages_with_their_figures(site: Path) -> None:
    for path in NOTEBOOKS:
        page = (site / "tutorials" / path.stem / "index.html").read_text(encoding="utf-8")
        assert page.count('class="output"') >= 2 and 'role="img"' in page, path.name
        assert (site / "tutorials" / path.name).is_file()


def test_every_command_of_the_quick_start_works(tmp_path: Path) -> None:
    """As scripts/quickstart.py walks the page, with shorter runs and without the installation (CI's own first step)."""
    sys.path.insert(0, str(ROOT / "scripts"))
    import quickstart  # pyright: ignore[reportMissingImports]

    sys.path.pop(0)
    todo = quickstart.steps((ROOT / quickstart.PAGE).read_text())
    install = {"make venv", "source .venv/bin/activate"}
    assert install <= {step.name for step in todo} and "make venv" in (ROOT / ".ci" / "run").read_text().splitlines()
    shorter = " --set rounds=1 --set data.test_limit=60 --set training.local_epochs=1"
    python = shlex.quote(sys.executable)
    short = []
    for step in todo:
        name = step.name.replace("python ", f"{python} ", 1) if step.text is None else step.name
        if name.startswith("spikefed "):
            name = f"{python} -m {name}{shorter if name.startswith('spikefed run') else ''}"
        if step.name not in install:
            short.append(quickstart.Step(name, step.text))
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    timed = quickstart.walk(short, tmp_path, timeout_s=3500)
    assert len(timed) >= 9 and all(seconds > 0 for _, seconds in timed)
    assert (tmp_path / "runs/report.html").stat().st_size > 1_000_000 and (tmp_path / "runs/bars.html").is_file()
    assert json.loads((tmp_path / "runs/bars/result.json").read_text())["dataset"] == "npz:bars"


def test_the_time_a_new_user_needs_is_a_measured_one(site: Path) -> None:
    record = json.loads((ROOT / "results" / "quickstart.json").read_text())
    sys.path.insert(0, str(ROOT / "scripts"))
    import quickstart  # pyright: ignore[reportMissingImports]

    sys.path.pop(0)
    page = (ROOT / quickstart.PAGE).read_text()
    assert [c["command"] for c in record["commands"]] == [s.name for s in quickstart.steps(page) if s.text is None]
    assert f"took {record['seconds'] / 60:.0f} minutes" in text_of(site, "quickstart")


def test_every_key_of_a_run_s_lines_is_explained(site: Path, tmp_path: Path) -> None:
    import spikefed

    small = {"rounds": 1, "data": {"clients": 2, "private_per_client": 60, "public": 30, "test_limit": 50}}
    folder = spikefed.run(small | {"network": {"name": "small", "steps": 2}}, out=tmp_path / "run")
    page = (site / "reference" / "run-folder" / "index.html").read_text(encoding="utf-8")
    explained = set(re.findall(r"<code>([^<]+)</code>", page))
    [line] = [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]
    keys = {key.removesuffix("_total") for key in line} | {key for client in line["clients"] for key in client}
    assert keys - explained == set()
    assert {path.name for path in folder.iterdir() if path.is_file()} - explained - {".lock"} == set()
