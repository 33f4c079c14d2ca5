"""Builds the optional native library; everything else about the package is in pyproject.toml.

The library is plain C++ behind ``extern "C"``: no Python and no torch headers, so one build serves every Python and
torch version and wheels are tagged ``py3-none-<platform>``. It is optional: without a C++ compiler the package
installs and runs on its pure-torch and numpy paths, and says so. Every instruction set is compiled in; which one runs
is decided when the library is loaded.

Sources are compiled side by side, and objects are kept under build/native by the content of what they were made from:
a second build (make test after make demo, a wheel) compiles nothing, an edit of a source that one, of a header all.

Environment: ``SPIKEFED_BUILD_NATIVE=0`` skips the build, ``SPIKEFED_BUILD_JOBS`` says how many compilers run at a time
(default: all cores); ``CXX`` and ``CXXFLAGS`` work as usual.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from glob import glob
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

FOLDERS = ("src/spikefed/neurons/native", "src/spikefed/wire/native")
SOURCES = sorted(path for folder in FOLDERS for path in glob(f"{folder}/*.cpp"))
HEADERS = sorted(path for folder in FOLDERS for path in glob(f"{folder}/*.h") + glob(f"{folder}/*.inl"))
KEPT = Path("build", "native")

# The results must not depend on which instruction set was chosen at run time, hence no contraction to fused
# multiply-add unless a kernel asks for it itself, and no -ffast-math. Instruction sets above the platform's baseline
# are per-file target pragmas.
UNIX_FLAGS = [
    "-std=c++17",
    "-O3",
    "-g0",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fvisibility=hidden",
    # GCC's own AVX-512 header reads what it calls undefined on purpose, and warns a thousand times.
    "-Wno-uninitialized",
    "-Wno-maybe-uninitialized",
    "-Wno-unknown-warning-option",
]
MSVC_FLAGS = ["/std:c++17", "/O2"]


class BuildNative(build_ext):
    """``build_ext`` for a library that is no Python module, and whose failure is only a message."""

    def get_ext_filename(self, fullname: str) -> str:
        return os.path.join(*fullname.split(".")) + (".dll" if sys.platform == "win32" else ".so")

    def get_export_symbols(self, ext: Extension) -> list[str]:
        return ext.export_symbols  # no PyInit_ function

    def get_libraries(self, ext: Extension) -> list[str]:
        return ext.libraries  # never libpython

    def build_extension(self, ext: Extension) -> None:
        msvc = self.compiler.compiler_type == "msvc"
        ext.extra_compile_args = MSVC_FLAGS if msvc else UNIX_FLAGS
        try:
            self.compiler.compile = SideBySide(self.compiler)
            super().build_extension(ext)
        except Exception as error:  # whatever a broken tool chain raises must not stop the install
            self.warn(
                f"the native library of spikefed was not built ({error}); spikefed works without it on its slower "
                "pure-torch and numpy paths. To get it, install a C++17 compiler (for example the package g++) and "
                "install spikefed again."
            )


class SideBySide:
    """Stands for a compiler's ``compile``: the same objects in the same order, several at a time, old ones kept."""

    def __init__(self, compiler: Any) -> None:
        self._compile, self._compiler = compiler.compile, compiler
        if not getattr(compiler, "initialized", True):
            compiler.initialize()  # MSVC looks for itself at the first call, which must not be several

    def __call__(self, sources: list[str], **options: Any) -> list[str]:
        objects = {source: KEPT / f"{Path(source).stem}-{self._key(source, options)}.o" for source in sources}
        missing = [source for source in sources if not objects[source].is_file()]
        jobs = int(os.environ.get("SPIKEFED_BUILD_JOBS") or os.cpu_count() or 1)
        started = time.monotonic()
        with ThreadPoolExecutor(max(1, jobs)) as pool:
            running = {pool.submit(self._one, source, objects[source], options): source for source in missing}
            for number, done in enumerate(as_completed(running), start=1):
                done.result()
                seconds = time.monotonic() - started
                print(f"native library: {number} of {len(missing)} files compiled, {seconds:.0f} s", flush=True)
        for old in set(KEPT.glob("*.o")) - set(objects.values()):
            old.unlink(missing_ok=True)
        return [str(objects[source]) for source in sources]

    def _one(self, source: str, target: Path, options: dict[str, Any]) -> None:
        [made] = self._compile([source], **options)
        target.parent.mkdir(parents=True, exist_ok=True)
        Path(made).replace(target)

    def _key(self, source: str, options: dict[str, Any]) -> str:
        program = [getattr(self._compiler, name, None) for name in ("compiler_type", "compiler_so", "compiler_so_cxx")]
        digest = hashlib.sha256(repr((program, options.get("extra_postargs"), options.get("macros"))).encode())
        for path in (source, *HEADERS):
            digest.update(Path(path).read_bytes())
        return digest.hexdigest()[:16]


class PlatformWheel(bdist_wheel):
    """One wheel per platform for all Python versions: the library uses no Python ABI."""

    def get_tag(self) -> tuple[str, str, str]:
        _, _, platform = super().get_tag()
        return "py3", "none", platform


native = Extension("spikefed._native", sources=SOURCES, depends=HEADERS, language="c++", optional=True)
build = bool(SOURCES) and os.environ.get("SPIKEFED_BUILD_NATIVE", "1") != "0"
setup(
    ext_modules=[native] if build else [],
    cmdclass={"build_ext": BuildNative, "bdist_wheel": PlatformWheel} if build else {},
)
