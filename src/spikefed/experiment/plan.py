"""What a run will cost, before it is begun: from its first four rounds, run for real in a folder that is thrown away.

A first one may lack what later ones carry (labels of the server), a second is the first to carry it, and two more show
how fast packets shrink. Bytes of codecs whose packets have a fixed size are then exact for the whole run; packets of
compressing codecs change with what is learnt, and the plan says so.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import log
from pathlib import Path
from statistics import mean
from typing import Any

from spikefed.experiment import config as configs
from spikefed.experiment.build import build
from spikefed.experiment.config import Experiment
from spikefed.experiment.energy import RoundEnergy, experiment_energy
from spikefed.experiment.federation import participation_for
from spikefed.experiment.folder import RunFolder
from spikefed.experiment.planrows import rows_bytes, with_a_renewal
from spikefed.experiment.progress import Progress
from spikefed.experiment.run import run
from spikefed.federated import Method, method
from spikefed.hardware.text import energy

TRIED = 4
"""Rounds that are run."""
SETTLES = 0.5
"""Packets of a compressing codec shrink with the round's number to a power that the last two rounds tried show, at most
to this one: over the published runs of 7 to 60 rounds the sum is then within 0.85 and 1.16 of the true one."""
DAYS = 30
"""Of a month."""
FIXED = frozenset({"float32", "fp16", "bitpack", "plain", "ring"})
"""Codecs whose packets have one size whatever they hold."""


@dataclass(frozen=True)
class Plan:
    """What a run will cost on this machine.

    Attributes:
        name: of the experiment.
        rounds: that it asks for.
        clients: that there are.
        asked: clients that all rounds ask, added up.
        round_s: wall-clock seconds of a round, mean of the last two tried.
        processor_s: of a round, all threads and workers.
        memory_bytes: the largest that this process, or a worker, was.
        upstream_bytes, downstream_bytes: of the whole run.
        client_upstream_bytes, client_downstream_bytes: of one client in the last round; public rows that are made anew
            count by their mean over the rounds between.
        public_set_bytes: that every client holds beforehand.
        exact: whether the bytes are; else they follow the rounds tried.
        rounds_a_day: the rate of the month's bytes.
        client_round: energy of a client's round.
    """

    name: str
    rounds: int
    clients: int
    asked: int
    round_s: float
    processor_s: float
    memory_bytes: int
    upstream_bytes: int
    downstream_bytes: int
    client_upstream_bytes: int
    client_downstream_bytes: int
    public_set_bytes: int
    exact: bool
    rounds_a_day: float
    client_round: RoundEnergy

    @property
    def month_bytes(self) -> tuple[float, float]:
        """Bytes up and down of one client in 30 days."""
        often = DAYS * self.rounds_a_day
        return self.client_upstream_bytes * often, self.client_downstream_bytes * often

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data."""
        up, down = self.month_bytes
        return {**asdict(self), "client_month_upstream_bytes": up, "client_month_downstream_bytes": down}

    def __str__(self) -> str:
        up, down = self.month_bytes
        about = "" if self.exact else "about "
        spent = self.client_round
        lines = [
            f"{self.name}: {self.rounds} rounds, {self.clients} clients",
            f"time: {_seconds(self.round_s)} a round here and now, {_seconds(self.round_s * self.rounds)} in all "
            f"({_seconds(self.processor_s)} of processor a round)",
            f"memory: {_bytes(self.memory_bytes)} at most",
            f"traffic of a client and round: {about}{_bytes(self.client_upstream_bytes)} up, "
            f"{_bytes(self.client_downstream_bytes)} down",
            f"traffic of the run, all clients: {about}{self.upstream_bytes:,} bytes up, "
            f"{self.downstream_bytes:,} bytes down",
            f"traffic of a client in {DAYS} days at {self.rounds_a_day:g} rounds a day: {about}{_bytes(up)} up, "
            f"{_bytes(down)} down",
        ]
        if self.public_set_bytes:
            lines.append(f"public set, once: {_bytes(self.public_set_bytes)}")
        lines.append(f"energy of a client and round: training {energy(spent.training_pj)} (arithmetic alone)")
        if spent.radio_pj is not None:
            lines.append(f"  radio {energy(spent.radio_pj)}")
        if not self.exact:
            lines.append(
                "bytes follow the rounds tried: packets of a compressing codec change with what is learnt, those under "
                "a mask with what it leaves, those of a task with its parts"
            )
        return "\n".join(lines)


def plan(
    source: Path | str,
    *,
    overrides: Sequence[str] = (),
    rounds_a_day: float = 24.0,
    radio_nj_per_byte: float | None = None,
    progress: Progress | None = None,
) -> Plan:
    """What the experiment of a file will cost here; its first rounds are run for it.

    Args:
        source: experiment file.
        overrides: ``table.key=value`` texts on top.
        rounds_a_day: how often a round is run in the field.
        radio_nj_per_byte: energy of sending or receiving one byte.
        progress: told what those rounds do.

    Raises:
        SpikefedError: as for a run.
    """
    config = configs.load(Path(source), overrides)
    tried = min(TRIED, config.rounds)
    with tempfile.TemporaryDirectory(prefix="spikefed-plan-") as name:
        before = _processor_s()
        clock = time.perf_counter()
        trial = with_a_renewal(config, tried)
        folder = RunFolder(run(trial, out=Path(name) / "run", progress=progress, trial=tried))
        share = (_processor_s() - before) / (time.perf_counter() - clock)  # of the wall clock; set-up is no round
        lines = folder.read_lines(folder.metrics)
        ledger = folder.read_lines(folder.ledger)
        result = folder.read_json(folder.result)
        each = experiment_energy(folder.path, radio_nj_per_byte=radio_nj_per_byte).client_round
    clients = 1 if config.data.pooled else config.data.clients
    chosen = participation_for(config, clients)
    takes_part = [chosen(round) for round in range(1, config.rounds + 1)]
    asked = [len(clients) for clients in takes_part]
    rows, rows_each, rows_tried = rows_bytes(config, ledger, takes_part)
    for line in lines:
        line["downstream_bytes"] -= rows_tried.get(line["round"], 0)
    sizes = _sizes(config)
    codecs = {way: {line["codec"] for line in ledger if line["direction"] == way} for way in ("up", "down")}
    up, down = (_carried(lines, asked, sizes, way, codecs[way] <= FIXED) for way in ("up", "down"))
    round_s = mean(line["seconds"]["round"] for line in lines[-2:])
    return Plan(
        name=config.name,
        rounds=config.rounds,
        clients=clients,
        asked=sum(asked),
        round_s=round_s,
        processor_s=share * round_s,
        memory_bytes=_peak_bytes(),
        upstream_bytes=up[0],
        downstream_bytes=down[0] + rows,
        client_upstream_bytes=up[1],
        client_downstream_bytes=down[1] + round(rows_each),
        public_set_bytes=result["public_set_bytes"],
        exact=codecs["up"] | codecs["down"] <= FIXED and len(set(sizes)) == 1,
        rounds_a_day=rounds_a_day,
        client_round=each,
    )


def _sizes(config: Experiment) -> list[float]:
    """Of each round's messages beside dense ones, as far as the method's settings say."""
    steps = method(config.method["name"])
    if type(steps).message_sizes is Method.message_sizes:
        return [1.0] * config.rounds
    return steps.message_sizes(config.hyper(), build(config).networks, config.rounds)


def _carried(
    lines: list[dict[str, Any]], asked: list[int], sizes: list[float], way: str, fixed: bool
) -> tuple[int, int]:
    """Bytes of all rounds, and of one client in the last round, from those of the rounds tried.

    Args:
        lines: metrics of the rounds tried.
        asked: clients of each round.
        sizes: of each round's messages beside dense ones.
        way: up or down.
        fixed: whether packets have one size whatever they hold.
    """
    each = [line[f"{way}stream_bytes"] / max(len(line["participants"]), 1) for line in lines]
    tried = len(each)
    power = 0.0 if fixed or tried < TRIED or not each[-1] else log(each[-2] / each[-1]) / log(tried / (tried - 1))
    settling = min(max(power, 0.0), SETTLES)
    each += [
        each[-1] * sizes[at] / sizes[tried - 1] * (tried / (at + 1)) ** settling for at in range(tried, len(sizes))
    ]
    return round(sum(count * bytes_ for count, bytes_ in zip(asked, each, strict=True))), round(each[-1])


def _processor_s() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _peak_bytes() -> int:
    """The largest this process, or the largest of its workers, has been."""
    unit = 1 if sys.platform == "darwin" else 1024
    both = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(who).ru_maxrss for who in both) * unit


def _seconds(value: float) -> str:
    if value < 90:
        return f"{value:.3g} s"
    return f"{value / 60:.3g} min" if value < 5400 else f"{value / 3600:.3g} h"


def _bytes(value: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:,.0f} bytes"
