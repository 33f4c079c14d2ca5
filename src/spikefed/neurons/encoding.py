"""From pixels, or from numbers with a time axis, to input currents or spikes.

Every encoder is a frozen, stateless object; randomness comes from the generator. ``encode`` makes T steps of one image,
``encode_steps`` codes data that have their own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor

from spikefed.errors import ConfigError

Gradient = Literal["stop", "straight"]
"""What a coder that draws or rounds passes back to the image: nothing, or the gradient straight through.

``straight`` takes the spikes for their expectation (Bengio et al., arXiv 1308.3432, section 4; as an attack: backward
pass differentiable approximation, Athalye et al., ICML 2018). Training asks for no gradient of the image: it is alike.
"""


class _Straight(torch.autograd.Function):
    """The spikes forward, ``slope`` times the gradient backward to what they were made of, of the same shape."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, spikes: Tensor, slope: float | Tensor) -> Tensor:
        ctx.slope = slope
        return spikes.view_as(spikes)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return grads[0] * ctx.slope, None, None


def _passed(x: Tensor, spikes: Tensor, slope: float | Tensor, gradient: Gradient) -> Tensor:
    """The spikes ``[T, B, ...]`` of ``x [B, ...]`` or ``[T, B, ...]``, with the gradient that was chosen."""
    if gradient == "stop" or not x.requires_grad:
        return spikes
    return cast(Tensor, _Straight.apply(x.expand_as(spikes), spikes, slope))


@dataclass(frozen=True)
class Direct:
    """The real-valued image is the current of every step (DTSNN's encoding layer); returned once, as ``[1, B,
    ...]``.
    """

    name: ClassVar[str] = "direct"
    widens: ClassVar[int] = 1

    def encode(
        self, x: Float[Tensor, " B *rest"], steps: int, generator: torch.Generator | None = None
    ) -> Float[Tensor, "1 B *rest"]:
        _check_steps(steps)
        return x.unsqueeze(0)

    def encode_steps(
        self, x: Float[Tensor, "T B *rest"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "T B *rest"]:
        """The values of each step are its currents."""
        return x


@dataclass(frozen=True)
class Bernoulli:
    """Spike with probability = pixel: o_t = 1[pixel > U(0, 1)] (public STBP and HDSFL code). Pixels in [0, 1].

    Attributes:
        gradient: what reaches the pixels; straight through, that of the probability: 1.
    """

    gradient: Gradient = field(default="stop", repr=False)
    name: ClassVar[str] = "bernoulli"
    widens: ClassVar[int] = 1

    def encode(
        self, x: Float[Tensor, " B *rest"], steps: int, generator: torch.Generator | None = None
    ) -> Float[Tensor, "T B *rest"]:
        return self.spikes(x, _uniform(x, steps, generator))

    def encode_steps(
        self, x: Float[Tensor, "T B *rest"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "T B *rest"]:
        """A draw for every value of every step."""
        return self.spikes(x, _uniform(x[0], len(x), generator))

    def spikes(self, x: Tensor, uniform: Float[Tensor, "T B *rest"]) -> Float[Tensor, "T B *rest"]:
        """The spikes of ``x [B, ...]`` or ``[T, B, ...]`` that these random numbers in [0, 1) give."""
        return _passed(x, (x > uniform).to(x.dtype), 1.0, self.gradient)


@dataclass(frozen=True)
class SignedPoisson:
    """o_t = sign(x) * 1[2 U(0, 1) <= |x|], so firing probability |x| / 2 and spikes in {-1, 0, 1} (V-SNN).

    Pixels in [-1, 1].

    Attributes:
        gradient: what reaches the pixels; straight through, that of the expectation x / 2: 1 / 2.
    """

    gradient: Gradient = field(default="stop", repr=False)
    name: ClassVar[str] = "poisson"
    widens: ClassVar[int] = 1

    def encode(
        self, x: Float[Tensor, " B *rest"], steps: int, generator: torch.Generator | None = None
    ) -> Float[Tensor, "T B *rest"]:
        return self.spikes(x, _uniform(x, steps, generator))

    def encode_steps(
        self, x: Float[Tensor, "T B *rest"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "T B *rest"]:
        """A draw for every value of every step."""
        return self.spikes(x, _uniform(x[0], len(x), generator))

    def spikes(self, x: Tensor, uniform: Float[Tensor, "T B *rest"]) -> Float[Tensor, "T B *rest"]:
        """The spikes of ``x [B, ...]`` or ``[T, B, ...]`` that these random numbers in [0, 1) give."""
        fired = x.sign() * (2 * uniform <= x.abs()).to(x.dtype)
        return _passed(x, fired, 0.5, self.gradient)


@dataclass(frozen=True)
class Latency:
    """Time to first spike: a pixel fires once, the brighter the earlier, at step round((1 - x)(T - 1)); 0 never does.

    Pixels in [0, 1]; what lies beyond counts as 0 or 1. Thorpe, Fize and Marlot, Nature 381 (1996), in the linear form
    of snnTorch's ``latency`` encoder. Nothing is drawn.

    Attributes:
        gradient: what reaches the pixels; straight through, that of the tent max(0, 1 - |t - (1 - x)(T - 1)|) around
            the time of the spike; of a black pixel, which has none, that of the last step's.
    """

    gradient: Gradient = field(default="stop", repr=False)
    name: ClassVar[str] = "latency"
    widens: ClassVar[int] = 1

    def encode(
        self, x: Float[Tensor, " B *rest"], steps: int, generator: torch.Generator | None = None
    ) -> Float[Tensor, "T B *rest"]:
        _check_steps(steps)
        at = (1 - x.detach().clamp(0, 1)) * (steps - 1)
        time = torch.arange(steps, dtype=x.dtype, device=x.device).view(-1, *[1] * x.dim())
        spikes = ((at.round() == time) & (x > 0)).to(x.dtype)
        slope: Tensor | float = 0.0
        if self.gradient == "straight":
            # d tent / dx: a brighter pixel moves its spike, at `at`, to earlier steps; a black one gains its first.
            off = at - time
            slope = (steps - 1) * off.sign() * (off.abs() < 1)
            slope = torch.where((x.detach() <= 0) & (time == steps - 1), float(max(steps - 1, 1)), slope)
        return _passed(x, spikes, slope, self.gradient)

    def encode_steps(
        self, x: Float[Tensor, "T B *rest"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "T B *rest"]:
        """Refused: data with a time axis have their own times."""
        raise ConfigError(
            "coding 'latency' turns one image into spike times, and these data have a time axis; use direct or delta"
        )


@dataclass(frozen=True)
class SendOnDelta:
    """Spikes where a value has moved by ``threshold`` since the last spike, up and down on channels of their own.

    The reference starts at the first sample and moves by the thresholds that were crossed, n = trunc((x - r) / delta).
    Channels 0 to C - 1 carry steps up, C to 2C - 1 steps down. In ``[T, B, C, 1, W]`` the width is time within a step:
    sample w of step t comes before sample w + 1, and the reference goes on from step to step. Send-on-delta sampling:
    Miskowicz, Sensors 6(1), 2006; its spike form: level-crossing sampling of event cameras and asynchronous ADCs.

    Attributes:
        threshold: delta > 0, in the input's own units.
        graded: give the number of crossings instead of 1; then r stays within delta of every sample.
    """

    threshold: float = 0.5
    graded: bool = False
    name: ClassVar[str] = "delta"
    widens: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if not 0 < self.threshold < float("inf"):
            raise ConfigError(f"send-on-delta needs a threshold above 0, not {self.threshold}; 0.5 deviations is usual")

    def encode(self, x: Tensor, steps: int, generator: torch.Generator | None = None) -> Tensor:
        """Refused: an image that does not change crosses no threshold."""
        raise ConfigError(
            "coding 'delta' spikes at changes in time, and images have none; use direct, or give a series"
        )

    def encode_steps(
        self, x: Float[Tensor, "T B C *rest"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "T B D *rest"]:
        """Spikes of twice as many channels; not differentiable with respect to ``x``."""
        folded = x.ndim == 5 and x.shape[3] == 1 and x.shape[4] > 1
        samples = x.permute(0, 4, 1, 2, 3).flatten(0, 1) if folded else x
        with torch.no_grad():
            spikes = self._crossings(samples)
        return spikes.unflatten(0, (len(x), -1)).permute(0, 2, 3, 4, 1).contiguous() if folded else spikes

    def _crossings(self, samples: Tensor) -> Tensor:
        """``[L, B, C, ...]`` to ``[L, B, 2C, ...]``."""
        reference = samples[0].clone()
        out = []
        for sample in samples:
            crossed = torch.trunc((sample - reference) / self.threshold)
            reference = reference + crossed * self.threshold
            both = torch.cat([crossed.clamp_min(0), (-crossed).clamp_min(0)], dim=1)
            out.append(both if self.graded else both.clamp_max(1))
        return torch.stack(out)


Encoder = Direct | Bernoulli | SignedPoisson | Latency | SendOnDelta
ENCODERS: dict[str, type[Direct] | type[Bernoulli] | type[SignedPoisson] | type[Latency] | type[SendOnDelta]] = {
    "direct": Direct,
    "bernoulli": Bernoulli,
    "poisson": SignedPoisson,
    "latency": Latency,
    "delta": SendOnDelta,
}


def encoder(name: str | Encoder) -> Encoder:
    """``direct``, ``bernoulli``, ``poisson`` (signed), ``latency`` or ``delta``; an encoder object passes through.

    Raises:
        ConfigError: unknown name.
    """
    if not isinstance(name, str):
        return name
    if name not in ENCODERS:
        raise ConfigError(f"unknown input coding '{name}'; use one of {', '.join(ENCODERS)}")
    return ENCODERS[name]()


def encode_input(
    coder: Encoder, x: Tensor, steps: int, generator: torch.Generator | None, timed: bool
) -> tuple[Float[Tensor, "N ..."], bool]:
    """Input of a network that runs layer by layer, time folded into the batch.

    Args:
        coder: the input coding.
        x: ``[B, ...]``; ``timed`` ``[B, T, ...]``, whose steps are the network's.
        steps: T.
        generator: source of the coding's randomness.
        timed: whether ``x`` has a time axis.

    Returns:
        ``[T*B, ...]`` (row t*B + b), or ``[B, ...]`` where every step is alike; and whether that is so.
    """
    if timed:
        return coder.encode_steps(x.transpose(0, 1).contiguous(), generator).flatten(0, 1), False
    return coder.encode(x, steps, generator).flatten(0, 1), isinstance(coder, Direct)


def _uniform(x: Tensor, steps: int, generator: torch.Generator | None) -> Tensor:
    _check_steps(steps)
    there = generator_at(x.device, generator)
    return torch.rand((steps, *x.shape), generator=there, dtype=x.dtype, device=x.device)


def generator_at(device: torch.device, generator: torch.Generator | None) -> torch.Generator | None:
    """The generator, or where tensors live elsewhere one of theirs that it seeds: no random number crosses the bus."""
    if generator is None or generator.device.type == device.type:
        return generator
    seed = int(torch.randint(0, 2**62, (), generator=generator, device=generator.device))
    return torch.Generator(device).manual_seed(seed)


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise ConfigError(f"number of time steps is {steps}; it must be at least 1")
