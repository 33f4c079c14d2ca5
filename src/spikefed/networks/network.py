"""Networks as a row of layers: the spiking network, time folded into the batch, and its ANN twin."""

from __future__ import annotations

from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spikefed.errors import ConfigError
from spikefed.networks.layers import PlannedLayer, ReLULayer, SpikingLayer, WeightedLayer, chained, tailored, through
from spikefed.neurons import Direct, Encoder, settle_precision
from spikefed.neurons.encoding import encode_input

Readout = Literal["spike", "current"]
"""``spike``: a LIF after the last weights, outputs 0 or 1. ``current``: the raw weighted sums of each step."""


Precision = Literal["float32", "bfloat16"]
"""Of products and activations."""


class LayeredNetwork(nn.Module):
    """Layers called one after the other; their names are the prefixes of the tensors in the state dict.

    Attributes:
        name: zoo name or layout.
        input_shape: ``(C, H, W)`` of one image.
        classes: number of outputs.
    """

    def __init__(self, name: str, input_shape: tuple[int, ...], layers: list[WeightedLayer]) -> None:
        super().__init__()
        self.name = name
        self.input_shape = tuple(input_shape)
        self._names = [layer.plan.name for layer in layers]
        for layer in layers:
            self.add_module(layer.plan.name, layer)

    @property
    def places(self) -> list[PlannedLayer]:
        """All layers in order, those without weights too."""
        return [cast(PlannedLayer, self.get_submodule(name)) for name in self._names]

    @property
    def layers(self) -> list[WeightedLayer]:
        """The layers that have weights, in order."""
        return [layer for layer in self.places if isinstance(layer, WeightedLayer)]

    @property
    def classes(self) -> int:
        """Number of outputs."""
        return self.layers[-1].plan.map_shape[0]

    steps: int

    def has_time(self, x: Tensor) -> bool:
        """Whether a batch has steps of its own, ``[B, T, C, H, W]``."""
        return x.ndim == len(self.input_shape) + 2

    def check_input(self, x: Tensor) -> None:
        """Raise ConfigError unless ``x`` is ``[B, C, H, W]`` or ``[B, T, C, H, W]`` of this network's input shape."""
        timed = self.has_time(x)
        if tuple(x.shape[1 + timed :]) != self.input_shape:
            raise ConfigError(
                f"network {self.name} was built for images {'x'.join(map(str, self.input_shape))} but got a batch of "
                f"shape {tuple(x.shape)}; build it with input_shape={tuple(x.shape[1 + timed :])}"
            )
        if timed and x.shape[1] != self.steps:
            raise ConfigError(
                f"network {self.name} has {self.steps} time step{'s' * (self.steps > 1)} but got data of {x.shape[1]}; "
                f"resample them, or build it with steps={x.shape[1]}"
            )


class SpikingNetwork(LayeredNetwork):
    """A feed-forward spiking network that keeps no state between calls.

    Layer by layer instead of step by step: every layer sees all T time steps at once, ``[T*B, ...]``. Under direct
    coding the first layer's weights are applied once and the same current is injected T times.

    Attributes:
        steps: T, time steps per image; may be changed unless the norm is BNTT.
        encoder: pixels to input currents or spikes.
        readout: ``spike`` or ``current``.
        precision: of products and activations, ``float32`` or ``bfloat16`` (autocast); weights, membranes, statistics
            and outputs stay float32. May be changed at any time; ``auto`` stands for the faster one here.
    """

    _precision = "float32"

    def __init__(
        self,
        name: str,
        input_shape: tuple[int, ...],
        layers: list[SpikingLayer],
        *,
        steps: int,
        encoder: Encoder,
    ) -> None:
        super().__init__(name, input_shape, list(layers))
        self.steps = steps
        self.encoder = encoder

    @property
    def precision(self) -> str:
        """See the class."""
        return self._precision

    @precision.setter
    def precision(self, asked: str) -> None:
        self._precision = settle_precision(asked)

    @property
    def readout(self) -> Readout:
        """``spike`` when the last layer has neurons, else ``current``."""
        return "current" if getattr(self.layers[-1], "neuron", None) is None else "spike"

    def once(self, name: str) -> bool:
        """Whether what enters a layer is the same at every step, so that its weights are applied once."""
        return isinstance(self.encoder, Direct) and name == self._names[0]

    def takes_spikes(self, name: str) -> bool:
        """Whether spikes (or means or sums of spikes) enter a layer, and no real numbers."""
        return not self.once(name)

    def charges(self, name: str) -> str | None:
        """The layer whose weights charge a layer's neurons: itself, or of neurons behind a sum its first branch's.

        None where only the image enters.
        """
        return name

    def forward(
        self, x: Float[Tensor, "B ..."], generator: torch.Generator | None = None
    ) -> Float[Tensor, "T B classes"]:
        """Outputs of every time step.

        Args:
            x: images ``[B, C, H, W]`` in the range that the coding expects (Bernoulli [0, 1], signed Poisson [-1, 1],
                direct any); or data with steps of their own, ``[B, T, C, H, W]``, one for each step of the network.
            generator: source of the input coding's randomness; torch's global one when None.

        Returns:
            0/1 spikes with the surrogate's gradient (``readout="spike"``), or the current of each step, whose mean over
            T are the logits (``readout="current"``).

        Raises:
            ConfigError: the batch has another image shape, or T differs from a BNTT network's.
        """
        self.check_input(x)
        if self.precision == "float32":  # no autocast(enabled=False) here: it would undo one that the caller set
            return self._outputs(x, generator)
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            return self._outputs(x, generator)

    def _outputs(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        y, repeat = encode_input(self.encoder, x, self.steps, generator, self.has_time(x))
        out = chained(self.layers, y, self.steps, repeat)
        y = self._in_turn(y, repeat) if out is None else out
        return y.unflatten(0, (self.steps, -1)).to(x.dtype)

    def _in_turn(self, y: Tensor, repeat: bool) -> Tensor:
        """The layers one after the other."""
        layers = self.layers
        if tailored(layers):
            return through(
                layers, y, lambda layer, x, place, outs: layer(x, self.steps, repeat and not place, earlier=outs)
            )
        for layer in layers:
            y = layer(y, self.steps, repeat)
            repeat = False
        return y

    def extra_repr(self) -> str:
        """Constants, for ``print(net)``."""
        return f"steps={self.steps}, encoder={self.encoder}, readout={self.readout}"


class ANNNetwork(LayeredNetwork):
    """The ANN twin: the same weights and tensor names, ReLU for the neurons, one pass instead of T steps.

    Its outputs are logits, shaped ``[1, B, classes]``: every loop and loss for spiking networks takes it as T = 1.

    Attributes:
        steps: 1.
        readout: ``current``.
    """

    steps = 1
    readout: Readout = "current"
    encoder: Encoder = Direct()

    def __init__(self, name: str, input_shape: tuple[int, ...], layers: list[ReLULayer]) -> None:
        super().__init__(name, input_shape, list(layers))

    def forward(
        self, x: Float[Tensor, "B ..."], generator: torch.Generator | None = None
    ) -> Float[Tensor, "1 B classes"]:
        """Logits; ``generator`` is the source of dropout, where a layer has one.

        Raises:
            ConfigError: the batch has another image shape.
        """
        self.check_input(x)
        return self._logits(x, generator).unsqueeze(0)

    def _logits(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        layers = self.layers
        if tailored(layers):
            return through(layers, x, lambda layer, y, _, outs: layer(y, generator, outs))
        for layer in layers:
            x = layer(x, generator)
        return x
