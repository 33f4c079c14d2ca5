"""Finds and loads the optional native library by ctypes; the only place that does.

``library()`` is the loaded library or ``None``; ``why_not()`` then says why. ``SPIKEFED_NATIVE=0`` in the environment
turns it off. The library borrows torch's own OpenMP thread pool, so no second pool spins beside it; where torch has
none, it runs on one thread.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from spikefed.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

ABI = 11  # raised with every change to a signature; a library of another number is not used
NAME = "_native.dll" if sys.platform == "win32" else "_native.so"


def library() -> ctypes.CDLL | None:
    """The native library, loaded once per process, or ``None``. The environment switch is read at every call.

    Raises:
        ConfigError: the switch is neither 0 nor 1.
    """
    return None if _switched_off() else _load()[0]


def why_not() -> str:
    """Why `library` is ``None``, in one sentence with what to do; the empty text if it is there."""
    if _switched_off():
        return "the native library is switched off by SPIKEFED_NATIVE=0; unset that variable to use it"
    return _load()[1]


def _switched_off() -> bool:
    said = os.environ.get("SPIKEFED_NATIVE") or "1"  # an empty variable is an unset one
    if said not in ("0", "1"):
        raise ConfigError(f"environment variable SPIKEFED_NATIVE is '{said}'; set it to 0 (do without) or 1")
    return said == "0"


@cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    path = Path(__file__).with_name(NAME)
    if not path.exists():
        return None, "the native library was not built at install; install a C++17 compiler and install spikefed again"
    try:
        loaded = ctypes.CDLL(str(path))
        version = loaded.spikefed_abi()
    except (OSError, AttributeError) as error:
        return None, f"the native library cannot be loaded ({error}); install spikefed again"
    if version != ABI:
        return None, f"the native library has interface {version} but this code needs {ABI}; install spikefed again"
    return loaded, ""


def lend_threads(lib: ctypes.CDLL) -> bool:
    """Give the library the OpenMP pool that torch has loaded; without one (other platforms) it stays on one thread."""
    import torch

    folder = Path(torch.__file__).parent / "lib"
    functions = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
    for name in ("libtorch_cpu.so", "libtorch.so"):
        try:  # already loaded: this only opens a handle, whose look-up goes through the libraries it depends on
            runtime = ctypes.CDLL(str(folder / name))
            found = [ctypes.cast(getattr(runtime, f), ctypes.c_void_p) for f in functions]
        except (OSError, AttributeError):
            continue
        lib.spikefed_borrow_threads(*found)
        return True
    return False


def keep_memory() -> bool:
    """Let the C allocator keep freed memory for the rest of the process (glibc only); True if it took effect.

    A training step frees and takes the same large tensors again and again; by default each round trip goes to the
    kernel, which hands out zeroed pages one fault at a time (measured: 5 to 25 % of a step, 40 % of predicting with
    `vgg9-bntt`). The process then holds on to its peak memory, so programs call this (the commands do, and yours may),
    the library never does by itself.
    """
    if not sys.platform.startswith("linux"):
        return False
    trim_threshold = -1
    mmap_threshold = -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of mallopt(3)
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    largest = 2**31 - 1
    return bool(mallopt(mmap_threshold, largest)) and bool(mallopt(trim_threshold, largest))


class Trim:
    """Hands freed memory back to the system once the process has grown by ``step`` bytes (glibc only).

    Training frees large tensors between the small ones that clients keep, so the heap has holes that the allocator
    cannot return by itself: 100 clients of `small` held 1.2 GB where 0.55 GB were in use. Not every round, because
    pages that come back cost a fault each.
    """

    def __init__(self, step: int = 512 * 2**20) -> None:
        self.step = step
        self._low = resident_bytes()

    def __call__(self) -> bool:
        """Hand back if it is time; True if it was."""
        if resident_bytes() < self._low + self.step:
            return False
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is None:
            return False
        trim(0)
        self._low = resident_bytes()
        return True


def pointer(tensor: Tensor | None) -> int | None:
    """Where a tensor's numbers begin, as records for the library hold it; None of no tensor."""
    return None if tensor is None else tensor.data_ptr()


def resident_bytes(pid: int | str = "self") -> int:
    """Memory of a process that is in RAM; 0 where it is gone or the system does not say (no /proc)."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
