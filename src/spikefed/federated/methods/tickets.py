"""Lottery tickets of spiking networks: Kim et al., "Exploring Lottery Ticket Hypothesis in Spiking Neural Networks",
ECCV 2022; pooled as in the paper, federated with rounds for its epochs.

The server finds every mask, from the aggregated weights; clients train under the mask and send what it leaves. With
`personal_masks` every client finds its own (`ownmasks`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.federated import averaging, ownmasks, ticketcosts, ticketsearch
from spikefed.federated.averaging import Downlink, Uplink
from spikefed.federated.contract import (
    ClientContext,
    ClientReport,
    Context,
    Diagnostics,
    Hyperparameters,
    Labelled,
    MessageKind,
    NetworkFactory,
    State,
)
from spikefed.federated.fewsteps import cut_images, shortened
from spikefed.federated.local import label_gradient, train_locally
from spikefed.federated.messages import from_wire
from spikefed.federated.methods.fedavg import FedAvg, FedAvgHyperparameters
from spikefed.federated.setup import Setup
from spikefed.federated.stages import NOTE, Note, program, total_rounds
from spikefed.federated.ticketchecks import (
    PRUNING,
    UNTRAINED,
    check_early,
    check_loss,
    check_network,
    check_rewind,
    check_used,
)
from spikefed.federated.traffic import Exchange
from spikefed.networks import Row, relu_view
from spikefed.networks.roles import prunable
from spikefed.training import Mask, density, optimiser, schedule, too_sparse

FEEDBACK = ("stc", "topk")


class TicketHyperparameters(FedAvgHyperparameters):
    """Hyperparameters of the search beside those of averaging and of local training."""

    local_epochs: int = Field(default=1, ge=0, description="epochs on private data per round [paper: a round is one]")
    search: Literal["imp", "early-bird", "one-shot", "snip", "random"] = Field(
        default="imp", description="iterative magnitude pruning, Early-Bird, or the baselines"
    )
    criterion: Literal["magnitude", "spikes", "loss", "operations"] = Field(
        default="magnitude",
        description="|w|, |w| times the mean input of the synapse, the rise of the loss without it, or that for each "
        "synaptic operation saved [Shi et al. 2024: operations in the objective]; all but |w| on public images",
    )
    units: Literal["weights", "channels"] = Field(
        default="weights",
        description="what goes: single weights [paper], or whole channels with all that reads them",
    )
    most_operations: float = Field(
        default=0.0,
        ge=0,
        le=100,
        description="criterion 'operations' of weights: least loss for at most this many times the operations that the "
        "same number of weights by magnitude causes, at the rates measured; 0: by loss for each operation instead",
    )
    keep_channels: float = Field(
        default=0.1, ge=0, le=1, description="of 'channels': share of its channels that every layer keeps at least"
    )
    personal_masks: bool = Field(
        default=False,
        description="every client finds masks of its own in what it trained on its own data, and each weight is the "
        "mean over those who hold it [LotteryFL]",
    )
    prune: float = Field(default=0.25, gt=0, lt=1, description="share of what is left that a level takes [paper: 0.25]")
    levels: int = Field(default=8, ge=1, le=100, description="how often it does [paper: 14]")
    sparsities: list[float] = Field(
        default=[], description="sparsities of the levels, rising in (0, 1), instead of 'prune' and 'levels'"
    )
    level_rounds: int = Field(default=10, ge=1, description="rounds of one training [paper: 150 or 300 epochs]")
    search_rounds: int = Field(
        default=0, ge=0, description="rounds of the dense training that finds masks, at most; 0: as 'level_rounds'"
    )
    restart: Literal["rewind", "initial", "keep"] = Field(
        default="rewind", description="weights after a pruning: those stored early [paper], the first, or as they are"
    )
    rewind_round: int = Field(default=1, ge=0, description="round whose weights are stored [paper: epoch 20]")
    early_time: bool = Field(default=False, description="search with T_early time steps, train tickets with all")
    probe_rounds: int = Field(
        default=2, ge=1, description="N: dense rounds with all time steps before T_early is chosen [paper: 2]"
    )
    early_probe: Literal["within", "before"] = Field(
        default="within",
        description="these rounds are the first of the search's dense training, or a training 'before' it that is "
        "thrown away [paper]",
    )
    kl_threshold: float = Field(
        default=0.6, gt=0, le=1, description="lambda: T_early is where Dhat_t < it [paper: 0.6]"
    )
    masks: int = Field(default=5, ge=2, description="q: masks that Early-Bird compares [paper: 5]")
    mask_distance: float = Field(
        default=0.02, gt=0, lt=1, description="largest distance of a stable mask [paper: 0.02]"
    )
    search_on: Literal["snn", "ann"] = Field(
        default="snn", description="search on the network itself, or on its ReLU twin [paper: ANN transfer]"
    )
    lr_schedule: Literal["cosine", "constant"] = Field(
        default="cosine", description="learning rate within a stage, one step a round [paper: cosine]"
    )
    lr_floor: float = Field(default=0.01, ge=0, le=1, description="share of 'lr' at the end of a cosine [code: 0.01]")
    search_lr_factor: float = Field(
        default=1.0, gt=0, le=10, description="learning rate of a dense search over that of tickets [code, EB: 2]"
    )

    @field_validator("sparsities")
    @classmethod
    def _rising(cls, value: list[float]) -> list[float]:
        if any(not 0 < s < 1 for s in value) or sorted(set(value)) != value:
            raise ValueError("give sparsities that rise within (0, 1), such as [0.5, 0.8, 0.9]")
        return value

    @property
    def targets(self) -> list[float]:
        """Sparsity of every level, from level 1."""
        return self.sparsities or schedule(self.prune, self.levels)


@dataclass(frozen=True)
class TicketContext(ClientContext):
    """A client's context in a stage."""

    note: Note


class Tickets(FedAvg):
    """FedAvg under masks that a search finds; every sparsity of the schedule is trained once, in one run."""

    name: ClassVar[str] = "tickets"
    title: ClassVar[str] = "Tickets"
    summary: ClassVar[str] = "searches sparse networks by pruning; clients train and send what is left"
    hyperparameters: ClassVar[type[Hyperparameters]] = TicketHyperparameters
    uplink_kind: ClassVar[MessageKind | None] = "selected-weights"
    downlink_kind: ClassVar[MessageKind | None] = "selected-weights"

    def maskable(self, hyper: Any, networks: NetworkFactory) -> frozenset[str]:
        """Weights of convolutions and linear layers, the first and the last too.

        Biases and normalisations go only where a whole channel does.
        """
        if hyper.units == "channels":
            row = Row.of(networks.network)
            if wrong := too_sparse(row, hyper.targets[-1], hyper.keep_channels):
                raise ConfigError(wrong)
            return frozenset(row.shapes)
        return prunable(networks.initial(), networks.roles)

    def message_sizes(self, hyper: Any, networks: NetworkFactory, rounds: int) -> list[float]:
        """The maskable share shrinks by the sparsity of each stage; no search is taken to end before its rounds."""
        shapes = networks.initial()
        maskable = sum(shapes[name].numel() for name in self.maskable(hyper, networks))
        share = maskable / sum(tensor.numel() for tensor in shapes.values())
        sparsities = [0.0, *hyper.targets]
        sizes = [1 - share * sparsities[stage.level] for stage in program(hyper) for _ in range(stage.rounds)]
        return (sizes + sizes[-1:] * rounds)[:rounds]

    def check(self, hyper: Any, setup: Setup) -> None:
        super().check(hyper, setup)
        needed = total_rounds(program(hyper))
        if setup.rounds and setup.rounds < needed:
            raise ConfigError(
                f"this search takes {needed} rounds ({len(hyper.targets)} sparsities of {hyper.level_rounds} rounds "
                f"each, and what finds them) but the run has {setup.rounds}; set rounds = {needed}, or fewer levels"
            )
        check_rewind(hyper)
        if hyper.send != "all":
            raise ConfigError("tickets are found from all weights; leave out method.send")
        if hyper.payload_down != "weights":
            raise ConfigError("a rewound network is no small change; leave method.payload_down at 'weights'")
        if setup.codecs.get("weights_up", "").startswith(FEEDBACK):
            raise ConfigError(
                f"'wire.weights_up' = '{setup.codecs['weights_up']}' remembers what it has not sent, which a rewind "
                "makes wrong; use float32, fp16, qsgd or cosine"
            )
        if hyper.search in UNTRAINED and (hyper.criterion, hyper.units) != ("magnitude", "weights"):
            raise ConfigError(
                f"search = '{hyper.search}' has a criterion of its own, for single weights; leave out method.criterion "
                "and method.units, or take search = 'imp', 'one-shot' or 'early-bird'"
            )
        if hyper.most_operations and (hyper.criterion, hyper.units) != ("operations", "weights"):
            raise ConfigError(
                "method.most_operations bounds criterion = 'operations' of units = 'weights'; set these, or drop it"
            )
        if hyper.personal_masks and (hyper.search not in PRUNING or hyper.merge != "mean"):
            raise ConfigError(
                "method.personal_masks goes with search = 'imp' or 'one-shot', in which a client can prune what it "
                "trained, and with merge = 'mean'; set these, or drop it"
            )
        check_early(hyper)
        check_used(hyper)
        check_loss(hyper)
        if hyper.lr_milestones:
            raise ConfigError("the learning rate follows method.lr_schedule in every stage; leave out lr_milestones")

    def exchanges(self, hyper: Any, shape: tuple[int, int, int], networks: NetworkFactory) -> tuple[Exchange, Exchange]:
        check_network(hyper, networks, self.maskable(hyper, networks))
        up, down = super().exchanges(hyper, shape, networks)
        return up, dataclasses.replace(
            down, notes={NOTE: Note.of(program(hyper)[0], 0, 0, hyper.personal_masks).array()}
        )

    # The client's side.

    def client_round(
        self, state: State, downlink: Downlink | None, ctx: ClientContext
    ) -> tuple[State, Uplink, ClientReport]:
        if downlink is None:
            note = Note.of(program(ctx.hyper)[0], 0, 0, ctx.hyper.personal_masks)
        else:
            note = Note.read(downlink.tensors)
            own = {name: array for name, array in downlink.tensors.items() if name != NOTE}
            downlink = dataclasses.replace(downlink, tensors=own)
        if note.kind == "saliency":
            return self._gradient_round(state, downlink, ctx)
        if ctx.hyper.personal_masks:
            state = ownmasks.held(state, note.level or 0, self._dense(ctx))
        return super().client_round(state, downlink, ctx.widened(TicketContext, note=note))

    def train(self, net: nn.Module, ctx: ClientContext, mask: Mask | None = None) -> float:
        """Local training in the stage that the server named."""
        assert isinstance(ctx, TicketContext)
        hyper = ctx.hyper
        note = ctx.note
        factor = hyper.search_lr_factor if note.kind == "search" else 1.0
        lr = note.rate(hyper.lr * factor, hyper.lr_floor, hyper.lr_schedule)
        trained = relu_view(net) if note.twin else net
        optim = optimiser(trained, hyper.optimiser, lr, hyper.momentum, hyper.weight_decay)
        if not note.steps or note.twin:
            return train_locally(trained, ctx, optim, mask=mask)
        with shortened(net, note.steps):
            own = Labelled(cut_images(ctx.train.images, note.steps), ctx.train.labels)
            return train_locally(net, dataclasses.replace(ctx, train=own), optim, mask=mask)

    def own_masks(self, hyper: Any) -> bool:
        return hyper.personal_masks

    def client_network(self, state: State, ctx: Context) -> nn.Module | None:
        """With masks of its own a client keeps the network that it trained under its newest."""
        return ctx.networks.load(state["own"]) if "own" in state else None

    def _own_mask(self, state: State, weights: dict[str, Tensor], ctx: ClientContext) -> State:
        assert isinstance(ctx, TicketContext)
        return ownmasks.drawn(state, weights, ctx.note, self._dense(ctx), ctx)

    def _dense(self, ctx: Context) -> Mask:
        """The mask of everything."""
        names = self.maskable(ctx.hyper, ctx.networks)
        shapes = {name: tensor.shape for name, tensor in ctx.networks.initial().items() if name in names}
        return Mask({name: torch.ones(shape, dtype=torch.bool) for name, shape in shapes.items()})

    def _gradient_round(
        self, state: State, downlink: Downlink | None, ctx: ClientContext
    ) -> tuple[State, Uplink, ClientReport]:
        """SNIP: the gradient of the loss on the client's data, in the place of weights."""
        received, mask = self._received(state, downlink, self.selection(ctx.hyper, ctx.networks), ctx)
        net = ctx.networks.load(received)
        gradients, loss = label_gradient(net, ctx)
        sent = {n: gradients.get(n, torch.zeros_like(t)) for n, t in received.items()}
        uplink = averaging.uplink(
            sent, mask, round=ctx.round, client=ctx.client, samples=len(ctx.train), accuracy=0.0,
            exact=averaging.exact_tensors(ctx.hyper.payload, ctx.networks),
        )  # fmt: skip
        return {}, uplink, ClientReport({"train_loss": loss})

    # The server's side.

    def init_server(self, ctx: Context) -> tuple[State, Downlink | None]:
        weights = ctx.networks.initial()
        names = self.maskable(ctx.hyper, ctx.networks)
        state, mask = ticketsearch.begin(weights, names, ctx)
        if not state["search"]["level"]:
            return state, None  # everybody holds the common initial weights, and knows the first stage
        return state, self._told(state, weights, mask, 1, ctx)

    def server_round(
        self, state: State, uplinks: Mapping[int, Uplink], ctx: Context
    ) -> tuple[State, Downlink, Diagnostics]:
        stage, steps = ticketsearch.now(state, ctx)
        if stage.kind == "saliency":
            counts = {c: float(u.samples) for c, u in uplinks.items()}
            shares = {c: n / sum(counts.values()) for c, n in counts.items()}
            merged = averaging.mean_of({c: from_wire(u.tensors) for c, u in uplinks.items()}, shares)
            after = dict(state)
            largest = max(float(merged[name].abs().max()) for name in state["mask"])
            diagnostics = Diagnostics({"mask_density": 1.0, "untrained": 1.0, "largest_gradient": largest}, shares)
        else:
            plain = {key: state[key] for key in ("weights", "mask")}
            merged, _, diagnostics = super().server_round(plain, uplinks, ctx)
            after = {**state, **merged}
            merged = merged["weights"]
        samples = sum(uplink.samples for uplink in uplinks.values())
        passes = 1 if stage.kind == "saliency" else ctx.hyper.local_epochs
        spent = samples * passes * (1 if stage.twin else steps)
        found = state["weights"] if stage.kind == "saliency" else merged
        energy = ticketcosts.joules(found, uplinks, stage, steps, passes, ctx)
        new, values = ticketsearch.advance(after, merged, spent, energy.get("train_joules", 0.0), ctx)
        told = self._told(new, state["weights"], Mask(new["mask"]), ctx.round + 1, ctx)
        said = {"lif_steps": float(spent), "time_steps": float(steps), "level": float(stage.level)}
        said |= {"searching": float(stage.kind != "train"), **energy}
        new = {**new, "result": {"weights": after["weights"], "mask": after["mask"]}}
        if ctx.hyper.personal_masks:
            new = ownmasks.known(state, new, ownmasks.heard(state, uplinks), ctx)
            said["mask_density"] = density(Mask(new["result"]["mask"]))
        return new, told, Diagnostics({**diagnostics.values, **said, **values}, diagnostics.weights)

    def addressed(self, state: State, downlink: Downlink, client: int, ctx: Context) -> Downlink:
        """All of the weights; with masks of their own those that the client last sent.

        Args:
            state: the server's.
            downlink: all weights, under the server's mask.
            client: who gets them.
            ctx: the server's context of the round.
        """
        return ownmasks.addressed(state, downlink, client)

    def forget(self, state: State, clients: Collection[int]) -> State:
        own = {client: mask for client, mask in state.get("own", {}).items() if int(client) not in clients}
        return {**state, "own": own} if "own" in state else state

    def server_network(self, state: State, ctx: Context) -> nn.Module:
        """What the round made, before anything was rewound."""
        return ctx.networks.load(_result(state)["weights"])

    def server_mask(self, state: State) -> Mask | None:
        return Mask(_result(state)["mask"])

    def _told(self, state: State, before: dict[str, Tensor], mask: Mask, round: int, ctx: Context) -> Downlink:
        """The weights that clients go on from, and the stage that they are in."""
        answer = self._answer(state["weights"], before, mask, round, ctx)
        note = ticketsearch.note(state, ctx)
        return dataclasses.replace(answer, tensors={**answer.tensors, NOTE: note.array()})


def _result(state: State) -> State:
    """Weights and mask after the newest round; before the first, those it begins with."""
    return state.get("result", state)
