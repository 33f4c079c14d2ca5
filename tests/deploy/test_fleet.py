"""A fleet that nothing harms gives what one process gives, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import spikefed
from deploy.fleets import everybody_ends, lines, same_as_one_process
from spikefed.deploy.loopback import Loopback, differing, miscounted
from spikefed.experiment import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def test_a_fleet_gives_what_one_process_gives_and_leaves_nothing_running(
    tiny: Callable[..., Path], fleet: Callable[..., Loopback]
) -> None:
    f = fleet(tiny(rounds=3))
    f.start()
    everybody_ends(f, "client-0", "client-1")
    same_as_one_process(f)
    assert miscounted(f) == []
    assert all(not line["dropped"] and line["attempts"] == 1 for line in lines(f))
    local = spikefed.run(f.file, overrides=["run.keep_clients=true"], out=f.folder / "kept")
    for client, kept in RunFolder(local).personal_models().items():
        own = f.folder / f"client-{client}.state" / "model.safetensors"
        images = torch.randint(0, 255, (3, 1, 8, 8), dtype=torch.uint8)
        assert torch.equal(spikefed.load_model(own).outputs(images), spikefed.load_model(kept).outputs(images))


def test_clients_on_chips_of_their_own_give_what_one_process_gives(
    tiny: Callable[..., Path], fleet: Callable[..., Loopback]
) -> None:
    on_chips = ["chips.profile=['pcm','rram']", "chips.repairs=['none','adapt']", "network.norm=bn"]
    f = fleet(tiny(rounds=1), overrides=on_chips)
    f.start()
    everybody_ends(f, "client-0", "client-1")
    same_as_one_process(f)
    assert (f.run / "probes" / "own-chips.json").exists()


def test_secure_aggregation_over_a_fleet_gives_the_model_of_one_process(
    tiny: Callable[..., Path], fleet: Callable[..., Loopback]
) -> None:
    """Four exchanges a round instead of one; masks differ from run to run, their sum and so the model do not."""
    f = fleet(tiny(clients=3, rounds=2), overrides=["privacy.secure=true"])
    f.start()
    everybody_ends(f, "client-0", "client-1", "client-2")
    local = spikefed.run(f.file, overrides=f.overrides, out=f.folder / "local")
    assert "model.safetensors" not in differing(local, f.run)
    assert all(line["merged"] and not line["dropped"] for line in lines(f))
