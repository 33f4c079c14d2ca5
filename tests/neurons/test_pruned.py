"""Pruned layers in one call: the separate operations' spikes, for every norm, reset, shape and instruction set."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Literal, cast

import pytest
import torch

from neurons.draws import drawn
from spikefed import networks
from spikefed.neurons import ChainLayer, Firing, LIFParameters, NormState, dense_weights, norm_lif, pruned, run_pruned

pytestmark = pytest.mark.skipif(pruned.library() is None, reason="needs the native library")
T = 5


def state(norm: str, channels: int) -> NormState:
    if norm == "none":
        return NormState()
    shape = (T, channels) if norm == "bntt" else (channels,)
    return NormState(drawn(5, *shape) + 2, drawn(6, *shape), drawn(7, *shape), drawn(8, *shape).square() + 0.1)


def layer(weight: torch.Tensor, neuron: LIFParameters | None, norm: str = "none", **how: Any) -> ChainLayer:
    kind: Literal["conv", "linear"] = "conv" if weight.dim() == 4 else "linear"
    if neuron is None:
        return ChainLayer(weight, drawn(9, len(weight)), kind, None)
    firing = Firing(neuron, T, norm, False, **how)
    return ChainLayer(weight, drawn(9, len(weight)), kind, firing, state(norm, len(weight)))


def one_by_one(x: torch.Tensor, layers: list[ChainLayer], steps: int = T) -> torch.Tensor:
    """In float64, by torch's products and the reference of `norm_lif`."""
    x = x.double()
    for each in layers:
        weight, bias = each.weight.double(), cast(torch.Tensor, each.bias).double()
        if each.kind == "conv":
            x = torch.nn.functional.conv2d(x, weight, bias, padding=weight.shape[2] // 2)
        else:
            x = torch.nn.functional.linear(x.flatten(1), weight, bias)
        firing = each.firing
        if firing is None:
            continue
        tensors = {k: None if t is None else t.double() for k, t in each.state._asdict().items()}
        more = {} if firing.norm == "none" else {"norm": firing.norm, "training": False, **tensors}
        x = norm_lif(x, firing.p, steps=steps, pool=firing.pool, repeat=firing.repeat, **more)
    return x


def same(found: torch.Tensor | None, wanted: torch.Tensor) -> bool:
    """But for neurons on the threshold, whose spikes the order of sums decides."""
    assert found is not None and found.shape == wanted.shape
    return float(((found.double() - wanted).abs() > 1e-4).double().mean()) < 0.002


HARD = LIFParameters(decay=0.5, v_threshold=1.0, gain=0.5)
SOFT = LIFParameters(kind="soft", decay=0.9, v_threshold=0.8)


@pytest.mark.parametrize("norm", ["none", "bn", "bntt"])
@pytest.mark.parametrize("neuron", [HARD, SOFT], ids=["hard", "soft"])
@torch.no_grad()
def test_a_layer_is_its_product_norm_neurons_and_pool(level: int, norm: str, neuron: LIFParameters) -> None:
    weight = drawn(1, 130, 40, 3, 3, density=0.04)
    for side in ((8, 8), (7, 5), (1, 3), (16, 17)):
        for rate in (0.02, 0.5):  # by event, by weight
            x = (drawn(2, T * 3, 40, *side) > (2.0 if rate < 0.1 else 0)).float()
            for how in ({}, {"pool": True}) if min(side) > 1 else ({},):
                one = [layer(weight, neuron, norm, **how)]
                assert same(run_pruned(x, one), one_by_one(x, one)), (side, rate, how)


@torch.no_grad()
def test_a_whole_row_from_images_to_currents(level: int) -> None:
    row = [
        layer(drawn(1, 64, 3, 3, 3), HARD, "bn", repeat=True),
        layer(drawn(2, 64, 64, 3, 3, density=0.04), HARD, "bn", pool=True),
        layer(drawn(3, 128, 64, 3, 3, density=0.04), SOFT, "bntt", pool=True),
        layer(drawn(4, 96, 128 * 9, density=0.04), HARD),
        layer(drawn(5, 10, 96), None),
    ]
    images = drawn(6, 4, 3, 13, 12)
    found = run_pruned(images, row)
    assert found is not None and found.shape == (T * 4, 10) and found.abs().mean() > 0.1
    assert same(run_pruned(images, row[:2]), one_by_one(images, row[:2]))
    deep = cast(torch.Tensor, run_pruned(images, row[:3]))
    assert torch.equal(found, cast(torch.Tensor, run_pruned(deep, [row[3], row[4]])))  # layers by ones, same bits


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 9, 20])
@torch.no_grad()
def test_any_number_of_steps_and_of_sums_made_together(level: int, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruned, "NEAR", 8 * 144 * 30)  # sums of 30 output channels: of 70 the last group has 10
    row = [
        layer(drawn(1, 40, 2, 3, 3), SOFT, repeat=True),
        layer(drawn(2, 70, 40, 3, 3, density=0.04), HARD, "bn"),
        layer(drawn(3, 70, 70, 5, 5, density=0.04), SOFT, pool=True),
        layer(drawn(4, 90, 70 * 9, density=0.04), SOFT, "bn"),
    ]
    row = [each._replace(firing=cast(Firing, each.firing)._replace(steps=steps)) for each in row]
    bright, dark = drawn(5, 2, 2, 7, 6), drawn(6, 2, 2, 7, 6) * 0.1 - 1
    images = torch.cat([bright, dark])
    assert same(run_pruned(images, row), one_by_one(images, row, steps))
    for rate in (2.3, 0.5):  # by event, by weight
        x = (drawn(7, steps * 3, 40, 7, 6) > rate).float()
        assert same(run_pruned(x, row[1:]), one_by_one(x, row[1:], steps))
    alone = [ChainLayer(row[2].weight, row[2].bias, "conv", None)]
    spikes = (drawn(8, 3, 70, 7, 6) > 0.5).float()
    assert same(run_pruned(spikes, alone), one_by_one(spikes, alone))


@torch.no_grad()
def test_a_sample_depends_neither_on_its_batch_nor_on_threads_nor_on_its_layout() -> None:
    row = [layer(drawn(1, 96, 64, 3, 3, density=0.04), HARD, "bn"), layer(drawn(2, 64, 96, 3, 3, density=0.04), SOFT)]
    x = (drawn(3, T, 6, 64, 6, 6) > 0.5).float()
    whole = cast(torch.Tensor, run_pruned(x.flatten(0, 1), row)).unflatten(0, (T, 6))
    for i in range(6):
        assert torch.equal(whole[:, i], cast(torch.Tensor, run_pruned(x[:, i].contiguous(), row)))
    last = x.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    assert torch.equal(whole.flatten(0, 1), cast(torch.Tensor, run_pruned(last, row)))
    torch.set_num_threads(before)


@torch.no_grad()
def test_changed_weights_and_statistics_are_seen() -> None:
    one = layer(drawn(1, 96, 64, 3, 3, density=0.03), HARD, "bn")
    x = (drawn(2, T * 2, 64, 6, 6) > 0.5).float()
    ends = [run_pruned(x, [one])]
    one.weight[::2] = 0
    ends.append(run_pruned(x, [one]))
    cast(torch.Tensor, one.state.running_mean).add_(1)
    ends.append(run_pruned(x, [one]))
    for found, other in zip(ends, ends[1:], strict=False):
        assert not torch.equal(cast(torch.Tensor, found), cast(torch.Tensor, other))
    assert same(ends[-1], one_by_one(x, [one]))


@pytest.mark.parametrize("density", [1.0, 0.01])
def test_a_network_made_in_inference_mode_runs(density: float) -> None:
    found = []
    for mode in (torch.inference_mode, torch.no_grad):
        with mode():
            sizes = {"input_shape": (3, 8, 8), "classes": 10, "steps": T}
            net = networks.build("64C3-64C3-10FC", **sizes, norm="none", neuron=HARD, readout="current")
            for each in net.layers:
                each.weight.copy_(5 * drawn(3, *each.weight.shape, density=density))
            for _ in range(2):
                found.append(net(drawn(1, 4, 3, 8, 8)))
                net.layers[0].weight.mul_(-1)  # nobody counts the changes of such a tensor
    first, second, *wanted = found
    assert same(first, wanted[0].double()) and same(second, wanted[1].double())
    assert not same(first, second.double())


def test_it_steps_aside() -> None:
    few, all_ = drawn(1, 96, 64, 3, 3, density=0.03), drawn(1, 96, 64, 3, 3)
    x = (drawn(2, T * 2, 64, 6, 6) > 0.5).float()
    assert run_pruned(x, [layer(few, HARD)]) is None  # gradients may be asked for
    with torch.no_grad():
        assert run_pruned(x, [layer(few, HARD)]) is not None
        assert run_pruned(x, [layer(all_, HARD)]) is None
        assert run_pruned(x.double(), [layer(few, HARD)]) is None
        assert run_pruned(x[:, :60], [layer(few, HARD)]) is None
        with dense_weights():
            assert run_pruned(x, [layer(few, HARD)]) is None
        learning = layer(few, HARD, "bn")
        firing = cast(Firing, learning.firing)._replace(training=True)
        assert run_pruned(x, [learning._replace(firing=firing)]) is None  # statistics of the batch


def test_fewer_samples_and_whole_rows_may_keep_more_weights() -> None:
    conv, linear = layer(drawn(1, 96, 64, 3, 3), HARD), layer(drawn(2, 256, 256), HARD)
    limits = [pruned.most_kept([conv, linear], samples) for samples in (1, 2, 8, 64)]
    assert limits == sorted(limits, reverse=True) and limits[-1] >= pruned.most_kept([conv], 64)
    assert pruned.most_kept([linear], 1) > 0 == pruned.most_kept([linear, linear], 32)
    x = (drawn(3, T * 32, 256) > 0.5).float()
    few = layer(drawn(4, 256, 256, density=0.03), HARD)
    with torch.no_grad():
        assert run_pruned(x, [few]) is None  # many samples share a weight that is read once
        assert run_pruned(x[: T * 2], [few]) is not None


@pytest.mark.parametrize("norm", ["bn", "bntt", "none"])
@torch.no_grad()
def test_a_pruned_network_says_the_same_in_one_call(norm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = networks.build(
        "64C3-AP2-128C3-AP2-256FC", input_shape=(3, 16, 16), classes=10, steps=T, norm=norm, seed=0, readout="current"
    ).eval()
    for name, parameter in net.named_parameters():
        if parameter.dim() > 1:
            parameter.mul_(20 * (drawn(len(name), *parameter.shape, density=0.03) != 0))
    images = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    calls = []

    def counted(x: torch.Tensor, row: Sequence[ChainLayer]) -> torch.Tensor | None:
        calls.append(len(row))
        return run_pruned(x, row)

    for name in ("chained", "spiking"):
        monkeypatch.setattr(sys.modules[f"spikefed.networks.layers.{name}"], "run_pruned", counted)
    found = net(images)
    assert calls == [4]  # the network as one row
    with dense_weights():
        dense = net(images)
    assert dense.abs().mean() > 0.01 and torch.allclose(found, dense, atol=1e-5)
