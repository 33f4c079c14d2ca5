"""Graphs against a plain loop over time on the same weights; what a graph may be, and what it is refused for."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from tests.networks.graph.by_steps import assert_equals_loop, settled
from torch import Tensor

from spikefed.errors import ConfigError
from spikefed.networks import Edge, Graph, GraphNetwork, Node, Pool, build
from spikefed.networks.graph import INPUT, forward_part, parts, rectified_graph, sized, spiking_graph
from spikefed.networks.graph.draw import Drawing
from spikefed.networks.init import initialise
from spikefed.neurons import Direct, LIFParameters, use_kernels

NEURON = LIFParameters(decay=0.5, v_threshold=0.7, surrogate="atan", detach_reset=True)
SHAPE = (2, 6, 6)


def conv(name: str, **more) -> Node:
    return Node(name=name, weights="conv", features=4, norm=True, **more)


def residual(drawing: Drawing, at: str, name: str, *, before: bool) -> str:
    """A block whose sum stands before its neurons, or (spikes added to spikes) after them."""
    branch = drawing.add(conv(f"{name}.conv", neuron=not before), at)
    return drawing.add(Node(name=f"{name}.sum", neuron=before), branch, at)


def branching(loop: bool = False, delay: bool = False) -> Graph:
    """Everything a graph can have: sums before and after neurons, pre-activation, pools, a vote, ways back in time."""
    d = Drawing()
    stem = d.add(conv("stem"), INPUT)  # a current that is the same at every step
    first = d.add(Node(name="first", neuron=True), stem)
    at = residual(d, first, "late", before=True)
    at = residual(d, at, "early", before=False)
    sum_ = d.add(Node(name="join", norm=True), at, stem)
    lif = d.add(Node(name="pre.lif", neuron=True), sum_)
    pre = d.add(conv("pre.conv"), lif)
    even = d.add(Node(name="pre.pool", pool=Pool(size=3, stride=1, padding=1)), sum_)
    out = d.add(Node(name="out", neuron=True, pool=Pool()), pre, even)
    if loop:
        d.join([pre], "join", back=True)
        d.join([lif], "early.sum", back=True)
    if delay:
        d.join([stem, first], "pre.pool", back=True)
    hidden = d.add(Node(name="fc1", weights="linear", features=9, neuron=True), out)
    scores = d.add(Node(name="fc2", weights="linear", features=9), hidden)
    return d.graph(d.add(Node(name="vote", features=3), scores))


def network(graph: Graph, norm: str = "bn-step", steps: int = 4, kind: str = "hard", **more) -> GraphNetwork:
    """With weights that make it spike and statistics away from their first values."""
    neuron = LIFParameters(kind=kind, decay=0.5, v_threshold=0.7, surrogate="atan")  # type: ignore[arg-type]
    net = spiking_graph("g", graph, SHAPE, norm=norm, neuron=neuron, steps=steps, encoder=Direct(), **more)
    initialise(net, torch.Generator().manual_seed(1))
    return settled(net)  # type: ignore[return-value]


def images(batch: int = 5, shape: tuple[int, ...] = SHAPE, seed: int = 3) -> Tensor:
    return torch.rand(batch, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("steps", [1, 4, 5, 13])
@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("form", ["forward", "loop", "delay", "both"])
def test_a_graph_equals_a_plain_loop_over_time(form, kind, steps, training):
    graph = branching(loop=form in ("loop", "both"), delay=form in ("delay", "both"))
    assert_equals_loop(network(graph, steps=steps, kind=kind).train(training))


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_bntt_has_statistics_of_its_own_at_every_step_of_a_loop_too(training):
    net = network(branching(loop=True), norm="bntt").train(training)
    net.get_submodule("stem").norm = None  # before the neurons one step's statistics would be all steps'
    assert_equals_loop(net)


@pytest.mark.parametrize("norm", ["none", "bn", "tdbn", "bntt"])
def test_every_norm_runs_and_every_parameter_learns(norm):
    net = network(branching(loop=True, delay=True), norm=norm)
    with use_kernels("auto"):
        out = net(images(8))
    assert out.shape == (4, 8, 3)
    F.mse_loss(out.mean(0), torch.ones(8, 3)).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_bn_counts_all_steps_of_a_part_that_runs_layer_by_layer():
    """The joint statistics of `bn`, as torch's own over a batch of all steps."""
    net = network(branching(), norm="bn")
    seen = {}
    layer = net.get_submodule("late.conv")
    layer.register_forward_hook(lambda m, inputs, out: seen.update(x=m.currents(inputs[0]), out=out))
    before = layer.norm.running_mean.clone(), layer.norm.running_var.clone()
    net(images())
    wanted = F.batch_norm(seen["x"], *before, layer.norm.weight, layer.norm.bias, True, 0.1, 1e-5)
    torch.testing.assert_close(seen["out"], wanted)
    torch.testing.assert_close(layer.norm.running_mean, before[0])


@pytest.mark.parametrize("name", ["resnet-small", "snasnet-small"])
def test_neurons_that_begin_charged_do_so_where_branches_meet_and_in_loops(name):
    """The native kernels of sums and of loops begin at 0, and must leave these neurons alone."""
    charged, flat = (
        settled(build(name, input_shape=SHAPE, classes=3, steps=2, readout="current", neuron=neuron, seed=1)).eval()
        for neuron in (LIFParameters(decay=0.9, v_threshold=0.5, start=start) for start in (0.5, 0.0))
    )
    flat.load_state_dict(charged.state_dict())
    with torch.no_grad():
        for mode in ("auto", "reference"):
            with use_kernels(mode):
                kept = [charged(images()), flat(images())]
            assert not torch.allclose(*kept, atol=1e-3)
            if mode == "auto":
                native = kept[0]
    torch.testing.assert_close(native, kept[0], atol=1e-5, rtol=0)


def test_only_loops_run_step_by_step():
    assert not any(part.stepwise for part in parts(branching(delay=True)))
    (loop,) = [part for part in parts(branching(loop=True)) if part.stepwise]
    assert loop.nodes == ("early.sum", "join", "pre.lif", "pre.conv")
    net = network(branching(loop=True))
    calls = []
    for name in ("stem", "early.conv", "pre.lif", "pre.pool", "out"):
        net.get_submodule(name).register_forward_hook(lambda *_, name=name: calls.append(name))
    net(images())
    assert {name: calls.count(name) for name in calls} == {
        "stem": 1, "early.conv": 1, "pre.lif": 4, "pre.pool": 1, "out": 1,
    }  # fmt: skip
    assert net.stepwise("join") and not net.stepwise("pre.pool")


def test_a_node_that_only_the_past_leads_to_starts_from_nothing():
    d = Drawing()
    first = d.add(conv("first", neuron=True), INPUT)
    d.join(["second"], "echo", back=True)
    echo = d.add(conv("echo"))
    second = d.add(Node(name="second", neuron=True), first, echo)
    graph = d.graph(d.add(Node(name="fc", weights="linear", features=3), second))
    assert sized(graph, SHAPE)["echo"].in_shape == (4, 6, 6)
    assert_equals_loop(network(graph).eval())


def test_sequences_of_spikes_enter_a_graph_as_any_other_network():
    net = build("resnet-small", input_shape=(1, 8, 8), classes=3, steps=4, coding="bernoulli")
    first = net(images(3, (1, 8, 8)), generator=torch.Generator().manual_seed(1))
    again = net(images(3, (1, 8, 8)), generator=torch.Generator().manual_seed(1))
    assert torch.equal(first, again) and set(first.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_are_equal_and_no_state_survives_a_call(duplicate):
    net = network(branching(loop=True)).eval()
    first = net(images())
    net(images(9) * 3)
    assert torch.equal(net(images()), first)
    assert torch.equal(duplicate(net)(images()), first)


def test_dropout_drops_the_same_at_every_step_and_follows_its_generator():
    d = Drawing()
    at = d.add(Node(name="drop", dropout=0.5), INPUT)
    graph = d.graph(d.add(Node(name="fc", weights="linear", features=2), at))
    net = network(graph)
    with torch.no_grad():
        net.fc.weight.fill_(1.0)
    one, two, other = (net(images(), generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other)
    assert torch.equal(one[0], one[3])
    assert torch.equal(net.eval()(images()), net(images(), generator=torch.Generator().manual_seed(5)))


def test_the_ann_twin_leaves_out_what_only_the_past_leads_to():
    whole = branching(loop=True, delay=True)
    kept = forward_part(whole)
    assert not any(edge.back for edge in kept.edges)
    assert {n.name for n in kept.nodes} == {n.name for n in whole.nodes}
    d = Drawing()
    first = d.add(conv("first", neuron=True), INPUT)
    d.join([d.add(conv("echo"), first)], "second", back=True)
    second = d.add(Node(name="second", neuron=True), first)
    graph = d.graph(d.add(Node(name="fc", weights="linear", features=3), second))
    twin = rectified_graph("g", graph, SHAPE, norm="bn")
    assert [node.name for node in twin.graph.nodes] == ["first", "second", "fc"]
    assert twin(images()).shape == (1, 5, 3)


@pytest.mark.parametrize(
    ("nodes", "edges", "output", "message"),
    [
        ((Node(name="a"), Node(name="a")), (Edge(INPUT, "a"),), "a", "two nodes are called 'a'"),
        ((Node(name="input"),), (Edge(INPUT, "input"),), "input", "two nodes are called 'input'"),
        ((Node(name="a"),), (Edge("b", "a"),), "a", "names 'b', which is no node"),
        ((Node(name="a"),), (Edge(INPUT, "a"),), "b", "output 'b' is no node"),
        ((Node(name="a"), Node(name="b")), (Edge(INPUT, "a"),), "a", "no edge leads to node 'b'"),
        ((Node(name="a"), Node(name="b")), (Edge("a", "b"), Edge("b", "a")), "a", "circle among 'a', 'b'"),
    ],
)
def test_drawings_that_make_no_sense_are_refused(nodes, edges, output, message):
    with pytest.raises(ConfigError, match=message):
        Graph(nodes, edges, output)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (Node(name="b", weights="conv", kernel=2), "odd width"),
        (Node(name="b", features=3), "3 means of an input"),
        (Node(name="b", pool=Pool(size=7)), "too small for a pool of 7x7"),
        (Node(name="b", weights="linear", features=4, pool=Pool()), "cannot pool features"),
        (Node(name="b", weights="conv", features=5), "what is added up must be alike"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(node, message):
    d = Drawing()
    at = d.add(node, INPUT)
    with pytest.raises(ConfigError, match=message):
        sized(d.graph(d.add(Node(name="sum"), at, INPUT)), SHAPE)


def test_a_loop_that_nothing_feeds_is_refused():
    d = Drawing()
    first = d.add(Node(name="a"), INPUT)
    d.add(Node(name="b"), "c")
    d.join(["b"], "c", back=True)
    d._nodes.append(Node(name="c"))
    with pytest.raises(ConfigError, match="no way leads from the input"):
        sized(d.graph(first), SHAPE)
