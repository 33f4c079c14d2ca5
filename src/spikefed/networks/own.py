"""A user's own network: any module, or a function or class that makes one, behind the interface of the zoo."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from spikefed.errors import ConfigError, SpikefedError
from spikefed.networks.adapter import Mode, State, WrappedNetwork, has_sequence_neurons, step_shape, wrap
from spikefed.networks.monitor import in_eval_mode
from spikefed.networks.network import LayeredNetwork, Readout
from spikefed.networks.state import Fresh, copied, reset
from spikefed.neurons import Direct, Encoder, encoder
from spikefed.objects import call, import_object, name_of, said
from spikefed.seeding import seeded

Own = str | nn.Module | Callable[..., Any]
"""``module:attribute``, a module (every participant starts from its weights), or what makes a module."""


def build_own(
    source: Own,
    *,
    input_shape: tuple[int, ...],
    classes: int,
    steps: int,
    coding: str | Encoder | None = None,
    readout: Readout = "spike",
    state: State = "clear",
    seed: int = 0,
    timed: bool = False,
) -> nn.Module:
    """The user's network with weights drawn under ``seed``; the shared generators are left as they were.

    A function or class is called with those of ``input_shape``, ``classes``, ``steps`` and ``seed`` that it names. How
    time passes is seen from one small batch: a module may map images ``[B, C, H, W]`` to ``[T, B, classes]`` or
    ``[B, classes, T]``; or map one step ``[B, ...]`` to ``[B, classes]`` and be called T times; or map a sequence
    ``[T, B, ...]`` to ``[T, B, classes]``. What `wrap` made is taken as it is. Data that are ``timed`` have steps of
    their own: ``images`` are then ``[B, T, ...]``, and a step is of the shape that `step_shape` says.

    Args:
        state: what happens to hidden state of the module (`wrap`); whether it has any is for `check_promises` to find.

    Raises:
        ConfigError: it cannot be imported or called, is no module, or its outputs fit none of these.
    """
    name = source if isinstance(source, str) else name_of(source)
    made = import_object(source, "network.name", ConfigError) if isinstance(source, str) else source
    with seeded(seed):
        if isinstance(made, nn.Module):
            net: Any = copied(made)
        else:
            net = _called(
                made,
                name,
                {
                    "input_shape": step_shape(input_shape) if timed else input_shape,
                    "classes": classes,
                    "steps": steps,
                    "seed": seed,
                },
            )
        if not isinstance(net, nn.Module):
            raise ConfigError(
                f"network.name '{name}' gave {type(net).__name__}; it must be, or give, a torch.nn.Module"
            )
        if not isinstance(net, WrappedNetwork | LayeredNetwork):
            coder = encoder(coding or "direct")
            seen = (input_shape[0] * coder.widens, *input_shape[1:])
            fresh = Fresh(net) if state == "keep" else None
            mode = _observe(net, name, step_shape(seen) if timed else seen, classes, steps, readout, timed)
            if fresh is not None:
                fresh.restore(net)  # what the observation left behind is nobody's state
            if mode == "images" and coder != Direct():
                raise ConfigError(
                    f"network.name '{name}' takes images and makes its own time steps, so network.coding = '{coding}' "
                    "would have no effect; leave it out"
                )
            net = wrap(
                net,
                steps=steps,
                classes=classes,
                input_shape=input_shape,
                coding=coder,
                readout=readout,
                mode=mode,
                timed=timed,
                state=state,
            )
        if (net.steps, net.classes) != (steps, classes):
            raise ConfigError(
                f"network.name '{name}' has {net.steps} time steps and {net.classes} classes, the experiment has "
                f"{steps} "
                f"and {classes}; let it take 'steps' and 'classes' as arguments, or set network.steps"
            )
    return net


def _called(maker: Callable[..., Any], name: str, given: dict[str, Any]) -> Any:
    if not callable(maker):
        raise ConfigError(
            f"network.name '{name}' is {type(maker).__name__}; name a function or class that gives a module"
        )
    try:
        return call(maker, given)
    except SpikefedError:
        raise
    except Exception as error:  # the user's code
        raise ConfigError(f"network.name '{name}' could not be made: {said(error)}") from error


def _observe(
    net: nn.Module,
    name: str,
    input_shape: tuple[int, ...],
    classes: int,
    steps: int,
    readout: Readout,
    timed: bool = False,
) -> Mode:
    """How the module takes time, from its outputs on random pixels; refuses what is neither spikes nor currents."""
    batch = next(b for b in range(2, 6) if b not in (steps, classes))  # so that no two shapes below are alike
    images = torch.rand(batch, *input_shape, generator=torch.Generator().manual_seed(0))
    series = images.expand(steps, *images.shape)
    orders: list[tuple[Mode, Tensor]] = [("images", series.transpose(0, 1) if timed else images), ("sequence", series)]
    wanted: dict[str, set[tuple[int, ...]]] = {
        "images": {(steps, batch, classes), (batch, classes, steps)},
        "sequence": {(steps, batch, classes)},
    }
    if not has_sequence_neurons(net):
        orders.insert(1, ("step", images))
        wanted["step"] = {(batch, classes)}
    seen: list[str] = []
    for mode, x in orders:
        try:
            out = _first(_run(net, x))
        except Exception as error:  # the user's code, or a shape it was not made for
            seen.append(f"{list(x.shape)} fails with {said(error)}")
            continue
        if tuple(out.shape) in wanted[mode]:
            _check_spikes(out, name, readout)
            return mode
        if mode != "step":
            seen.append(f"{list(x.shape)} gives {list(out.shape)}")
    raise ConfigError(
        f"network.name '{name}' does not map images to spikes: with B = {batch}, T = {steps}, {classes} classes, "
        f"{'; '.join(seen)}; it must give [T, B, classes], [B, classes, T], or [B, classes] for one step"
    )


def _run(net: nn.Module, x: Tensor) -> object:
    reset(net)
    try:
        with in_eval_mode(net), torch.no_grad():
            return net(x)
    finally:
        reset(net)


def _first(out: object) -> Tensor:
    value = out[0] if isinstance(out, tuple | list) and out else out
    if not isinstance(value, Tensor):
        raise TypeError(f"returned {type(value).__name__}, not a tensor")
    return value


def _check_spikes(out: Tensor, name: str, readout: Readout) -> None:
    other = out[(out != 0) & (out != 1)]
    if readout == "spike" and len(other):
        raise ConfigError(
            f"network.name '{name}' gives values such as {float(other[0]):.4g}, not spikes; end it with a spiking "
            "layer, or "
            "set network.readout = 'current' and use a method that sends weights (fedavg)"
        )
