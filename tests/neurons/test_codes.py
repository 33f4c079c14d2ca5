"""Counts of neurons that fire for both of two images: in bits, in bytes and in floats the same."""

from __future__ import annotations

import pytest
import torch

from spikefed.neurons import codes, fire_both, use_kernels


@pytest.mark.parametrize("neurons", [1, 15, 512, 1001])
def test_bits_bytes_and_floats_count_the_same(neurons: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fired = torch.rand(3, 9, neurons, generator=torch.Generator().manual_seed(neurons)) < 0.3
    wanted = torch.einsum("tin,tjn->tij", fired.double(), fired.double())
    for form in (fired, fired.float()):
        assert torch.equal(fire_both(form).double(), wanted)
        for bytewise in (True, False):
            monkeypatch.setattr(codes, "has_vnni", lambda bytewise=bytewise: bytewise)
            with use_kernels("reference"):
                assert torch.equal(fire_both(form).double(), wanted)


def test_spikes_that_are_no_block_of_memory() -> None:
    fired = (torch.rand(2, 40, 6, generator=torch.Generator().manual_seed(0)) < 0.5).float().mT
    assert torch.equal(fire_both(fired), fire_both(fired.contiguous()))
