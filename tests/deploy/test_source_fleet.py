"""Public rows made anew over a real fleet, sent or made by every process for itself, are what one process has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.fleets import everybody_ends, same_as_one_process
from spikefed.deploy.loopback import Loopback, miscounted
from spikefed.experiment import RunFolder
from spikefed.wire import Ledger

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("kind", ["sent", "seeds"])
def test_rows_made_anew_over_a_fleet(kind: str, tiny: Callable[..., Path], fleet: Callable[..., Loopback]) -> None:
    file = tiny(rounds=3)
    source = f'[data.public_source]\nkind = "{kind}"\nsteps = 3\n'
    file.write_text(file.read_text() + source)
    f = fleet(file)
    f.start()
    everybody_ends(f, "client-0", "client-1")
    same_as_one_process(f)
    assert miscounted(f) == []
    sizes = [r.encoded_bytes for r in Ledger.read_jsonl(RunFolder(f.run).ledger).records if r.kind == "public-rows"]
    assert len(sizes) == 6 and (max(sizes) > 500) == (kind == "sent")
