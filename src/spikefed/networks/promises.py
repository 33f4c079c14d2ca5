"""What an own network must keep to, found out before a run begins, by running it.

Every participant of a run shares one module, so a network that remembers what went through it before carries images
from client to client and from training to test. And a layer that takes time for the batch computes something else than
its author meant, without a word.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.networks.adapter import STATES, WrappedNetwork
from spikefed.networks.monitor import in_eval_mode
from spikefed.networks.state import hidden_tensors, reset
from spikefed.networks.tensors import copy_tensors, load_tensors
from spikefed.neurons import LIF
from spikefed.objects import parameters, said
from spikefed.seeding import seeded

SCALES = (1.0, 4.0, 16.0)
"""Inputs are tried at several strengths: a network whose neurons are silent shows nothing of its state."""


def check_promises(net: nn.Module, name: str, input_shape: tuple[int, ...]) -> None:
    """Refuse a wrapped network that remembers, or that takes time for the batch; any other network passes.

    Args:
        net: fresh from `build_own`, on the CPU; its weights are as they were afterwards, its hidden state may not be.
        name: what the sentence calls it.
        input_shape: ``(C, H, W)``.

    Raises:
        ConfigError: it does not keep to it; the text says where it shows, and the cure.
    """
    if not isinstance(net, WrappedNetwork):
        return
    trial = _Trial(net, name, tuple(input_shape))
    try:
        _check_time(trial)
        _check_state(trial)
    except ConfigError:
        raise
    except Exception as error:  # the user's code
        raise ConfigError(f"network.name '{name}' fails when it is tried: {said(error)}") from error


@dataclass(frozen=True)
class _Trial:
    net: WrappedNetwork
    name: str
    shape: tuple[int, ...]

    def images(self, scale: float = 1.0, seed: int = 1, more: int = 0) -> Tensor:
        """Random images; no two of T, batch (without ``more``) and classes are alike."""
        batch = next(b for b in range(2, 6) if b not in (self.net.steps, self.net.classes)) + more
        shape = (self.net.steps, *self.shape) if self.net.timed else self.shape
        return scale * torch.rand(batch, *shape, generator=torch.Generator().manual_seed(seed))


# State.


def _check_state(trial: _Trial) -> None:
    net = trial.net
    weights = copy_tensors(trial.net)
    _traces(net, trial.images(more=1), weights)  # nothing that is saved may follow the size of the batch
    for training in (False, True):
        for scale in SCALES:
            net.train(training)
            images = trial.images(scale, 1)
            other = 4 * trial.images(scale, 2)
            # What went before drives every membrane up, then down: the same images must not notice.
            _traces(net, other, weights)
            first = _traces(net, images, weights)
            before = {place: t.detach().clone() for place, t in hidden_tensors(net.module).items()}
            _traces(net, -other, weights)
            again = _traces(net, images, weights)
            moved = [p for p, t in hidden_tensors(net.module).items() if p not in before or not _equal(t, before[p])]
            net.eval()
            if not (len(first) == len(again) and all(map(_equal, first, again))):
                _refuse(net, trial.name, moved)


def _traces(net: WrappedNetwork, images: Tensor, weights: dict[str, Tensor]) -> list[Tensor]:
    """What every layer gave, one call of a participant's whose shared generators were just seeded."""
    seen: list[Tensor] = []
    leaves = [part for part in net.module.modules() if not list(part.children())]
    hooks = [part.register_forward_hook(lambda _m, _i, out: seen.extend(_tensors(out))) for part in leaves]
    net.fresh()
    try:
        with torch.no_grad(), seeded(0):
            seen.append(net(images, generator=torch.Generator().manual_seed(0)))
    finally:
        for hook in hooks:
            hook.remove()
    shapes = {n: t.shape for n, t in net.state_dict().items() if isinstance(t, Tensor)}
    for key, tensor in weights.items():
        if shapes.get(key) != tensor.shape:
            raise ConfigError(
                f"network {net.name}: '{key.removeprefix('module.')}' is saved with the weights and changes its shape "
                "with the batch; register it with persistent=False, or keep it in a plain attribute"
            )
    load_tensors(net, weights)
    return [t.clone() for t in seen]


def _refuse(net: WrappedNetwork, name: str, moved: list[str]) -> None:
    if net.state == "keep":
        raise ConfigError(
            f"network.name '{name}' gives other outputs for the same images although it began afresh, so its state is "
            "somewhere that network.state = 'keep' does not reach; keep it in attributes of its modules"
        )
    where = f"hidden state in {', '.join(moved[:3])}" if moved else "a state or a generator that is not seen from here"
    raise ConfigError(
        f"network.name '{name}' gives other outputs when the same images come again ({where}), so images would leak "
        "from client to client and from training to test; clear it at the start of forward, or in a method reset() of "
        "the layer that holds it, or set network.state = 'keep' to keep it from batch to batch on purpose"
    )


def _tensors(out: Any) -> list[Tensor]:
    found = [out] if isinstance(out, Tensor) else list(out) if isinstance(out, tuple | list) else []
    return [value for value in found if isinstance(value, Tensor)]


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


# Time.


def _check_time(trial: _Trial) -> None:
    net = trial.net
    if net.mode == "step":
        _check_carried(trial)
    elif net.mode == "sequence":
        for place, part in reversed(list(net.module.named_modules())):  # inner ones before what they are in
            _check_layer(trial, place, part)


def _check_carried(trial: _Trial) -> None:
    """A second output that fits a parameter which may be left out is a state, whatever its name is."""
    net = trial.net
    others = [n for n, p in list(parameters(net.module.forward).items())[1:] if p.default is None and n not in STATES]
    others = [n for n in others if n != "generator"]
    if net.carried or not others:
        return
    with _input_of(net.module) as given, in_eval_mode(net), torch.no_grad(), seeded(0):
        net(trial.images())
    with in_eval_mode(net), torch.no_grad(), seeded(0):
        out = net.module(given[0])
        if not isinstance(out, tuple | list) or len(out) != 2 or out[1] is None:
            return
        try:
            again = net.module(given[0], **{others[0]: out[1]})
        except Exception:  # no state, then
            return
    if isinstance(again, tuple | list) and len(again) == 2 and type(again[1]) is type(out[1]):
        raise ConfigError(
            f"network.name '{trial.name}' returns a second value that its parameter '{others[0]}' takes; call that "
            "parameter 'state' so that it is carried from step to step, or return the output alone"
        )


def _check_layer(trial: _Trial, place: str, part: nn.Module) -> None:
    """Refuse a layer that keeps one membrane for each step of the sequence that it is given."""
    net = trial.net
    images = trial.images()
    if isinstance(part, LIF):
        return
    with _input_of(part) as given, in_eval_mode(net), torch.no_grad(), seeded(0):
        net(images)
    if not given or given[0].dim() < 2 or given[0].shape[:2] != (net.steps, len(images)):
        return
    with in_eval_mode(net), torch.no_grad():
        if any(_takes_time_for_batch(part, given[0], 4.0**power) for power in range(5)):
            raise ConfigError(
                f"network.name '{trial.name}': layer '{place}' ({type(part).__name__}) works on one time step but is "
                "given the whole sequence [T, B, ...], so it takes time for the batch; give it one step at a time, or "
                "its library's layer for sequences (SpikingJelly: step_mode = 'm')"
            )


def _takes_time_for_batch(part: nn.Module, like: Tensor, scale: float) -> bool:
    """Whether its outputs spike, follow every reordering of the steps, and its state is one for each step."""
    draw = torch.Generator().manual_seed(0)
    x = scale * torch.rand(like.shape, generator=draw).to(like.dtype)
    order = torch.arange(len(x) - 1, -1, -1)
    try:
        reset(part)
        forward = _tensors(part(x))
        held = [t for t in [*hidden_tensors(part).values(), *forward[1:]] if t.shape[:2] == x.shape[:2]]
        reset(part)
        backward = _tensors(part(x[order]))
    finally:
        reset(part)
    if not forward or not backward or not held or forward[0].shape[:2] != x.shape[:2]:
        return False
    return bool(forward[0].any()) and _equal(forward[0][order], backward[0]) and not _equal(forward[0], backward[0])


@contextmanager
def _input_of(part: nn.Module) -> Iterator[list[Tensor]]:
    given: list[Tensor] = []
    hook = part.register_forward_pre_hook(lambda _m, inputs: given.extend(_tensors(inputs)[:1]))
    try:
        yield given
    finally:
        hook.remove()
