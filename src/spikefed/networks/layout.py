"""The layout notation of the SNN papers: ``128C3-256C3-AP2-1024FC`` to a checked list of layer sizes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod

from spikefed.errors import ConfigError

_TOKEN = re.compile(r"(?P<channels>\d+)C(?P<kernel>\d+)|(?P<pool>AP2?)|(?P<features>\d+)FC")


@dataclass(frozen=True)
class LayerPlan:
    """Sizes of one layer; shapes are per sample and time step.

    Attributes:
        name: ``conv1``, ``conv2``, ..., ``fc1``, ...; the prefix of its tensors in the state dict.
        kind: ``conv`` (stride 1, padding keeps the size) or ``linear``.
        in_shape: ``(C, H, W)`` or ``(F,)``.
        map_shape: shape after the weights, before pooling.
        kernel: width of the convolution kernel; 0 for linear.
        pool: a 2x2 average pool follows the neurons (an odd last row or column is left out).
    """

    name: str
    kind: str
    in_shape: tuple[int, ...]
    map_shape: tuple[int, ...]
    kernel: int
    pool: bool

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape after pooling."""
        if not self.pool:
            return self.map_shape
        channels, height, width = self.map_shape
        return channels, height // 2, width // 2

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the weights per sample and time step: O^2 C_in k^2 C_out, or in * out."""
        if self.kind == "conv":
            return prod(self.map_shape) * self.in_shape[0] * self.kernel**2
        return prod(self.in_shape) * prod(self.map_shape)


def parse_layout(layout: str, input_shape: tuple[int, ...], classes: int) -> list[LayerPlan]:
    """Size every layer of ``layout``; a final linear layer to ``classes`` is added.

    Tokens, joined by ``-``: ``nCk`` convolution with n kernels of odd width k; ``AP2`` (or ``AP``) 2x2 average pool of
    the spikes before it; ``nFC`` linear. The flatten size follows from ``input_shape`` ``(C, H, W)``.

    Raises:
        ConfigError: an unknown token, a token out of order, an input shape that is not ``(C, H, W)``, fewer than two
            classes, or an input too small for the pools (the text names the smallest that fits).
    """
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise ConfigError(f"input shape {_text(input_shape)} is not channels x height x width, for example 3x32x32")
    if classes < 2:
        raise ConfigError(f"a network with {classes} classes cannot classify; use at least 2 classes")
    tokens = layout.split("-")
    smallest = 2 ** sum(token.startswith("AP") for token in tokens)
    if min(input_shape[1:]) < smallest:
        raise ConfigError(
            f"input {_text(input_shape)} is too small for layout {layout}; its pools need at least "
            f"{input_shape[0]}x{smallest}x{smallest}"
        )
    plans: list[LayerPlan] = []
    shape: tuple[int, ...] = tuple(input_shape)
    convs = linears = 0
    for index, token in enumerate(tokens):
        match = _TOKEN.fullmatch(token)
        if match is None:
            raise ConfigError(f"'{token}' in layout {layout} is not known; use nCk, AP2 and nFC joined by '-'")
        following = tokens[index + 1] if index + 1 < len(tokens) else ""
        if match["channels"]:
            if linears or int(match["kernel"]) % 2 == 0:
                raise ConfigError(f"'{token}' in layout {layout}: convolutions come before FC and have an odd width")
            convs += 1
            out = (int(match["channels"]), *shape[1:])
            plans.append(
                LayerPlan(f"conv{convs}", "conv", shape, out, int(match["kernel"]), following.startswith("AP"))
            )
        elif match["pool"]:
            if index == 0 or "C" not in tokens[index - 1] or "FC" in tokens[index - 1]:
                raise ConfigError(f"'{token}' in layout {layout} must follow a convolution")
            continue
        else:
            linears += 1
            plans.append(LayerPlan(f"fc{linears}", "linear", shape, (int(match["features"]),), 0, False))
        shape = plans[-1].out_shape
    plans.append(LayerPlan(f"fc{linears + 1}", "linear", shape, (classes,), 0, False))
    return plans


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
