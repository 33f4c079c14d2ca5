"""Builds the optional native library; everything else about the package is in pyproject.toml.

The library is plain C++ behind ``extern "C"``: no Python and no torch headers, so one build serves every Python and
torch version and wheels are tagged ``py3-none-<platform>``. It is optional: without a C++ compiler the package
installs and runs on its pure-torch and numpy paths, and says so.

Environment: ``SPIKEFED_BUILD_NATIVE=0`` skips the build; ``CXX`` and ``CXXFLAGS`` work as usual.
"""

from __future__ import annotations

import os
import sys
from glob import glob

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

FOLDERS = ("src/spikefed/neurons/native", "src/spikefed/wire/native")
SOURCES = sorted(path for folder in FOLDERS for path in glob(f"{folder}/*.cpp"))
HEADERS = sorted(path for folder in FOLDERS for path in glob(f"{folder}/*.h") + glob(f"{folder}/*.inl"))

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
            super().build_extension(ext)
        except Exception as error:  # whatever a broken tool chain raises must not stop the install
            self.warn(
                f"the native library of spikefed was not built ({error}); spikefed works without it on its slower "
                "pure-torch and numpy paths. To get it, install a C++17 compiler (for example the package g++) and "
                "install spikefed again."
            )


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
