"""What setup.py promises: compiled side by side as one after another, kept by content, never in the way of an install.

Most tests build a library of four small files with this repository's setup.py in a folder of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("setuptools")
ROOT = Path(__file__).parents[1]
NATIVE = Path("src", "spikefed", "neurons", "native")
pytestmark = pytest.mark.skipif(not (ROOT / "setup.py").is_file(), reason="no checkout")
compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "c++")) is None and shutil.which("g++") is None, reason="no C++ compiler"
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A package whose native library is small."""
    folder = tmp_path / "project"
    (folder / NATIVE).mkdir(parents=True)
    (folder / "src/spikefed/__init__.py").touch()
    shutil.copy(ROOT / "setup.py", folder)
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "spikefed"\nversion = "0"\n[tool.setuptools.packages.find]\nwhere = ["src"]\n'
    )
    (folder / NATIVE / "shared.h").write_text("#pragma once\ninline int shared(int x) { return 3 * x; }\n")
    for name in "abcd":
        text = f'#include "shared.h"\nextern "C" int spikefed_{name}(int x) {{ return shared(x) + {ord(name)}; }}\n'
        (folder / NATIVE / f"{name}.cpp").write_text(text)
    return folder


def build(project: Path, out: str = "out", **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", out, "--build-temp", "temp"]
    env = {k: v for k, v in os.environ.items() if k != "SPIKEFED_BUILD_NATIVE"} | environment
    return subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, timeout=900)


def library(project: Path, out: str = "out") -> bytes:
    return (project / out / "spikefed" / "_native.so").read_bytes()


def compiled(done: subprocess.CompletedProcess[str]) -> int:
    assert done.returncode == 0, done.stderr
    return done.stdout.count("files compiled")


@compiler
def test_compiled_side_by_side_it_is_the_library_of_one_after_another(project: Path) -> None:
    assert compiled(build(project, "serial", SPIKEFED_BUILD_JOBS="1")) == 4
    shutil.rmtree(project / "build")
    assert compiled(build(project, "parallel", SPIKEFED_BUILD_JOBS="4")) == 4
    assert library(project, "serial") == library(project, "parallel")


@compiler
def test_progress_is_said_file_by_file(project: Path) -> None:
    said = build(project).stdout.splitlines()
    assert [line.rpartition(",")[0] for line in said] == [
        f"native library: {number} of 4 files compiled" for number in range(1, 5)
    ]


@compiler
def test_what_has_not_changed_is_not_compiled_again(project: Path) -> None:
    assert compiled(build(project)) == 4
    first = library(project)
    assert compiled(build(project, "again")) == 0 and library(project, "again") == first
    source = project / NATIVE / "a.cpp"
    source.write_text(source.read_text().replace("shared(x)", "shared(x + 1)"))
    assert compiled(build(project, "edited")) == 1 and library(project, "edited") != first
    header = project / NATIVE / "shared.h"
    header.write_text(header.read_text().replace("3 * x", "4 * x"))
    assert compiled(build(project, "header")) == 4
    assert len(list((project / "build" / "native").glob("*.o"))) == 4  # old ones are gone


@compiler
def test_a_source_that_does_not_compile_is_a_sentence(project: Path) -> None:
    (project / NATIVE / "b.cpp").write_text("this is no C++\n")
    done = build(project)
    assert done.returncode == 0 and "spikefed works without it" in done.stdout + done.stderr
    assert not list(project.glob("out/**/*.so"))


def test_without_a_compiler_the_build_succeeds_and_says_so(project: Path) -> None:
    done = build(project, CC="/nonexistent-cc", CXX="/nonexistent-cxx")
    assert done.returncode == 0 and "install a C++17 compiler" in done.stdout + done.stderr
    assert not list(project.glob("out/**/*.so"))


@compiler
def test_it_can_be_left_out(project: Path) -> None:
    assert compiled(build(project, SPIKEFED_BUILD_NATIVE="0")) == 0
    assert not list(project.glob("out/**/*.so"))


@compiler
def test_a_wheel_is_for_every_python_and_holds_the_library_of_the_source_build(project: Path) -> None:
    from zipfile import ZipFile

    from packaging.tags import compatible_tags
    from packaging.utils import parse_wheel_filename

    build(project)
    command = [sys.executable, "setup.py", "-q", "bdist_wheel", "--dist-dir", "dist"]
    subprocess.run(command, cwd=project, check=True, capture_output=True, timeout=900)
    [wheel] = (project / "dist").glob("*.whl")
    tags = parse_wheel_filename(wheel.name)[3]
    for minor in (11, 12, 13, 14):
        here = set(compatible_tags((3, minor), platforms=[tag.platform for tag in tags]))
        assert tags <= here, minor
    assert ZipFile(wheel).read("spikefed/_native.so") == library(project)


def test_the_library_that_is_built_uses_nothing_of_python_and_runs_every_instruction_set_there_is() -> None:
    """So that one wheel is for every version of Python and every processor of a platform."""
    from spikefed import native

    library, path = native.library(), Path(native.__file__).with_name(native.NAME)
    if library is None or shutil.which("nm") is None:
        pytest.skip("the native library is not built, or there is no nm to look into it")
    wanted = subprocess.run(["nm", "-D", "--undefined-only", str(path)], capture_output=True, text=True, check=True)
    assert "Py" not in wanted.stdout and "spikefed" not in wanted.stdout, wanted.stdout
    before = library.spikefed_level()
    try:
        for level in range(library.spikefed_best_level() + 1):
            library.spikefed_set_level(level)
            assert library.spikefed_level() == level
    finally:
        library.spikefed_set_level(before)
