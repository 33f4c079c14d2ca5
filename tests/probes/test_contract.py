"""The contract: what a probe may give, what it finds again after a kill, and one sentence for each mistake."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from pydantic import Field
from torch import nn

from probes.subjects import network, subject
from spikefed.errors import ConfigError
from spikefed.probes import Probe, ProbeHyperparameters, Quantity, contract, probe, run_probe
from spikefed.probes.partial import Partial


class StopError(Exception):
    """A kill."""


class Noise(Probe):
    """Sums of random numbers, a batch at a time, kept after each."""

    class Hyper(ProbeHyperparameters):
        batch: int = Field(default=4, ge=1, description="images a batch")

    name = "noise"
    title = "Noise"
    summary = "random sums"
    hyperparameters: ClassVar[type[ProbeHyperparameters]] = Hyper
    stop_at: int | None = None

    def measure(self, net: nn.Module, subject: Any, ctx: Any) -> list[dict[str, Any]]:
        state = ctx.restore() or {"done": 0, "sums": []}
        for row, x, _ in subject.batches(ctx.hyper.batch, state["done"]):
            if row == self.stop_at:
                raise StopError
            state["sums"].append(float((x * torch.rand(x.shape, generator=ctx.generator)).sum()))
            state |= {"done": row + len(x), "last": x[0]}
            ctx.progress(state["done"], len(subject), "images")
            ctx.save(state)
        return [{"place": place, "sum": value} for place, value in enumerate(state["sums"])]


class Given(Probe):
    name = "given"
    summary = "what it is told to give"

    def __init__(self, records: Any) -> None:
        self.records = records

    def measure(self, net: nn.Module, subject: Any, ctx: Any) -> Any:
        return self.records


def test_the_toy_of_the_docstring_runs() -> None:
    found = doctest.testmod(contract)
    assert found.attempted >= 4 and not found.failed


def test_killed_and_repeated_it_ends_where_it_would_have(tmp_path: Path) -> None:
    whole = run_probe(network(), subject(), Noise()).records
    noise, path = Noise(), tmp_path / ".noise.partial"
    for noise.stop_at in (8, 8, 20):
        with pytest.raises(StopError):
            run_probe(network(), subject(), noise, partial=path)
    noise.stop_at = None
    seen: list[int] = []
    found = run_probe(network(), subject(), noise, partial=path, progress=lambda done, total, what: seen.append(done))
    assert found.records == whole and len(whole) == 6
    assert seen == [24], "what was done before was done again"
    assert not path.exists()


@pytest.mark.parametrize(
    "other", [{"hyper": {"batch": 3}}, {"seed": 1}, {"round": 4}, {"hyper": {"images": 20}}, {"net": network(seed=1)}]
)
def test_what_another_measurement_left_counts_as_nothing(tmp_path: Path, other: dict[str, Any]) -> None:
    noise, path = Noise(), tmp_path / ".noise.partial"
    noise.stop_at = 12
    with pytest.raises(StopError):
        run_probe(network(), subject(), noise, partial=path)
    noise.stop_at = None
    given = {"net": network()} | other
    net = given.pop("net")
    assert run_probe(net, subject(), noise, partial=path, **given).records == (
        run_probe(net, subject(), noise, **given).records
    )


def test_a_torn_partial_counts_as_nothing(tmp_path: Path) -> None:
    draws, path = torch.Generator().manual_seed(1), tmp_path / "x"
    Partial(path, "a").save({"a": torch.ones(3), "b": [1, 2]}, draws)
    kept = Partial(path, "a").restore(draws)
    assert kept is not None and kept["b"] == [1, 2] and torch.equal(kept["a"], torch.ones(3))
    path.write_bytes(path.read_bytes()[:-5])
    assert Partial(path, "a").restore(draws) is None


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([], "gave no record"),
        ([3], "gave int for a record"),
        ([{"a": [1]}], "gave list under 'a'"),
        ([{1: 2}], "gave int under '1'"),
        ([{"a": torch.ones(2)}], "gave Tensor under 'a'"),
    ],
)
def test_records_that_are_none_are_named(records: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        run_probe(network(), subject(), Given(records))


def test_numbers_of_torch_and_numpy_become_plain_and_nan_absent() -> None:
    found = run_probe(
        network(), subject(), Given([{"a": torch.tensor(2), "b": float("nan"), "c": torch.ones(1).numpy()[0]}])
    )
    assert found.records == [{"a": 2, "b": None, "c": 1.0}] and found.headline == {"a": 2, "c": 1.0}


def test_even_a_probe_that_tramples_leaves_the_network_as_it_was() -> None:
    class Trampling(Given):
        def measure(self, net: nn.Module, subject: Any, ctx: Any) -> Any:
            for parameter in net.parameters():
                parameter.data.zero_()
                parameter.requires_grad_(False)
            net.train()
            return self.records

    net = network()
    before = [parameter.clone() for parameter in net.parameters()]
    run_probe(net, subject(), Trampling([{"a": 1}]))
    assert all(torch.equal(a, b) and b.requires_grad for a, b in zip(before, net.parameters(), strict=True))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("acuracy", "probe 'acuracy' is not known; the nearest is 'accuracy'"),
        ("nowhere:Probe", "names module 'nowhere', which Python does not find"),
        ("collections:OrderedDict", "is no probe; see docs/adding-a-probe.md"),
        ("probes.test_contract:Missing", "AttributeError"),
        ("spikefed.probes:Probe", "is no probe"),
    ],
)
def test_a_probe_that_is_none_is_one_sentence(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        probe(name)


@pytest.mark.parametrize(
    ("hyper", "said"),
    [
        ({"bach": 3}, "unknown key 'bach' of probe 'noise'; the nearest known key is 'batch'"),
        ({"batch": 0}, "'batch' = 0 of probe 'noise': Input should be greater"),
        ({"batch": "many"}, "'batch' = 'many' of probe 'noise'"),
        ({"images": 0}, "'images' = 0 of probe 'noise'"),
    ],
)
def test_a_setting_that_does_not_fit_is_one_sentence(hyper: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        run_probe(network(), subject(), Noise(), hyper=hyper)


def test_without_an_image_there_is_nothing_to_measure() -> None:
    with pytest.raises(ConfigError, match="has no image to look at"):
        run_probe(network(), subject(0), "accuracy")


def test_units_are_read_off_keys() -> None:
    written = {key: Quantity(key, "").written for key in ("a_pj", "a_bytes", "a_s", "a_share", "steps", "a_bits")}
    assert written == {
        "a_pj": "pj", "a_bytes": "bytes", "a_s": "seconds", "a_share": "share", "steps": "number", "a_bits": "bits",
    }  # fmt: skip
    assert Quantity("a_pj", "", unit="text").written == "text"


class Headless(Noise):
    def headline(self, records: Any) -> dict[str, Any]:
        return {"sum": records[-1]["margin"]}


def test_a_headline_that_reads_what_no_row_has_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"'noise': its headline reads 'margin', .* records hold place, sum$"):
        run_probe(network(), subject(), Headless())
