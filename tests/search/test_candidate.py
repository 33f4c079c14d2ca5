"""Answers of untrained networks: against SpikingJelly's network watched as the public code does, and shared or not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from networks.snasnet import narrow, peer, take
from search.test_kernels import released
from spikefed.networks import describe
from spikefed.networks.cells import CIFAR10, CIFAR100, Cell, draw_cell
from spikefed.search.candidate import Answers, Macro, answers, size_of
from spikefed.search.scores import SCORES
from spikefed.search.shared import Memory

SIZES = "width=4,hidden=12,vote=3,pool=2"
MACRO = Macro(SIZES, (3, 8, 8), 4, 5, {})
IMAGES = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def some_cells(count: int, backward: bool, seed: int = 3) -> list[Cell]:
    draw = torch.Generator().manual_seed(seed)
    return [draw_cell(draw, backward).canonical for _ in range(count)]


def told(cell: Cell, memory: Memory) -> Answers:
    return answers(MACRO.network(cell, 0), cell, [IMAGES], memory)[0]


def as_released(cell: Cell, x: torch.Tensor, seed: int) -> tuple[float, int, float]:
    """Score, calls and spikes by the public code's procedure on SpikingJelly's network, in float64."""
    base = pytest.importorskip("spikingjelly.activation_based", exc_type=ImportError)
    ours = MACRO.network(cell, seed).double()
    theirs = narrow(cell, side=8, classes=4, steps=5, width=4, hidden=12, vote=3, pool=2).double()
    take(theirs, ours, cell)
    kernel, calls, spikes = torch.zeros(len(x), len(x), dtype=torch.float64), 0, 0.0

    def count(module: nn.Module, given: object, out: torch.Tensor) -> None:
        nonlocal kernel, calls, spikes
        kernel, calls, spikes = kernel + released(out.flatten(1)), calls + 1, spikes + float(out.sum())

    for module in theirs.modules():
        if isinstance(module, base.neuron.LIFNode):
            module.register_forward_hook(count)
    base.functional.reset_net(theirs)
    with torch.no_grad():
        theirs.train()(x.double())
    return float(np.linalg.slogdet((kernel / calls).numpy())[1]), calls, spikes


@pytest.mark.parametrize("cell", [Cell.parse("0303-0020-0002-0000"), CIFAR100, *some_cells(3, False)], ids=str)
def test_equals_the_released_procedure_on_spikingjellys_network(cell: Cell) -> None:
    peer()
    wanted, calls, _ = as_released(cell, IMAGES, seed=7)
    (net_answers,) = answers(DOUBLE.network(cell, 7), cell, [IMAGES.double()], Memory(0))
    assert net_answers.evidence.calls == calls
    assert abs(SCORES["sahd"].of(None, [net_answers]) - wanted) < 1e-8  # type: ignore[arg-type]


class _Double(Macro):
    """The same networks in float64: there, no spike hangs on a rounding."""

    def network(self, cell: Cell, seed: int):  # noqa: ANN201
        return super().network(cell, seed).double()


DOUBLE = _Double(SIZES, (3, 8, 8), 4, 5, {})


def test_what_is_shared_is_what_each_would_have_computed() -> None:
    memory = Memory(64 << 20)
    for cell in [*some_cells(12, False), *some_cells(6, True), CIFAR10]:
        alone, shared = (told(cell, m) for m in (Memory(0), memory))
        assert torch.equal(alone.evidence.similar, shared.evidence.similar), cell
        assert torch.equal(alone.evidence.agree, shared.evidence.agree)
        assert (alone.image_spikes, alone.image_sops) == (shared.image_spikes, shared.image_sops)
    assert memory.hits > 20


def test_nodes_run_only_where_nobody_knows_what_they_give() -> None:
    memory = Memory(64 << 20)
    cell = Cell.parse("0302-0030-0003-0000")
    first = told(cell, memory)
    ran = memory.misses
    again = told(cell, memory)
    assert memory.misses == ran and again.evidence.calls == first.evidence.calls
    assert torch.equal(first.evidence.similar, again.evidence.similar)
    # Two nodes on the same sum are one, and so are their means: 0 -> 1 and 0 -> 2 pass values on.
    twins, single = Memory(0), Memory(0)
    told(Cell.parse("0111-0004-0004-0000"), twins)
    told(Cell.parse("0101-0004-0000-0000"), single)
    assert twins.misses == single.misses


def test_batches_do_not_mix() -> None:
    cell, memory = CIFAR100, Memory(64 << 20)
    for _ in range(3):
        both = answers(MACRO.network(cell, 0), cell, [IMAGES, IMAGES.flip(0) * 0.5], memory)
        apart = [answers(MACRO.network(cell, 0), cell, [x], Memory(0))[0] for x in (IMAGES, IMAGES.flip(0) * 0.5)]
        assert all(torch.equal(a.evidence.agree, b.evidence.agree) for a, b in zip(both, apart, strict=True))
    assert not torch.equal(both[0].evidence.agree, both[1].evidence.agree)


def test_a_small_memory_forgets_and_changes_nothing() -> None:
    small, large = Memory(2_000), Memory(64 << 20)
    for cell in 3 * some_cells(4, False):
        one, other = (told(cell, m) for m in (small, large))
        assert torch.equal(one.evidence.similar, other.evidence.similar)
    assert small.misses > large.misses


def test_weights_belong_to_places() -> None:
    one, other = (
        MACRO.network(Cell.parse(text), 5).state_dict() for text in ("0303-0030-0003-0000", "0203-0030-0003-0000")
    )
    same = [name for name in one if name in other and one[name].shape == other[name].shape]
    assert len(same) > 10 and all(torch.equal(one[name], other[name]) for name in same)
    again = MACRO.network(Cell.parse("0303-0030-0003-0000"), 6).state_dict()
    assert not torch.equal(one["stem.weight"], again["stem.weight"])
    assert not torch.equal(one["cell1.op01.weight"], one["cell1.op03.weight"])


def test_work_by_hand() -> None:
    """One convolution from node 0 to node 3: its neurons' spikes touch 9 x 4 weights, the rest likewise."""
    cell = Cell.parse("0003-0000-0000-0000")
    seen_by_us = told(cell, Memory(0))
    net = MACRO.network(cell, 0).train()
    seen: dict[str, float] = {}
    for name in ("cell1.fire0", "down.fire", "cell2.fire0", "last", "fc1"):
        layer = net.get_submodule(name)
        size = math.prod(layer.plan.map_shape) / math.prod(layer.plan.out_shape)  # a mean over a pool's window
        layer.register_forward_hook(lambda m, i, out, n=name, s=size: seen.update({n: float(out.sum()) * s}))
    with torch.no_grad():
        net(IMAGES, generator=torch.Generator().manual_seed(0))
    assert seen_by_us.image_spikes == pytest.approx(sum(seen.values()) / 6, rel=1e-6)
    touched = {"cell1.fire0": 36, "down.fire": 72, "cell2.fire0": 72, "last": 12, "fc1": 12}
    assert seen_by_us.image_sops == pytest.approx(sum(seen[n] * touched[n] for n in seen) / 6, rel=1e-6)


def test_sizes() -> None:
    net = MACRO.network(CIFAR100, 0)
    size, told = size_of(net), describe(net)
    assert (size.parameters, size.flash_bytes) == (told.parameters, told.state_bytes)
    # Potentials: nodes 0, 1, 2 fire (4x8x8, then 8x4x4), down.fire 4x8x8, last 8x4x4, 12 hidden; largest layer 2 x 256.
    assert size.ram_bytes == 4 * (3 * 256 + 3 * 128 + 256 + 128 + 12 + 512)
