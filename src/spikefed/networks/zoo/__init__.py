"""Named networks and how to build them: a file for each family."""

from spikefed.networks.zoo.build import ann_twin, build, network_info, networks
from spikefed.networks.zoo.info import NetworkInfo
from spikefed.networks.zoo.snasnets import initialise_by_place

__all__ = ["NetworkInfo", "ann_twin", "build", "initialise_by_place", "network_info", "networks"]
