"""The layout notation of the SNN papers: ``128C3-256C3-AP2-1024FC`` to a checked list of layer sizes.

A 1-d convolution is a 2-d one whose kernel has a single row: ``32C1x5-AP1x2`` convolves and pools along the width.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod

from spikefed.errors import ConfigError
from spikefed.networks.pools import ALONG, TWO_BY_TWO, Pool, Pooling, check_pooling
from spikefed.neurons import Sides, pair

_TOKEN = re.compile(
    r"(?P<channels>\d{1,18})C(?P<line>1x)?(?P<kernel>\d{1,9})|(?P<pool>AP2?|AP1x2|GAP)|(?P<features>\d{1,18})FC"
)


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
        line: the convolution goes along the width alone (1-d): its kernel has one row, its stride is that of columns.
    """

    name: str
    kind: str
    in_shape: tuple[int, ...]
    map_shape: tuple[int, ...]
    kernel: int
    pool: bool
    stride: int = 1
    window: Pool = TWO_BY_TWO
    line: bool = False

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape after pooling."""
        return self.window.out_shape(self.map_shape) if self.pool else self.map_shape

    @property
    def kernel_size(self) -> tuple[int, int]:
        """Rows and columns of the convolution's kernel."""
        return (1 if self.line else self.kernel), self.kernel

    @property
    def strides(self) -> Sides:
        """Of the convolution; a pair where rows and columns differ."""
        return (1, self.stride) if self.line else self.stride

    @property
    def padding(self) -> Sides:
        """Zeros around the map, which keep its size at stride 1; a pair where rows and columns differ."""
        return (0, self.kernel // 2) if self.line else self.kernel // 2

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the weights per sample and time step: O^2 C_in k^2 C_out, or in * out.

        Of a 1-d convolution L C_in k C_out.
        """
        if self.kind == "pass":
            return 0
        if self.kind == "conv":
            return prod(self.map_shape) * self.in_shape[0] * prod(self.kernel_size)
        return prod(self.in_shape) * prod(self.map_shape)


def strided(side: int, stride: int) -> int:
    """Side of a map after a convolution of that stride whose padding keeps the size otherwise."""
    return -(-side // stride)


def convolved(channels: int, shape: tuple[int, ...], stride: int, line: bool = False) -> tuple[int, ...]:
    """Shape ``(C, H, W)`` of a convolution of ``shape`` with that stride, of columns alone with ``line``.

    Args:
        channels: of the result.
        shape: ``(C, H, W)`` of what enters.
        stride: of the convolution.
        line: it goes along the width alone.
    """
    rows, columns = pair((1, stride) if line else stride)
    return channels, strided(shape[1], rows), strided(shape[2], columns)


def check_pools(layout: str, tokens: list[str], input_shape: tuple[int, ...], pooling: Pooling = "average") -> None:
    """Refuse a layout whose pools leave nothing of the input.

    Args:
        layout: as written, for the error.
        tokens: of the layout.
        input_shape: ``(C, H, W)``.
        pooling: ``stride`` leaves at least one place whatever the size.

    Raises:
        ConfigError: the text names the smallest input that fits.
    """
    wide = 0 if pooling == "stride" else sum(token.startswith("AP") for token in tokens)
    high = 0 if pooling == "stride" else wide - tokens.count("AP1x2")
    channels, height, width = input_shape
    if height < 2**high or width < 2**wide:
        raise ConfigError(
            f"input {_text(input_shape)} is too small for layout {layout}; its pools need at least "
            f"{channels}x{2**high}x{2**wide}"
        )


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
    the spikes before it; ``nC1xk`` and ``AP1x2`` the same along the width alone (series); ``GAP`` their mean over the
    whole map; ``nFC`` linear. The flatten size follows from ``input_shape`` ``(C, H, W)``.

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
    check_pools(layout, tokens, input_shape, pooling)
    plans: list[LayerPlan] = []
    shape: tuple[int, ...] = tuple(input_shape)
    convs = linears = 0
    for index, token in enumerate(tokens):
        match = _TOKEN.fullmatch(token)
        if match is None:
            raise ConfigError(
                f"'{token}' in layout {layout} is not known; use nCk, AP2, GAP and nFC joined by '-', or nC1xk and "
                "AP1x2 along the width of series"
            )
        if any(number is not None and int(number) < 1 for number in match.group("channels", "kernel", "features")):
            raise ConfigError(f"'{token}' in layout {layout} has a size of 0; give 1 or more")
        following = tokens[index + 1] if index + 1 < len(tokens) else ""
        if match["channels"]:
            if linears or int(match["kernel"]) % 2 == 0:
                raise ConfigError(f"'{token}' in layout {layout}: convolutions come before FC and have an odd width")
            convs += 1
            window = _window(following, pooling)
            stride = 2 if pooling == "stride" and following.startswith("AP") else 1
            line = match["line"] is not None
            if following.startswith("AP") and line != (following == "AP1x2"):
                raise ConfigError(
                    f"'{following}' after '{token}' in layout {layout}: AP1x2 follows nC1xk, AP2 follows nCk, so that "
                    "a map shrinks as it is convolved"
                )
            out = convolved(int(match["channels"]), shape, stride, line)
            pool = window is not None
            kernel = int(match["kernel"])
            window = window or TWO_BY_TWO
            plans.append(LayerPlan(f"conv{convs}", "conv", shape, out, kernel, pool, stride, window, line))
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
    if pooling == "stride" or token not in ("AP", "AP2", "AP1x2", "GAP"):
        return None
    if token == "GAP":
        return Pool(size=0)
    if token == "AP1x2":
        return Pool("max", line=True) if pooling == "max" else ALONG
    return Pool("max") if pooling == "max" else TWO_BY_TWO


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
