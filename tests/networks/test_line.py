"""1-d convolutions: equal to torch's Conv1d step by step, in rows of layers and in graphs, forward and backward."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from spikefed import networks
from spikefed.errors import ConfigError
from spikefed.networks.graph import INPUT, Edge, Graph, Node, sized, spiking_graph
from spikefed.networks.pools import ALONG, Pool
from spikefed.neurons import LIFParameters, Products, Triangle, encoder, record_paths, use_kernels

STEPS = (1, 4, 5, 13)
G = torch.Generator().manual_seed(0)


class Spike(torch.autograd.Function):
    """1 above 0; backward a triangle of height and half width 1."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return (u > 0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (u,) = ctx.saved_tensors
        return grads[0] * (1 - u.abs()).clamp(min=0)


def fired(currents: list[Tensor], p: LIFParameters) -> list[Tensor]:
    """Spikes of every step, one step after the other."""
    v, spikes = torch.zeros_like(currents[0]), []
    for current in currents:
        u = p.decay * v + current
        o = Spike.apply(u - p.v_threshold if p.kind == "hard" else u / p.v_threshold - 1)
        v = u * (1 - o) if p.kind == "hard" else u - p.v_threshold * o
        spikes.append(o)
    return spikes


def normed(currents: list[Tensor], norm: Any) -> list[Tensor]:
    """Ordinary batch norm with the statistics of all steps together."""
    if norm is None:
        return currents
    rows = torch.cat(currents)
    shape = (1, -1, *[1] * (rows.dim() - 2))
    over = [axis for axis in range(rows.dim()) if axis != 1]
    var, mean = torch.var_mean(rows, over, correction=0)
    scaled = (rows - mean.view(shape)) / (var.view(shape) + norm.eps).sqrt()
    out = scaled * norm.weight.view(shape)
    out = out if norm.bias is None else out + norm.bias.view(shape)
    return list(out.chunk(len(currents)))


def convolved(x: list[Tensor], layer: Any) -> list[Tensor]:
    """A layer's product, by Conv1d on each step's ``[B, C, L]`` or by a matrix."""
    if layer.plan.kind == "linear":
        return [F.linear(each.flatten(1), layer.weight, layer.bias) for each in x]
    weight = layer.weight[:, :, 0]
    padding = weight.shape[2] // 2
    return [F.conv1d(each, weight, layer.bias, stride=layer.plan.stride, padding=padding) for each in x]


def of_layers(net: Any, x: Tensor) -> Tensor:
    """Outputs of a row of layers, ``x [B, T, C, 1, L]``."""
    values = list(x[:, :, :, 0].unbind(1))
    for layer in net.layers:
        values = normed(convolved(values, layer), layer.norm)
        values = values if layer.neuron is None else fired(values, layer.neuron)
        if layer.plan.pool:
            run = F.avg_pool1d if layer.plan.window.kind == "average" else F.max_pool1d
            values = [run(each, 2) for each in values]
    return torch.stack(values)


def of_graph(net: Any, x: Tensor) -> Tensor:
    """Outputs of a feed-forward graph, likewise."""
    values = {INPUT: list(x[:, :, :, 0].unbind(1))}
    for node in net.graph.nodes:
        layer = net.get_submodule(node.name)
        arriving = [values[edge.source] for edge in net.graph.into(node.name)]
        now = [torch.stack(each).sum(0) for each in zip(*arriving, strict=True)]
        now = convolved(now, layer) if node.weights != "pass" else now
        now = normed(now, layer.norm)
        now = now if layer.neuron is None else fired(now, layer.neuron)
        now = [each.mean(2, keepdim=True) for each in now] if layer.plan.pool else now
        values[node.name] = now
    return torch.stack(values[net.graph.output])


NETS: dict[str, tuple[str, dict[str, Any]]] = {
    "conv-1d": ("conv-1d", {}),
    "conv-1d, currents": ("conv-1d", {"readout": "current"}),
    "strides": ("conv-1d", {"pooling": "stride"}),
    "largest": ("conv-1d", {"pooling": "max"}),
    "hard, no norm": (
        "24C1x5-AP1x2-16C1x3-20FC",
        {"norm": "none", "neuron": LIFParameters(decay=0.5, v_threshold=0.15, surrogate=Triangle(1.0))},
    ),
    "residual": ("resnet-1d", {}),
    "residual, strides": ("resnet-1d", {"pooling": "stride"}),
}


def made(which: str, steps: int, length: int = 11) -> Any:
    name, settings = NETS[which]
    net = networks.build(name, input_shape=(6, 1, length), classes=5, steps=steps, seed=3, **settings)
    with torch.no_grad():  # no constants that a mistake could hide behind
        for name, tensor in net.named_parameters():
            if "norm" in name or name.endswith("bias"):
                tensor.add_(0.2 * torch.rand(tensor.shape, generator=torch.Generator().manual_seed(len(name))))
    return net


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("which", NETS)
def test_equal_to_conv1d_step_by_step_forward_and_backward(which: str, steps: int) -> None:
    net = made(which, steps).double()  # in double precision nothing but a mistake can differ
    x = torch.randn(7, steps, 6, 1, 11, generator=torch.Generator().manual_seed(steps), dtype=torch.float64)
    upstream = torch.randn(steps, 7, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    reference = (of_graph if which.startswith("residual") else of_layers)(net, x)
    with use_kernels("reference"):
        ours = net(x)
    torch.testing.assert_close(ours, reference, rtol=0, atol=1e-9)
    assert ours.abs().sum() > 0
    wanted = torch.autograd.grad((reference * upstream).sum(), list(net.parameters()), allow_unused=True)
    got = torch.autograd.grad((ours * upstream).sum(), list(net.parameters()), allow_unused=True)
    for name, a, b in zip(dict(net.named_parameters()), got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9, msg=name)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("which", ["conv-1d", "strides", "residual"])
def test_fused_in_float32_equals_conv1d_step_by_step(which: str, steps: int) -> None:
    """Thresholds lie far enough from every potential of these inputs for spikes to be the same ones."""
    net = made(which, steps)
    x = torch.randn(7, steps, 6, 1, 11, generator=torch.Generator().manual_seed(steps))
    upstream = torch.randn(steps, 7, 5, generator=torch.Generator().manual_seed(1))
    reference = (of_graph if which == "residual" else of_layers)(net, x)
    ours = net(x)
    torch.testing.assert_close(ours, reference, rtol=0, atol=1e-5)
    wanted = torch.autograd.grad((reference * upstream).sum(), list(net.parameters()), allow_unused=True)
    got = torch.autograd.grad((ours * upstream).sum(), list(net.parameters()), allow_unused=True)
    for name, a, b in zip(dict(net.named_parameters()), got, wanted, strict=True):
        scale = float(b.abs().max()) if b is not None else 0.0
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * max(scale, 1.0), msg=name)


def test_a_loop_of_1d_convolutions_runs_on_the_native_loop_as_on_the_reference() -> None:
    line = Node(name="a", weights="conv", features=8, kernel=5, norm=True, neuron=True, bias=False, line=True)
    nodes = (
        line,
        Node(name="b", weights="conv", features=8, kernel=3, neuron=True, line=True),
        Node(name="c", weights="conv", features=8, kernel=1, norm=True, neuron=True, pool=ALONG, line=True),
        Node(name="out", weights="linear", features=3, neuron=True),
    )
    edges = (Edge(INPUT, "a"), Edge("a", "b"), Edge("b", "a", back=True), Edge("b", "c"), Edge("c", "out"))
    graph = Graph(nodes, edges, "out")
    neuron = LIFParameters(decay=0.5, v_threshold=0.2, surrogate=Triangle(1.0))
    net = spiking_graph("loop", graph, (8, 1, 9), norm="bn", neuron=neuron, steps=5, encoder=encoder("direct"))
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=draw))
    x = torch.randn(4, 5, 8, 1, 9, generator=draw)
    results = []
    for mode in ("auto", "reference"):
        with use_kernels(mode):
            out = net(x)
        results.append((out, *torch.autograd.grad(out.sum(), list(net.parameters()))))
    assert results[0][0].sum() > 0
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_products_step_by_step_take_oblong_kernels() -> None:
    """A kernel with one row is no pointwise one."""
    x = torch.randn(3, 6, 1, 9, generator=G)
    weight = torch.randn(4, 6, 1, 5, generator=G)
    for stride in (1, 2):
        products = Products((1, stride))
        padded = x.clone().requires_grad_()
        wanted = F.conv1d(padded[:, :, 0], weight[:, :, 0], stride=stride, padding=2).unsqueeze(2)
        out = products.forward(x.contiguous(memory_format=torch.channels_last), weight, None)
        torch.testing.assert_close(out, wanted.detach(), rtol=1e-5, atol=1e-5)
        upstream = torch.randn(wanted.shape, generator=G)
        (grad,) = torch.autograd.grad(wanted, padded, upstream)
        torch.testing.assert_close(products.input_gradient(upstream, weight, x.shape), grad, rtol=1e-5, atol=1e-5)


def test_bfloat16_stays_near_float32_and_membranes_stay_float32() -> None:
    for which in ("conv-1d", "residual"):
        net = made(which, 4).eval()
        x = torch.randn(16, 4, 6, 1, 11, generator=torch.Generator().manual_seed(5))
        single = net(x)
        net.precision = "bfloat16"
        half = net(x)
        assert half.dtype == torch.float32 and set(half.unique().tolist()) <= {0.0, 1.0}
        assert (half != single).float().mean() < 0.1
        net.train()(x).sum().backward()
        assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in net.parameters())


def test_neurons_and_norms_are_fused() -> None:
    net = made("conv-1d", 4)
    with record_paths() as rows:
        net(torch.randn(2, 4, 6, 1, 11, generator=G))
    fused = [row.path for row in rows if row.operation == "norm_lif"]
    assert len(fused) == 4 and set(fused) <= {"fused", "reference"}
    assert [row.operation for row in rows if "conv" in row.operation] == ["spike_conv2d"] * 2


def test_sizes_and_operations_are_those_of_one_row() -> None:
    net = made("conv-1d", 4, length=10)
    rows = networks.describe(net).rows
    assert [row.output_shape for row in rows] == [(32, 1, 5), (64, 1, 2), (128,), (5,)]
    assert rows[0].kind == "conv 1x5 + bn + LIF soft + AP1x2" and rows[0].weights == 32 * 6 * 5
    assert rows[0].macs == 10 * 6 * 5 * 32 and rows[1].macs == 5 * 32 * 3 * 64
    assert {layer.weight.shape[2] for layer in net.layers if layer.plan.kind == "conv"} == {1}
    assert net.layers[0].plan.padding == (0, 2) and net.layers[0].plan.strides == (1, 1)


def test_pictures_may_have_them_too() -> None:
    """Along the width alone: rows stay independent."""
    net = networks.build("4C1x3-AP1x2-8FC", input_shape=(1, 6, 8), classes=3, steps=2)
    assert net.layers[0].plan.out_shape == (4, 6, 4)
    x = torch.rand(2, 1, 6, 8, generator=G)
    first = net.layers[0].currents(x)
    x[:, :, 3] = 0
    changed = (net.layers[0].currents(x) - first).abs().sum((0, 1, 3))
    assert changed[3] > 0 and changed[[0, 1, 2, 4, 5]].sum() == 0


@pytest.mark.parametrize(
    ("name", "shape", "sentence"),
    [
        ("conv-1d", (6, 1, 1), r"here a step has one; set data.resample = 'window' .* or use small-1d"),
        ("resnet-1d", (6, 1, 1), "resnet-1d convolves along the samples of a time step, and here a step has one"),
        ("conv-1d", (1, 28, 28), "these are pictures of 28x28; use small"),
        ("8C1x3-AP2-4FC", (6, 8, 8), r"'AP2' after '8C1x3' .* AP1x2 follows nC1xk"),
        ("8C3-AP1x2-4FC", (6, 8, 8), r"'AP1x2' after '8C3' .* AP2 follows nCk"),
        ("8C1x4-4FC", (6, 1, 8), "'8C1x4' .* have an odd width"),
        ("8C2x3-4FC", (6, 1, 8), "'8C2x3' .* is not known; use nCk, AP2, GAP and nFC .* nC1xk and AP1x2"),
        ("8C1x3-AP1x2-8C1x3-AP1x2-4FC", (6, 1, 3), "too small for layout .* at least 6x1x4"),
    ],
)
def test_what_cannot_be_is_one_sentence(name: str, shape: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        networks.build(name, input_shape=shape, classes=3, steps=2)


def test_pools_along_the_width() -> None:
    assert ALONG.out_shape((4, 1, 7)) == (4, 1, 3) and str(ALONG) == "AP1x2" and str(Pool("max", line=True)) == "MP1x2"
    x = torch.rand(2, 4, 3, 7, generator=G)
    assert torch.equal(ALONG(x), F.avg_pool1d(x.flatten(1, 2), 2).view(2, 4, 3, 3))
    wrongs: tuple[dict[str, Any], ...] = ({"padding": 1}, {"size": 0})
    for wrong in wrongs:
        with pytest.raises(ConfigError, match="a pool along the width takes windows of 1 and more without padding"):
            Pool(line=True, **wrong)
    with pytest.raises(ConfigError, match="a map of 1x1 is too small for a pool of 1x2"):
        sized(Graph((Node(name="a", pool=ALONG),), (Edge(INPUT, "a"),), "a"), (4, 1, 1))
