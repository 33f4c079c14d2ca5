"""NetTailor in a federation: what a client learns beside its labels, and when the server drops what is not needed."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, cast

from pydantic import Field
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.federated.contract import ClientContext, Context, Hyperparameters, NetworkFactory, State
from spikefed.federated.local import train_locally
from spikefed.networks import Norm, copy_tensors, dropped, kinds_of, load_tensors, without_parts
from spikefed.networks.roles import Role, task
from spikefed.training import Tailoring

CHOICE = ".proxies.choice"
"""How the names of the scalars end."""


class Tailor(Hyperparameters):
    """Of adapters ``proxy1x1``: loss and pruning of NetTailor."""

    complexity: float = Field(
        default=0.3, ge=0, le=1e6, description="gamma_1 of the expected complexity in the loss [NetTailor: 0.3]"
    )
    expectation: Literal["exact", "paper"] = Field(
        default="exact", description="of the complexity: exact, or the paper's formula, which looks one block far"
    )
    imitation: float = Field(
        default=10.0, ge=0, le=1e6, description="gamma_2 of the distance to a teacher [NetTailor: 10]"
    )
    teacher_epochs: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="epochs in which each client first trains all weights on its task, as the teacher that its blocks "
        "then imitate; 0: no teacher",
    )
    drop_after: int = Field(
        default=0, ge=0, le=100_000, description="round of a stage after which choices are dropped; 0: never"
    )
    drop_below: float = Field(
        default=0.05, ge=0, le=0.5, description="proxies of a smaller alpha are dropped [NetTailor: 0.05]"
    )
    drop_blocks: int = Field(
        default=0, ge=0, le=1000, description="how many frozen blocks are dropped, of the smallest alphas"
    )


def has_proxies(networks: NetworkFactory) -> bool:
    """Whether tasks have proxies."""
    return "proxy1x1" in kinds_of(networks.network).values()


def check_tailor(tailor: Tailor, networks: NetworkFactory) -> None:
    """Refuse settings without proxies, and what would never be dropped, or never retrained.

    Raises:
        ConfigError: the first of them.
    """
    if not has_proxies(networks):
        if tailor != Tailor():
            raise ConfigError(
                "[method.tailor] is about proxies, and the tasks have none; add 'proxy1x1' to network.adapters.kinds, "
                "or leave it out"
            )
        return
    default = Tailor()
    if not tailor.drop_after and (tailor.drop_below, tailor.drop_blocks) != (default.drop_below, default.drop_blocks):
        raise ConfigError(
            "method.tailor says what is dropped and not when; set method.tailor.drop_after to a round of a stage"
        )
    if networks.calendar is not None:
        check_time(tailor, networks.calendar.rounds, "a stage")
    count = len(choices_of(networks.initial(), networks.roles, 0))
    if tailor.drop_blocks > count:
        raise ConfigError(
            f"method.tailor.drop_blocks = {tailor.drop_blocks}, and network {networks.network.name} has {count} blocks "
            "that proxies go around; name at most so many"
        )


def check_time(tailor: Tailor, rounds: int, whose: str) -> None:
    """Refuse to drop so late that nobody trains what is left.

    Args:
        tailor: when.
        rounds: that a task has; 0: not known.
        whose: rounds they are, for the error.

    Raises:
        ConfigError: no round is left behind it.
    """
    if 0 < rounds <= tailor.drop_after:
        raise ConfigError(
            f"method.tailor.drop_after = {tailor.drop_after} leaves no round to train what is left, as {whose} has "
            f"{rounds}; set it below that"
        )


def choices_of(tensors: Mapping[str, Tensor], roles: Mapping[str, Role], number: int) -> dict[str, Tensor]:
    """The scalars of one task by name, ``[1 + n]`` each."""
    return {name: t for name, t in tensors.items() if name.endswith(CHOICE) and roles[name] == task(number)}


def stage_round(ctx: Context) -> int:
    """Round within its stage, from 1; of a run without stages the round."""
    calendar = ctx.networks.calendar
    return ctx.round if calendar is None else (ctx.round - 1) % calendar.rounds + 1


def after_dropping(tensors: Mapping[str, Tensor], numbers: list[int], ctx: Context) -> dict[str, Tensor]:
    """Tensors as they are, but for the scalars of what is dropped after this round. Shapes stay.

    Args:
        tensors: by name.
        numbers: tasks that somebody learned in the round.
        ctx: of whoever drops.
    """
    tailor: Tailor = ctx.hyper.tailor
    found = dict(tensors)
    if not tailor.drop_after or stage_round(ctx) != tailor.drop_after:
        return found
    for number in numbers:
        own = choices_of(tensors, ctx.networks.roles, number)
        found |= dropped(own, below=tailor.drop_below, blocks=tailor.drop_blocks)
    return found


def tailoring(net: nn.Module, state: State, ctx: ClientContext) -> tuple[list[Tailoring], State]:
    """The hook of local training on this task, and what the client keeps for its next round: the task's teacher.

    A teacher is trained in the first round of a task, from the network's own weights, all of them.

    Args:
        net: with the parts of the task on.
        state: the client's.
        ctx: of the round.
    """
    tailor: Tailor = ctx.hyper.tailor
    retraining = 0 < tailor.drop_after < stage_round(ctx)
    teacher = None
    kept: State = {}
    if tailor.imitation and tailor.teacher_epochs:
        known = state.get("teacher", {})
        number = ctx.task or 0
        teacher = _whole(net)
        if known.get("task") == number:
            load_tensors(teacher, known["weights"])
        else:
            hyper = ctx.hyper.model_copy(update={"local_epochs": tailor.teacher_epochs})
            train_locally(teacher, dataclasses.replace(ctx, hyper=hyper))
        kept = {"teacher": {"task": number, "weights": copy_tensors(teacher)}}
    hook = Tailoring(
        complexity=0.0 if retraining else tailor.complexity,
        paper=tailor.expectation == "paper",
        imitation=tailor.imitation,
        teacher=teacher,
        outputs=ctx.outputs,
    )
    return [hook], kept


def _whole(net: nn.Module) -> nn.Module:
    """A copy without parts of tasks, all of whose weights learn."""
    with without_parts(net):
        twin = copy.deepcopy(net)
    for module in twin.modules():
        if isinstance(module, Norm):
            module.role = None
    for parameter in twin.parameters():
        parameter.requires_grad_(True)
    return cast(Any, twin)
