"""A user's own module, or a SpikingJelly or snnTorch network, behind the interface of `SpikingNetwork`.

How hidden state of theirs is cleared, or kept, stands in `spikefed.networks.state`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.networks.network import Readout
from spikefed.networks.state import Fresh, detach, reset
from spikefed.neurons import LIF, Encoder, encoder
from spikefed.objects import parameters

Mode = Literal["step", "sequence", "images"]
"""``step``: the module takes ``[B, ...]`` and is called T times. ``sequence``: it takes ``[T, B, ...]`` once.
``images``: it takes ``[B, ...]`` once, makes its own steps and gives ``[T, B, classes]`` or ``[B, classes, T]``."""

State = Literal["clear", "keep"]
"""Hidden state of a module: cleared around every call, or kept from batch to batch within a participant's step."""

STATES = frozenset(["state", "states", "hidden", "hidden_state", "mem", "membrane", "syn", "spk", "v", "u", "h", "hx"])
"""Parameters of a ``forward`` that take back what it returned beside its output in the step before."""


class WrappedNetwork(nn.Module):
    """Any module as a spiking network that keeps no state between calls, or between uses (`fresh`); made by `wrap`.

    Attributes:
        module: the user's module; its tensors appear in the state dict under ``module.``.
        steps, classes, input_shape, encoder, readout: as in `SpikingNetwork`.
        mode: how time is fed.
        timed: the data have time steps of their own, ``[B, T, C, H, W]``; the module then sees them as
            `step_shape` says.
        state: what happens to hidden state.
        carried: parameters of the module's ``forward`` that get the step before's further outputs (mode ``step``).
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        steps: int,
        classes: int,
        input_shape: tuple[int, ...] | None,
        coding: Encoder,
        readout: Readout,
        mode: Mode,
        state: State,
        timed: bool = False,
    ) -> None:
        super().__init__()
        self.module = module
        self.name = type(module).__name__
        self.steps = steps
        self.classes = classes
        self.input_shape = input_shape
        self.encoder = coding
        self.readout = readout
        self.mode = mode
        self.timed = timed
        self._takes_generator = mode == "images" and "generator" in parameters(module.forward)
        self.state: State = state
        self.carried = state_parameters(module) if mode == "step" else ()
        self._fresh = Fresh(module) if state == "keep" else None

    def forward(
        self, x: Float[Tensor, "B ..."], generator: torch.Generator | None = None
    ) -> Float[Tensor, "T B classes"]:
        """Outputs of every time step; hidden state is cleared before and after, unless it is kept on purpose.

        Raises:
            ConfigError: the module's output has not the shape of its mode.
        """
        self._clear()
        wanted = (self.steps, x.shape[0], self.classes)
        try:
            if self.mode == "images":
                x = x.reshape(*x.shape[:2], *step_shape(x.shape[2:])) if self.timed else x
                out = _spikes(self.module(x, generator=generator) if self._takes_generator else self.module(x))
                # T = B = C would leave the order open; [T, B, classes] is meant then.
                if tuple(out.shape) != wanted and tuple(out.shape) == (*wanted[1:], wanted[0]):
                    out = out.permute(2, 0, 1)
                return self._checked(out, wanted)
            if self.timed:
                coded = self.encoder.encode_steps(x.transpose(0, 1).contiguous(), generator)
                coded = coded.reshape(*coded.shape[:2], *step_shape(coded.shape[2:]))
            else:
                coded = self.encoder.encode(x, self.steps, generator).expand(self.steps, *x.shape)
            out = _spikes(self.module(coded)) if self.mode == "sequence" else self._step_by_step(coded)
        finally:
            self._clear()
        return self._checked(out, wanted)

    def _step_by_step(self, coded: Float[Tensor, "T B ..."]) -> Float[Tensor, "T B classes"]:
        """The module called T times; what it returns beside its output goes into its next call."""
        outs = []
        before = {}
        for step in coded:
            out = self.module(step, **before)
            outs.append(_spikes(out))
            if isinstance(out, tuple | list) and len(out) == 1 + len(self.carried):
                before = dict(zip(self.carried, out[1:], strict=True))
        return torch.stack(outs)

    def fresh(self) -> None:
        """Begin a participant's step: state that is kept between batches starts as when the network was made."""
        if self._fresh is not None:
            self._fresh.restore(self.module)

    def _clear(self) -> None:
        if self.state == "clear":
            reset(self.module)
        else:
            detach(self.module)  # gradients end with the batch

    def _checked(self, out: Tensor, wanted: tuple[int, ...]) -> Tensor:
        if tuple(out.shape) != wanted:
            raise ConfigError(
                f"{self.name} in mode '{self.mode}' gave outputs of shape {tuple(out.shape)}, not [T, B, classes] = "
                f"{wanted}; check steps and classes, or give the other mode to wrap()"
            )
        return out


def step_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Shape in which a user's module sees a time step: ``(F,)`` of F numbers, ``(F, W)`` of a window, ``(C, H, W)``."""
    channels, height, width = shape
    return (channels,) if height == width == 1 else (channels, width) if height == 1 else (channels, height, width)


def wrap(
    module: nn.Module,
    *,
    steps: int,
    classes: int,
    input_shape: tuple[int, ...] | None = None,
    coding: str | Encoder = "direct",
    readout: Readout = "spike",
    mode: Mode | None = None,
    timed: bool = False,
    state: State = "clear",
) -> WrappedNetwork:
    """Use any ``nn.Module`` as a client's network.

    The module maps ``[B, ...]`` to ``[B, classes]`` one time step at a time, or ``[T, B, ...]`` to ``[T, B, classes]``,
    or images ``[B, ...]`` to all steps at once, ``[T, B, classes]`` or ``[B, classes, T]`` (mode ``images``).
    If it returns a tuple (snnTorch's spikes and membrane), the first entry counts; called step by step, what stands
    behind it goes into the next call where ``forward`` has a parameter for it (``state=None``, ``mem=None``: norse's
    cells, networks that nirtorch made). Hidden state is cleared around every call by walking the submodules (`reset`),
    so that two networks never share or keep any.

    Args:
        module: taken over as it is, not copied.
        steps: T.
        classes: number of outputs.
        input_shape: ``(C, H, W)``, for `describe`.
        coding: pixels to input; under direct coding the module gets the same image at every step.
        readout: ``spike`` when outputs are 0 or 1, ``current`` when their mean over T are logits.
        mode: ``step``, ``sequence`` or ``images``; when None, ``sequence`` if a neuron in it works on sequences, as
            ours and SpikingJelly's in ``step_mode = "m"`` do, else ``step``.
        timed: the data have time steps of their own, ``[B, T, C, H, W]``.
        state: ``keep`` leaves hidden state from call to call, until `WrappedNetwork.fresh`.

    Raises:
        ConfigError: T below 1, or an unknown mode, state or coding.
    """
    if steps < 1:
        raise ConfigError(f"a network needs at least 1 time step but steps is {steps}; 8 is the papers' choice")
    if state not in ("clear", "keep"):
        raise ConfigError(f"state '{state}' is not known; use 'clear' or 'keep'")
    if mode not in (None, "step", "sequence", "images"):
        raise ConfigError(f"mode '{mode}' is not known; use 'step', 'sequence' or 'images'")
    if mode is None:
        mode = "sequence" if has_sequence_neurons(module) else "step"
    return WrappedNetwork(
        module,
        steps=steps,
        classes=classes,
        input_shape=None if input_shape is None else tuple(input_shape),
        coding=encoder(coding) if isinstance(coding, str) else coding,
        readout=readout,
        mode=mode,
        timed=timed,
        state=state,
    )


def has_sequence_neurons(module: nn.Module) -> bool:
    """Whether a neuron in it works on whole sequences: ours, or SpikingJelly's with ``step_mode = "m"``."""
    return any(isinstance(m, LIF) or getattr(m, "step_mode", "s") == "m" for m in module.modules())


def state_parameters(module: nn.Module) -> tuple[str, ...]:
    """The parameters of ``forward`` behind its first that may be left out and have one of the names in `STATES`."""
    behind = list(parameters(module.forward).items())[1:]
    return tuple(name for name, parameter in behind if parameter.default is None and name in STATES)


def _spikes(out: object) -> Tensor:
    value = out[0] if isinstance(out, tuple | list) else out
    if not isinstance(value, Tensor):
        raise ConfigError(f"the wrapped module returned {type(value).__name__}; it must return spikes as a tensor")
    return value
