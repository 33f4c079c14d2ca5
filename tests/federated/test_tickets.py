"""The method `tickets`: masks, rewinding, time steps, and the defects of the released code that it does not have."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from federated.sparse import STEPS, context
from spikefed import networks
from spikefed.errors import ConfigError
from spikefed.federated import NetworkFactory
from spikefed.federated.fewsteps import shortened
from spikefed.federated.methods.tickets import TicketHyperparameters, Tickets
from spikefed.federated.setup import Setup
from spikefed.federated.stages import NOTE
from spikefed.federated.ticketsearch import packed, unpacked
from spikefed.training import Mask, density, step_cross_entropy


def net(seed: int, norm: str = "bn", steps: int = STEPS) -> torch.nn.Module:
    return networks.build(
        "4C3-AP2-12FC", input_shape=(1, 8, 8), classes=3, steps=steps, norm=norm, readout="current", seed=seed
    )


class Run:
    """A federation in one process without a wire."""

    def __init__(self, clients: int = 2, norm: str = "bn", **given: Any) -> None:
        given = {"sparsities": [0.5, 0.9], "level_rounds": 3, "local_batch": 8, "lr": 0.01, **given}
        self.hyper = TicketHyperparameters(**given)
        self.method, self.clients = Tickets(), clients
        self.networks = NetworkFactory(lambda seed: net(seed, norm), seed=1)
        self.round = 0
        self.state, self.downlink = self.method.init_server(context(self, 40))

    def step(self) -> Any:
        self.round += 1
        uplinks = {c: self.method.client_round({}, self.downlink, context(self, 40, c))[1] for c in range(self.clients)}
        self.state, self.downlink, said = self.method.server_round(self.state, uplinks, context(self, 40))
        return said.values

    def rounds(self, count: int) -> list[dict[str, float]]:
        return [self.step() for _ in range(count)]


def test_every_sparsity_is_trained_and_nested_and_masked_weights_are_0() -> None:
    run = Run(optimiser="sgd", weight_decay=0.1, levels=1)
    densities = []
    for values in run.rounds(7):
        result = run.state["result"]
        densities.append((values["mask_density"], values["level"]))
        for name, kept in result["mask"].items():
            assert not result["weights"][name][~kept].any()
    assert [round(d, 2) for d, _ in densities] == [1.0] * 3 + [0.5] * 2 + [0.1] * 2
    assert [level for _, level in densities] == [0, 0, 0, 1, 1, 2, 2]
    masks = [unpacked(run.state["search"]["masks"][k], Mask(run.state["mask"])) for k in "12"]
    assert all(not (masks[1].kept[n] & ~kept).any() for n, kept in masks[0].kept.items())
    assert [round(density(m), 3) for m in masks] == [0.5, 0.1]


def test_rewinding_takes_running_statistics_along_and_reporting_shows_the_trained_ticket() -> None:
    """Defect 6: running statistics were not rewound. And what is measured is what was trained."""
    run = Run()
    run.step()
    stored = run.state["weights"]
    run.rounds(2)
    weights, mask = run.state["weights"], run.state["mask"]
    assert density(Mask(mask)) == pytest.approx(0.5, abs=0.01)
    for name, tensor in stored.items():
        expected = torch.where(mask[name], tensor, torch.zeros(())) if name in mask else tensor
        assert torch.equal(weights[name], expected), name
    shown = run.method.server_network(run.state, context(run, 40)).state_dict()
    assert not torch.equal(shown["conv1.weight"], weights["conv1.weight"])
    assert density(run.method.server_mask(run.state) or Mask({})) == 1.0
    assert any("running_mean" in name for name in stored)


def test_normalisations_and_biases_are_never_pruned() -> None:
    """Defect 5, second half: all-ones tensors of normalisations were part of the masks and of their distance."""
    run = Run()
    assert set(run.state["mask"]) == {"conv1.weight", "fc1.weight", "fc2.weight"}


@pytest.mark.parametrize("where", ["within", "before"])
def test_early_time_searches_short_and_trains_long(where: str) -> None:
    run = Run(early_time=True, early_probe=where, kl_threshold=1.0, probe_rounds=1)
    short = 4 if where == "within" else 5  # dense and level 1, of which within one had all steps
    values = run.rounds(1 + short + 4)
    early = int(values[0]["early_steps"])
    assert 2 <= early < STEPS and values[0][f"kl_{STEPS}"] == 0.0
    assert [int(v["time_steps"]) for v in values] == [STEPS] + [early] * short + [STEPS] * 4
    assert [int(v["level"]) for v in values] == [0] * (short - 1) + [1, 1, 1, 1, 2, 2]
    assert run.networks.network.steps == STEPS
    search = sum(v["lif_steps"] for v in values[1 : 1 + short])
    assert search == 2 * 24 * early * short  # clients x images x steps x rounds
    assert run.state["search"]["costs"]["2"] == search + 2 * 24 * STEPS


def test_the_dense_training_goes_on_from_the_rounds_that_chose_t_early() -> None:
    """Within: the same first round as without Early-Time, to the bit; before: the search begins anew."""
    given: Any = {"early_time": True, "probe_rounds": 1, "search": "one-shot"}
    first = {where: Run(early_probe=where, **given) for where in ("within", "before")}
    plain = Run(search="one-shot")
    for run in (plain, *first.values()):
        run.step()
    shown = plain.state["weights"]
    assert all(torch.equal(t, shown[n]) for n, t in first["within"].state["weights"].items())
    initial = plain.networks.initial()
    assert all(torch.equal(t, initial[n]) for n, t in first["before"].state["weights"].items())


def test_the_probe_of_early_time_leaves_the_network_as_it_is() -> None:
    """Defect 5, first half: in training mode the probe's images went into the running statistics."""
    run = Run(early_time=True, probe_rounds=1, restart="keep")
    run.step()
    shown = run.state["result"]["weights"]
    fresh = run.networks.load(shown)
    assert all(torch.equal(t, shown[n]) for n, t in fresh.state_dict().items())
    again = Run(early_time=True, probe_rounds=2, restart="keep")
    again.step()  # no probe after this round
    assert all(torch.equal(t, shown[n]) for n, t in again.state["weights"].items())


def test_a_loss_of_every_step_is_a_mean_over_the_steps_there_are() -> None:
    """Defect 3: the search with T_early steps ran at T_early / T of its loss."""
    outputs, labels = torch.randn(STEPS, 6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    still = outputs[:1].expand(STEPS, 6, 3)
    assert torch.allclose(step_cross_entropy(still, labels), step_cross_entropy(still[:2], labels))


def test_bfloat16_trains_without_a_scaler() -> None:
    """Defect 4: half precision without a gradient scaler; bfloat16 has the exponents of float32 and needs none."""
    made = net(0)
    made.precision = "bfloat16"
    made(torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 5)[:, :, 0].mean().mul(1e-9).backward()
    gradient = made.get_submodule("fc2").weight.grad
    assert gradient is not None and 0 < gradient.abs().max() < 6e-8  # float16 would give 0


def test_early_bird_stops_when_masks_stand_still() -> None:
    run = Run(search="early-bird", masks=2, mask_distance=0.5, level_rounds=6)
    values = run.rounds(2)
    assert values[0]["searching"] == 1 and values[1]["level"] == 1  # the masks of rounds 0 and 1 were alike
    assert run.state["search"]["costs"] == {"1": 2 * 24 * STEPS, "2": 2 * 24 * STEPS}
    slow = Run(search="early-bird", masks=3, mask_distance=0.0001, level_rounds=4, lr=0.1)
    assert [v["searching"] for v in slow.rounds(5)] == [1, 1, 1, 1, 0]  # never stable: the last masks


def test_snip_is_the_gradient_of_everybody() -> None:
    run = Run(search="snip", local_batch=24)
    values = run.step()
    assert values["lif_steps"] == 2 * 24 * STEPS and values["searching"] == 1
    one = Run(clients=1, search="snip", local_batch=24)
    pooled = Run(clients=2, search="snip", local_batch=24)
    pooled.step()
    masks = {k: unpacked(run.state["search"]["masks"][k], Mask(run.state["mask"])) for k in "12"}
    assert density(masks["2"]) == pytest.approx(0.1, abs=0.01)
    assert torch.equal(packed(masks["1"]), pooled.state["search"]["masks"]["1"])
    initial = run.networks.initial()
    one.step()
    assert all(torch.equal(one.state["result"]["weights"][n], t) for n, t in initial.items())


def test_the_relu_twin_searches_on_the_same_tensors() -> None:
    run = Run(search_on="ann")
    values = run.rounds(3)
    assert values[0]["lif_steps"] == 2 * 24  # one pass an image
    assert not torch.equal(run.state["result"]["weights"]["conv1.weight"], run.networks.initial()["conv1.weight"])
    assert [v["searching"] for v in run.rounds(4)] == [1, 1, 0, 0]


def test_a_relu_view_is_the_twin_of_the_zoo() -> None:
    spiking = net(3)
    twin = networks.ann_twin("4C3-AP2-12FC", input_shape=(1, 8, 8), classes=3, norm="bn", seed=3)
    x = torch.rand(5, 1, 8, 8)
    view = networks.relu_view(spiking)
    assert torch.allclose(view(x), twin(x), atol=1e-6)
    assert view.get_submodule("conv1").weight is spiking.get_submodule("conv1").weight
    with pytest.raises(ConfigError, match="every time step"):
        networks.relu_view(net(3, "bntt"))


@pytest.mark.parametrize("search", ["imp", "one-shot", "early-bird"])
@pytest.mark.parametrize("criterion", ["spikes", "loss", "operations"])
def test_every_criterion_finds_masks_of_weights_and_of_channels(criterion: str, search: str) -> None:
    """Channels take at least the share asked for, with their bias, norm and readers; single weights exactly it."""
    given: dict[str, Any] = {"criterion": criterion, "search": search, "level_rounds": 2, "restart": "keep"}
    weights = Run(**given)
    weights.rounds(6)
    assert density(Mask(weights.state["result"]["mask"])) == pytest.approx(0.1, abs=0.005)
    channels = Run(**given, units="channels", sparsities=[0.3, 0.6])
    channels.rounds(6)
    mask = channels.state["result"]["mask"]
    assert 0.1 < density(Mask(mask)) <= 0.4
    assert "conv1.norm.bias" in mask and "fc2.norm.bias" not in mask
    for name, kept in mask.items():
        assert not channels.state["result"]["weights"][name][~kept].any()
    silent = ~mask["conv1.weight"].flatten(1).any(1)
    assert not mask["conv1.norm.weight"][silent].any()
    assert not mask["fc1.weight"][:, silent.repeat_interleave(16)].any()


def test_channels_that_every_layer_keeps_bound_the_sparsity_before_a_run() -> None:
    with pytest.raises(ConfigError, match=r"keep_channels = 0\.5\) are .* a sparsity of 0\.9 leaves fewer"):
        Run(units="channels", keep_channels=0.5)


def test_clients_send_survivors_and_get_a_note() -> None:
    run = Run()
    assert run.downlink is None  # everybody holds the common initial weights
    run.rounds(4)
    note = run.downlink.tensors[NOTE]
    assert note.tolist() == [3, 0, 1, 2, 0]
    up = run.method.client_round({}, run.downlink, context(run, 40, 0))[1]
    assert NOTE not in up.tensors
    assert all((up.tensors[n][~kept] == 0).all() for n, kept in up.kept.items())


def test_the_state_of_a_search_goes_on_where_it_was_read() -> None:
    whole = Run(search="early-bird", masks=2, mask_distance=0.5)
    whole.rounds(6)
    for stop in range(1, 6):
        parts = Run(search="early-bird", masks=2, mask_distance=0.5)
        parts.rounds(stop)
        other = Run(search="early-bird", masks=2, mask_distance=0.5)
        other.state, other.downlink, other.round = parts.state, parts.downlink, parts.round
        other.rounds(6 - stop)
        assert all(torch.equal(t, other.state["weights"][n]) for n, t in whole.state["weights"].items())


SKIP = {"local_loss": "skip", "temporal": {"steps": [1, 3]}}


@pytest.mark.parametrize(
    ("given", "setup", "said"),
    [
        ({}, {"rounds": 9}, "takes 82 rounds .* set rounds = 82"),
        ({"rewind_round": 10}, {}, "rewind_round = 10 is not below"),
        ({"send": ["weight"]}, {}, "leave out method.send"),
        ({"payload_down": "change"}, {}, "no small change"),
        ({"payload": "change"}, {"codecs": {"weights_up": "stc-100"}}, "remembers what it has not sent"),
        ({"lr_milestones": [3]}, {}, "leave out lr_milestones"),
        ({"search": "snip", "criterion": "operations"}, {}, "has a criterion of its own"),
        ({"search": "random", "units": "channels"}, {}, "has a criterion of its own"),
        ({"most_operations": 1.0}, {}, "bounds criterion = 'operations'"),
        ({"early_time": True, "search": "snip"}, {}, "early_time shortens trainings"),
        ({"early_time": True, "search_on": "ann"}, {}, "on the ANN has none"),
        ({"early_time": True, "probe_rounds": 4, "level_rounds": 3}, {}, "after method.probe_rounds = 4, .* after 3"),
        (
            {"early_time": True, "probe_rounds": 3, "level_rounds": 3, "search": "one-shot"},
            {},
            "nothing is shortened",
        ),
        ({"early_time": True, "probe_rounds": 3, "level_rounds": 3, "levels": 1}, {}, "nothing is shortened"),
        ({"kl_threshold": 0.3}, {}, "kl_threshold belongs to early_time = true; set that"),
        ({"early_probe": "before"}, {}, "early_probe belongs to early_time = true"),
        ({"keep_channels": 0.3}, {}, "keep_channels belongs to units = 'channels'; set that"),
        ({"masks": 3}, {}, "masks belongs to search = 'early-bird'"),
        ({"levels": 3, "sparsities": [0.5]}, {}, "levels belongs to a schedule without method.sparsities"),
        ({"search": "snip", "search_on": "ann"}, {}, "search_on belongs to a search with a dense training"),
        ({"search": "random", "search_rounds": 3}, {}, "search_rounds belongs to a search with a dense training"),
        ({"search": "early-bird", "restart": "keep"}, {}, "start from the first weights, so .* 'keep' has no effect"),
        ({"early_time": True, **SKIP}, {}, "names step 3, and a search with early_time = true .* above 2"),
        ({"search_on": "ann", **SKIP}, {}, "names step 3, and a search with search_on = 'ann' .* above 1"),
    ],
)
def test_what_does_not_fit_is_one_sentence(given: dict[str, Any], setup: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Tickets().check(TicketHyperparameters(**given), Setup(**setup))


@pytest.mark.parametrize("search", ["snip", "random", "early-bird"])
def test_a_search_that_never_rewinds_takes_levels_of_one_round(search: str) -> None:
    Tickets().check(TicketHyperparameters(search=search, level_rounds=1, sparsities=[0.5]), Setup())


class Grouped(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.last = torch.nn.Conv2d(2, 4, 3, padding=1, groups=2), torch.nn.Linear(256, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.inner(x.repeat(1, 2, 1, 1)).relu().flatten(1))


NETS = {
    "row": lambda: net(0),
    "two steps": lambda: net(0, steps=2),
    "back in time": lambda: networks.build("snasnet-small", input_shape=(1, 8, 8), classes=3, steps=3),
    "groups": lambda: networks.wrap(Grouped(), steps=3, classes=3, readout="current", mode="step"),
}


@pytest.mark.parametrize(
    ("given", "of", "said"),
    [
        ({"sparsities": [0.5, 0.99999]}, "row", "a sparsity of 0.99999 leaves none of the 840 weights"),
        ({"early_time": True}, "two steps", "with network.steps = 2 a search cannot be shortened"),
        ({"search_on": "ann"}, "back in time", "no connections back in time, and so not the weights .* and .* more of"),
        ({"search_on": "ann"}, "groups", "only a spiking network of the zoo has a ReLU twin"),
        ({"criterion": "loss"}, "groups", "'module.inner' is a convolution in groups"),
    ],
)
def test_what_a_network_does_not_allow_is_said_before_the_run(given: dict[str, Any], of: str, said: str) -> None:
    hyper = TicketHyperparameters(**given)
    with pytest.raises(ConfigError, match=said):
        Tickets().exchanges(hyper, (8, 3, 3), NetworkFactory(lambda seed: NETS[of](), seed=1))


@pytest.mark.parametrize("bad", [[0.9, 0.5], [0.0], [90], [0.5, 0.5]])
def test_sparsities_rise_within_0_and_1(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="rise within"):
        TicketHyperparameters(sparsities=bad)


def test_a_network_of_fixed_steps_refuses_early_time() -> None:
    with pytest.raises(ConfigError, match="early_time = false"), shortened(net(0, "bntt"), 2):
        pass
    with shortened(made := net(0), 2):
        assert made(torch.rand(1, 1, 8, 8)).shape[0] == 2
    assert made.steps == STEPS


def test_masked_weights_stay_0_after_momentum_and_decay() -> None:
    run = Run(optimiser="sgd", weight_decay=0.5, lr=0.5, momentum=0.9)
    run.rounds(5)
    result = run.state["result"]
    assert all(not result["weights"][n][~kept].any() for n, kept in result["mask"].items())
