"""A user's own module, or a SpikingJelly or snnTorch network, behind the interface of `SpikingNetwork`.

Neither library is imported: their modules are known by what they carry (`reset`, `reset_mem`, `step_mode`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.networks.network import Readout
from spikefed.networks.roles import is_neuron
from spikefed.neurons import LIF, Encoder, encoder
from spikefed.objects import parameters

Mode = Literal["step", "sequence", "images"]
"""``step``: the module takes ``[B, ...]`` and is called T times. ``sequence``: it takes ``[T, B, ...]`` once.
``images``: it takes ``[B, ...]`` once, makes its own steps and gives ``[T, B, classes]`` or ``[B, classes, T]``."""

_RESETS = ("reset_mem", "reset_states", "reset")


class WrappedNetwork(nn.Module):
    """Any module as a spiking network that keeps no state between calls; made by `wrap`.

    Attributes:
        module: the user's module; its tensors appear in the state dict under ``module.``.
        steps, classes, input_shape, encoder, readout: as in `SpikingNetwork`.
        mode: how time is fed.
        timed: the data have time steps of their own, ``[B, T, C, H, W]``; the module then sees them as
            `step_shape` says.
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
        timed: bool = False,
    ) -> None:
        super().__init__()
        self.module = module
        self.name = type(module).__name__
        self.steps, self.classes, self.input_shape = steps, classes, input_shape
        self.encoder, self.readout, self.mode = coding, readout, mode
        self.timed = timed
        self._takes_generator = mode == "images" and "generator" in parameters(module.forward)

    def forward(
        self, x: Float[Tensor, "B ..."], generator: torch.Generator | None = None
    ) -> Float[Tensor, "T B classes"]:
        """Outputs of every time step; hidden state is cleared before and after.

        Raises:
            ConfigError: the module's output has not the shape of its mode.
        """
        reset(self.module)
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
            if self.mode == "sequence":
                out = _spikes(self.module(coded))
            else:
                out = torch.stack([_spikes(self.module(step)) for step in coded])
        finally:
            reset(self.module)
        return self._checked(out, wanted)

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
) -> WrappedNetwork:
    """Use any ``nn.Module`` as a client's network.

    The module maps ``[B, ...]`` to ``[B, classes]`` one time step at a time, or ``[T, B, ...]`` to ``[T, B, classes]``,
    or images ``[B, ...]`` to all steps at once, ``[T, B, classes]`` or ``[B, classes, T]`` (mode ``images``).
    If it returns a tuple (snnTorch's spikes and membrane), the first entry counts. Hidden state is cleared around every
    call by walking the submodules (`reset`), so that two networks never share or keep any.

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

    Raises:
        ConfigError: T below 1, or an unknown mode or coding.
    """
    if steps < 1:
        raise ConfigError(f"a network needs at least 1 time step but steps is {steps}; 8 is the papers' choice")
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
    )


def has_sequence_neurons(module: nn.Module) -> bool:
    """Whether a neuron in it works on whole sequences: ours, or SpikingJelly's with ``step_mode = "m"``."""
    return any(isinstance(m, LIF) or getattr(m, "step_mode", "s") == "m" for m in module.modules())


def reset(module: nn.Module) -> None:
    """Clear the hidden state of every submodule that keeps one, and of no other network.

    Called per submodule, the first it has: ``reset_mem()`` (snnTorch), ``reset_states()`` (sinabs), ``reset()``
    (SpikingJelly). snnTorch's own ``utils.reset`` is avoided: it clears all networks of the process.
    """
    for part in module.modules():
        for name in _RESETS:
            method = getattr(part, name, None)
            if callable(method):
                method()
                break
        if is_neuron(part):
            _detach_state(part)


def _detach_state(neuron: nn.Module) -> None:
    """Cut state tensors that a library's reset left in the last call's graph; such a module cannot be copied."""
    for name, value in list(vars(neuron).items()) + list(neuron._buffers.items()):
        if isinstance(value, Tensor) and not isinstance(value, nn.Parameter) and value.grad_fn is not None:
            setattr(neuron, name, value.detach())


def _spikes(out: object) -> Tensor:
    value = out[0] if isinstance(out, tuple | list) else out
    if not isinstance(value, Tensor):
        raise ConfigError(f"the wrapped module returned {type(value).__name__}; it must return spikes as a tensor")
    return value
