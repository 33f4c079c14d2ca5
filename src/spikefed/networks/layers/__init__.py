"""The one block that all networks are made of: weights, normalisation, neurons (or ReLU), pool; each may be absent."""

from spikefed.networks.layers.chained import chained, links_of, watched
from spikefed.networks.layers.planned import Moment, PlannedLayer, Product, WeightedLayer
from spikefed.networks.layers.relu import ReLULayer, ReLUPass
from spikefed.networks.layers.spiking import PassLayer, SpikingLayer
from spikefed.networks.layers.tailored import idle_places, is_block, proxies_of, tailored, through

__all__ = [
    "Moment",
    "PassLayer",
    "PlannedLayer",
    "Product",
    "ReLULayer",
    "ReLUPass",
    "SpikingLayer",
    "WeightedLayer",
    "chained",
    "idle_places",
    "is_block",
    "links_of",
    "proxies_of",
    "tailored",
    "through",
    "watched",
]
