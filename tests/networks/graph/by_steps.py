"""A graph network as a plain loop over time, in torch operations alone: what the fast execution is held against."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from spikefed.networks import Graph, GraphNetwork, Node, SpikingLayer, SpikingNetwork
from spikefed.networks.graph import INPUT, forward_part, in_order
from spikefed.networks.graph.draw import Drawing
from spikefed.neurons import spike


def by_steps(net: SpikingNetwork, x: Tensor, margins: list[float] | None = None) -> Tensor:
    """Outputs ``[T, B, classes]``; every node of every step in turn, statistics those of the step when training.

    What depends on the image alone (direct coding) is computed at every step, too, but its statistics count once.

    Args:
        margins: takes how near each layer's potentials come to the threshold.
    """
    margins = [] if margins is None else margins
    graph = drawing_of(net)
    still = still_nodes(graph)
    before: dict[str, Tensor] = {}
    potentials: dict[str, Tensor] = {}
    outputs = []
    for step in range(net.steps):
        now = {INPUT: x}
        for node in in_order(graph):
            layer = net.get_submodule(node.name)
            entering = [
                (before if edge.back else now)[edge.source]
                for edge in graph.into(node.name)
                if not (edge.back and step == 0)
            ]
            y = sum(entering) if entering else x.new_zeros(len(x), *layer.plan.in_shape)
            y = weighted(layer, y)
            if node.name in still and step > 0:
                now[node.name] = before[node.name]
                continue
            if layer.norm is not None:
                y = normalised(layer.norm, y, step)
            if layer.neuron is not None:
                y, potentials[node.name] = fired(layer.neuron, y, potentials.get(node.name), margins)
            if layer.plan.pool:
                y = pooled(layer.plan.window, y)
            now[node.name] = y
        outputs.append(now[graph.output])
        before = now
    return torch.stack(outputs)


def by_layers(net: SpikingNetwork, x: Tensor, margins: list[float] | None = None) -> Tensor:
    """The same node after node, for norms whose statistics are those of all steps together; no way back in time."""
    graph, margins = drawing_of(net), [] if margins is None else margins
    values = {INPUT: [x] * net.steps}
    for node in in_order(graph):
        layer = net.get_submodule(node.name)
        sources = [values[edge.source] for edge in graph.into(node.name)]
        currents = [weighted(layer, sum(maps)) for maps in zip(*sources, strict=True)]
        if layer.norm is not None:
            norm = layer.norm
            gain = norm.weight * norm.alpha * layer.neuron.v_threshold if norm.mode == "tdbn" else norm.weight
            joined = F.batch_norm(
                torch.cat(currents), norm.running_mean, norm.running_var, gain, norm.bias, norm.training,
                norm.momentum, norm.eps,
            )  # fmt: skip
            currents = list(joined.chunk(net.steps))
        potential, outputs = None, []
        for y in currents:
            if layer.neuron is not None:
                y, potential = fired(layer.neuron, y, potential, margins)
            outputs.append(pooled(layer.plan.window, y) if layer.plan.pool else y)
        values[node.name] = outputs
    return torch.stack(values[graph.output])


def drawing_of(net: SpikingNetwork) -> Graph:
    """The network's graph; a row of layers as one."""
    if isinstance(net, GraphNetwork):
        return net.graph
    drawing, at = Drawing(), INPUT
    for layer in net.layers:
        at = drawing.add(Node(name=layer.plan.name, neuron=layer.neuron is not None), at)
    return drawing.graph(at)


def still_nodes(graph: Graph) -> set[str]:
    """Nodes without neurons that only the image leads to."""
    found = {INPUT}
    for node in in_order(graph):
        edges = graph.into(node.name)
        if not node.neuron and all(edge.source in found and not edge.back for edge in edges):
            found.add(node.name)
    return found


def weighted(layer, y: Tensor) -> Tensor:
    plan = layer.plan
    if plan.kind == "conv":
        return F.conv2d(y, layer.weight, layer.bias, stride=plan.stride, padding=plan.kernel // 2)
    if plan.kind == "linear":
        return F.linear(y.flatten(1), layer.weight, layer.bias)
    if plan.map_shape == plan.in_shape:
        return y
    return F.avg_pool1d(y.unsqueeze(1), plan.in_shape[0] // plan.map_shape[0]).squeeze(1)


def normalised(norm, y: Tensor, step: int) -> Tensor:
    """One BatchNorm called at every step; BNTT has one for each."""
    tensors = [norm.running_mean, norm.running_var, norm.weight, norm.bias]
    if norm.mode == "bntt":
        tensors = [None if t is None else t[step] for t in tensors]
    return F.batch_norm(y, *tensors, norm.training, norm.momentum, norm.eps)


def fired(p, x: Tensor, v: Tensor | None, margins: list[float]) -> tuple[Tensor, Tensor]:
    """Charge, fire, reset."""
    u = p.gain * x + (0 if v is None else p.decay * v)
    distance = u - p.v_threshold if p.kind == "hard" else u / p.v_threshold - 1
    margins.append(float(distance.detach().abs().min()))
    o = spike(distance, p)
    reset = o.detach() if p.detach_reset else o
    return o, u * (1 - reset) if p.kind == "hard" else u - p.v_threshold * reset


def pooled(pool, y: Tensor) -> Tensor:
    run = F.avg_pool2d if pool.kind == "average" else F.max_pool2d
    return run(y, pool.size or y.shape[2:], pool.stride or pool.size or 1, pool.padding)


def clear_images(net: SpikingNetwork, reference: Callable = by_steps, batch: int = 5) -> Tensor:
    """Images for which no potential lies within rounding of the threshold, so that float32 spikes as float64 does."""
    for seed in range(50):
        x = torch.rand(batch, *net.input_shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        margins: list[float] = []
        with torch.no_grad():
            reference(copy.deepcopy(net).double(), x, margins)
        if min(margins) > 4e-6:
            return x
    raise AssertionError("no images keep clear of the threshold")


def assert_equals_loop(
    net: SpikingNetwork, reference: Callable = by_steps, batch: int = 5, *, exact: bool = False
) -> None:
    """Outputs, gradients and running statistics of the network and of the loop over time, to 1e-5.

    Args:
        exact: in float64 alone, for networks of so many neurons that one always stands on the threshold.
    """
    x = torch.rand(batch, *net.input_shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    x = x if exact else clear_images(net, reference, batch)
    for dtype in (torch.float64,) if exact else (torch.float64, torch.float32):
        fast, slow = copy.deepcopy(net).to(dtype), copy.deepcopy(net).double()
        out, wanted = fast(x.to(dtype)), reference(slow, x)
        assert out.shape == wanted.shape and wanted.abs().sum() > 0  # not silent
        torch.testing.assert_close(out.double(), wanted, rtol=1e-5, atol=1e-5)
        mix = torch.rand(wanted.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
        (out * mix).sum().backward()
        (wanted * mix).sum().backward()
        largest = max(float(q.grad.abs().max()) for q in slow.parameters() if q.grad is not None)
        for (name, p), q in zip(fast.named_parameters(), slow.parameters(), strict=True):
            found, told = (torch.zeros_like(r) if r.grad is None else r.grad for r in (p, q))
            assert told.any() or (net.steps == 1 and name in _after_one_step(net)), name
            # A shift before batch statistics has no gradient but the rounding of large sums that cancel.
            scale = max((0.1 if dtype == torch.float32 else 1e-3) * largest, float(told.abs().max()))
            torch.testing.assert_close(found.double() / scale, told / scale, rtol=1e-5, atol=1e-5, msg=name)
        for (name, p), q in zip(fast.named_buffers(), slow.buffers(), strict=True):
            if p.is_floating_point():
                torch.testing.assert_close(p.double(), q, rtol=1e-5, atol=1e-5, msg=name)


def _after_one_step(net: SpikingNetwork) -> set[str]:
    """Parameters that only a way backward in time leads on from: a single step does not need them."""
    graph = drawing_of(net)
    kept = {node.name for node in forward_part(graph).nodes}
    return {name for name, _ in net.named_parameters() if not any(name.startswith(f"{node}.") for node in kept)}


def settled(net: SpikingNetwork) -> SpikingNetwork:
    """With weights that make it spike, statistics away from their first values, and torch's plain momentum."""
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for layer in net.places:
            if isinstance(layer, SpikingLayer):
                quiet = float(layer.weight.std()) < 0.011  # SNASNet's linear layers start at 0.01
                layer.weight.mul_(100 if quiet else 2)
            if layer.norm is not None:
                layer.norm.warm_up = False
                for tensor in (layer.norm.weight, layer.norm.bias, layer.norm.running_var):
                    if tensor is not None:
                        tensor.uniform_(0.4, 1.2, generator=draw)
                layer.norm.running_mean.uniform_(-0.3, 0.3, generator=draw)
    return net
