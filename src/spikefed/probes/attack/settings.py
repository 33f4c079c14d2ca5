"""What the attack probe can be told."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from spikefed.probes.contract import ProbeHyperparameters

Name = Literal["noise", "fgsm", "pgd-stop", "pgd", "pgd-eot", "apgd", "square", "transfer"]

ALL: dict[str, str] = {
    "noise": "eps up or down by chance: no attack, the line that one must beat",
    "fgsm": "one signed gradient through one draw of the coder",
    "pgd-stop": "PGD whose gradients stop at the coder, from a random start: what rate coding was first judged by",
    "pgd": "PGD through one draw a step, straight through the coder",
    "pgd-eot": "PGD through the mean gradient of many draws",
    "apgd": "APGD through the mean gradient of many draws, by each of the surrogates",
    "square": "black box: random squares",
    "transfer": "PGD on an ordinary network (ANN) of the same layers, shown to this one",
}
"""The attacks with a line on each."""


class AttackHyperparameters(ProbeHyperparameters):
    """What `Attack` can be told."""

    images: int | None = Field(default=200, ge=1, description="use only the first so many test images")
    attacks: tuple[Name, ...] = Field(
        default=("noise", "fgsm", "pgd", "pgd-eot", "apgd", "square"),
        min_length=1,
        description="attacks; the worst case is over all of them",
    )
    eps: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        default=(2.0, 8.0), min_length=1, description="largest distances, in pixels of 0..255, before normalisation"
    )
    distance: Literal["linf", "l2"] = Field(default="linf", description="of the largest pixel, or of the whole image")
    steps: int = Field(default=10, ge=1, le=1000, description="of PGD [Madry et al. 2018; SRE: 8; arXiv 2512.22522]")
    size: float | None = Field(default=None, gt=0, description="step of PGD in pixels; default: 2.5 eps / steps")
    start: bool = Field(default=True, description="PGD starts from a random image of the ball")
    apgd_steps: int = Field(default=40, ge=1, le=1000, description="of APGD [Croce and Hein 2020: 100]")
    queries: int = Field(default=300, ge=1, description="of Square for each image [Andriushchenko et al. 2020: 5,000]")
    surrogates: tuple[str, ...] = Field(
        default=("own", "narrow", "wide", "wider", "straight", "adaptive"),
        min_length=1,
        description="of APGD, a run each: 'own'; 'narrow', 'wide', 'wider' (0.5, 2 and 4 times its width); 'straight'; "
        "'adaptive' (sharpness by neuron and step); or a text such as 'atan:alpha=2'",
    )
    draws: int = Field(default=10, ge=1, le=1000, description="of the coder for one gradient of 'pgd-eot' and 'apgd'")
    fresh: bool = Field(default=True, description="other draws at every step; false: an image keeps its own")
    judged: int = Field(
        default=4, ge=1, le=1000, description="draws that every image is judged on, never seen by an attack"
    )
    loss: Literal["ce", "margin"] = Field(
        default="ce", description="cross-entropy, or the margin of the best wrong one"
    )
    logit_scale: float = Field(default=10.0, gt=0, description="factor on the mean outputs before the loss's softmax")
    target: int | None = Field(
        default=None, ge=0, description="class that the network shall say; default: any wrong one"
    )
    flips: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(), description="budgets of spike flips; codings that draw no spikes have none [SEA: 5, 10, 20]"
    )
    twin: str | None = Field(default=None, description="model file of the ANN twin, for 'transfer'")
    batch: int = Field(default=50, ge=1, description="images at a time; changes no result")
    masking: bool = Field(default=True, description="look for signs of masked gradients")
    level: float = Field(default=0.95, gt=0, lt=1, description="coverage of the intervals [Wilson 1927]")

    @field_validator("attacks", "eps", "surrogates", "flips", mode="before")
    @classmethod
    def _several(cls, given: Any) -> Any:
        """One alone is a list of one; and a list whose quotes a shell took is still a list."""
        if isinstance(given, str) and given.startswith("["):
            return [word.strip() for word in given.strip("[]").split(",") if word.strip()]
        return given if isinstance(given, list | tuple) else (given,)
