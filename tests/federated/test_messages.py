"""Tensors on their way to the wire and back."""

from __future__ import annotations

import torch

from spikefed.federated.messages import from_wire, to_wire


def test_bfloat16_travels_as_float32_without_losing_a_bit() -> None:
    sent = {"half": torch.randn(7, dtype=torch.bfloat16), "plain": torch.randn(3), "count": torch.tensor(4)}
    came = from_wire(to_wire(sent))
    assert [t.dtype for t in came.values()] == [torch.float32, torch.float32, torch.int64]
    assert all(torch.equal(came[name].to(t.dtype), t) for name, t in sent.items())
