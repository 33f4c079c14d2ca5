"""A plan's bytes are those of the run it plans; its other numbers are those of the rounds that it tried."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from typer.testing import CliRunner

import spikefed
from spikefed.cli.main import whole
from spikefed.errors import ConfigError
from spikefed.experiment.plan import plan
from spikefed.experiment.planrows import sends

TINY: dict[str, Any] = {
    "name": "tiny",
    "rounds": 5,
    "data": {"clients": 3, "private_per_client": 30, "public": 24, "test_limit": 40},
    "network": {"name": "4C3-AP2", "steps": 4},
    "training": {"local_epochs": 1},
    "method": {"name": "fedavg"},
    "run": {"threads": 1},
}
FSD = {"name": "fsd", "distil_epochs": 1, "server_epochs": 1}


def saved(folder: Path, **changed: Any) -> Path:
    (folder / "tiny.toml").write_text(tomli_w.dumps(TINY | changed))
    return folder / "tiny.toml"


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"participation": {"schedule": "late"}},
        {"method": FSD, "wire": {"spikes_up": "bitpack", "spikes_down": "bitpack"}},
    ],
)
def test_bytes_are_the_runs_own_ledger(changed: dict[str, Any], tmp_path: Path) -> None:
    file = saved(tmp_path, **changed)
    told = plan(file)
    result = json.loads((spikefed.run(file, out=tmp_path / "run") / "result.json").read_text())
    assert told.exact
    assert (told.upstream_bytes, told.downstream_bytes) == (result["upstream_bytes"], result["downstream_bytes"])
    assert told.public_set_bytes == result["public_set_bytes"]
    assert told.month_bytes == (720 * told.client_upstream_bytes, 720 * told.client_downstream_bytes)


def test_messages_that_a_mask_will_shrink_are_planned_and_so_are_runs_longer_than_the_trial(tmp_path: Path) -> None:
    """The mask comes after the rounds that a plan tries, and the search takes more rounds than these."""
    search = {"name": "tickets", "search": "one-shot", "restart": "keep", "search_rounds": 4, "level_rounds": 4}
    file = saved(tmp_path, rounds=8, method=search | {"sparsities": [0.9]})
    told = plan(file)
    result = json.loads((spikefed.run(file, out=tmp_path / "run") / "result.json").read_text())
    assert not told.exact and told.client_upstream_bytes < told.upstream_bytes / told.asked
    assert told.upstream_bytes == pytest.approx(result["upstream_bytes"], rel=0.15)
    assert told.downstream_bytes == pytest.approx(result["downstream_bytes"], rel=0.15)


def test_compressed_bytes_are_near_and_said_to_be(tmp_path: Path) -> None:
    file = saved(tmp_path, method=FSD)
    told = plan(file)
    result = json.loads((spikefed.run(file, out=tmp_path / "run") / "result.json").read_text())
    assert not told.exact and "packets of a compressing codec" in str(told)
    assert 1 / 1.5 < told.upstream_bytes / result["upstream_bytes"] < 1.5


@pytest.mark.parametrize("kind", ["sent", "seeds"])
def test_rows_made_anew_count_as_the_ledger_counts_them(kind: str, tmp_path: Path) -> None:
    """Four rounds are tried: a run of four is planned to the byte, whatever its codecs; longer ones nearly."""
    source = {"kind": kind, "every": 2, "recipe": "impressions", "steps": 1}
    data = {**TINY["data"], "public_source": source}
    part = {"schedule": "late"}
    short = saved(tmp_path, rounds=4, data=data, method=FSD, participation=part)
    told = plan(short)
    result = json.loads((spikefed.run(short, out=tmp_path / "run") / "result.json").read_text())
    assert (told.upstream_bytes, told.downstream_bytes) == (result["upstream_bytes"], result["downstream_bytes"])
    assert told.public_set_bytes == result["public_set_bytes"] == 0
    late = saved(tmp_path, rounds=7, data={**data, "public_source": source | {"every": 5}}, method=FSD)
    told = plan(late)
    result = json.loads((spikefed.run(late, out=tmp_path / "late") / "result.json").read_text())
    assert told.downstream_bytes == pytest.approx(result["downstream_bytes"], rel=0.3)


def test_rows_go_to_whoever_has_not_the_newest() -> None:
    everybody = [[0, 1]] * 6
    assert sends(everybody, 1) == 10  # not in round 1
    assert sends(everybody, 2) == 4  # in rounds 3 and 5
    assert sends([[0], [0], [0], [1], [0, 1], [1]], 2) == 4  # 0 in round 3, 1 in round 4, both in round 5


def test_the_command_says_it_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = saved(tmp_path)
    said = CliRunner().invoke(whole(), ["plan", str(file), "-q", "--rounds-a-day", "2", "--radio-nj-per-byte", "100"])
    assert said.exit_code == 0
    for text in ("5 rounds, 3 clients", "a round here and now", "in 30 days at 2 rounds a day", "radio", "training"):
        assert text in said.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.toml"]
    told = json.loads(CliRunner().invoke(whole(), ["plan", str(file), "-q", "--json"]).stdout)
    assert told["memory_bytes"] > 1e7 and told["client_round"]["training_pj"] > 0 and told["round_s"] > 0


@pytest.mark.parametrize("option", ["--rounds-a-day", "--radio-nj-per-byte"])
def test_a_rate_that_is_no_number_is_one_sentence(option: str, tmp_path: Path) -> None:
    told = CliRunner().invoke(whole(), ["plan", str(saved(tmp_path)), option, "nan"])
    assert isinstance(told.exception, ConfigError) and f"{option} nan is no number" in str(told.exception)


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        plan(tmp_path / "none.toml")
