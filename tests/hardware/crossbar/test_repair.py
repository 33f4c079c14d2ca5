"""Repairs by batch norm: what they undo, what they touch, what they refuse."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spikefed.errors import ConfigError
from spikefed.hardware.crossbar import OnChip, adapt, fine_tune, load_profile, norms, repair, soft_answers
from spikefed.networks import build
from spikefed.training import Preprocess

DRIFTED = load_profile("ideal").changed({"drift.nu": [0.1], "weights.layers": "conv"})
SHAPE = (1, 8, 8)


def net(norm: str = "bn", **changes):
    made = build("8C3-AP2-8C3", input_shape=SHAPE, classes=3, steps=2, norm=norm, readout="current", **changes)
    with torch.no_grad():
        for layer in made.layers:
            layer.weight.mul_(30.0)  # far above the eps of a normalisation, which does not scale
    adapt(made, pixels(), preprocess=Preprocess(), generator=torch.Generator().manual_seed(0))
    return made.eval()


def pixels(count: int = 192) -> torch.Tensor:
    draws = torch.Generator().manual_seed(4)
    return torch.randint(0, 256, (count, *SHAPE), generator=draws, dtype=torch.uint8)


def draws() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("norm", ["bn", "tdbn", "bntt"])
def test_adaptation_absorbs_a_pure_scale(norm) -> None:
    made = net(norm)
    x = Preprocess()(pixels(32))
    with torch.no_grad():
        plain = made(x)
        chip = OnChip(made, DRIFTED)
        chip.age(1e6)
        with chip.running():
            drifted = made(x)
            adapt(made, pixels(), preprocess=Preprocess(), generator=draws())
            repaired = made(x)
    scale = float(plain.abs().mean())
    assert float((drifted - plain).abs().mean()) > 0.2 * scale
    assert float((repaired - plain).abs().mean()) < 0.02 * scale


def test_statistics_are_the_plain_mean_over_batches_as_torch_has_them() -> None:
    made = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3))

    class Timed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = made

        def forward(self, x, generator=None):
            return self.inner(x)

    wrapped = Timed().eval()
    adapt(wrapped, pixels(), preprocess=Preprocess(), generator=draws())
    order = torch.randperm(192, generator=draws())
    with torch.no_grad():
        maps = [made[0](Preprocess()(pixels()[part])) for part in order.split(64)]
    means = torch.stack([each.mean(dim=(0, 2, 3)) for each in maps])
    assert torch.allclose(made[1].running_mean, means.mean(dim=0), atol=1e-6)
    assert made[1].momentum == 0.1 and not made[1].training


def test_every_step_of_bntt_is_repaired_apart() -> None:
    made = net("bntt")
    norm = norms(made)[1]
    assert norm.running_mean.shape[0] == 2
    assert not torch.equal(norm.running_mean[0], norm.running_mean[1])
    assert norm.momentum == 0.1 and not norm.warm_up


@pytest.mark.parametrize("how", ["labels", "soft"])
def test_fine_tuning_moves_scale_and_shift_alone(how) -> None:
    made = net()
    labels = pixels()[:, 0, 0, 0].long() % 3
    targets = labels
    if how == "soft":
        targets = soft_answers(made, pixels(), preprocess=Preprocess(), generator=draws())
    before = {k: v.clone() for k, v in made.state_dict().items()}
    chip = OnChip(made, DRIFTED.changed({"noise.read": 0.2, "noise.read_when": "each"}), seed=1)
    with chip.running(draws()):
        repair(made, how, pixels(), targets, preprocess=Preprocess(), generator=draws())
    moved = {k for k, v in made.state_dict().items() if not torch.equal(v, before[k])}
    assert {k for k in moved if ".norm." not in k} == set()
    assert any(k.endswith("norm.weight") for k in moved)
    assert all(parameter.requires_grad for parameter in made.parameters()) and not made.training


def test_soft_answers_bring_the_network_back() -> None:
    made = net()
    soft = soft_answers(made, pixels(), preprocess=Preprocess(), generator=draws())
    chip = OnChip(made, DRIFTED.changed({"noise.read": 0.4}), seed=1)
    with chip.running():
        adapt(made, pixels(), preprocess=Preprocess(), generator=draws())
        first = fine_tune(made, pixels(), soft, preprocess=Preprocess(), generator=draws(), epochs=1)
        last = fine_tune(made, pixels(), soft, preprocess=Preprocess(), generator=draws(), epochs=4)
    assert last < first


def test_what_cannot_be_repaired_is_said() -> None:
    plain = build("8C3-AP2", input_shape=SHAPE, classes=3, steps=2, norm="none")
    given = {"preprocess": Preprocess(), "generator": draws()}
    with pytest.raises(ConfigError, match="this network has no batch normalisation to repair a chip by"):
        repair(plain, "adapt", pixels(), None, **given)
    with pytest.raises(ConfigError, match="repair 'adapted' is not known; use one of none, adapt, labels, soft"):
        repair(net(), "adapted", pixels(), None, **given)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="repair 'adapt' has no image"):
        repair(net(), "adapt", pixels()[:0], None, **given)
    bare = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3, affine=False))
    with pytest.raises(ConfigError, match="no scale or shift to train; use repair 'adapt'"):
        fine_tune(bare, pixels(), torch.zeros(192).long(), **given)
