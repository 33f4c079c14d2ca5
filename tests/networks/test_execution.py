"""Time folded into the batch against an explicit loop over time steps on the same weights."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from spikefed.errors import ConfigError
from spikefed.networks import SpikingNetwork, ann_twin, build
from spikefed.neurons import LIFParameters, spike

NEURONS = {
    "hard": LIFParameters(kind="hard", decay=0.5, v_threshold=0.6),
    "soft": LIFParameters(kind="soft", decay=0.9, v_threshold=0.4, surrogate="triangle"),
}


def network(norm: str = "bn", kind: str = "hard", coding: str = "direct", **more) -> SpikingNetwork:
    """A float64 network with an odd map before its pool and norm tensors away from their initial values."""
    settings = {"input_shape": (2, 7, 7), "classes": 4, "steps": 3, "seed": 1} | more
    net = build("6C3-AP2-5C3-8FC", norm=norm, neuron=NEURONS[kind], coding=coding, **settings)
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for layer in net.layers:
            layer.weight.mul_(4)
            if layer.norm is not None:
                for tensor in (layer.norm.weight, layer.norm.bias, layer.norm.running_var):
                    if tensor is not None:
                        tensor.uniform_(0.5, 1.5, generator=draw)
                layer.norm.running_mean.uniform_(-0.1, 0.1, generator=draw)
                layer.norm.num_batches_tracked.fill_(20)
    return net.double()


def images(batch: int = 5, shape: tuple[int, ...] = (2, 7, 7)) -> Tensor:
    return torch.rand(batch, *shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def by_time_steps(net: SpikingNetwork, coded: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Every layer as a loop over time, equations as in the papers; also the running means after the batch."""
    maps, means = list(coded), {}
    for layer in net.layers:
        currents = []
        for step in maps:  # weights, one step at a time
            if layer.plan.kind == "conv":
                currents.append(F.conv2d(step, layer.weight, layer.bias, padding=layer.plan.kernel // 2))
            else:
                currents.append(F.linear(step.flatten(1), layer.weight, layer.bias))
        norm, p = layer.norm, layer.neuron
        if norm is not None:
            currents = normalised(norm, currents, p)
            means[layer.plan.name] = norm.running_mean.clone()
        u, fired, maps = torch.zeros_like(currents[0]), torch.zeros_like(currents[0]), []
        for x in currents:
            if p.kind == "hard":
                u = p.decay * u * (1 - fired) + x
                fired = spike(u - p.v_threshold, p)
            else:
                u = p.decay * (u - p.v_threshold * fired) + x
                fired = spike(u / p.v_threshold - 1, p)
            maps.append(F.avg_pool2d(fired, 2) if layer.plan.pool else fired)
    return torch.stack(maps), means


def normalised(norm, currents: list[Tensor], p: LIFParameters) -> list[Tensor]:
    """The norm in terms of torch's own batch_norm: once on all steps joined, or once per step (BNTT)."""
    args = (norm.training, norm.momentum, norm.eps)
    if norm.mode == "bntt":
        return [
            F.batch_norm(x, norm.running_mean[t], norm.running_var[t], norm.weight[t], None, *args)
            for t, x in enumerate(currents)
        ]
    scale = p.v_threshold if norm.mode == "tdbn" else 1.0
    joined = F.batch_norm(
        torch.cat(currents), norm.running_mean, norm.running_var, norm.weight * scale, norm.bias, *args
    )
    return list(joined.chunk(len(currents)))


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("norm", ["none", "bn", "tdbn", "bntt"])
def test_folding_time_equals_the_loop_over_time(norm, kind, training):
    net = network(norm, kind).train(training)
    loop = copy.deepcopy(net)
    x = images()
    out = net(x)
    expected, means = by_time_steps(loop, x.expand(net.steps, *x.shape))
    assert torch.equal(out, expected)
    assert 0 < out.mean().item() < 1  # neither silent nor saturated
    weights = torch.rand(out.shape, generator=torch.Generator().manual_seed(4), dtype=out.dtype)
    (out * weights).sum().backward()
    (expected * weights).sum().backward()
    for (name, p), q in zip(net.named_parameters(), loop.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-9, atol=1e-12, msg=name)
    for name, mean in means.items():
        torch.testing.assert_close(net.get_submodule(name).norm.running_mean, mean, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("norm", ["none", "bn", "tdbn", "bntt"])
def test_a_first_layer_computed_once_equals_one_computed_t_times(norm, training):
    once = network(norm).train(training)
    every = copy.deepcopy(once)
    x = images()
    steps = once.steps
    out = once(x)
    y = x.expand(steps, *x.shape).flatten(0, 1)
    for layer in every.layers:
        y = layer(y, steps)
    assert torch.equal(out, y.unflatten(0, (steps, -1)))
    for name, tensor in once.state_dict().items():
        torch.testing.assert_close(tensor, every.state_dict()[name], rtol=1e-12, atol=1e-12, msg=name)


@pytest.mark.parametrize("coding", ["bernoulli", "poisson"])
def test_random_coding_follows_its_generator_alone(coding):
    net = network("bn", coding=coding).eval()
    x = images()
    state = torch.get_rng_state()
    first = net(x, generator=torch.Generator().manual_seed(7))
    again = net(x, generator=torch.Generator().manual_seed(7))
    other = net(x, generator=torch.Generator().manual_seed(8))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
    coded = net.encoder.encode(x, net.steps, torch.Generator().manual_seed(7))
    assert torch.equal(first, by_time_steps(net, coded)[0])


@pytest.mark.parametrize("norm", ["none", "bn", "tdbn", "bntt"])
@pytest.mark.parametrize("readout", ["spike", "current"])
def test_every_parameter_gets_a_gradient(norm, readout):
    net = network(norm, readout=readout)
    out = net(images(16))
    F.mse_loss(out.mean(0), torch.ones(16, 4, dtype=out.dtype)).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_eval_mode_uses_and_keeps_the_running_statistics():
    net = network("bn").eval()
    before = {name: t.clone() for name, t in net.state_dict().items()}
    x = images(6)
    alone = torch.cat([net(x[i : i + 1]) for i in range(6)], dim=1)
    assert torch.equal(net(x), alone)
    assert all(torch.equal(before[name], t) for name, t in net.state_dict().items())
    net.train()
    net(x)
    assert net.conv1.norm.num_batches_tracked == 21
    assert not torch.equal(before["conv1.norm.running_mean"], net.conv1.norm.running_mean)


@pytest.mark.parametrize("norm", ["bn", "tdbn"])
def test_early_running_statistics_are_the_plain_mean_of_the_batches_seen(norm):
    net = build("4C3-3FC", input_shape=(1, 6, 6), classes=2, steps=2, norm=norm).double()
    means, variances = [], []
    for batch in range(12):
        x = images(4, (1, 6, 6)) * (1 + batch)
        net(x)
        currents = net.conv1.currents(x).detach()
        means.append(currents.mean((0, 2, 3)))
        variances.append(currents.var((0, 2, 3), correction=0) * 288 / 287)  # T * B * H * W values
        if batch == 9:
            torch.testing.assert_close(net.conv1.norm.running_mean, torch.stack(means).mean(0))
            torch.testing.assert_close(net.conv1.norm.running_var, torch.stack(variances).mean(0))
            before = net.conv1.norm.running_mean.clone()
    expected = 0.9 * (0.9 * before + 0.1 * means[-2]) + 0.1 * means[-1]
    torch.testing.assert_close(net.conv1.norm.running_mean, expected)


def test_bntt_statistics_move_by_its_papers_momentum_from_the_first_batch():
    net = build("4C3-3FC", input_shape=(1, 6, 6), classes=2, steps=2, norm="bntt").double()
    x = images(4, (1, 6, 6))
    net(x)
    torch.testing.assert_close(net.conv1.norm.running_mean[1], 0.1 * net.conv1.currents(x).detach().mean((0, 2, 3)))


def test_bntt_counts_every_step_and_refuses_another_number_of_steps():
    net = network("bntt")
    net(images())
    assert net.conv1.norm.num_batches_tracked.tolist() == [21, 21, 21]
    net.steps = 4
    with pytest.raises(ConfigError, match="built for 3 time steps and cannot run 4"):
        net(images())


def test_other_norms_run_any_number_of_steps():
    net = network("bn").eval()
    short = net(images())
    net.steps = 6
    assert torch.equal(net(images())[:3], short)


def test_bfloat16_keeps_float32_outputs_weights_and_gradients_close_to_float32():
    net = build("8C3-AP2-16FC", input_shape=(1, 8, 8), classes=4, steps=4, readout="current")
    x = images(32, (1, 8, 8)).float()
    gradients, outs = {}, {}
    for precision in ("float32", "bfloat16"):
        net.precision = precision
        net.zero_grad()
        outs[precision] = net(x)
        outs[precision].square().mean().backward()
        gradients[precision] = torch.cat([p.grad.flatten() for p in net.parameters()])
    assert outs["bfloat16"].dtype == torch.float32 and {p.dtype for p in net.parameters()} == {torch.float32}
    assert not torch.equal(outs["float32"], outs["bfloat16"])
    error = (outs["float32"] - outs["bfloat16"]).abs()  # median: rounding moves a few spikes across the threshold
    assert error.median() < 0.01 * outs["float32"].abs().mean()
    assert F.cosine_similarity(gradients["float32"], gradients["bfloat16"], dim=0) > 0.9


def test_a_callers_autocast_is_left_in_force():
    net = build("8C3-8FC", input_shape=(1, 4, 4), classes=2, steps=2, readout="current").eval()
    x = images(8, (1, 4, 4)).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outer = net(x)
    net.precision = "bfloat16"
    assert torch.equal(net(x), outer)


def test_an_image_of_another_size_is_refused():
    with pytest.raises(ConfigError, match="built for images 2x7x7"):
        network()(images(shape=(2, 8, 8)))


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "pickle"]
)
def test_copies_after_a_forward_are_independent_and_equal(duplicate):
    net = network("bntt")
    net(images()).sum().backward()
    twin = duplicate(net).eval()
    net.eval()
    assert torch.equal(net(images()), twin(images()))
    with torch.no_grad():
        twin.conv1.weight.zero_()
    assert not torch.equal(net.conv1.weight, twin.conv1.weight)


def test_no_state_survives_a_call():
    net = network("bn").eval()
    first = net(images(5))
    net(images(9) * 3)
    assert torch.equal(net(images(5)), first)


def test_the_ann_twin_is_conv_norm_relu_pool():
    twin = ann_twin("6C3-AP2-8FC", input_shape=(1, 6, 6), classes=3).double().eval()
    x = images(shape=(1, 6, 6))
    conv, fc, last = twin.layers
    scale = (1 + 1e-5) ** -0.5  # fresh running statistics
    y = F.avg_pool2d(F.relu(F.conv2d(x, conv.weight, padding=1) * scale), 2)
    y = F.relu(F.linear(y.flatten(1), fc.weight) * scale)
    torch.testing.assert_close(twin(x)[0], F.linear(y, last.weight, last.bias))
    assert twin(x).min() < 0
