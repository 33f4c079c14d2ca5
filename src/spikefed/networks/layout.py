"""The layout notation of the SNN papers: ``128C3-256C3-AP2-1024FC`` to a checked list of layer sizes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod

from spikefed.errors import ConfigError
from spikefed.networks.pools import TWO_BY_TWO, Pool, Pooling, check_pooling

_TOKEN = re.compile(r"(?P<channels>\d{1,18})C(?P<kernel>\d{1,9})|(?P<pool>AP2?|GAP)|(?P<features>\d{1,18})FC")


@dataclass(frozen=True)
class LayerPlan:
    """Sizes of one layer; shapes are per sample and time step.

    Attributes:
        name: ``conv1``, ``conv2``, ..., ``fc1``, ...; the prefix of its tensors in the state dict.
        kind: ``conv`` (padding keeps the size, but for the stride), ``linear``, or ``pass`` (no weights).
        in_shape: ``(C, H, W)`` or ``(F,)``.
        map_shape: shape after the weights, before pooling.
        kernel: width of the convolution kernel; 0 without one.
        pool: a pool follows the neurons (what is left of a map beside its last window is dropped).
        stride: of the convolution.
        window: that pool; usually the 2x2 average.
    """

    name: str
    kind: str
    in_shape: tuple[int, ...]
    map_shape: tuple[int, ...]
    kernel: int
    pool: bool
    stride: int = 1
    window: Pool = TWO_BY_TWO

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape after pooling."""
        return self.window.out_shape(self.map_shape) if self.pool else self.map_shape

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the weights per sample and time step: O^2 C_in k^2 C_out, or in * out."""
        if self.kind == "pass":
            return 0
        if self.kind == "conv":
            return prod(self.map_shape) * self.in_shape[0] * self.kernel**2
        return prod(self.in_shape) * prod(self.map_shape)


def strided(side: int, stride: int) -> int:
    """Side of a map after a convolution of that stride whose padding keeps the size otherwise."""
    return -(-side // stride)


def check_sizes(input_shape: tuple[int, ...], classes: int) -> None:
    """Refuse what no network can be built for.

    Raises:
        ConfigError: an input shape that is not ``(C, H, W)``, or fewer than two classes.
    """
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise ConfigError(f"input shape {_text(input_shape)} is not channels x height x width, for example 3x32x32")
    if classes < 2:
        raise ConfigError(f"a network with {classes} classes cannot classify; use at least 2 classes")


def parse_layout(
    layout: str, input_shape: tuple[int, ...], classes: int, pooling: Pooling = "average"
) -> list[LayerPlan]:
    """Size every layer of ``layout``; a final linear layer to ``classes`` is added.

    Tokens, joined by ``-``: ``nCk`` convolution with n kernels of odd width k; ``AP2`` (or ``AP``) 2x2 average pool of
    the spikes before it; ``GAP`` their mean over the whole map; ``nFC`` linear. The flatten size follows from
    ``input_shape`` ``(C, H, W)``.

    Args:
        layout: the tokens.
        input_shape: ``(C, H, W)``.
        classes: of the final layer.
        pooling: ``average`` as written; ``max`` takes the largest value where ``AP2`` stands; ``stride`` gives the
            convolution before it a stride of 2 instead, and leaves ``GAP`` out, so that all of the map is flattened.

    Raises:
        ConfigError: an unknown token, a token out of order, an input shape that is not ``(C, H, W)``, fewer than two
            classes, or an input too small for the pools (the text names the smallest that fits).
    """
    check_sizes(input_shape, classes)
    check_pooling(pooling)
    tokens = layout.split("-")
    smallest = 1 if pooling == "stride" else 2 ** sum(token.startswith("AP") for token in tokens)
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
            raise ConfigError(f"'{token}' in layout {layout} is not known; use nCk, AP2, GAP and nFC joined by '-'")
        if any(number is not None and int(number) < 1 for number in match.group("channels", "kernel", "features")):
            raise ConfigError(f"'{token}' in layout {layout} has a size of 0; give 1 or more")
        following = tokens[index + 1] if index + 1 < len(tokens) else ""
        if match["channels"]:
            if linears or int(match["kernel"]) % 2 == 0:
                raise ConfigError(f"'{token}' in layout {layout}: convolutions come before FC and have an odd width")
            convs += 1
            window = _window(following, pooling)
            stride = 2 if pooling == "stride" and following.startswith("AP") else 1
            out = (int(match["channels"]), *(strided(side, stride) for side in shape[1:]))
            pool = window is not None
            kernel = int(match["kernel"])
            plans.append(LayerPlan(f"conv{convs}", "conv", shape, out, kernel, pool, stride, window or TWO_BY_TWO))
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


def _window(token: str, pooling: Pooling) -> Pool | None:
    """The pool that a token after a convolution asks for."""
    if pooling == "stride" or token not in ("AP", "AP2", "GAP"):
        return None
    if token == "GAP":
        return Pool(size=0)
    return Pool("max") if pooling == "max" else TWO_BY_TWO


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
