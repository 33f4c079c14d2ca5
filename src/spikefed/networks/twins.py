"""The ReLU twin of a spiking network that exists, on the same tensors: who trains one trains the other."""

from __future__ import annotations

from torch import nn

from spikefed.errors import ConfigError
from spikefed.networks.graph.build import forward_part
from spikefed.networks.graph.network import ANNGraphNetwork, GraphNetwork
from spikefed.networks.layers import PassLayer, ReLULayer, ReLUPass, SpikingLayer
from spikefed.networks.network import ANNNetwork, SpikingNetwork
from spikefed.networks.norms import Norm


def relu_view(net: nn.Module) -> ANNNetwork:
    """The network with ReLU for its neurons, on the very parameters and statistics of ``net``.

    Its readout gives currents. Normalisations keep their tensors and run over images alone.

    Raises:
        ConfigError: a network that is not of the zoo, or whose normalisation has a set of tensors a time step.
    """
    if not isinstance(net, SpikingNetwork):
        raise ConfigError(
            "only a spiking network of the zoo has a ReLU twin; take one, or search on the network itself"
        )
    if isinstance(net, GraphNetwork):
        graph = forward_part(net.graph)
        layers = {
            n.name: _rectified(net.get_submodule(n.name), n.neuron and n.name != graph.output) for n in graph.nodes
        }
        return ANNGraphNetwork(net.name, net.input_shape, graph, layers)
    rows = [_rectified(layer, layer is not net.layers[-1]) for layer in net.layers]
    return ANNNetwork(net.name, net.input_shape, [row for row in rows if isinstance(row, ReLULayer)])


def _rectified(layer: nn.Module, rectify: bool) -> ReLULayer | ReLUPass:
    assert isinstance(layer, (SpikingLayer, PassLayer))
    norm = layer.norm if isinstance(layer.norm, Norm) else None
    if norm is not None and norm.steps is not None:
        raise ConfigError(
            f"normalisation '{norm.mode}' has tensors for every time step, and a ReLU twin has one step; use bn or tdbn"
        )
    if isinstance(layer, PassLayer):
        return ReLUPass(layer.plan, norm=norm, rectify=rectify, dropout=layer.dropout)
    made = ReLULayer(layer.plan, bias=False, norm=norm, rectify=rectify, dropout=layer.dropout)
    made.weight = layer.weight
    made.bias = layer.bias
    return made
