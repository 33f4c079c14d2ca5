"""Settings of `tickets` that do not fit together: of another search, unit or schedule, or Early-Time without effect.

And searches that this network does not allow, which is said before a run instead of in the middle of it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import nn

from spikefed.errors import ConfigError
from spikefed.federated.contract import NetworkFactory
from spikefed.federated.fewsteps import check_shorter
from spikefed.networks import relu_view

PRUNING = ("imp", "one-shot")
"""Searches that prune what was trained, as a client may too; tickets may begin with other weights than the first."""
UNTRAINED = ("snip", "random")
"""Searches without a dense training, that have a criterion of their own."""


def check_used(hyper: Any) -> None:
    """Refuse settings of a search, unit or schedule that this one is not.

    Raises:
        ConfigError: the first of these.
    """
    fields = type(hyper).model_fields
    dense = hyper.search not in UNTRAINED
    belongs = {
        "a search with a dense training ('imp', 'one-shot', 'early-bird')": (
            dense,
            ("search_on", "search_rounds", "search_lr_factor"),
        ),
        "early_time = true": (hyper.early_time, ("probe_rounds", "early_probe", "kl_threshold")),
        "search = 'early-bird'": (hyper.search == "early-bird", ("masks", "mask_distance")),
        "units = 'channels'": (hyper.units == "channels", ("keep_channels",)),
        "a schedule without method.sparsities": (not hyper.sparsities, ("prune", "levels")),
    }
    for where, (there, keys) in belongs.items():
        moved = [key for key in keys if getattr(hyper, key) != fields[key].default]
        if moved and not there:
            raise ConfigError(f"method.{moved[0]} belongs to {where}; set that, or drop it")
    if hyper.restart == "keep" and hyper.search not in PRUNING:
        raise ConfigError(
            f"tickets of search = '{hyper.search}' start from the first weights, so method.restart = 'keep' has no "
            "effect; drop it, or take search = 'imp' or 'one-shot'"
        )


def check_rewind(hyper: Any) -> None:
    """Refuse a round to rewind to that no training reaches.

    Raises:
        ConfigError: it is not below the shortest training.
    """
    shortest = min(hyper.level_rounds, hyper.search_rounds or hyper.level_rounds)
    if hyper.search in PRUNING and hyper.restart == "rewind" and hyper.rewind_round >= shortest:
        raise ConfigError(
            f"method.rewind_round = {hyper.rewind_round} is not below the {shortest} rounds of a training "
            "(method.level_rounds, method.search_rounds); rewind to an earlier round, or set restart = 'initial' or "
            "'keep'"
        )


def check_loss(hyper: Any) -> None:
    """Refuse a loss on steps that a shorter search does not have.

    Raises:
        ConfigError: the ``skip`` loss names one of them.
    """
    named = max(hyper.temporal.steps, default=0) if hyper.local_loss == "skip" else 0
    for where, there, steps in (
        ("search_on = 'ann' has a single step", hyper.search_on == "ann", 1),
        ("early_time = true may choose T_early = 2", hyper.early_time, 2),
    ):
        if there and named > steps:
            raise ConfigError(
                f"training.temporal.steps names step {named}, and a search with {where}; name no step above {steps}, "
                "or take another local_loss"
            )


def check_network(hyper: Any, networks: NetworkFactory, names: Collection[str]) -> None:
    """Refuse what this network does not allow.

    Args:
        hyper: of the method.
        networks: makes the network.
        names: of the weights that are pruned.

    Raises:
        ConfigError: a sparsity that leaves no weight; Early-Time with two steps or with steps that cannot be changed;
            a criterion that does not know a weight; a ReLU twin that lacks some.
    """
    net = networks.network
    entries = sum(tensor.numel() for name, tensor in networks.initial().items() if name in names)
    if empty := [target for target in hyper.targets if not round((1 - target) * entries)]:
        raise ConfigError(
            f"a sparsity of {empty[0]:g} leaves none of the {entries:,} weights that are pruned; set lower sparsities, "
            "or fewer levels"
        )
    if hyper.early_time:
        check_shorter(net)
        if (steps := int(getattr(net, "steps", 1))) < 3:
            raise ConfigError(
                f"T_early is at least 2, and with network.steps = {steps} a search cannot be shortened; drop "
                "method.early_time, or set more steps"
            )
    grouped = [n for n, m in net.named_modules() if f"{n}.weight" in names and getattr(m, "groups", 1) != 1]
    if hyper.criterion != "magnitude" and grouped:
        raise ConfigError(
            f"'{grouped[0]}' is a convolution in groups, whose inputs method.criterion = '{hyper.criterion}' cannot "
            "weigh; use 'magnitude'"
        )
    if hyper.search_on == "ann":
        _check_twin(net, names)


def _check_twin(net: nn.Module, names: Collection[str]) -> None:
    held = dict(relu_view(net).named_parameters())
    if lost := sorted(name for name in names if name not in held):
        raise ConfigError(
            f"the ReLU twin has no connections back in time, and so not the weights '{lost[0]}'"
            + (f" and {len(lost) - 1} more" if lost[1:] else "")
            + " of this network; take search_on = 'snn'"
        )


def check_early(hyper: Any) -> None:
    """Refuse Early-Time where it has no effect, or no time to choose.

    Raises:
        ConfigError: the first of these.
    """
    if not hyper.early_time:
        return
    if hyper.search in UNTRAINED or hyper.search_on == "ann":
        raise ConfigError(
            f"method.early_time shortens trainings that look for masks, and search = '{hyper.search}' on the "
            f"{hyper.search_on.upper()} has none with time steps; drop it, or take search = 'imp', 'one-shot' or "
            "'early-bird' with search_on = 'snn'"
        )
    dense = hyper.search_rounds or hyper.level_rounds
    if hyper.early_probe == "within" and hyper.probe_rounds > dense:
        raise ConfigError(
            f"T_early is chosen after method.probe_rounds = {hyper.probe_rounds}, and the dense training is over "
            f"after {dense}; set probe_rounds lower, or early_probe = 'before'"
        )
    later = hyper.search == "imp" and len(hyper.targets) > 1
    if hyper.early_probe == "within" and hyper.probe_rounds == dense and not later:
        raise ConfigError(
            f"T_early is chosen after method.probe_rounds = {dense}, when the one training that looks for masks is "
            "over, so that nothing is shortened; set probe_rounds lower, or early_probe = 'before', or drop early_time"
        )
