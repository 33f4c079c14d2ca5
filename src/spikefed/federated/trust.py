"""Who is asked at all: a client whose packets are refused again and again is set aside for some rounds."""

from __future__ import annotations

from typing import Any


class Trust:
    """Counts refused packets by client.

    Only what no honest client sends counts: packets that are malformed or claim what is not so. Silence, lateness, a
    reported error or a missing reference do not.

    Args:
        strikes: refused packets in a row after which a client is set aside; 0 never does.
        rounds: for how many rounds.
    """

    def __init__(self, strikes: int = 3, rounds: int = 5) -> None:
        self.strikes = strikes
        self.rounds = rounds
        self._count: dict[int, int] = {}
        self._until: dict[int, int] = {}

    def away(self, client: int, round: int) -> str | None:
        """Why this client is not asked in this round; None when it is."""
        until = self._until.get(client, 0)
        return f"set aside until round {until} after {self.strikes} refused packets" if round < until else None

    def set_aside(self, round: int) -> list[int]:
        """The clients that are not asked in this round, ascending."""
        return sorted(client for client, until in self._until.items() if round < until)

    def refused(self, client: int, round: int) -> None:
        """A packet of this client was refused in this round."""
        self._count[client] = self._count.get(client, 0) + 1
        if self.strikes and self._count[client] >= self.strikes:
            # One more chance after the pause: the first refusal then sets it aside again.
            self._count[client] = self.strikes - 1
            self._until[client] = round + 1 + self.rounds

    def accepted(self, client: int) -> None:
        """A packet of this client was accepted."""
        self._count.pop(client, None)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {
            "count": {str(client): n for client, n in self._count.items()},
            "until": {str(client): n for client, n in self._until.items()},
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        self._count = {int(client): n for client, n in saved["count"].items()}
        self._until = {int(client): n for client, n in saved["until"].items()}
