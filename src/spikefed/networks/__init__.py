"""Spiking networks: a zoo built from one block, their ANN twins, state roles, sizes and costs."""

from spikefed.networks.layers import SpikingLayer
from spikefed.networks.network import ANNNetwork, SpikingNetwork
from spikefed.networks.norms import NORMS, Norm
from spikefed.networks.roles import Role, is_role, roles, state_bytes
from spikefed.networks.zoo import NetworkInfo, ann_twin, build, networks

__all__ = [
    "ANNNetwork",
    "NORMS",
    "NetworkInfo",
    "Norm",
    "Role",
    "SpikingLayer",
    "SpikingNetwork",
    "ann_twin",
    "build",
    "is_role",
    "networks",
    "roles",
    "state_bytes",
]
