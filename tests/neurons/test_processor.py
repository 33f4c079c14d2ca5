"""Which instructions are used, and how a user holds the library to fewer."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from spikefed import native
from spikefed.errors import ConfigError
from spikefed.neurons import fused, processor, use_kernels

needs_native = pytest.mark.skipif(fused.library() is None, reason="no native library")


@needs_native
@pytest.mark.parametrize("name", ["portable", "avx2", "avx512"])
def test_the_environment_holds_the_library_to_an_instruction_set(name) -> None:
    lib = fused.library()
    assert lib is not None
    code = (  # a limit may be asked for before the first kernel runs
        "from spikefed.neurons import fused, processor; print(processor.instruction_set()); fused.library(); "
        "print(processor.instruction_set())"
    )
    environment = {**os.environ, "SPIKEFED_NATIVE_ISA": name}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    if processor.INSTRUCTION_SETS.index(name) <= lib.spikefed_best_level():
        assert done.stdout.split() == [name, name], done.stderr
    else:
        assert "SPIKEFED_NATIVE_ISA" in done.stderr and "does not have" in done.stderr


@needs_native
def test_the_environment_holds_from_the_first_question() -> None:
    """What is chosen by instruction set before any kernel runs (``auto``) is chosen for the one in use."""
    code = "from spikefed.neurons import processor as p; print(p.instruction_set(), p.fastest_precision())"
    environment = {**os.environ, "SPIKEFED_NATIVE_ISA": "portable", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.split() == ["portable", "float32"], done.stderr


def test_auto_is_float32_on_the_reference_kernels_without_bfloat16(monkeypatch) -> None:
    """What a warning tells to set must not be what it warns of."""
    monkeypatch.setattr(processor, "has_bf16", lambda: False)
    with use_kernels("reference"):
        assert processor.fastest_precision() == "float32"
        assert "auto" in processor.why_slow("bfloat16") and not processor.why_slow(processor.fastest_precision())
        monkeypatch.setattr(processor, "has_bf16", lambda: True)
        assert processor.fastest_precision() == "bfloat16" and not processor.why_slow("bfloat16")


@needs_native
@pytest.mark.parametrize(("tiles", "much"), [(False, "1.2 to 1.6 times"), (True, "over twice")])
def test_float32_where_bfloat16_has_instructions_is_told_its_price(monkeypatch, tiles, much) -> None:
    monkeypatch.setattr(processor, "has_bf16", lambda: True)
    monkeypatch.setattr(processor, "has_amx", lambda: tiles)
    assert much in processor.why_slow("float32") and not processor.why_slow("bfloat16")
    assert not processor.why_slow("float32", "cuda")
    monkeypatch.setattr(processor, "has_bf16", lambda: False)  # own kernels: bfloat16 is a few per cent faster there
    assert not processor.why_slow("float32") and not processor.why_slow("bfloat16")


@needs_native
def test_an_empty_variable_is_an_unset_one(monkeypatch) -> None:
    lib = native.library()
    assert lib is not None
    before = lib.spikefed_level()
    monkeypatch.setenv("SPIKEFED_NATIVE_ISA", "")
    processor.choose_instruction_set(lib)
    assert lib.spikefed_level() == before


@needs_native
def test_an_unknown_instruction_set_is_one_sentence(monkeypatch) -> None:
    lib = native.library()
    assert lib is not None
    monkeypatch.setenv("SPIKEFED_NATIVE_ISA", "sse9")
    with pytest.raises(ConfigError, match="SPIKEFED_NATIVE_ISA is 'sse9'; set it to one of portable, avx2, avx512"):
        processor.choose_instruction_set(lib)


@pytest.mark.parametrize("held", ["AVX2", "avx512_core"])
def test_onednn_held_below_bfloat16_has_none(monkeypatch, held) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", held)
    processor.has_bf16.cache_clear()
    try:
        assert not processor.has_bf16()
    finally:
        processor.has_bf16.cache_clear()
