"""Searches: limits, fronts, budgets; one that was killed, or has more workers, ends the same."""

from __future__ import annotations

from itertools import islice

import pytest
import torch

from spikefed.errors import ConfigError
from spikefed.networks.cells import Cell
from spikefed.search.candidate import Macro, saliency
from spikefed.search.scores import SCORES, Objective, dominated
from spikefed.search.scoring import Record, Task, scoring
from spikefed.search.search import Plan, front, mean_ranks, search, values_of
from spikefed.search.space import PAIRS, Limits, Space
from spikefed.search.strategies import STRATEGIES, Exhaustive, Nsga2

MACRO = Macro("width=2,hidden=6,vote=1", (1, 6, 6), 3, 2, {})
IMAGES = torch.rand(5, 1, 6, 6, generator=torch.Generator().manual_seed(1))


def task(limits: Limits | None = None, clients: int = 1) -> Task:
    return Task(MACRO, 0, tuple((IMAGES.roll(k, 0) * (k + 1),) for k in range(clients)), limits or Limits())


def plan(
    strategy: str = "random", objectives: str = "sahd", cells: int = 40, backward: bool = True, seed: int = 0
) -> Plan:
    goals = tuple(Objective.parse(text) for text in objectives.split(","))
    return Plan(Space(backward), strategy, goals, cells, None, seed)


def untimed(records: list[Record]) -> list[Record]:
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


def silent(*_: object) -> None:
    return None


CASES = [("random", "sahd"), ("evolution", "sahd"), ("nsga2", "sahd,-parameters"), ("exhaustive", "-sops")]


@pytest.mark.parametrize(("strategy", "objectives"), CASES)
def test_a_killed_search_goes_on_the_same_way(strategy: str, objectives: str) -> None:
    wanted = plan(strategy, objectives, cells=70)
    log: list[Record] = []
    whole = search(wanted, task(), [], lambda new, asked, budget: log.extend(new))
    assert log == whole  # handed on at once, in order
    resumed: list[Record] = []
    again = search(wanted, task(), whole[:17], lambda new, asked, budget: resumed.extend(new))
    assert untimed(again) == untimed(whole) and untimed(resumed) == untimed(whole[17:])
    assert untimed(front(again, wanted.objectives)) == untimed(front(whole, wanted.objectives))


@pytest.mark.slow
def test_two_workers_are_one_worker() -> None:
    wanted = plan("evolution", cells=48)
    one, two = (search(wanted, task(), [], silent, workers=n) for n in (1, 2))
    assert untimed(one) == untimed(two)


def test_seeds_differ_and_repeat() -> None:
    runs = [untimed(search(plan(seed=seed), task(), [], silent)) for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


def test_evolution_finds_what_random_draws_do_not() -> None:
    """Few dense operations are rare in the space; a search that learns from what it is told gets there."""
    goal = "-macs"
    best = {}
    for strategy in ("random", "evolution"):
        found = [search(plan(strategy, goal, 96, seed=s), task(), [], silent) for s in range(3)]
        best[strategy] = sum(min(record["macs"] for record in records) for records in found)
    assert best["evolution"] <= best["random"]


def test_nsga2_keeps_to_several_goals() -> None:
    wanted = plan("nsga2", "sahd,-parameters", 96)
    records = search(wanted, task(), [], silent)
    left = front(records, wanted.objectives)
    assert 1 < len(left) < len(records)
    for record in records:
        values = values_of(record, wanted.objectives)
        beaten = any(all(b >= a for a, b in zip(values, values_of(o, wanted.objectives), strict=True)) for o in left)
        assert beaten  # by one of the front, or by itself on it


def test_exhaustive_scores_every_different_cell_once() -> None:
    space = Space(False, "03")
    cells = list(space.every())
    raw = [cell for cell in cells if cell.in_space]
    assert len(raw) == len(cells) == len(set(cells))
    records = search(Plan(space, "exhaustive", (Objective.parse("sahd"),), 10_000, None, 0), task(), [], silent)
    assert [record["cell"] for record in records] == [str(cell) for cell in cells]
    assert Exhaustive(Space(False), 0, 1).ask() == list(islice(Space(False).every(), 64))


def test_a_limit_keeps_cells_from_being_shown() -> None:
    free = search(plan(), task(), [], silent)
    middle = sorted(record["parameters"] for record in free)[len(free) // 2]
    held = search(plan(), task(Limits(parameters=middle)), [], silent)
    over = [record for record in held if record["over"]]
    assert over and all(record["over"] == "parameters" and "sahd" not in record for record in over)
    assert all(record["parameters"] <= middle for record in front(held, plan().objectives))
    with pytest.raises(ConfigError, match=r"none of \d+ cells keeps within search.limits \(flash_bytes\)"):
        search(plan(), task(Limits(flash_bytes=10)), [], silent)


def test_spikes_can_be_limited_too() -> None:
    free = search(plan(), task(), [], silent)
    middle = sorted(record["sops"] for record in free)[len(free) // 2]
    held = search(plan(), task(Limits(sops=middle)), [], silent)
    assert {r["cell"] for r in held if r["over"]} == {r["cell"] for r in free if r["sops"] > middle}


def test_ranks_are_fair_to_clients_of_unlike_data() -> None:
    records = [
        {"cell": name, "over": None, "sahd": 0.0, "sahd_by_client": told}
        for name, told in {"a": [1000.0, 1.0], "b": [999.0, 2.0], "c": [0.0, 3.0]}.items()
    ]
    ranks = mean_ranks(records, [Objective.parse("sahd")])
    assert ranks == {"a": 0.5, "b": 0.5, "c": 0.5}
    assert mean_ranks(records, [Objective.parse("-sahd")])["b"] == 0.5
    equal = [{"cell": name, "over": None, "sahd": 1.0} for name in "abc"]
    assert set(mean_ranks(equal, [Objective.parse("sahd")]).values()) == {0.5}


def test_clients_score_apart() -> None:
    with scoring(task(clients=2), 1) as score:
        (record,) = score([Cell.parse("0303-0030-0003-0000")])
    with scoring(task(), 1) as score:
        (first,) = score([Cell.parse("0303-0030-0003-0000")])
    assert record["sahd_by_client"][0] == first["sahd"]
    assert record["sahd"] == sum(record["sahd_by_client"]) / 2


def test_dominated_by_hand() -> None:
    assert dominated([(1, 1), (2, 0), (1, 0), (1, 1)]) == [False, False, True, False]


def test_choices_and_cells_go_both_ways() -> None:
    draw = torch.Generator().manual_seed(0)
    for space in (Space(False), Space(True), Space(True, "03")):
        for _ in range(40):
            cell = space.draw(draw)
            assert space.cell(space.chosen(cell)) == cell
            child = space.mutated(cell, draw)
            assert child.in_space and sum(space.chosen(child)[p] != space.chosen(cell)[p] for p in PAIRS) == 1


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Space(False, "09"), "'9' in search.ops = '09' stands for no operation"),
        (lambda: Space(False, "0"), "has no operation"),
        (lambda: Objective.parse("sadh"), "score 'sadh' is not known; the nearest is 'sahd'"),
        (lambda: STRATEGIES["evolution"](Space(), 0, 2), "takes one objective, and search.objectives has 2; use nsga2"),
    ],
)
def test_wrong_plans(make, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()


def test_objectives_know_which_way_is_better() -> None:
    assert [Objective.parse(t).sign for t in ("sahd", "-parameters", "parameters", "spikes", "+spikes")] == [
        1,
        -1,
        1,
        -1,
        1,
    ]
    assert [str(Objective.parse(t)) for t in ("sahd", "-parameters", "spikes", "+spikes")] == [
        "sahd", "-parameters", "spikes", "+spikes",
    ]  # fmt: skip
    assert all(Objective.parse(name).score.name == name for name in SCORES)


def test_a_missing_optuna_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"needs optuna; pip install 'spikefed\[search\]'"):
        Nsga2(Space(), 0, 2)


def test_the_ensemble_is_the_mean_rank_of_what_it_ranks_by() -> None:
    wanted = plan("random", "ensemble", cells=40)
    log: list[Record] = []
    whole = search(wanted, task(), [], lambda new, asked, budget: log.extend(new))
    column = {name: sorted(record[name] for record in whole) for name in ("sahd", "macs", "spikes")}
    for record in whole:
        beaten = [sum(other < record[n] for other in c) + (c.count(record[n]) - 1) / 2 for n, c in column.items()]
        assert record["ensemble"] == pytest.approx(sum(beaten) / 3 / (len(whole) - 1))
    best = front(whole, wanted.objectives)
    assert best[0]["ensemble"] == max(record["ensemble"] for record in whole)
    assert all("ensemble" not in record for record in log)  # it is known at the end
    again = search(wanted, task(), log[:9], silent)
    assert untimed(again) == untimed(whole)
    for strategy in ("evolution", "nsga2"):
        goals = "ensemble" if strategy == "evolution" else "ensemble,-parameters"
        with pytest.raises(ConfigError, match="set search.strategy = 'random' or 'exhaustive'"):
            search(plan(strategy, goals), task(), [], silent)


def test_snip_is_measured_where_it_is_asked_for() -> None:
    wanted = plan("evolution", "snip", cells=16)
    asking = Task(MACRO, 0, ((IMAGES,), (IMAGES * 2,)), Limits(), gradients=True)
    found = search(wanted, asking, [], silent)
    plain = search(plan("evolution", "snip", cells=8), task(), found, silent)  # all of it is known
    assert untimed(plain) == untimed(found[: len(plain)])
    for record in found:
        assert record["snip"] == pytest.approx(sum(record["snip_by_client"]) / 2) and record["snip"] > 0
    with scoring(task(), 1) as score:
        (record,) = score([Cell.parse(found[0]["cell"])])
    assert "snip" not in record and record["sahd"] == pytest.approx(
        next(r for r in found if r["cell"] == record["cell"])["sahd_by_client"][0]
    )


def test_snip_is_the_weights_times_their_gradient() -> None:
    """The last layer's part, by finite differences; without that layer's weights nothing else has a gradient."""
    net = Macro("width=2,hidden=8,vote=1", (1, 6, 6), 3, 2, {}).network(Cell.parse("0303-0020-0002-0000"), 0)
    net = net.double().train()
    with torch.no_grad():
        net.get_submodule("fc1").weight.abs_().mul_(20)  # so that the hidden neurons fire
    (told,) = saliency(net, [IMAGES.double()], seed=5)
    labels = torch.randint(net.classes, (5,), generator=torch.Generator().manual_seed(5))
    last = net.layers[-1].weight

    def loss() -> float:
        outputs = net(IMAGES.double(), generator=torch.Generator().manual_seed(0)).mean(dim=0)
        return float(torch.nn.functional.cross_entropy(outputs, labels))

    part = 0.0
    with torch.no_grad():
        for place in range(last.numel()):
            old = float(last.view(-1)[place])
            ends = []
            for step in (1e-5, -1e-5):
                last.view(-1)[place] = old + step
                ends.append(loss())
            last.view(-1)[place] = old
            part += abs(old * (ends[0] - ends[1]) / 2e-5)
        assert 0 < part < told
        last.zero_()
    assert saliency(net, [IMAGES.double()], seed=5) == [0.0]


def test_a_space_of_one_cell_ends_by_evolution_too() -> None:
    space = Space(backward=False, codes="3")
    (only,) = space.every()
    assert space.mutated(only, torch.Generator().manual_seed(0)) == only


def test_the_best_of_clients_is_best_by_rank_and_not_by_mean() -> None:
    """One client whose scores are far apart does not outvote the others."""
    told = {"loud": [1000.0, 1.0, 1.0], "liked": [1.0, 3.0, 3.0], "third": [2.0, 2.0, 2.0]}
    records: list[Record] = [
        {"cell": cell, "over": None, "sahd": sum(each) / 3, "sahd_by_client": each} for cell, each in told.items()
    ]
    goals = [Objective.parse("sahd")]
    assert [record["cell"] for record in front(records, goals)] == ["liked"]
    ranks = mean_ranks(records, goals)
    assert max(ranks, key=lambda cell: ranks[cell]) == "liked"
