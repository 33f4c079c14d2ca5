"""Half a cosine of learning rates."""

from __future__ import annotations

import pytest
import torch

from spikefed.training import half_cosine, optimiser


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_the_rates_are_those_of_torchs_own_schedule(kind: str) -> None:
    """A second implementation: torch's CosineAnnealingLR, stepped after every step."""

    def start() -> tuple[torch.nn.Linear, torch.optim.Optimizer]:
        net = torch.nn.Linear(3, 2)
        with torch.no_grad():
            net.weight.fill_(0.5)
            net.bias.zero_()
        return net, optimiser(net, kind, 0.1, momentum=0.9)

    def step(net: torch.nn.Linear, optim: torch.optim.Optimizer, t: int) -> float:
        rate = optim.param_groups[0]["lr"]
        optim.zero_grad()
        net(torch.arange(3.0) + t).square().sum().backward()
        optim.step()
        return rate

    ours, optim = start()
    with half_cosine(optim, 5):
        seen = [step(ours, optim, t) for t in range(5)]
    assert optim.param_groups[0]["lr"] == 0.1, "the optimiser has its own rate again"

    theirs, optim = start()
    torchs = torch.optim.lr_scheduler.CosineAnnealingLR(optim, T_max=5)
    wanted = []
    for t in range(5):
        wanted.append(step(theirs, optim, t))
        torchs.step()
    assert seen == pytest.approx(wanted)
    torch.testing.assert_close(ours.weight, theirs.weight)


def test_weights_stand_still_behind_the_last_step() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    optim = torch.optim.SGD([weight], lr=1.0)
    places = []
    with half_cosine(optim, 2):
        for _ in range(4):
            weight.grad = torch.ones(1)
            optim.step()
            places.append(weight.item())
    assert places == pytest.approx([0.0, -0.5, -0.5, -0.5])


def test_an_error_gives_the_rate_back() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    optim = torch.optim.SGD([weight], lr=0.25)
    with pytest.raises(RuntimeError, match="stop"), half_cosine(optim, 3):
        weight.grad = torch.ones(1)
        optim.step()
        raise RuntimeError("stop")
    assert optim.param_groups[0]["lr"] == 0.25
