"""What a pruning costs and saves: hand-computed networks, brute-force counts, and operations in the loss."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from spikefed import networks
from spikefed.errors import ConfigError
from spikefed.networks import Row
from spikefed.probes import Subject, run_probe
from spikefed.probes.sparsity import ALL, Sparsity
from spikefed.training import (
    FewOperations,
    Mask,
    Preprocess,
    channel_scores,
    density,
    magnitudes,
    mask_of_best,
    mask_of_best_channels,
    mask_of_least_loss,
    operations_of,
    per_operation,
    rate_cross_entropy,
    saliencies_of,
    train,
)

UNIT = Preprocess("unit")


class Logits(nn.Module):
    """Two linear maps without neurons, as a network of one step: all that is asked of it is known in closed form."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(3, 2, bias=False)
        self.out = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.into.weight.copy_(torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]))
            self.out.weight.copy_(torch.tensor([[0.0, 0.0], [0.0, 0.0]]))

    def forward(self, x: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        return self.out(self.into(x.flatten(1))).unsqueeze(0)


def test_losses_and_operations_of_a_network_known_by_hand() -> None:
    """Equal logits: each label has p = 1/2, so a drawn gradient is +-1/2 times what enters, whatever is drawn."""
    net = Logits()
    images = torch.tensor([[255, 0, 0], [255, 255, 0], [0, 255, 0], [255, 0, 0]], dtype=torch.uint8).reshape(4, 1, 1, 3)
    with torch.no_grad():
        net.out.weight.copy_(torch.tensor([[1.0, -2.0], [1.0, -2.0]]))  # equal logits: p stays 1/2
    names = ["into.weight", "out.weight"]
    one = [saliencies_of(net, names, images[i : i + 1], UNIT, torch.Generator()) for i in range(4)]
    # Hidden values are the number of lit pixels, 1, 2, 1, 1: F = mean(h^2 / 4) = 7 / 16 for both classes' weights.
    out = torch.stack([found.losses["out.weight"] for found in one]).mean(0)
    assert torch.allclose(out, torch.tensor([[1.0, 4.0], [1.0, 4.0]]) * 7 / 16 / 2)
    # d loss / d hidden = (p - y) W sums to 0 over two equal rows: nothing that enters counts.
    assert all(not found.losses["into.weight"].any() for found in one)
    together = saliencies_of(net, names, images, UNIT, torch.Generator())
    assert together.operations["into.weight"].tolist() == [[0.75, 0.5, 0.0]]
    assert together.operations["out.weight"].tolist() == [[1.0, 1.0]]


def test_the_order_of_the_criterion_is_known() -> None:
    """Four weights: what costs little for each operation goes first, and what meets nothing before all."""
    losses = {"w": torch.tensor([[4.0, 3.0, 1.0, 0.0]])}
    operations = {"w": torch.tensor([[8.0, 1.0, 1.0, 0.0]])}
    ranked = {"w": per_operation(losses["w"], operations["w"])}
    assert ranked["w"].tolist() == [[0.5, 3.0, 1.0, 0.0]]
    kept = [mask_of_best(ranked, s).kept["w"][0].tolist() for s in (0.25, 0.5, 0.75)]
    assert kept == [[True, True, True, False], [False, True, True, False], [False, True, False, False]]
    assert mask_of_best(losses, 0.5).kept["w"][0].tolist() == [True, True, False, False]
    bounded = mask_of_least_loss(losses, operations, 0.5, most=2.0)
    assert bounded.kept["w"][0].tolist() == [False, True, True, False]
    assert mask_of_least_loss(losses, operations, 0.5, most=9.0).kept["w"][0].tolist() == [True, True, False, False]
    assert operations_of(mask_of_least_loss(losses, operations, 0.5, most=0.0), operations) == 1.0  # no fewer there are


def trained(units: str = "8C3-AP2-8C3-24FC", seed: int = 0) -> tuple[nn.Module, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (60,), generator=draw)
    images = torch.randint(0, 60, (60, 1, 8, 8), generator=draw)
    images[torch.arange(60), 0, 2 * labels] += 180
    images = images.to(torch.uint8)
    net = networks.build(
        units, input_shape=(1, 8, 8), classes=3, steps=4, norm="bn", readout="current", coding="direct", seed=seed
    )
    optim = torch.optim.Adam(net.parameters(), lr=0.01)
    train(net, images, labels, rate_cross_entropy, optim, epochs=6, batch_size=12, preprocess=UNIT, generator=draw)
    return net, images


def names_of(net: nn.Module) -> list[str]:
    return [name for name, p in net.named_parameters() if p.dim() > 1]


def masked(net: nn.Module, mask: Mask) -> None:
    networks.load_tensors(net, mask.applied(networks.copy_tensors(net)))


def probed(net: nn.Module, images: torch.Tensor) -> float:
    subject = Subject(images, torch.zeros(len(images), dtype=torch.int64), UNIT, ("a", "b", "c"))
    row = run_probe(net, subject, Sparsity()).records[-1]
    assert row["layer"] == ALL
    return float(row["synops"] or 0)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.9])
def test_bounded_by_magnitude_it_has_no_more_operations_at_equal_weights(sparsity: float, seed: int) -> None:
    net, images = trained(seed=seed)
    weights = networks.copy_tensors(net)
    names = names_of(net)
    found = saliencies_of(net, names, images, UNIT, torch.Generator())
    by_size = mask_of_best(magnitudes(weights, names), sparsity)
    most = operations_of(by_size, found.operations)
    mask = mask_of_least_loss(found.losses, found.operations, sparsity, most)
    assert density(mask) == density(by_size)
    assert operations_of(mask, found.operations) <= most
    lost = [sum(float(found.losses[n][~k].sum()) for n, k in m.kept.items()) for m in (mask, by_size)]
    assert lost[0] <= lost[1]  # and the least loss that such a choice has
    by_loss = mask_of_best(found.losses, sparsity)
    each = mask_of_best({n: per_operation(t, found.operations[n]) for n, t in found.losses.items()}, sparsity)
    assert operations_of(each, found.operations) <= operations_of(by_loss, found.operations)


def test_after_pruning_the_probe_counts_what_brute_force_does() -> None:
    net, images = trained("4C3-AP2-6FC")
    names = names_of(net)
    images = images[:5]
    found = saliencies_of(net, names, images, UNIT, torch.Generator())
    mask = mask_of_best({n: per_operation(t, found.operations[n]) for n, t in found.losses.items()}, 0.6)
    whole = probed(net, images)
    every = Mask({n: torch.ones_like(k) for n, k in mask.kept.items()})
    assert whole == pytest.approx(operations_of(every, found.operations), rel=1e-5)
    masked(net, mask)
    seen: dict[str, torch.Tensor] = {}
    for name in ("conv1", "fc1", "fc2"):
        net.get_submodule(name).register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0]}))
    told = probed(net, images)
    wanted = 0
    for _, y, x in (seen["conv1"][:, 0] != 0).nonzero().tolist():
        for _, i, j in (net.get_submodule("conv1").weight[:, 0] != 0).nonzero().tolist():
            wanted += 0 <= y + 1 - i < 8 and 0 <= x + 1 - j < 8
    for name in ("fc1", "fc2"):
        for row in (seen[name].flatten(1) != 0).tolist():
            for kept in (net.get_submodule(name).weight != 0).tolist():
                wanted += sum(a and k for a, k in zip(row, kept, strict=True))
    assert told == pytest.approx(wanted / 5) and 0 < told < whole


def test_operations_do_not_depend_on_the_batch_and_the_network_comes_back() -> None:
    net, images = trained("4C3-AP2-6FC")
    before = networks.copy_tensors(net)
    net.train()
    one = saliencies_of(net, names_of(net), images[:23], UNIT, torch.Generator().manual_seed(1))
    again = saliencies_of(net, names_of(net), images[:23], UNIT, torch.Generator().manual_seed(1))
    assert net.training and all(torch.equal(t, before[n]) for n, t in networks.copy_tensors(net).items())
    assert all(torch.equal(one.losses[n], again.losses[n]) for n in one.losses)
    single = [saliencies_of(net, names_of(net), images[i : i + 1], UNIT, torch.Generator()) for i in range(23)]
    for name, met in one.operations.items():
        assert torch.allclose(met, torch.stack([s.operations[name] for s in single]).mean(0), rtol=1e-5)
    assert not net.get_submodule("fc1")._forward_hooks


def test_losses_are_the_fisher_information_of_labels_that_the_network_says() -> None:
    """Equal to a loop over images and classes, each class weighed by its probability, within what draws leave."""
    net, images = trained("4C3-AP2-6FC")
    images = images[:10]
    net.eval()
    with torch.no_grad():
        net.get_submodule("fc2").weight.mul_(0.1)  # undecided, so that draws matter
    weight = net.get_submodule("fc2").weight
    exact = torch.zeros_like(weight)
    gates = torch.zeros(6)
    for image in images:
        logits = net(UNIT(image[None])).mean(0)
        said = logits.softmax(1)[0].detach()
        for c in range(3):
            loss = nn.functional.cross_entropy(logits, torch.tensor([c]))
            (g,) = torch.autograd.grad(loss, weight, retain_graph=True)
            exact += said[c] * g.square() / len(images)
    draws = [torch.Generator().manual_seed(i) for i in range(150)]
    many = [saliencies_of(net, ["fc1.weight", "fc2.weight"], images, UNIT, draw) for draw in draws]
    drawn = torch.stack([m.losses["fc2.weight"] for m in many])
    wanted = weight.detach().square() * exact / 2
    error = drawn.std(0) / math.sqrt(len(many))
    assert ((drawn.mean(0) - wanted).abs() <= 5 * error + 1e-9).all() and wanted.sum() > 0
    # A gate on a hidden neuron: sum over steps of its spikes times what leads out of it, exact for a linear readout.
    hidden = []
    net.get_submodule("fc1").register_forward_hook(lambda _, __, out: hidden.append(out.detach()))
    for image in images:
        logits = net(UNIT(image[None])).mean(0)
        said = logits.softmax(1)[0].detach()
        rate = hidden[-1].mean(0)
        for c in range(3):
            error_ = said - nn.functional.one_hot(torch.tensor(c), 3)
            gates += said[c] * (rate * (error_ @ weight.detach())).square() / len(images) / 2
    told = torch.stack([m.channels["fc1.weight"] for m in many])
    assert ((told.mean(0) - gates).abs() <= 5 * told.std(0) / math.sqrt(len(many)) + 1e-9).all() and gates.sum() > 0


def test_channels_go_with_all_that_reads_them_and_the_small_network_says_the_same() -> None:
    net, images = trained()
    row = Row.of(net)
    found = saliencies_of(net, names_of(net), images, UNIT, torch.Generator())
    gates = [found.channels[row.weight(place)] for place in range(len(row.names) - 1)]
    first = mask_of_best_channels(row, gates, 0.4, operations=found.operations, keep=0.2)
    mask = mask_of_best_channels(row, gates, 0.8, first, found.operations, keep=0.2)
    assert density(mask) <= 0.2 and all(not (k & ~first.kept[n]).any() for n, k in mask.kept.items())
    alive = row.alive(mask.kept)
    assert [int(a.sum()) >= math.ceil(0.2 * len(a)) for a in alive] == [True] * 3
    assert {"conv1.norm.weight", "conv1.norm.bias"} <= mask.kept.keys() and "fc2.norm.weight" not in mask.kept
    dead = ~alive[1]
    assert not mask.kept["conv2.norm.bias"][dead].any()
    assert not mask.kept["fc1.weight"][:, dead.repeat_interleave(16)].any()
    masked(net, mask)
    net.eval()
    small = networks.narrowed(net)
    assert small.name == "-".join(
        [f"{int(alive[0].sum())}C3-AP2", f"{int(alive[1].sum())}C3", f"{int(alive[2].sum())}FC"]
    )
    x = UNIT(images)
    with torch.no_grad():
        assert torch.allclose(small(x), net(x), atol=1e-5)
    assert probed(small, images) == pytest.approx(probed(net, images), rel=1e-6)
    sizes = [sum(p.numel() for p in n.parameters()) for n in (small, net)]
    kept = sum(int(k.sum()) for k in mask.kept.values())
    rest = sum(p.numel() for n, p in net.named_parameters() if n not in mask.kept)
    assert sizes[0] == kept + rest < 0.3 * sizes[1]


def test_the_next_channel_is_the_cheapest_for_what_it_saves() -> None:
    """Two hidden neurons of equal loss: the one that fires four times as often goes; by loss alone the first would."""
    net = networks.build("2FC", input_shape=(1, 1, 2), classes=2, steps=1, norm="none", readout="current")
    row = Row.of(net)
    losses = [torch.tensor([1.0, 1.5])]
    operations = {"fc1.weight": torch.tensor([[1.0, 1.0]]), "fc2.weight": torch.tensor([[1.0, 4.0]])}
    # Channel 0 saves 2 + 1 * 2 = 4, channel 1 saves 2 + 4 * 2 = 10: 0.25 and 0.15 an operation.
    assert row.alive(mask_of_best_channels(row, losses, 0.4, operations=operations).kept)[0].tolist() == [True, False]
    assert row.alive(mask_of_best_channels(row, losses, 0.4).kept)[0].tolist() == [False, True]
    with pytest.raises(ConfigError, match=r"sparsity of 0\.9 leaves fewer"):
        mask_of_best_channels(row, losses, 0.9)
    assert channel_scores(row, {"fc1.weight": torch.tensor([[1.0, 3.0], [0.0, 1.0]])})[0].tolist() == [2.0, 0.5]


def test_only_rows_of_layers_have_channels_to_prune() -> None:
    net = networks.build("resnet19", input_shape=(1, 8, 8), classes=3, steps=1)
    with pytest.raises(ConfigError, match="stand in a row"):
        Row.of(net)


def test_operations_in_the_loss_are_those_that_the_probe_counts_and_training_lowers_them() -> None:
    net, images = trained("4C3-AP2-6FC")
    net.eval()
    with torch.no_grad():
        net.get_submodule("fc1").weight[:, ::2] = 0
    hook = FewOperations(2.0)
    x = UNIT(images[:6])
    draw = torch.Generator()
    with hook.around(net, draw):
        term = hook.term(net, x, net(x), draw)
    assert term is not None
    term.backward()
    rows = {}
    subject = Subject(images[:6], torch.zeros(6, dtype=torch.int64), UNIT, ("a", "b", "c"))
    for record in run_probe(net, subject, Sparsity()).records:
        rows[record["layer"]] = float(record["synops"] or 0)
    most = 4 * (64 * 6 + 6 * 3)  # four steps, every input of fc1 and fc2 active
    assert float(term.detach()) == pytest.approx(2.0 * (rows["fc1"] + rows["fc2"]) / most, rel=1e-5)
    gradient = net.get_submodule("conv1").weight.grad
    assert gradient is not None and gradient.abs().sum() > 0
    assert not net.get_submodule("fc1")._forward_pre_hooks
    optim = torch.optim.Adam(net.parameters(), lr=0.1)
    labels = torch.zeros(60, dtype=torch.int64)
    given = {"epochs": 3, "batch_size": 12, "preprocess": UNIT, "generator": draw, "hooks": [hook]}
    train(net, images, labels, lambda out, _: 0 * out.sum(), optim, **given)
    after = {str(r["layer"]): float(r["synops"] or 0) for r in run_probe(net, subject, Sparsity()).records}
    assert after["fc1"] + after["fc2"] < 0.5 * (rows["fc1"] + rows["fc2"])
    assert after["conv1"] == rows["conv1"]  # the image's way in


NAMED = ("vgg5", "vgg9-bntt", "mlp", "vgg5-rvd-small", "vgg-small", "vgg16:9C3-AP2-8C3-12FC", "cifarnet:9C3-AP2-8FC")


@pytest.mark.parametrize("name", NAMED)
def test_named_networks_without_biases_or_a_normed_readout_are_made_small_too(name: str) -> None:
    net = networks.build(name, input_shape=(3, 16, 16), classes=3, steps=2)
    row = Row.of(net)
    draw = torch.Generator().manual_seed(5)
    tensors = networks.copy_tensors(net)
    with torch.no_grad():
        for title, tensor in tensors.items():
            if tensor.dim() > 1:
                tensor.mul_(8)  # so that it fires
            elif title.endswith("bias"):
                tensor.uniform_(0, 1, generator=draw)
    kept = row.mask([torch.rand(channels, generator=draw) < 0.3 for channels in row.channels[:-1]])
    networks.load_tensors(net, Mask(kept).applied(tensors))
    net.eval()
    small = networks.narrowed(net)
    assert sum(p.numel() for p in small.parameters()) < 0.4 * sum(p.numel() for p in net.parameters())
    x = torch.rand(4, 3, 16, 16, generator=draw)
    with torch.no_grad():
        said = [each(x, generator=torch.Generator().manual_seed(1)) for each in (small, net)]
    assert torch.allclose(said[0], said[1], atol=1e-5) and said[1].any()
    again = networks.build(small.name, input_shape=(3, 16, 16), classes=3, steps=2).eval()
    networks.load_tensors(again, networks.state_tensors(small))
    with torch.no_grad():
        assert torch.equal(again(x, generator=torch.Generator().manual_seed(1)), said[0])
    assert networks.narrowed(small).name == small.name


@pytest.mark.parametrize("norm", ["bn", "tdbn", "bntt", "bn-step"])
@pytest.mark.parametrize("mean", [-0.5, 0.5])
def test_a_channel_that_a_running_mean_makes_fire_stays_where_no_weight_leads_in(norm: str, mean: float) -> None:
    net = networks.build(
        "6C3-AP2-8C3-AP2-10FC", input_shape=(1, 8, 8), classes=3, steps=4, norm=norm, readout="current"
    ).eval()
    row, tensors = Row.of(net), networks.copy_tensors(net)
    for title, tensor in tensors.items():
        if title.endswith("running_var"):
            tensor.fill_(0.005)  # so that it fires
    tensors["conv2.norm.running_mean"][..., 1] = mean
    tensors[row.weight(1)][1] = 0
    networks.load_tensors(net, tensors)
    small = networks.narrowed(net)
    assert small.name == f"6C3-AP2-{8 - (mean > 0)}C3-AP2-10FC"
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        assert torch.allclose(small(x), net(x), atol=1e-6) and net(x).any()


@pytest.mark.parametrize("twin", [False, True])
def test_networks_that_run_step_by_step_and_twins_have_saliencies(twin: bool) -> None:
    how = {"input_shape": (1, 8, 8), "classes": 3}
    if twin:
        net: nn.Module = networks.ann_twin("4C3-AP2-6FC", **how)
    else:
        net = networks.build("cell:0303-0030-2002-0200:width=4", steps=2, **how)
    names = [n for n, p in net.named_parameters() if p.dim() > 1 and ".norm." not in n]
    images = torch.randint(0, 256, (6, 1, 8, 8), dtype=torch.uint8)
    found = saliencies_of(net, names, images, UNIT, torch.Generator())
    assert found.losses.keys() == found.operations.keys() == set(names)
    assert all(t.isfinite().all() for t in found.losses.values())
