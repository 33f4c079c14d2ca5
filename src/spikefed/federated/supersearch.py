"""What the server of a search in a supernet does between two rounds: it weighs branches, chooses, and counts costs.

The reconstruction of DC-NAS (docs/deviations.md): utilities, the choice under a budget and the pruning of channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.federated import averaging
from spikefed.federated.contract import Context, State
from spikefed.networks import Choice, Norm, Space, copy_tensors, describe, put_back, subnet
from spikefed.networks.layers import WeightedLayer
from spikefed.training import Mask

BATCH = 128
"""Public images of a batch of which statistics are re-estimated."""
BATCHES = 8
"""How many there are at most: the running statistics of a fresh norm are a plain mean of its first ten batches."""


@dataclass(frozen=True)
class Costs:
    """What every branch takes of the supernet, and what no choice leaves out, as shares of the whole.

    Attributes:
        macs: multiply-accumulates of an inference, of each branch, block by block.
        parameters: weights, biases and scales and shifts of norms, of each branch.
        rest: of both, the share of the first convolution, the sums' norms and the readout.
        whole_macs: of the supernet.
    """

    macs: tuple[float, ...]
    parameters: tuple[float, ...]
    rest: tuple[float, float]
    whole_macs: int

    @classmethod
    def of(cls, net: nn.Module) -> Costs:
        """Those of a supernet."""
        described = describe(net)
        rows = {row.name: row for row in described.rows}
        own = [rows[name] for name in Space.of(net).branches]
        macs = tuple(row.macs * row.times / described.macs_per_inference for row in own)
        parameters = tuple((row.weights + row.norm_parameters) / described.parameters for row in own)
        return cls(macs, parameters, (1 - sum(macs), 1 - sum(parameters)), described.macs_per_inference)

    def share(self, gates: Sequence[bool]) -> float:
        """Multiply-accumulates of a subnet with all channels, as a share of the supernet's."""
        return self.rest[0] + sum(c for c, gate in zip(self.macs, gates, strict=True) if gate)

    def cheapest(self, blocks: Sequence[int], among: Sequence[bool] | None = None) -> tuple[bool, ...]:
        """The gates of the smallest subnet: the cheapest branch of every block, of equals the first.

        Args:
            blocks: branches of each block.
            among: branches that may be taken, at least one of every block; None for all.
        """
        gates = [False] * len(self.macs)
        start = 0
        for size in blocks:
            open_to = [j for j in range(start, start + size) if among is None or among[j]]
            gates[min(open_to, key=lambda j: (self.macs[j], self.parameters[j], j))] = True
            start += size
        return tuple(gates)

    def least(self, blocks: Sequence[int]) -> float:
        """The larger of the shares that the smallest subnet takes."""
        gates = self.cheapest(blocks)
        parameters = self.rest[1] + sum(c for c, gate in zip(self.parameters, gates, strict=True) if gate)
        return max(self.share(gates), parameters)


def begin(size: int) -> State:
    """What the server remembers of a search among so many branches, before the first round."""
    return {"utilities": torch.zeros(size, dtype=torch.float64), "levels": {}}


def weighed(search: State, gates: Mapping[int, Sequence[bool]], accuracies: Mapping[int, float], decay: float) -> State:
    """The utilities after a round: u_j <- decay u_j + (1 - decay) (mean gain with branch j - mean gain without it).

    A client's gain is its validation accuracy less its own running mean, so that easy data make no branch look good. A
    branch that everybody had, or nobody, keeps its utility.

    Args:
        search: what `begin` or this gave.
        gates: of the subnets that were trained, by client.
        accuracies: of those on their clients' validation data, by client.
        decay: of utilities and running means.
    """
    levels = dict(search["levels"])
    gains = {}
    for client in sorted(accuracies):
        seen = levels.get(str(client), accuracies[client])
        gains[client] = accuracies[client] - seen
        levels[str(client)] = decay * seen + (1 - decay) * accuracies[client]
    utilities = search["utilities"].clone()
    for j in range(len(utilities)):
        having = [gain for client, gain in gains.items() if gates[client][j]]
        lacking = [gain for client, gain in gains.items() if not gates[client][j]]
        if having and lacking:
            difference = sum(having) / len(having) - sum(lacking) / len(lacking)
            utilities[j] = decay * utilities[j] + (1 - decay) * difference
    return {"utilities": utilities, "levels": levels}


def log_odds(utilities: Tensor) -> tuple[float, ...]:
    """Log odds of pi, the server's preference: utilities ``[n]`` in units of their deviation; 0 where all are equal."""
    deviation = float(utilities.std(correction=0))
    return tuple(((utilities - utilities.mean()) / deviation).tolist()) if deviation > 0 else (0.0,) * len(utilities)


def scales(net: nn.Module) -> Tensor:
    """Mean |gamma| of every branch, float64 ``[n]``: what tells branches apart that were always trained together."""
    norms = [net.get_submodule(f"{name}.norm") for name in Space.of(net).branches]
    found = [cast(Norm, norm).weight.detach().abs().mean().cpu().to(torch.float64) for norm in norms]
    return torch.stack(found)


def best_gates(
    preference: Sequence[float],
    blocks: Sequence[int],
    costs: Costs,
    budget: float,
    among: Sequence[bool] | None = None,
) -> tuple[bool, ...]:
    """a*: the preferred branches that fit the budget, the best of each block first; of equals the cheaper.

    Args:
        preference: of every branch.
        blocks: branches of each block.
        costs: of the supernet.
        budget: share of the supernet's multiply-accumulates.
        among: branches that may be taken; None for all.

    Raises:
        ConfigError: not even the smallest subnet fits.
    """
    gates = list(costs.cheapest(blocks, among))
    if costs.share(gates) > budget:
        raise ConfigError(
            f"method.budget = {budget:g} is less than the smallest subnet takes, {costs.share(gates):.3f} of the "
            "supernet's multiply-accumulates; raise it, or give blocks a cheaper branch such as 1 (skip)"
        )
    block_of = [b for b, size in enumerate(blocks) for _ in range(size)]
    led: set[int] = set()
    order = sorted(range(len(gates)), key=lambda j: (-preference[j], costs.macs[j], j))
    for j in [j for j in order if among is None or among[j]]:
        tried = list(gates)
        if block_of[j] not in led:  # the stand-in of a block makes room for the first that fits
            tried = [gate and block_of[i] != block_of[j] for i, gate in enumerate(gates)]
        tried[j] = True
        if costs.share(tried) <= budget:
            gates = tried
            led.add(block_of[j])
    return tuple(gates)


def nested_gates(
    preference: Sequence[float], blocks: Sequence[int], net: nn.Module, budgets: Sequence[float]
) -> list[tuple[bool, ...]]:
    """Subnets for ever smaller devices, each of the branches of the one before: what all train, all profit from.

    Where the preferred branches of a class leave a smaller one nothing that it can hold, the cheapest branch of every
    block goes before the preferred ones in all classes.

    Args:
        preference: of every branch.
        blocks: branches of each block.
        net: the supernet.
        budgets: of the classes, falling shares of the supernet's multiply-accumulates; the smallest subnet fits all.

    Returns:
        the gates of every class.

    Raises:
        ConfigError: not even the smallest subnet fits the first.
    """
    costs = Costs.of(net)
    found = _nested(preference, blocks, costs, budgets)
    if len(found) < len(budgets):
        cheapest = costs.cheapest(blocks)
        first = [max(preference) + 1 if cheap else p for p, cheap in zip(preference, cheapest, strict=True)]
        found = _nested(first, blocks, costs, budgets)
    return found


def _nested(
    preference: Sequence[float], blocks: Sequence[int], costs: Costs, budgets: Sequence[float]
) -> list[tuple[bool, ...]]:
    """The gates of the classes down to the first that cannot hold a subnet of the one before.

    Args:
        preference: of every branch.
        blocks: branches of each block.
        costs: of the supernet.
        budgets: of the classes.
    """
    found: list[tuple[bool, ...]] = []
    for budget in budgets:
        among = found[-1] if found else None
        if found and costs.share(costs.cheapest(blocks, among)) > budget:
            break
        found.append(best_gates(preference, blocks, costs, budget, among))
    return found


def of_device(state: State, space: Space, number: int) -> Choice:
    """The subnet of a class of devices, from 1, with the channels that pruning left all of them."""
    gates = state["search"]["devices"][number - 1].tolist()
    return Choice(tuple(gates), space.choice(state["mask"]).channels)


def device_sizes(state: State, net: nn.Module) -> dict[str, float]:
    """Of the subnet of every further class of devices, from 1: its parameters, and its multiply-accumulates as a share
    of the supernet's.
    """
    space = Space.of(net)
    whole = describe(net).macs_per_inference
    values: dict[str, float] = {}
    for number in range(1, 1 + len(state["search"]["devices"])):
        small = describe(subnet(net, of_device(state, space, number)))
        values[f"device_{number}_parameters"] = float(small.parameters)
        values[f"device_{number}_macs"] = small.macs_per_inference / whole
    return values


def best_channels(
    net: nn.Module, gates: Sequence[bool], prune: float, criterion: Literal["gamma", "l1"]
) -> tuple[bool, ...]:
    """The channels of a supernet that stay: the largest sums, over the layers of a subnet, of |gamma| or of |w|.

    Each layer's numbers count in units of their mean. Of equal channels the first stay, of all at least one.

    Args:
        net: the supernet with its weights.
        gates: of the subnet.
        prune: share of the channels that go.
        criterion: ``gamma``, the scale of every norm (Liu et al., ICCV 2017), or ``l1``, the weights that make it.
    """
    space = Space.of(net)
    width = space.sizes.width
    small = subnet(net, Choice(tuple(gates), (True,) * width))
    total = torch.zeros(width, dtype=torch.float64)
    for name, module in small.named_modules():
        found = None
        if criterion == "gamma" and isinstance(module, Norm) and not name.startswith("fc."):
            found = module.weight.reshape(-1, width).abs().sum(dim=0)
        if criterion == "l1" and isinstance(module, WeightedLayer) and name != "fc":
            found = module.weight.flatten(1).abs().sum(dim=1)
        if found is not None:
            total += (found / found.mean().clamp_min(1e-12)).detach().cpu().to(torch.float64)
    count = max(1, round(width * (1 - prune)))
    best = set(sorted(range(width), key=lambda c: (-float(total[c]), c))[:count])
    return tuple(c in best for c in range(width))


@torch.no_grad()
def re_estimated(net: nn.Module, ctx: Context) -> None:
    """Running statistics of all norms afresh, in place, from the public images; labels are not needed.

    Merged statistics are those of other subnets: the sum that a block normalises has had other parts. The coder's draws
    begin anew, so that the same weights always get the same statistics.
    """
    norms = [module for module in net.modules() if isinstance(module, Norm)]
    for module in norms:
        module.running_mean.zero_()
        module.running_var.fill_(1)
        module.num_batches_tracked.zero_()
    fresh = torch.Generator().manual_seed(ctx.generator.initial_seed())
    device = next(net.parameters()).device
    net.train()
    for images in ctx.public[: BATCH * BATCHES].split(BATCH):
        net(ctx.preprocess(images.to(device)), generator=fresh)
    net.eval()


def spent(costs: Costs, net: nn.Module, choices: Mapping[int, Choice], passes: Mapping[int, int]) -> dict[str, float]:
    """The cost meter of a round, beside what the whole supernet would have taken on the same data.

    Args:
        costs: of the supernet.
        net: the supernet.
        choices: of what each client trained.
        passes: images that each client trained on, times epochs.

    Returns:
        ``macs_trained`` and ``macs_full``, forward passes alone (a backward pass takes twice as much of either);
        ``parameters_peak`` and ``parameters_full``, of the largest network that a client held;
        ``tensor_bytes`` and ``tensor_bytes_full``, uncoded, up and down (the ledger counts what was sent).
    """
    described = {choice: describe(subnet(net, choice)) for choice in set(choices.values())}
    whole = describe(net)
    return {
        "macs_trained": float(sum(described[choices[c]].macs_per_inference * n for c, n in passes.items())),
        "macs_full": float(costs.whole_macs * sum(passes.values())),
        "parameters_peak": float(max(d.parameters for d in described.values())),
        "parameters_full": float(whole.parameters),
        "tensor_bytes": float(2 * sum(described[choice].state_bytes for choice in choices.values())),
        "tensor_bytes_full": float(2 * whole.state_bytes * len(choices)),
    }


def zeroed(net: nn.Module, kept: Mapping[str, Tensor], ctx: Context) -> dict[str, Tensor]:
    """State of the supernet whose subnet of a choice has fresh statistics, and whose other entries are 0.

    Args:
        net: the supernet with its weights, whose statistics become those too.
        kept: masks of the choice, of the tensors' shapes.
        ctx: brings the public images.
    """
    choice = Space.of(net).choice(kept)
    small = subnet(net, choice)
    re_estimated(small, ctx)
    put_back(net, small, choice)
    return averaging.under(Mask(kept), copy_tensors(net))
