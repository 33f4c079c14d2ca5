"""Tables of the network: its neurons, parts of each task, how images enter it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from spikefed.experiment.config.section import SINCE_02, Section
from spikefed.networks import Adapter


class NeuronConfig(Section):
    """The neuron of every spiking layer; a key that is absent takes the network's own."""

    kind: Literal["hard", "soft"] | None = Field(
        default=None, description="reset to zero [DTSNN] or by subtraction [V-SNN]"
    )
    decay: float | None = Field(
        default=None, ge=0, le=1, description="factor on the membrane per step [FSD: 0.1; V-SNN: 0.95]"
    )
    threshold: float | None = Field(default=None, gt=0, description="firing threshold [FSD: 0.25; V-SNN: 1]")
    strict: bool | None = Field(default=None, description="fire at u > theta; false: u >= theta")
    surrogate: str | None = Field(
        default=None, description="rectangle[:width=..], triangle[:gamma=..,width=..] or atan[:alpha=..]"
    )
    detach_reset: bool | None = Field(default=None, description="no gradient through the reset")
    start: float | None = Field(
        default=None,
        ge=0,
        le=1,
        json_schema_extra=SINCE_02,
        description="potential before the first step as a share of the threshold; converted networks have 0.5",
    )


class AdapterConfig(Section):
    """Parts of each task in a frozen network (docs/continual.md), for method ``adapters``."""

    kinds: list[Adapter] = Field(
        default=[],
        description="thresholds, bn, head, low-rank, proxy1x1, or mime of an ANN twin: what a task has of its own",
    )
    per: Literal["layer", "channel", "neuron"] = Field(default="channel", description="what has a threshold of its own")
    rank: int = Field(default=2, ge=1, le=1024, description="of 'low-rank'")
    skips: int = Field(
        default=3,
        ge=1,
        le=8,
        json_schema_extra=SINCE_02,
        description="of 'proxy1x1': from how many blocks before proxies come [NetTailor: 3]",
    )
    tasks: int | None = Field(default=None, ge=1, description="how many; default: those of [stages], else 1")
    outputs: list[list[int]] | None = Field(
        default=None, description="outputs of each task's head; default: those of [stages], else all"
    )


class NetworkConfig(Section):
    """The network and how images enter it."""

    name: str = Field(
        default="small",
        description="network (see 'spikefed list networks'), a layout (of a named network's kind: 'vgg16:40C3-60C3'), "
        "or your own: module:name",
    )
    twin: Literal["snn", "ann"] = Field(
        default="snn", description="'ann': same layers with ReLU, one step; FedAvg only"
    )
    steps: int = Field(default=8, ge=1, le=64, description="time steps T [FSD: 8]")
    norm: Literal["none", "bn", "tdbn", "bntt", "bn-step"] | None = Field(
        default=None, description="normalisation; default: the network's"
    )
    coding: Literal["direct", "bernoulli", "poisson", "latency", "delta"] | None = Field(
        default=None,
        description="input coding; default: the network's; 'latency': each pixel fires once, the brighter the earlier; "
        "'delta' spikes where a series has moved by 'network.delta'",
    )
    delta: float = Field(
        default=0.5,
        gt=0,
        json_schema_extra=SINCE_02,
        description="coding 'delta': change of the network's input that gives a spike",
    )
    readout: Literal["spike", "current"] = Field(
        default="spike", description="output spikes, or the last layer's currents"
    )
    neuron: NeuronConfig | None = Field(default=None, description="neuron of every layer; default: the network's")
    thresholds: Literal["layer", "channel"] | None = Field(
        default=None,
        json_schema_extra=SINCE_02,
        description="thresholds that training learns, of role neuron: one for each 'layer' or 'channel'; default: "
        "fixed ones",
    )
    qcfs: int | None = Field(
        default=None,
        ge=1,
        le=64,
        json_schema_extra=SINCE_02,
        description="of an ANN twin that will be converted: activations with so many steps and a learnt threshold in "
        "place of ReLU (Bu et al. 2022), for 'spikefed convert --recipe qcfs'; default: ReLU",
    )
    precision: Literal["float32", "bfloat16", "auto"] = Field(
        default="float32",
        description="type of products and activations; 'auto': the faster one on this machine, which the run records",
    )
    pooling: Literal["average", "max", "stride"] | None = Field(
        default=None,
        description="what makes maps smaller; 'stride': strides of 2 in convolutions; default: the network's",
        json_schema_extra={"since": "0.2"},
    )
    state: Literal["clear", "keep"] = Field(
        default="clear",
        description="hidden state of your own network: cleared around every batch, or kept from batch to batch within "
        "a participant's step",
        json_schema_extra={"since": "0.2"},
    )
    clients: list[str] = Field(
        default=[],
        json_schema_extra=SINCE_02,
        description="names of the clients' own networks, dealt out in turn, for methods that exchange no weights; "
        "'name' is then the server's; default: all have that",
    )
    adapters: AdapterConfig = Field(
        default=AdapterConfig(),
        json_schema_extra=SINCE_02,
        description="parts of each task in a network that is frozen but for them",
    )
    start: str | None = Field(
        default=None,
        json_schema_extra=SINCE_02,
        description="begin from a trained network: a finished run's folder, RUN@ROUND while that checkpoint is kept, "
        "or a model.safetensors; default: fresh weights",
    )
    start_roles: str | list[str] = Field(
        default="all",
        json_schema_extra=SINCE_02,
        description='"all", or roles of the tensors that are taken from \'start\', such as ["weight", "neuron"]; the '
        "others, and a head of other classes, begin anew",
    )
