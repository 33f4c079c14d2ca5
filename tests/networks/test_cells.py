"""Cells: their space, their names, and networks made of them against plain loops and against SpikingJelly's SNASNet."""

from __future__ import annotations

import pytest
import torch
from tests.networks.graph.by_steps import assert_equals_loop, by_steps, settled

from networks.snasnet import mean_output, narrow, released, take
from spikefed.errors import ConfigError
from spikefed.networks import (
    Node,
    Pool,
    SpikingNetwork,
    ann_twin,
    build,
    describe,
    explain,
    firing_rates,
    roles,
    state_bytes,
)
from spikefed.networks.cells import (
    CIFAR10,
    CIFAR100,
    Cell,
    CellOp,
    all_cells,
    cell_ops,
    draw_cell,
    register_op,
)
from spikefed.objects import is_own

SIZES = "width=4,hidden=12,vote=3,pool=2,dropout=0"


def backward_cells(count: int) -> list[Cell]:
    """Different random cells with a way backward in time, as a search would sample them."""
    draw, found = torch.Generator().manual_seed(5), []
    while len(found) < count:
        cell = draw_cell(draw, backward=True).canonical
        if cell.backward and cell not in found:
            found.append(cell)
    return found


def loud(net: SpikingNetwork) -> SpikingNetwork:
    """`settled`, and a hidden layer that spikes behind the quietest cell."""
    net = settled(net)
    if net.get_submodule("fc1").norm is None:
        with torch.no_grad():
            net.get_submodule("fc1").weight.mul_(15)
    return net


@pytest.mark.parametrize("cell", [CIFAR10, CIFAR100, *backward_cells(20)], ids=str)
def test_networks_of_cells_equal_spikingjellys_on_the_same_weights(cell):
    """Outputs, gradients, running statistics; training and eval mode."""
    sizes = {"width": 4, "hidden": 12, "vote": 3, "pool": 2}
    ours = build(f"cell:{cell}:{SIZES}", input_shape=(3, 8, 8), classes=4, steps=5, readout="current")
    ours = loud(ours).double()
    theirs = narrow(cell, side=8, classes=4, steps=5, **sizes).double()
    names = take(theirs, ours, cell)
    x = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mix = torch.rand(6, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for training in (False, True):
        out, wanted = ours.train(training)(x).mean(0), mean_output(theirs.train(training), x)
        torch.testing.assert_close(out, wanted, rtol=1e-9, atol=1e-12)
        assert wanted.std() > 0
        ours.zero_grad()
        theirs.zero_grad()
        (out * mix).sum().backward()
        (wanted * mix).sum().backward()
        found, told = dict(ours.named_parameters()), dict(theirs.named_parameters())
        for mine, name in names.items():
            if mine in found:
                torch.testing.assert_close(found[mine].grad, told[name].grad, rtol=1e-7, atol=1e-10, msg=mine)
    moved, told = dict(ours.named_buffers()), dict(theirs.named_buffers())
    for mine, name in names.items():
        if mine in moved:
            torch.testing.assert_close(moved[mine], told[name], rtol=1e-9, atol=1e-12, msg=mine)


@pytest.mark.parametrize(
    ("name", "cell", "dataset", "pool", "classes"),
    [("snasnet-cifar10", CIFAR10, "cifar10", 4, 10), ("snasnet-cifar100", CIFAR100, "cifar100", 2, 100)],
)
def test_the_released_networks_have_spikingjellys_weights_and_bytes(name, cell, dataset, pool, classes):
    ours = build(name, input_shape=(3, 32, 32), classes=classes, steps=5, readout="current")
    theirs = released(cell, dataset, pool)
    tensors = theirs.state_dict().values()
    assert state_bytes(ours) == sum(t.numel() * t.element_size() for t in tensors)
    assert describe(ours).parameters == sum(p.numel() for p in theirs.parameters())
    take(theirs, ours, cell)  # every tensor has its place, in its shape
    conv, hidden = ours.get_submodule("cell1.op01").weight, ours.get_submodule("fc1").weight
    bound = (6 / (5 * conv[0].numel())) ** 0.5
    assert 0.99 * bound < conv.abs().max() <= bound and hidden.std().item() == pytest.approx(0.01, rel=0.01)


def test_the_spaces_have_the_sizes_that_were_counted():
    forward = list(all_cells(backward=False))
    kept = [cell for cell in forward if cell.in_space]
    assert [len(forward), len(kept), len({cell.canonical for cell in kept})] == [15_625, 12_500, 7_556]
    assert not any(cell.backward for cell in forward)


@pytest.mark.slow
def test_the_backward_space_has_the_size_that_was_counted():
    raw, kept, distinct = 0, 0, set()
    for cell in all_cells(backward=True):
        raw += 1
        if cell.in_space:
            kept += 1
            distinct.add(cell.canonical)
    assert [raw, kept, len(distinct)] == [531_441, 236_196, 104_708]


def test_names_and_matrices_go_both_ways():
    for cell in (CIFAR10, CIFAR100, *backward_cells(10)):
        assert Cell.parse(str(cell)) == cell == Cell.of(cell.edges)
        assert cell.canonical.canonical == cell.canonical and cell.canonical.alive == cell.alive


def test_random_cells_follow_their_generator_and_lie_in_the_space():
    for backward in (False, True):
        draws = [[draw_cell(torch.Generator().manual_seed(s), backward) for s in range(30)] for _ in range(2)]
        assert draws[0] == draws[1] and len(set(draws[0])) > 25
        assert all(cell.in_space for cell in draws[0])
        assert any(cell.backward for cell in draws[0]) == backward


def test_dead_nodes_change_nothing():
    whole, dead = Cell.parse("0303-0000-0002-0000"), "cell1.op01"
    names = [build(f"cell:{c}:{SIZES}", input_shape=(3, 8, 8), classes=4, steps=3) for c in (whole, whole.canonical)]
    first, second = (list(net.state_dict()) for net in names)
    assert whole.alive == (0, 3) and first == second and not any(name.startswith(dead) for name in first)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("steps", [1, 4, 5, 13])
@pytest.mark.parametrize("name", ["snasnet-small", f"cell:{CIFAR100}:{SIZES}", f"cell:0123-0020-3003-0110:{SIZES}"])
def test_networks_of_cells_equal_a_plain_loop_over_time(name, steps, training):
    net = loud(build(name, input_shape=(2, 8, 8), classes=3, steps=steps, readout="current"))
    assert_equals_loop(net.train(training), batch=6)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 4, 5, 13])
@pytest.mark.parametrize("name", ["snasnet-cifar10", "snasnet-cifar100"])
def test_the_released_networks_equal_a_plain_loop_over_time(name, steps):
    net = settled(build(name, input_shape=(3, 8, 8), classes=4, steps=steps, readout="current"))
    assert_equals_loop(net.eval(), by_steps, batch=2, exact=True)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 16), (1, 28, 28), (3, 32, 32)])
def test_the_small_sibling_stays_under_300_k_weights(shape):
    for classes in (10, 100):
        for pooling in ("average", "max", "stride"):
            net = build("snasnet-small", input_shape=shape, classes=classes, steps=2, pooling=pooling)
            role_of = roles(net)
            weights = sum(t.numel() for n, t in net.state_dict().items() if role_of[n] == "weight")
            assert weights < 300_000
            out = net(torch.rand(2, *shape))
            assert out.shape == (2, 2, classes) and set(out.unique().tolist()) <= {0.0, 1.0}
            assert pooling != "stride" or not any(place.plan.pool for place in net.places)


def test_strides_of_cells_equal_the_loop_too():
    for pooling in ("max", "stride"):
        net = build(f"cell:{CIFAR10}:{SIZES}", input_shape=(2, 8, 8), classes=3, steps=4, pooling=pooling)
        assert_equals_loop(settled(net).eval(), batch=3)


def test_looking_at_a_network_of_cells():
    net = build("snasnet-small", input_shape=(1, 8, 8), classes=5, steps=4)
    rows = {row.name: row for row in describe(net).rows}
    assert rows["cell1.op01"].kind == "conv 3x3 + bn-step (step by step)" and rows["cell1.op01"].times == 4
    assert rows["stem"].times == 1 and rows["last"].kind == "bn-step + LIF hard + AP4"
    assert {path.layer for path in explain(net)} == set(rows)
    rates = firing_rates(net, torch.rand(4, 1, 8, 8))
    assert set(rates) == {p.plan.name for p in net.places if p.neuron is not None} and rates["cell1.fire0"] > 0


def test_the_ann_twin_is_the_forward_part():
    net = build("snasnet-small", input_shape=(1, 8, 8), classes=5, steps=4, readout="current", seed=2)
    twin = ann_twin("snasnet-small", input_shape=(1, 8, 8), classes=5, seed=2)
    mine, other = net.state_dict(), twin.state_dict()
    missing = {"cell1.op20", "cell1.op31", "cell2.op20", "cell2.op31"}
    weights = {name for name, role in roles(net).items() if role == "weight"}
    assert {name.rsplit(".", 1)[0] for name in weights - set(other)} == missing
    for name in weights & set(other):
        assert torch.equal(mine[name], other[name]), name
    assert twin(torch.rand(2, 1, 8, 8)).shape == (1, 2, 5)


def test_an_operation_of_ones_own_joins_by_its_code(monkeypatch):
    monkeypatch.setattr("spikefed.networks.cells._OPS", {op.code: op for op in cell_ops()})
    register_op(CellOp("m", "max", "largest of 3x3", lambda name, _: Node(name=name, pool=Pool("max", 3, 1, 1))))
    net = build("cell:00m3-0000-0003-0000:width=4,hidden=8", input_shape=(1, 8, 8), classes=3, steps=2)
    assert str(net.get_submodule("cell1.op02").plan.window) == "MP3/1"
    with pytest.raises(ConfigError, match="code '3' of operation 'x' already stands for 'conv3x3'"):
        register_op(CellOp("3", "x", "", None))
    with pytest.raises(ConfigError, match="code '55' of operation 'x' is not one letter or digit"):
        register_op(CellOp("55", "x", "", None))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cell:", "cell '' is not 4 rows of 4 codes"),
        ("cell:0303-0030-2002", "is not 4 rows of 4 codes"),
        ("cell:0303-0030-2002-020", "is not 4 rows of 4 codes"),
        ("cell:0903-0030-2002-0200", "'9' in cell .* stands for no operation; use 0 none, 1 skip"),
        ("cell:0303-0130-2002-0200", "operation from node 1 to itself"),
        ("cell:0300-0030-0000-0200", "no way leads from node 0 to node 3"),
        ("cell:0303-0030-2002-0200:width=3,width=4", "'width' stands twice in network.name"),
        ("cell:0303-0030-2002-0200:dropout=nan", "'dropout' = nan of a cell network is out of range"),
        ("cell:0303-0030-2002-0200:wide=3", "'wide' in network.name .* is not known; use width, hidden"),
        ("cell:0303-0030-2002-0200:width=big", "needs a whole number, as in width=2"),
        ("cell:0303-0030-2002-0200:width=0", "'width' = 0 of a cell network is out of range; set it from 1 up"),
        ("cell:0303-0030-2002-0200:dropout=1", "from 0 to below 1"),
        ("snasnet", "did you mean 'snasnet-"),
    ],
)
def test_names_that_spell_no_network_are_refused_in_one_sentence(name, message):
    with pytest.raises(ConfigError, match=message):
        build(name, input_shape=(3, 8, 8), classes=10, steps=2)


def test_a_cell_is_no_module_of_ones_own():
    assert not is_own("cell:0303-0030-2002-0200:width=3") and not is_own("cell:x-0") and not is_own("small")
    assert not is_own("vgg9-bntt:40C3-AP2-60FC") and is_own("vgg16:Net") and is_own("nir:40C3.nir")
    assert is_own("cell:Net") and is_own("cells:make") and is_own("python:thing")
