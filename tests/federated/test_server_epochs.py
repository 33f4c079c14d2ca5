"""How the server learns the merged votes: `server_schedule` and `server_augment`."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from federated.tiny import PUBLIC, STEPS, World
from spikefed.federated import fitting, method

NAMES = ["fsd", "fsd+", "cfd", "ds-fl"]


def world(name: str, **more: Any) -> World:
    settings = {"local_epochs": 1, "local_batch": 8, "distil_batch": 5, "server_epochs": 3, **more}
    made = World(method(name).hyperparameters(**settings))
    made.networks.network.steps = STEPS  # type: ignore[assignment]
    return made


def first_round(name: str, where: World) -> tuple[dict, dict]:
    """One client's upload and the server's state after it."""
    made = method(name)
    server, down = made.init_server(where.server(0))
    _, up, _ = made.client_round({}, down, where.client(0, 1))
    state, _, _ = made.server_round(server, {0: up}, where.server(1))
    return vars(up), state


@pytest.mark.parametrize("name", NAMES)
def test_the_server_steps_along_half_a_cosine(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    whole = fitting.half_cosine

    def noting(optim: torch.optim.Optimizer, steps: int) -> Any:
        asked.append(steps)
        return whole(optim, steps)

    monkeypatch.setattr(fitting, "half_cosine", noting)
    made = method(name)
    where = world(name, server_schedule="cosine")
    _, falling = first_round(name, where)
    assert asked == [3 * 3], "12 public rows in batches of 5, three epochs; clients have no such schedule"
    _, constant = first_round(name, world(name))
    assert not torch.equal(falling["weights"]["fc.weight"], constant["weights"]["fc.weight"])
    made.server_network(falling, where.server())


@pytest.mark.parametrize("name", NAMES)
def test_the_server_alone_sees_changed_images(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The upload is that of a run without; the server's every batch is changed."""
    seen: list[int] = []

    def noting(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        seen.append(len(x))
        return x.flip(-1)

    monkeypatch.setitem(fitting.AUGMENTATIONS, "flip", noting)
    up, state = first_round(name, world(name, server_augment="flip", distil_epochs=1))
    plain_up, plain = first_round(name, world(name, distil_epochs=1))
    assert sum(seen) == 3 * PUBLIC
    for key in ("spikes", "labels", "counts", "probabilities"):
        if key in plain_up:
            assert torch.equal(torch.as_tensor(up[key]), torch.as_tensor(plain_up[key]))
    assert not torch.equal(state["weights"]["fc.weight"], plain["weights"]["fc.weight"])


def test_a_server_on_images_that_are_their_own_mirror_learns_the_same_from_flips() -> None:
    """A law: where the augmentation changes no pixel, only the draws differ, and none is left in shuffle's order."""
    results = []
    for augment in ("none", "flip"):
        where = world("fsd+", server_augment=augment, shuffle=False)
        where.public = where.public[..., :1].expand(-1, -1, -1, 2).clone()
        results.append(first_round("fsd+", where)[1]["weights"])
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


@pytest.mark.parametrize("more", [{"server_schedule": "cosine"}, {"server_augment": "crop-flip"}])
def test_without_epochs_the_server_stays(more: dict[str, Any]) -> None:
    where = world("fsd+", server_epochs=0, **more)
    _, state = first_round("fsd+", where)
    assert torch.equal(state["weights"]["fc.weight"], where.networks.initial()["fc.weight"])
