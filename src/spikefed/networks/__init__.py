"""Spiking networks: a zoo built from one block, their ANN twins, state roles, sizes and costs."""

from spikefed.networks import cells
from spikefed.networks.adapter import WrappedNetwork, wrap
from spikefed.networks.adapters import (
    AdapterRow,
    adapt,
    adapter_rows,
    check_frozen,
    kinds_of,
    low_thresholds,
    renew_parts,
    select_task,
    tasks_of,
    without_parts,
)
from spikefed.networks.describe import Description, LayerRow, describe
from spikefed.networks.explain import LayerPath, explain
from spikefed.networks.fanout import as_input, by_input, fan_out, geometry, weight_of, weighted
from spikefed.networks.graph import Edge, Graph, GraphNetwork, Node
from spikefed.networks.layers import PassLayer, SpikingLayer
from spikefed.networks.monitor import FiringRateMonitor, firing_rates
from spikefed.networks.narrow import Row, living_channels, narrowed
from spikefed.networks.network import ANNNetwork, SpikingNetwork
from spikefed.networks.norms import NORMS, Norm
from spikefed.networks.own import Own, build_own
from spikefed.networks.parts import Adapter, Per
from spikefed.networks.persample import PerSample, per_sample, unknown_parameters
from spikefed.networks.pools import Pool
from spikefed.networks.promises import check_promises
from spikefed.networks.qcfs import QCFS, quantise
from spikefed.networks.roles import Role, is_role, roles, state_bytes
from spikefed.networks.subnets import Choice, Space, empty_blocks, put_back, slimmed, subnet
from spikefed.networks.tailor import TaskSize, Way, block_outputs, dropped, expected_complexity, task_size, ways
from spikefed.networks.tensorfile import NamedTensors, read_tensors, write_tensors
from spikefed.networks.tensors import copy_tensors, load_tensors, norm, retie, state_tensors, ties
from spikefed.networks.thresholds import Thresholds, learn_thresholds, learns_thresholds
from spikefed.networks.twins import relu_view
from spikefed.networks.zeros import zero_shares
from spikefed.networks.zoo import NetworkInfo, ann_twin, build, initialise_by_place, network_info, networks

__all__ = [
    "ANNNetwork",
    "Adapter",
    "Row",
    "as_input",
    "by_input",
    "fan_out",
    "geometry",
    "living_channels",
    "narrowed",
    "weight_of",
    "weighted",
    "AdapterRow",
    "Per",
    "adapt",
    "adapter_rows",
    "check_frozen",
    "kinds_of",
    "low_thresholds",
    "renew_parts",
    "select_task",
    "tasks_of",
    "TaskSize",
    "Way",
    "block_outputs",
    "dropped",
    "expected_complexity",
    "task_size",
    "ways",
    "Choice",
    "Description",
    "Edge",
    "FiringRateMonitor",
    "Graph",
    "GraphNetwork",
    "LayerPath",
    "LayerRow",
    "NORMS",
    "NamedTensors",
    "NetworkInfo",
    "Node",
    "Norm",
    "Own",
    "PassLayer",
    "PerSample",
    "Pool",
    "QCFS",
    "Role",
    "Space",
    "SpikingLayer",
    "SpikingNetwork",
    "Thresholds",
    "WrappedNetwork",
    "ann_twin",
    "build",
    "build_own",
    "cells",
    "check_promises",
    "copy_tensors",
    "describe",
    "empty_blocks",
    "explain",
    "firing_rates",
    "initialise_by_place",
    "is_role",
    "learn_thresholds",
    "learns_thresholds",
    "load_tensors",
    "network_info",
    "networks",
    "norm",
    "per_sample",
    "put_back",
    "quantise",
    "read_tensors",
    "relu_view",
    "retie",
    "roles",
    "slimmed",
    "state_bytes",
    "state_tensors",
    "subnet",
    "ties",
    "unknown_parameters",
    "without_parts",
    "wrap",
    "write_tensors",
    "zero_shares",
]
