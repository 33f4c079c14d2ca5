"""Subnets: which branches and channels of a supernet stay, as masks over its tensors and as a smaller network.

The supernet under the mask of a choice and the small network of the same choice compute the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.networks.cells import NONE
from spikefed.networks.graph import ANNGraphNetwork, Graph, GraphNetwork, rectified_graph, spiking_graph
from spikefed.networks.layers import PlannedLayer, SpikingLayer
from spikefed.networks.norms import Norm
from spikefed.networks.tensors import load_tensors, state_tensors
from spikefed.networks.zoo.supernets import SUPER, SuperNet, branch_name, parse_supernet


@dataclass(frozen=True)
class Choice:
    """A subnet of a supernet.

    Attributes:
        gates: of every branch, block by block, whether it stays.
        channels: of every channel, whether it stays, everywhere alike: skips and pools join equal channels of blocks.
    """

    gates: tuple[bool, ...]
    channels: tuple[bool, ...]

    @property
    def whole(self) -> bool:
        """Whether nothing is left out."""
        return all(self.gates) and all(self.channels)


@dataclass(frozen=True)
class Space:
    """All subnets of a supernet.

    Attributes:
        rows: codes of the branches of each block.
        sizes: around them.
    """

    rows: tuple[str, ...]
    sizes: SuperNet

    @classmethod
    def of(cls, net: nn.Module) -> Space:
        """The space of a supernet's subnets.

        Raises:
            ConfigError: another network; one that leaves branches out already, or has no norms.
        """
        name = str(getattr(net, "name", type(net).__name__))
        if not isinstance(net, GraphNetwork | ANNGraphNetwork) or not name.startswith(SUPER):
            raise ConfigError(
                f"network '{name}' has no branches to choose from; set network.name = '{SUPER}12334-12334-12334', or "
                "blocks of your own"
            )
        rows, sizes = parse_supernet(name)
        if any(NONE in row for row in rows):
            raise ConfigError(f"network '{name}' leaves branches out already; write the blocks without {NONE}")
        if cast(PlannedLayer, net.get_submodule("stem")).norm is None:
            raise ConfigError(f"branches of '{name}' are weighed by their norms; set network.norm = 'bn', not 'none'")
        return cls(rows, sizes)

    @property
    def blocks(self) -> tuple[int, ...]:
        """Branches of each block."""
        return tuple(len(row) for row in self.rows)

    @property
    def branches(self) -> list[str]:
        """Names of the branches' nodes, block by block: a gate each."""
        return [branch_name(b, p + 1) for b, row in enumerate(self.rows, start=1) for p in range(len(row))]

    @property
    def everything(self) -> Choice:
        """The supernet itself."""
        return Choice((True,) * sum(self.blocks), (True,) * self.sizes.width)

    def name(self, choice: Choice) -> str:
        """The small network as ``network.name`` spells it."""
        gates = iter(choice.gates)
        rows = tuple("".join(code if next(gates) else NONE for code in row) for row in self.rows)
        return replace(self.sizes, width=sum(choice.channels)).spelt(rows)

    def kept(self, tensors: Mapping[str, Tensor], choice: Choice) -> dict[str, Tensor]:
        """Masks of all tensors of the supernet, bool of each one's shape, True where the choice keeps an entry.

        Raises:
            ConfigError: a block without a branch, no channel, or numbers that are not the supernet's.
        """
        self.check(choice)
        gone = [name for name, gate in zip(self.branches, choice.gates, strict=True) if not gate]
        channels = torch.tensor(choice.channels)
        masks = {}
        for name, tensor in tensors.items():
            masks[name] = torch.ones(tensor.shape, dtype=torch.bool)
            if any(name.startswith(f"{branch}.") for branch in gone):
                masks[name].zero_()
            else:
                _narrow(masks[name], name, channels)
        return masks

    def choice(self, kept: Mapping[str, Tensor]) -> Choice:
        """Inverse of `kept`: by the norms, of branches and of the first sum. Shapes are the network's."""
        gates = tuple(bool(kept[f"{branch}.norm.weight"].any()) for branch in self.branches)
        fire = kept["block1.fire.norm.weight"]
        return Choice(gates, tuple(fire.reshape(-1, fire.shape[-1]).any(dim=0).tolist()))

    def check(self, choice: Choice) -> None:
        """Refuse what is no subnet.

        Raises:
            ConfigError: another number of branches or channels, a block without a branch, no channel.
        """
        if len(choice.gates) != sum(self.blocks) or len(choice.channels) != self.sizes.width:
            raise ConfigError(
                f"a choice of {len(choice.gates)} branches and {len(choice.channels)} channels does not fit a supernet "
                f"of {sum(self.blocks)} and {self.sizes.width}; give one of each"
            )
        if empty := empty_blocks(choice.gates, self.blocks):
            raise ConfigError(f"block {empty[0] + 1} has no branch left; keep one in every block")
        if not any(choice.channels):
            raise ConfigError("no channel is left; keep at least one")


def empty_blocks(gates: Sequence[bool], blocks: Sequence[int]) -> list[int]:
    """Blocks, from 0, of which no gate is open."""
    starts = [sum(blocks[:b]) for b in range(len(blocks))]
    return [b for b, start in enumerate(starts) if not any(gates[start : start + blocks[b]])]


def subnet(net: nn.Module, choice: Choice) -> GraphNetwork | ANNGraphNetwork:
    """The small network of a choice, its tensors copied from the supernet; the supernet itself where all stays.

    Raises:
        ConfigError: no supernet, or a choice that does not fit it.
    """
    space = Space.of(net)
    space.check(choice)
    assert isinstance(net, GraphNetwork | ANNGraphNetwork)
    if choice.whole:
        return net
    tensors = state_tensors(net)
    kept = space.kept(tensors, choice)
    small = _built(net, space, choice)
    strangers = {name for name, mask in kept.items() if mask.any()} - state_tensors(small).keys()
    if strangers:
        raise ConfigError(
            f"'{min(strangers)}' is no tensor of a subnet; leave out what '{net.name}' has beside weights and norms, "
            "such as network.thresholds"
        )
    cut = {n: tensors[n][kept[n].to(t.device)].reshape(t.shape) for n, t in state_tensors(small).items()}
    load_tensors(small, cut)
    return small.train(net.training)


@torch.no_grad()
def put_back(net: nn.Module, small: nn.Module, choice: Choice) -> None:
    """Write the small network's tensors over their places in the supernet."""
    if small is net:
        return
    tensors = state_tensors(net)
    kept = Space.of(net).kept(tensors, choice)
    for name, tensor in state_tensors(small).items():
        tensors[name].masked_scatter_(kept[name].to(tensors[name].device), tensor)


def slimmed(net: nn.Module) -> GraphNetwork | ANNGraphNetwork:
    """The small network inside a supernet whose other branches and channels are 0, as a search leaves it.

    >>> from spikefed import networks
    >>> net = networks.build("supernet:123-13:width=4", input_shape=(1, 8, 8), classes=10, steps=2)
    >>> space = networks.Space.of(net)
    >>> choice = networks.Choice((False, True, False, True, True), (True, True, False, True))
    >>> tensors = networks.copy_tensors(net)
    >>> kept = space.kept(tensors, choice)
    >>> networks.load_tensors(net, {name: tensor * kept[name] for name, tensor in tensors.items()})
    >>> networks.slimmed(net).name
    'supernet:020-13:width=3'

    Raises:
        ConfigError: no supernet, or nothing of a block is left.
    """
    found = Space.of(net).choice({name: tensor != 0 for name, tensor in state_tensors(net).items()})
    return subnet(net, found)


def _narrow(mask: Tensor, name: str, channels: Tensor) -> None:
    """False, in place, where an entry belongs to a channel that goes: ``mask`` of the tensor's shape, channels [C]."""
    everybody = (".num_batches_tracked", ".log_threshold")  # the latter is refused by `subnet`
    if name.endswith(everybody) or (name.startswith("fc.") and name != "fc.weight"):
        return
    if name == "fc.weight":
        mask[:, ~channels.repeat_interleave(mask.shape[1] // len(channels))] = False
    elif ".norm." in name:
        mask[..., ~channels] = False
    else:
        mask[~channels] = False
        if mask.dim() > 1 and not name.startswith("stem."):
            mask[:, ~channels] = False


def _built(net: GraphNetwork | ANNGraphNetwork, space: Space, choice: Choice) -> GraphNetwork | ANNGraphNetwork:
    """The small network, weights 0; norms with the factors that they have among all branches."""
    stays = dict(zip(space.branches, choice.gates, strict=True))
    width = sum(choice.channels)
    nodes = [
        replace(node, features=width) if node.weights == "conv" else node
        for node in net.graph.nodes
        if stays.get(node.name, True)
    ]
    edges = [e for e in net.graph.edges if stays.get(e.source, True) and stays.get(e.target, True)]
    graph = Graph(tuple(nodes), tuple(edges), net.graph.output)
    stem = cast(SpikingLayer, net.get_submodule("stem"))
    mode = cast(Norm, stem.norm).mode
    name = space.name(choice)
    if isinstance(net, ANNGraphNetwork):
        return rectified_graph(name, graph, net.input_shape, norm=mode).to(stem.weight.device)
    assert stem.neuron is not None
    settings = {"norm": mode, "neuron": stem.neuron, "steps": net.steps, "encoder": net.encoder}
    small = spiking_graph(name, graph, net.input_shape, **settings)
    for node in nodes:
        made = cast(PlannedLayer, small.get_submodule(node.name)).norm
        whole = cast(PlannedLayer, net.get_submodule(node.name)).norm
        if made is not None and whole is not None:
            made.alpha = whole.alpha
    small.precision = net.precision
    return small.to(stem.weight.device)
