"""Every instruction set of the native library, one after the other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from spikefed.neurons import fused


@pytest.fixture(params=[0, 1, 2], ids=["portable", "avx2", "avx512"])
def level(request: pytest.FixtureRequest) -> Iterator[int]:
    """Holds one while the test runs; skips those that this processor does not have."""
    lib = fused.library()
    assert lib is not None
    if request.param > lib.spikefed_best_level():
        pytest.skip("this processor has no such instructions")
    before = lib.spikefed_level()
    lib.spikefed_set_level(request.param)
    yield request.param
    lib.spikefed_set_level(before)
