"""The byte ledger: one record for each message, in encoded bytes and in the paper's measures."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from spikefed.errors import ReportError

MEASURES = ("payload_bits", "encoded_bytes", "header_bytes", "paper_bytes", "text_bytes")


@dataclass(frozen=True)
class Record:
    """One message.

    Attributes:
        payload_bits: bits behind the header (all bits of a refused packet).
        encoded_bytes: length of the packet, header included.
        header_bytes: length of the header.
        paper_bytes: Algorithm 2's payload for spikes, the tensors' own bytes for weights, plain packing elsewhere.
        text_bytes: what the paper's JSON text (spikes) or pickle (weights, an estimate) would take.
    """

    round: int
    direction: str
    client: int
    kind: str
    codec: str
    payload_bits: int
    encoded_bytes: int
    header_bytes: int
    paper_bytes: int
    text_bytes: int


@dataclass
class Totals:
    """Sums over records; units as in ``Record``."""

    messages: int = 0
    payload_bits: int = 0
    encoded_bytes: int = 0
    header_bytes: int = 0
    paper_bytes: int = 0
    text_bytes: int = 0

    def add(self, record: Record) -> None:
        self.messages += 1
        for name in MEASURES:
            setattr(self, name, getattr(self, name) + getattr(record, name))


@dataclass
class Ledger:
    """All records of a run, in the order in which the messages were made."""

    records: list[Record] = field(default_factory=list[Record])

    def add(self, record: Record) -> None:
        self.records.append(record)

    def totals(self, *, round: int | None = None, direction: str | None = None, client: int | None = None) -> Totals:
        """Sums of the records that match what is given."""
        totals = Totals()
        for record in self.records:
            if ((round is None or record.round == round) and (direction is None or record.direction == direction)
                    and (client is None or record.client == client)):  # fmt: skip
                totals.add(record)
        return totals

    def by_round(self, direction: str | None = None) -> dict[int, Totals]:
        """Sums per round."""
        rounds: dict[int, Totals] = {}
        for record in self.records:
            if direction is None or record.direction == direction:
                rounds.setdefault(record.round, Totals()).add(record)
        return rounds

    def to_lines(self, round: int | None = None) -> list[str]:
        """JSON texts, one a record (of one round)."""
        return [json.dumps(asdict(record)) for record in self.records if round in (None, record.round)]

    @staticmethod
    def from_lines(lines: Iterable[str]) -> Ledger:
        """Inverse of ``to_lines``; blank lines are skipped. Raises ReportError on a line that is no record."""
        names = {entry.name for entry in fields(Record)}
        ledger = Ledger()
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                values = json.loads(line)
                ledger.add(Record(**{name: values[name] for name in names}))
            except (ValueError, KeyError, TypeError) as error:
                raise ReportError(f"line {number} of the ledger is no record ({error}); restore the file") from error
        return ledger

    def write_jsonl(self, path: Path) -> None:
        Path(path).write_text("".join(line + "\n" for line in self.to_lines()), encoding="utf-8")

    @staticmethod
    def read_jsonl(path: Path) -> Ledger:
        return Ledger.from_lines(Path(path).read_text(encoding="utf-8").splitlines())

    def state_dict(self) -> dict[str, Any]:
        """The ledger as one JSON-friendly dict, for a checkpoint."""
        return {"records": [asdict(record) for record in self.records]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.records = [Record(**values) for values in state["records"]]
