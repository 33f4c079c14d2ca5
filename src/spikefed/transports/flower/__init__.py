"""Rounds over Flower: one SuperLink, a SuperNode beside every client, the same packets as in one process.

Flower carries messages, checks certificates and node keys, and keeps them in a database. It runs none of our code: both
sides take their work from Flower's Runtime API and do it in a process of their own that stays (`executor`), so no code
travels, nothing is started for a message, and a client's memory of earlier rounds survives. This is the only package
that imports flwr, which is pinned to a minor because some of what it uses is not promised to stay.
"""

from __future__ import annotations

import os

OFFLINE = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}
"""What keeps Flower from calling anybody: no telemetry, no check for updates, no installing of an app's packages."""


def go_offline(home: str) -> dict[str, str]:
    """Switch Flower's outgoing channels off, here and in every child process; must come before flwr is imported.

    Args:
        home: folder for what Flower would write into the user's home.

    Returns:
        the settings made.
    """
    settings = {**OFFLINE, "FLWR_HOME": home}
    os.environ.update(settings)
    return settings
