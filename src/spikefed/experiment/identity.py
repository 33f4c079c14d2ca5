"""What a run is made of beyond its config: whether a resumed one still has the data and the network it began with."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import torch

from spikefed.errors import CheckpointError
from spikefed.experiment.federation import Federation
from spikefed.experiment.folder import RunFolder
from spikefed.networks.monitor import in_eval_mode
from spikefed.objects import is_own
from spikefed.seeding import seeded

LOOKED_AT = 4
"""Public images that an own network is shown, as they are and `LOUDER` times as strong (a fresh one may be silent)."""
LOUDER = 8.0
CLOSE = 1e-3
"""Rounding of another machine: relative and absolute difference of two outputs that count as the same."""
FEW = 0.05
"""Share of outputs that may differ by more, where a spike fell on the other side of a threshold."""
NETWORK = "network_outputs"


def identity(federation: Federation) -> dict[str, Any]:
    """What provenance keeps: SHA-256 of own data and of chips' profiles; outputs of an own network at the start.

    Official data sets are known by the checksums of their files.
    """
    told: dict[str, Any] = {}
    if is_own(federation.config.data.dataset):
        told["data_sha256"] = federation.train.fingerprint()
        told["test_sha256"] = federation.test.fingerprint()
    if is_own(federation.config.data.dataset) or is_own(federation.config.data.public_dataset or ""):
        told["public_sha256"] = federation.expectations.public_set_id.hex()
    if is_own(federation.config.network.name) and (outputs := _outputs(federation)) is not None:
        told[NETWORK] = outputs
    if (fleet := federation.fleet) is not None:
        profiles = "\n".join(profile.model_dump_json() for profile in fleet.profiles)
        told["chips_sha256"] = sha256(profiles.encode()).hexdigest()
    return told


def check_identity(
    folder: RunFolder, before: Mapping[str, Any], now: Mapping[str, Any], federation: Federation
) -> None:
    """Refuse to go on with other data or another network than the run began with; what it did not note is not asked.

    Args:
        folder: of the run, for the message.
        before: what the run noted when it began (`identity`).
        now: the same of what it would go on with.
        federation: what it would go on with.

    Raises:
        CheckpointError: the first that differs.
    """
    data = federation.config.data
    parts = {
        "data_sha256": f"the images or labels of '{data.dataset}'",
        "test_sha256": f"the test images or labels of '{data.dataset}'",
        "public_sha256": f"the public images of '{data.public_dataset or data.dataset}'",
        "chips_sha256": f"the numbers of chip profiles {', '.join(federation.config.chips.profiles)}",
    }
    for key, what in parts.items():
        if key in before and key in now and before[key] != now[key]:
            raise CheckpointError(
                f"{what} are not those that the run in {folder.path} began with; bring them back or start in another "
                "folder with --out"
            )
    if NETWORK in before and NETWORK in now and not _alike(before[NETWORK], now[NETWORK]):
        raise CheckpointError(
            f"network '{federation.config.network.name}' does not compute what it did when the run in {folder.path} "
            "began (its first outputs on the public images differ); bring its code back or start in another folder "
            "with --out"
        )


@torch.no_grad()
def _outputs(federation: Federation) -> list[float] | None:
    """Means over time of every output and over outputs of every step, with the initial weights; None if it refuses."""
    images = federation.split.public_images[:LOOKED_AT]
    net = federation.networks.load()
    device = next(net.parameters(), torch.empty(0)).device
    found: list[float] = []
    for strength in (1.0, LOUDER):
        try:
            with in_eval_mode(net), seeded(0):
                draws = torch.Generator().manual_seed(0)
                out = net((federation.preprocess(images) * strength).to(device), generator=draws).float().cpu()
        except Exception:  # a network of one's own may take no such numbers: then this says nothing of it
            return None
        found += [*out.mean(dim=0).flatten().tolist(), *out.mean(dim=2).flatten().tolist()]
    return [float(f"{value:.6g}") for value in found]


def _alike(before: Any, now: list[float]) -> bool:
    if not isinstance(before, list) or len(before) != len(now):
        return False
    one, other = torch.tensor(before, dtype=torch.float64), torch.tensor(now, dtype=torch.float64)
    differ = ~torch.isclose(one, other, rtol=CLOSE, atol=CLOSE, equal_nan=True)
    return bool(differ.double().mean() <= FEW)
