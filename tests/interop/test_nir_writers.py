"""NIR files that other libraries write, as docs/export.md says to write them: our network has their spikes."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import pytest
import torch

from spikefed.errors import ConfigError
from spikefed.interop import read_nir

nir = pytest.importorskip("nir")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of a writer that these libraries call
STEPS = 40
X = 3 * torch.rand(20, 2, generator=torch.Generator().manual_seed(1))


def line() -> torch.nn.Linear:
    """Two inputs, three neurons."""
    made = torch.nn.Linear(2, 3)
    with torch.no_grad():
        made.weight.copy_(torch.tensor([[1.0, 0.3], [0.7, 0.9], [1.7, -0.2]]))
        made.bias.zero_()
    return made


def ours(graph: Any, path: Path, dt: float | None = None) -> torch.Tensor:
    nir.write(path, graph)
    with torch.no_grad():
        return read_nir(path, steps=STEPS, dt=dt)(X[..., None, None])


def leaky(reset: str) -> tuple[Any, torch.Tensor]:
    """A graph that snnTorch wrote, and the spikes of what it was written from, ``[T, B, 3]``."""
    snntorch = pytest.importorskip("snntorch")
    writer = pytest.importorskip("snntorch.export_nir")
    neuron = snntorch.Leaky(
        beta=torch.full((3,), 0.9), threshold=torch.ones(3), init_hidden=True, reset_mechanism=reset
    )
    net = torch.nn.Sequential(line(), neuron)
    with contextlib.redirect_stdout(io.StringIO()):
        graph = writer.export_to_nir(net, torch.ones(1, 2), ignore_dims=[0])
    neuron.reset_mem()
    with torch.no_grad():
        return graph, torch.stack([net(X) for _ in range(STEPS)])


def test_snntorch_with_a_reset_to_zero(tmp_path: Path) -> None:
    graph, theirs = leaky("zero")
    assert theirs.any() and torch.equal(ours(graph, tmp_path / "net.nir"), theirs)


def test_snntorch_writes_subtraction_as_a_reset_to_zero(tmp_path: Path) -> None:
    (told, theirs), (zero, _) = leaky("subtract"), leaky("zero")
    assert torch.equal(ours(told, tmp_path / "told.nir"), ours(zero, tmp_path / "zero.nir"))
    assert not torch.equal(ours(told, tmp_path / "told.nir"), theirs)


def boxes() -> tuple[Any, torch.Tensor]:
    """Norse's network with time constants of 10 ms and a step of 1 ms, and its spikes ``[T, B, 3]``."""
    norse = pytest.importorskip("norse.torch")
    tau_mem_inv, v_leak, v_th, v_reset = (torch.full((3,), value) for value in (100.0, 0.0, 1.0, 0.0))
    parameters = norse.LIFBoxParameters(tau_mem_inv=tau_mem_inv, v_leak=v_leak, v_th=v_th, v_reset=v_reset)
    net = norse.SequentialState(line(), norse.LIFBoxCell(p=parameters, dt=0.001))
    state, spikes = None, []
    with torch.no_grad():
        for _ in range(STEPS):
            out, state = net(X, state)
            spikes.append(out)
    return net, torch.stack(spikes)


def test_norse_with_a_step_of_one(tmp_path: Path) -> None:
    norse = pytest.importorskip("norse.torch")
    net, theirs = boxes()
    graph = norse.to_nir(net, torch.ones(2), dt=1)
    assert theirs.any() and torch.equal(ours(graph, tmp_path / "net.nir", dt=0.001), theirs)


def test_norse_with_its_own_step_is_refused(tmp_path: Path) -> None:
    norse = pytest.importorskip("norse.torch")
    net, _ = boxes()
    with pytest.raises(ConfigError, match=r"tau = 1e-05 s; a time step of 0\.001 s needs tau from there up"):
        ours(norse.to_nir(net, torch.ones(2)), tmp_path / "net.nir", dt=0.001)
    with pytest.raises(ConfigError, match="type mismatch.*write it from a sample without the batch axis"):
        ours(norse.to_nir(net, torch.ones(1, 2), dt=1), tmp_path / "net.nir", dt=0.001)
