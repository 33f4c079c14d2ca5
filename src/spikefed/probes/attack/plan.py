"""Which attacks run on a network, each at every distance, and how one batch of images goes through one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from spikefed.neurons import Bernoulli, Latency, SignedPoisson
from spikefed.probes.attack.settings import AttackHyperparameters
from spikefed.training.attacks import Ball, Goal, Victim, apgd, fgsm, neurons, noise, pgd, square, through
from spikefed.training.attacks.gradients import Watch

FAR_STEPS = 20
"""Gradients of the attack that may change every pixel as it likes."""


@dataclass(frozen=True)
class Planned:
    """One attack at one distance.

    Attributes:
        attack: name in the settings.
        surrogate: of APGD; ``own`` for the others.
        eps: in pixels.
        far: every pixel free, for the signs of masking alone.
    """

    attack: str
    surrogate: str
    eps: float
    far: bool = False

    @property
    def name(self) -> str:
        """The attack, and the surrogate where there are several."""
        return self.attack if self.surrogate == "own" else f"{self.attack} {self.surrogate}"

    @property
    def key(self) -> str:
        """No other has it."""
        return f"{self.name} {self.eps:g}{' far' if self.far else ''}"


def planned(victim: Victim, hyper: AttackHyperparameters, span: float) -> list[Planned]:
    """The attacks that are not the same as another one on this network.

    Args:
        victim: the network.
        hyper: the settings.
        span: from the darkest to the brightest pixel.
    """
    drawn = victim.draws_spikes
    coded = isinstance(victim.coder, Bernoulli | SignedPoisson | Latency)
    found: list[Planned] = []
    for attack in hyper.attacks:
        if attack == "pgd-eot" and not drawn and "pgd" in hyper.attacks:
            continue  # nothing is drawn: it is PGD
        if attack == "pgd-stop" and not coded and "pgd" in hyper.attacks:
            continue  # no coder stops a gradient: it is PGD
        names = ("own",)
        if attack == "apgd" and neurons(victim.net):
            names = hyper.surrogates
        found += [Planned(attack, name, eps) for eps in hyper.eps for name in names]
    whites = [attack for attack in ("pgd-eot", "pgd", "apgd") if attack in hyper.attacks]
    if hyper.masking and whites:
        found.append(Planned("pgd-eot", "own", span, far=True))
    return found


def run(
    plan: Planned,
    victim: Victim,
    twin: Victim | None,
    ball: Ball,
    goal: Goal,
    hyper: AttackHyperparameters,
    watch: Watch,
) -> Tensor:
    """The adversarial images of a batch, in pixels.

    Args:
        plan: the attack and its budget.
        victim: the network attacked.
        twin: the network whose gradients are followed instead, if any.
        ball: what an attack may change; its images are ``[B, C, H, W]``.
        goal: labels ``[B]`` and what counts as success.
        hyper: the probe's settings.
        watch: is told of every step.
    """
    many = victim.but(draws=hyper.draws)
    options = {"steps": hyper.steps, "size": hyper.size, "start": hyper.start, "watch": watch}
    if plan.far:
        return pgd(many, ball, goal, steps=FAR_STEPS, start=False)
    with through(victim.net, plan.surrogate):
        match plan.attack:
            case "noise":
                return noise(victim, ball, goal)
            case "fgsm":
                return fgsm(victim, ball, goal)
            case "pgd-stop":
                return pgd(victim.but(gradient="stop"), ball, goal, **options)
            case "pgd":
                return pgd(victim, ball, goal, **options)
            case "pgd-eot":
                return pgd(many, ball, goal, **options)
            case "apgd":
                return apgd(many, ball, goal, steps=hyper.apgd_steps, watch=watch)
            case "square":
                return square(victim, ball, goal, queries=hyper.queries)
            case _:
                assert twin is not None
                return pgd(twin, ball, goal, **options)


def by_gradients(attacks: Sequence[Planned]) -> list[Planned]:
    """Those that follow this network's own gradients."""
    return [plan for plan in attacks if plan.attack in ("fgsm", "pgd", "pgd-stop", "pgd-eot", "apgd") and not plan.far]
