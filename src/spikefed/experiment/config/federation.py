"""Tables of the federation: who takes part, codecs, clients that lie, chips, what the server does about failures."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from spikefed.experiment.config.section import Section
from spikefed.federated.attackers import Attack
from spikefed.federated.private import RandomisedResponse, SecureSums
from spikefed.federated.response import Source
from spikefed.federated.voting import Wrapper
from spikefed.hardware.crossbar import Changes


class ParticipationConfig(Section):
    """Who takes part in which round."""

    schedule: Literal["all", "late", "sample", "list"] = Field(
        default="all",
        description="'all' in every round; 'late': client 0 alone in rounds 1 and 2, then all [FSD tables, DTSNN]; "
        "'sample': a random 'fraction'; 'list': as 'rounds' says",
    )
    rounds: list[list[int]] = Field(default=[], description="schedule 'list': clients by round; the last repeats")
    fraction: float = Field(default=1.0, gt=0, le=1, description="schedule 'sample': share of clients per round")
    straggle: float = Field(
        default=0.0, ge=0, lt=1, description="probability that a chosen client misses the round; one never does"
    )
    deadline_s: float | None = Field(default=None, gt=0, description="seconds to wait for uploads (deployment)")
    quorum: int = Field(default=1, ge=1, description="accepted uploads without which a round changes nothing")


class WireConfig(Section):
    """Codecs of the messages (see 'spikefed list codecs')."""

    spikes_up: str = Field(default="context", description="codec of uploaded spikes [FSD: bitpack, Algorithm 2]")
    spikes_down: str = Field(default="context", description="codec of the voted spikes [FSD: bitpack]")
    weights_up: str = Field(default="float32", description="codec of uploaded weights")
    weights_down: str = Field(default="float32", description="codec of the global weights")
    hint_spikes: str = Field(default="context", description="codec of uploaded spikes with hints [HDSFL]")
    partial_spikes: str = Field(default="context", description="codec of uploaded spikes of some rows")
    labels: str = Field(default="context", description="codec of hard labels, both directions [CFD: delta coding]")
    counts: str = Field(default="context", description="codec of counts and quantised distributions, both directions")
    probabilities: str = Field(default="fp16", description="codec of soft labels, both directions [DS-FL]")
    class_means: str = Field(default="float32", description="codec of per-class means, both directions [FD]")


class PrivacyConfig(Section):
    """Privacy of the votes that clients upload, around any method that counts them (docs/privacy.md).

    Differential privacy of what they train is ``[training.privacy]``.
    """

    secure: bool = Field(default=False, description="the server learns the sum of the votes only; see docs/privacy.md")
    vote_levels: int = Field(
        default=1, ge=1, le=255, description="'secure': levels w of a client's weight; 1 gives all the same"
    )
    response_epsilon: float | None = Field(
        default=None, gt=0, le=20, description="randomised response on every uploaded spike; eps of one spike a round"
    )
    response_delta: float = Field(default=1e-5, gt=0, lt=1, description="delta of its composition over spikes, rounds")
    response_source: Source = Field(
        default="system", description="its randomness; 'seeded' repeats a run and protects nothing"
    )

    @property
    def on(self) -> bool:
        """Whether anything lies around the votes."""
        return self.secure or self.response_epsilon is not None

    def wrappers(self) -> list[Wrapper]:
        """What lies around a vote, the innermost first."""
        found: list[Wrapper] = []
        if self.response_epsilon is not None:
            found.append(RandomisedResponse(self.response_epsilon, self.response_delta, self.response_source))
        if self.secure:
            found.append(SecureSums(self.vote_levels))
        return found


class AttackConfig(Section):
    """Test equipment: clients that lie, to measure what a robust vote is worth (docs/privacy.md)."""

    clients: list[Annotated[int, Field(ge=0)]] = Field(default=[], description="numbers of the lying clients")
    kind: Attack = Field(default="flip-labels", description="flip-labels, invert-spikes, random or scale")
    factor: float = Field(default=-1.0, description="'scale': factor on the change of the weights")
    claim: float | None = Field(
        default=None, ge=0, le=1, description="accuracy that a liar claims; default: what it measured"
    )


class ChipsConfig(Section):
    """Imperfect chips that the clients compute on (docs/chips.md)."""

    profile: str | list[str] = Field(
        default=[],
        description="kind of every client's chip, or a list of kinds, repeated in turn: rram, pcm, fefet, ideal, or "
        "TOML files of your own; none: exact hardware",
    )
    changes: Changes = Field(
        default={}, description="numbers of the profiles that are others here, such as {noise.read = 0.2}"
    )
    seed: int | None = Field(
        default=None, ge=0, description="client k has chip number seed + k of its kind; default: 1000 x the run's seed"
    )
    age_s: float = Field(default=0.0, ge=0, description="age at which a chip computes, seconds after it was written")
    train: Literal["on-chip", "off-chip"] = Field(
        default="on-chip",
        description="clients train, validate and predict on their chips, or exactly, with chips for use alone",
    )
    rewrite: int = Field(default=20, ge=1, description="training steps after which a chip is written anew")
    repairs: list[str] = Field(
        default=["none", "adapt", "soft", "labels"],
        min_length=1,
        description="what is measured on every client's own chip after the last round: none, gain, adapt, labels, soft",
    )
    calibration: int = Field(default=1000, ge=1, description="a client's images that its repair sees at most")

    @property
    def profiles(self) -> list[str]:
        """By client, repeated in turn; none: no chips."""
        return [self.profile] if isinstance(self.profile, str) else self.profile


class DeployConfig(Section):
    """What the server does about clients that fail; nothing here changes a run in which none does."""

    repeats: int = Field(default=2, ge=0, description="how often a round without quorum asks the missing again")
    strikes: int = Field(default=3, ge=0, description="refused packets in a row that set a client aside; 0: never")
    set_aside_rounds: int = Field(default=5, ge=1, description="rounds for which it is not asked")
