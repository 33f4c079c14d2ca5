"""Modules of one's own: tokens, shared layers, black and white images, images shown again at every step."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from spikefed.hardware import EnergyReport, count_operations, energy_report, lemaire
from spikefed.networks import wrap
from spikefed.neurons import IF

IMAGES = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
MAC, AC = 4.6, 0.9  # FP32, pJ
CONV = 64 * 4 * 9  # MACs of a 3x3 convolution of 1x8x8 to 4 maps


class Module(nn.Module):
    """Layers by name, and how they are called."""

    def __init__(self, forward: Callable[[Module, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.called = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.called(self, x)


def energies(report: EnergyReport) -> list[tuple[float, float]]:
    """The ANN's and the network's own energy by layer, paper formula."""
    return [(layer.ann_pj, layer.paper_fp32_pj) for layer in report.layers]


def test_a_linear_layer_over_tokens_costs_once_a_row() -> None:
    net = Module(lambda m, x: m.out(torch.relu(m.tokens(x)).flatten(1)), tokens=nn.Linear(8, 8), out=nn.Linear(64, 10))
    report = energy_report(net, IMAGES[:, 0])  # [B, 8, 8]
    assert report.steps == 1
    assert energies(report) == [pytest.approx((8 * 64 * MAC,) * 2), pytest.approx((640 * MAC,) * 2)]
    tokens = report.layers[0].counts
    assert (tokens.uses, tokens.passes, tokens.inputs, tokens.outputs) == (8, 1, 64, 64)


def test_a_layer_used_three_times_costs_three_times() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for _ in range(3):
            x = torch.relu(m.shared(x))
        return m.out(x)

    report = energy_report(Module(forward, shared=nn.Linear(64, 64), out=nn.Linear(64, 10)), IMAGES)
    assert energies(report) == [pytest.approx((3 * 4096 * MAC,) * 2), pytest.approx((640 * MAC,) * 2)]
    assert report.training.ann_pj == pytest.approx((2 * 3 * 4096 + 3 * 640) * MAC)


def test_a_convolution_used_twice_costs_what_two_convolutions_cost() -> None:
    def shared(m: nn.Module, x: Tensor) -> Tensor:
        return m.conv(torch.relu(m.conv(x)))

    def apart(m: nn.Module, x: Tensor) -> Tensor:
        return m.second(torch.relu(m.first(x)))

    make = lambda: nn.Conv2d(1, 1, 3, padding=1, bias=False)  # noqa: E731
    one = energy_report(Module(shared, conv=make()), IMAGES)
    two = energy_report(Module(apart, first=make(), second=make()), IMAGES)
    for name in ("ann_pj", "paper_fp32_pj", "paper_int32_pj", "memory_bytes", "simple_pj"):
        assert one.total(name) == pytest.approx(two.total(name)), name
    parts = [
        sum(lemaire(layer.counts, 1, network_spikes=False).addressing_pj for layer in r.layers) for r in (one, two)
    ]
    assert parts[0] == pytest.approx(parts[1])


def stepped(m: nn.Module, x: Tensor) -> Tensor:
    """T = 4 frames of 8 tokens, all steps in one call; neurons between the layers."""
    frames = torch.stack([(x[:, 0] > level).float() for level in (0.2, 0.4, 0.6, 0.8)])  # [T, B, 8, 8]
    return m.out(m.fire(m.tokens(frames)))


def test_tokens_and_steps_are_told_apart() -> None:
    net = Module(stepped, tokens=nn.Linear(8, 6), fire=IF(), out=nn.Linear(6, 3))
    report = energy_report(net, IMAGES)
    tokens, out = (layer.counts for layer in report.layers)
    # The last layer reads tokens too; the neurons tell how many steps there are.
    assert report.steps == 4 and (tokens.uses, tokens.passes, out.uses, out.passes) == (8, 4, 8, 4)
    assert (tokens.macs, tokens.inputs, tokens.neurons) == (8 * 48, 64, 48)
    spikes = sum(float((level < IMAGES).sum()) for level in (0.2, 0.4, 0.6, 0.8)) / len(IMAGES)
    assert energies(report)[0] == pytest.approx((8 * 48 * MAC, spikes * 6 * AC))
    told = energy_report(net, IMAGES, steps=4)
    assert told.to_json() == report.to_json()


def test_a_readout_that_runs_once_leaves_the_steps_to_the_neurons() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        frames = (x.flatten(1) > torch.linspace(0.1, 0.9, 5).view(-1, 1, 1)).float()
        return m.out(m.fire(m.hidden(frames)).sum(0))

    report = energy_report(Module(forward, hidden=nn.Linear(64, 8), fire=IF(), out=nn.Linear(8, 3)), IMAGES)
    hidden, out = (layer.counts for layer in report.layers)
    assert (report.steps, hidden.passes, hidden.uses, out.passes, out.uses) == (5, 5, 1, 1, 1)
    assert [layer.ann_pj for layer in report.layers] == pytest.approx([512 * MAC, 24 * MAC])


def test_tokens_before_the_steps_are_counted_as_such() -> None:
    """8 tokens, T = 5: T does not divide the rows, so they are no steps."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        current = m.tokens(x[:, 0])
        return m.out(m.fire(current.expand(5, *current.shape)).flatten(2))

    net = Module(forward, tokens=nn.Linear(8, 2), fire=IF(), out=nn.Linear(16, 3))
    report = energy_report(net, IMAGES)
    tokens = report.layers[0].counts
    assert (report.steps, tokens.passes, tokens.uses, tokens.constant) == (5, 1, 8, True)
    assert energies(report)[0] == pytest.approx((8 * 16 * MAC,) * 2)
    every = energy_report(net, IMAGES, first_layer="every-step")
    assert energies(every)[0] == pytest.approx((8 * 16 * MAC, 5 * 8 * 16 * MAC))


def rectified(m: nn.Module, x: Tensor) -> Tensor:
    return m.fc(torch.relu(m.conv(x)).flatten(1))


@pytest.mark.parametrize("images", [(IMAGES > 0.5).float(), torch.zeros(2, 1, 8, 8), IMAGES])
@pytest.mark.parametrize("bias", [0.0, -1e3])  # which kills every ReLU
def test_without_a_neuron_every_layer_multiplies(images: Tensor, bias: float) -> None:
    conv = nn.Conv2d(1, 4, 3, padding=1)
    nn.init.constant_(conv.bias, bias)  # type: ignore[arg-type]
    report = energy_report(Module(rectified, conv=conv, fc=nn.Linear(256, 10)), images)
    assert energies(report) == [pytest.approx((CONV * MAC,) * 2), pytest.approx((2560 * MAC,) * 2)]
    assert not report.spiking and report.synops == 0 and report.mac == CONV + 2560


class Fire(nn.Module):
    """A neuron without memory, known by its threshold."""

    v_threshold = 0.3

    def forward(self, x: Tensor) -> Tensor:
        return (x > self.v_threshold).float()


def by_steps(m: nn.Module, x: Tensor) -> Tensor:
    return torch.stack([m.out(m.fire(m.conv(x)).flatten(1)) for _ in range(4)])


def in_one_call(m: nn.Module, x: Tensor) -> Tensor:
    folded = x.expand(4, *x.shape).flatten(0, 1)
    return m.out(m.fire(m.conv(folded)).flatten(1)).unflatten(0, (4, -1))


def written_in_place(m: nn.Module, x: Tensor) -> Tensor:
    frame, out = torch.empty_like(x), []
    for step in range(4):
        frame.copy_(x + step / 10)
        out.append(m.out(m.fire(m.conv(frame)).flatten(1)))
    return torch.stack(out)


def own(forward: Callable[[Module, Tensor], Tensor]) -> Module:
    torch.manual_seed(0)
    return Module(forward, conv=nn.Conv2d(1, 4, 3, padding=1), fire=Fire(), out=nn.Linear(256, 3))


@pytest.mark.parametrize("forward", [by_steps, in_one_call])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_an_image_shown_again_at_every_step_is_charged_once(forward, batch_size) -> None:
    first = count_operations(own(forward), IMAGES, batch_size=batch_size)[0]
    assert (first.input, first.constant, first.passes, first.uses) == ("real", True, 4, 1)
    once, every = (energy_report(own(forward), IMAGES, first_layer=way) for way in ("once", "every-step"))
    assert once.layers[0].paper_fp32_pj == pytest.approx(CONV * MAC)
    assert every.layers[0].paper_fp32_pj == pytest.approx(4 * CONV * MAC)
    assert once.layers[1] == every.layers[1]


def test_an_image_that_changes_is_charged_at_every_step() -> None:
    report = energy_report(own(written_in_place), IMAGES)
    assert not report.layers[0].counts.constant
    assert report.layers[0].paper_fp32_pj == pytest.approx(4 * CONV * MAC)


def test_a_first_layer_that_runs_once_is_not_cut_into_steps() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        current = m.conv(x)
        return torch.stack([m.out(m.fire(current / (step + 1)).flatten(1)) for step in range(4)])

    first = count_operations(own(forward), IMAGES)[0]
    assert (first.input, first.constant, first.passes, first.uses) == ("real", True, 1, 1)


def test_wrapped_and_bare_agree_on_what_the_first_layer_reads() -> None:
    """Under direct coding the image is real; what a module makes of it itself is judged by what it makes."""
    body = nn.Sequential(nn.Flatten(), nn.Linear(64, 3), Fire())
    shown = wrap(body, steps=4, classes=3, input_shape=(1, 8, 8), mode="step")
    assert count_operations(shown, (IMAGES > 0.5).float())[0].constant
    coder = nn.Sequential(Fire(), nn.Flatten(), nn.Linear(64, 3), Fire())
    coded = wrap(coder, steps=4, classes=3, input_shape=(1, 8, 8), mode="step")
    layer = count_operations(coded, IMAGES)[0]
    assert (layer.input, layer.constant) == ("spikes", False)

    def frames(m: nn.Module, x: Tensor) -> Tensor:
        levels = torch.tensor([0.2, 0.4, 0.6, 0.8]).view(-1, 1, 1)
        return m.fire(m.fc((x.flatten(1) > levels).float()))

    makes = wrap(
        Module(frames, fc=nn.Linear(64, 3), fire=IF()), steps=4, classes=3, input_shape=(1, 8, 8), mode="images"
    )
    layer = count_operations(makes, IMAGES)[0]
    assert (layer.input, layer.constant, layer.passes) == ("spikes", False, 4)


@pytest.mark.parametrize(
    ("pool", "features"),
    [
        (nn.AvgPool2d(4), 16),
        (nn.AvgPool2d((8, 2)), 16),
        (nn.AdaptiveAvgPool2d(1), 4),
        (nn.Sequential(nn.AvgPool2d(2), nn.AvgPool2d(4)), 4),
        (nn.AdaptiveAvgPool2d((2, 2)), 16),
    ],
)
def test_means_of_pooled_spikes_are_charged_as_additions(pool: nn.Module, features: int) -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        return sum(m.fc(m.pool(m.fire(m.conv(x))).flatten(1)) for _ in range(5))  # type: ignore[return-value]

    net = Module(forward, conv=nn.Conv2d(1, 4, 3, padding=1), fire=IF(), pool=pool, fc=nn.Linear(features, 10))
    conv, fc = count_operations(net, 2 * IMAGES, steps=5)
    assert (conv.input, fc.input) == ("real", "spikes")
    assert 0 < fc.events <= 5 * features * 10


def test_means_of_real_numbers_stay_real() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        return sum(m.fc(m.pool(m.conv(x) + m.fire(m.conv(x))).flatten(1)) for _ in range(5))  # type: ignore[return-value]

    net = Module(forward, conv=nn.Conv2d(1, 4, 3, padding=1), fire=IF(), pool=nn.AvgPool2d(4), fc=nn.Linear(16, 10))
    assert [layer.input for layer in count_operations(net, IMAGES, steps=5)] == ["real", "real"]
