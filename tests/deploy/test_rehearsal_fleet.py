"""FSD+ over a real fleet with the keys that decide whom the server believes and what clients rehearse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.fleets import everybody_ends, same_as_one_process
from spikefed.deploy.loopback import Loopback, miscounted

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

METHOD = """[method]
name = "fsd+"
server_epochs = 1
distil_batch = 20
reliability = 2
reliability_from = 2
balance = 0.5
rehearse_every = 2
rehearse_batch = 6
rehearse_steps = 2
"""


def test_reliability_and_rehearsal_over_a_fleet_are_those_of_one_process(
    tiny: Callable[..., Path], fleet: Callable[..., Loopback]
) -> None:
    file = tiny(rounds=3)
    head, _, tail = file.read_text().partition("[method]")
    _, _, rest = tail.partition("[participation]")
    file.write_text(f"{head}{METHOD}[participation]{rest}")
    f = fleet(file)
    f.start()
    everybody_ends(f, "client-0", "client-1")
    same_as_one_process(f)
    assert miscounted(f) == []
