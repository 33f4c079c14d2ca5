"""The probe `sparsity`: operations counted one by one, bytes of the file that is written, what a mask leaves."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from spikefed import networks
from spikefed.errors import ConfigError
from spikefed.probes import Subject, run_probe
from spikefed.probes.sparsity import ALL, Sparsity
from spikefed.training import Preprocess


def subject(count: int = 6) -> Subject:
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 1, 6, 6), dtype=torch.uint8, generator=draw)
    images[:, :, :2] = 0  # some inputs are 0
    return Subject(images, torch.zeros(count, dtype=torch.int64), Preprocess("unit"), ("a", "b", "c"))


def pruned(share: float) -> nn.Module:
    net = networks.build("4C3-AP2-9FC", input_shape=(1, 6, 6), classes=3, steps=3, norm="bn", readout="current")
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() > 1:
                parameter.mul_(20 * (torch.rand(parameter.shape, generator=draw) < share))
    return net


def test_operations_are_those_counted_one_by_one() -> None:
    net, shown = pruned(0.4), subject()
    seen: dict[str, torch.Tensor] = {}
    for name in ("conv1", "fc1", "fc2"):
        net.get_submodule(name).register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0]}))
    rows = {row["layer"]: row for row in run_probe(net, shown, Sparsity()).records}
    weight, x = net.get_submodule("conv1").weight, seen["conv1"]
    wanted = 0
    for n, y, column in (x[:, 0] != 0).nonzero().tolist():
        for o, i, j in (weight[:, 0] != 0).nonzero().tolist():
            # The output that this tap leads to lies within the map.
            wanted += 0 <= y + 1 - i < 6 and 0 <= column + 1 - j < 6 and n >= 0 and o >= 0
    assert rows["conv1"]["synops"] == pytest.approx(wanted / len(shown))
    active, kept = (seen["fc1"].flatten(1) != 0).double(), (net.get_submodule("fc1").weight != 0).double()
    assert float(rows["fc1"]["synops"]) == pytest.approx(float((active @ kept.T).sum()) / len(shown))
    assert float(rows["fc1"]["synops"]) > 0
    assert float(rows[ALL]["synops"]) == pytest.approx(sum(float(rows[n]["synops"]) for n in ("conv1", "fc1", "fc2")))


class Grouped(nn.Module):
    """Convolutions in groups and with holes, some weights 0."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(1, 4, 3, padding=2, dilation=2, bias=False)
        self.apart = nn.Conv2d(4, 6, 3, stride=2, padding="valid", groups=2, bias=False)
        self.last = nn.Linear(24, 3)
        with torch.no_grad():
            for weight in (self.wide.weight, self.apart.weight):
                weight.mul_(torch.rand(weight.shape, generator=torch.Generator().manual_seed(2)) < 0.6)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.apart(self.wide(x).relu()).flatten(1))


def test_convolutions_in_groups_and_with_holes_are_counted_as_they_compute() -> None:
    module, shown = Grouped(), subject()
    seen: dict[str, Tensor] = {}
    for name in ("wide", "apart"):
        module.get_submodule(name).register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0]}))
    net = networks.wrap(module, steps=1, classes=3, readout="current", mode="step")
    rows = {row["layer"]: row for row in run_probe(net, shown, Sparsity()).records}
    for name, x in seen.items():
        counts = copy.deepcopy(module.get_submodule(name)).requires_grad_(False)
        active = (x != 0).float()
        counts.weight.data = (counts.weight != 0).float()
        met = float(counts(active).sum())
        counts.weight.data.fill_(1.0)
        row = rows[f"module.{name}"]
        assert row["synops"] == pytest.approx(met / len(shown))
        assert row["synops_share"] == pytest.approx(met / float(counts(active).sum()))
        spikes = torch.ones_like(x[:1])
        assert float(networks.fan_out(counts, spikes, every=True).sum()) == pytest.approx(float(counts(spikes).sum()))
    assert rows[ALL]["weights"] == sum(p.numel() for p in module.parameters() if p.dim() > 1)


def test_what_is_left_and_the_bytes_of_the_file() -> None:
    net = pruned(0.1)
    found = run_probe(net, subject(), Sparsity())
    row = found.records[-1]
    parameters = [p for p in net.parameters() if p.dim() > 1]
    assert row["left"] == sum(int(p.count_nonzero()) for p in parameters)
    assert row["weights"] == sum(p.numel() for p in parameters)
    tensors = networks.copy_tensors(net)
    kept = {name: t != 0 for name, t in tensors.items() if t.dim() > 1}
    assert row["file_bytes"] == len(networks.write_tensors(tensors, kept))
    assert row["dense_bytes"] == len(networks.write_tensors(tensors))


def test_without_a_mask_all_operations_are_there() -> None:
    row = run_probe(pruned(2.0), subject(), Sparsity()).records[-1]
    assert row["left_share"] == row["synops_share"] == 1.0 and row["file_bytes"] == row["dense_bytes"]


def test_a_network_without_weights_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match="no convolution or linear layer"):
        run_probe(nn.Identity(), subject(), Sparsity())
    twin = networks.ann_twin("4C3-AP2-9FC", input_shape=(1, 6, 6), classes=3)
    with pytest.raises(ConfigError, match="those of an ANN twin are not counted"):
        run_probe(twin, subject(), Sparsity())
