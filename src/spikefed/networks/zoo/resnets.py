"""Residual networks: the neurons stand behind the sum of a block's two branches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from spikefed.networks.graph import INPUT, Graph, Node
from spikefed.networks.graph.draw import Drawing
from spikefed.networks.pools import Pool
from spikefed.networks.zoo.info import NetworkInfo, Wanted, own_info
from spikefed.networks.zoo.rows import SERIES_NEURON, SMALL_NEURON, TICKET_NEURON, check_line


def resnet(
    stem: int, stages: tuple[tuple[int, int, int], ...], hidden: int | None = None, line: bool = False
) -> Callable[[Wanted], Graph]:
    """A drawing of blocks of two convolutions, after He et al. (2016) with the neurons of Zheng et al. (2021).

    Args:
        stem: channels of the first convolution.
        stages: channels, blocks, and stride of the first block, of every stage. Where strides take the place of pools,
            every stage has a stride of 2 and the last map is flattened, not averaged.
        hidden: features of a hidden linear layer; None for none.
        line: convolutions are 1-d, along the width.
    """

    def draw(wanted: Wanted) -> Graph:
        if line:
            check_line("resnet-1d", wanted.input_shape)
        drawing = Drawing()
        conv = Node(name="stem", weights="conv", features=stem, norm=True, neuron=True, line=line)
        at = drawing.add(conv, INPUT)
        entering = stem
        strided = wanted.pooling == "stride"
        for number, (channels, blocks, stride) in enumerate(stages, 1):
            for index in range(1, blocks + 1):
                last = number == len(stages) and index == blocks
                pool = Pool(size=0) if last and not strided else None
                step = 1 if index > 1 else 2 if strided else stride
                wide = replace(conv, features=channels, stride=step)
                at = _block(drawing, f"stage{number}.block{index}", at, entering, wide, pool)
                entering = channels
        if hidden is not None:
            at = drawing.add(Node(name="fc1", weights="linear", features=hidden, neuron=True), at)
        return drawing.graph(drawing.add(readout("fc1" if hidden is None else "fc2", wanted), at))

    return draw


def readout(name: str, wanted: Wanted) -> Node:
    """The linear layer that gives a number for every class."""
    normed = wanted.spiking and wanted.normed_readout
    return Node(name=name, weights="linear", features=wanted.classes, norm=normed, neuron=wanted.spiking)


def _block(drawing: Drawing, name: str, at: str, entering: int, conv: Node, pool: Pool | None) -> str:
    """Two convolutions and the sum with what entered.

    Args:
        drawing: to add to.
        name: of the block.
        at: what enters.
        entering: its channels.
        conv: the first convolution, but for its name.
        pool: behind the sum, or None.
    """
    first = drawing.add(replace(conv, name=f"{name}.conv1"), at)
    branch = drawing.add(replace(conv, name=f"{name}.conv2", stride=1, neuron=False), first)
    if conv.stride != 1 or entering != conv.features:
        at = drawing.add(replace(conv, name=f"{name}.shortcut", kernel=1, neuron=False), at)
    return drawing.add(Node(name=f"{name}.sum", neuron=True, pool=pool), branch, at)


RESNETS = (
    NetworkInfo(
        name="resnet19",
        summary="ResNet19 of the lottery tickets: stages of 128, 256, 512 channels (12.6 M weights at 3x32x32)",
        source="Kim et al., ECCV 2022; Zheng et al., AAAI 2021",
        layout=None,
        neuron=TICKET_NEURON,
        norm="bn",
        coding="direct",
        bias="auto",
        readout_norm=True,
        xavier_gain=None,
        pixels="standard",
        graph=resnet(64, ((128, 3, 2), (256, 3, 2), (512, 2, 2)), hidden=256),
    ),
    NetworkInfo(
        name="resnet19-wide",
        summary="ResNet19 of temporal information: stages of 256, 512, 512 channels (26.1 M weights at 3x32x32)",
        source="Kim et al., AAAI 2023",
        layout=None,
        neuron=replace(TICKET_NEURON, decay=0.5, gain=0.5),  # tau = 2
        norm="bn",
        coding="direct",
        bias="auto",
        readout_norm=True,
        xavier_gain=None,
        pixels="standard",
        graph=resnet(128, ((256, 3, 2), (512, 3, 2), (512, 2, 2))),
    ),
    own_info(
        name="resnet-small",
        summary="residual network under 300,000 weights: stages of 16, 32, 64 channels, two blocks each",
        neuron=SMALL_NEURON,
        graph=resnet(16, ((16, 2, 1), (32, 2, 2), (64, 2, 2))),
    ),
    own_info(
        name="resnet-1d",
        summary="residual network of 1-d convolutions along the samples of a time step: 16, 32, 64 channels",
        neuron=SERIES_NEURON,
        graph=resnet(16, ((16, 1, 1), (32, 1, 2), (64, 1, 2)), line=True),
    ),
)
