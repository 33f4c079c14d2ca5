"""Profiles as data: sources, unknowns, own files, and what a newcomer would write wrong."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from spikefed.errors import ConfigError
from spikefed.hardware.crossbar import PROFILES, load_profile
from spikefed.hardware.crossbar.profile import FOLDER


def test_four_come_along() -> None:
    assert PROFILES == ("fefet", "ideal", "pcm", "rram")


@pytest.mark.parametrize("name", PROFILES)
def test_every_number_has_a_source(name) -> None:
    tree = tomllib.loads((FOLDER / f"{name}.toml").read_text())
    numbers = {"tile"}
    for table, values in tree.items():
        if isinstance(values, dict) and table != "sources":
            numbers |= {f"{table}.{key}" for key in values}
    assert numbers == set(tree["sources"])
    assert not numbers & set(load_profile(name).unknown)


def test_an_own_file(tmp_path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("tile = 32\n[cell]\ng_max_us = 30.0\ng_min_us = 3.0\n[wires]\nrow_ohm = 2.5\n")
    profile = load_profile(str(path))
    assert (profile.name, profile.tile, profile.g_min) == ("mine", 32, 0.1)
    assert profile.wires.wires.row_ohm == 2.5
    assert profile.changed({"tile": 64, "cell.g_min_us": 6.0}).g_min == 0.2


def test_the_one_in_the_docs_is_whole_and_loads(tmp_path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "chips.md").read_text(encoding="utf-8")
    (text,) = [part.split("```")[0] for part in page.split("```toml\n") if part.startswith("tile = 64 ")]
    path = tmp_path / "mine.toml"
    path.write_text(text)
    given = load_profile(str(path)).model_dump(exclude_unset=True)
    tables = {key: value for key, value in given.items() if isinstance(value, dict) and key != "sources"}
    told = {f"{table}.{key}" for table, values in tables.items() for key in values}
    every = load_profile("ideal").model_dump()
    keys = {f"{table}.{key}" for table, values in every.items() if isinstance(values, dict) for key in values}
    assert keys - told == {"cell.on_off"} | {key for key in keys if key.startswith("sources")}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[cell]\ng_max_us = 1.0\ng_min_us = 2.0", "cell.g_max_us = 1 lies below or at cell.g_min_us = 2"),
        ("[cell]\ng_min_us = 2.0", "cell.g_min_us needs cell.g_max_us; give both, or cell.on_off"),
        ("[cell]\non_off = 2.0\ng_max_us = 9.0\ng_min_us = 2.0", "say the same; give one of them"),
        ("[cell]\non_off = 0.5", "'cell.on_off' = 0.5: Input should be greater than 1"),
        ("[wires]\nrow_ohm = -5.0", "'wires.row_ohm' = -5.0: a resistance is 0 or more ohm"),
        ("[wires]\nrow_ohm = 5.0", "wires have ohms, so cells need siemens: give cell.g_max_us"),
        ("[converters]\nadc_bits = 0", "'converters.adc_bits' = 0: Input should be greater than or equal to 1"),
        ("[cell]\nbits = 9", "'cell.bits' = 9: Input should be less than or equal to 8"),
        ("[cell]\nbits = 4", "cell.bits cuts weights into slices, so they need weights.bits; give both or neither"),
        ("tile = 8", "'tile' = 8: Input should be greater than or equal to 16"),
        ("tile = 512", "'tile' = 512: Input should be less than or equal to 256"),
        ("[faults]\nstuck_low = 0.7\nstuck_high = 0.7", "stuck_low \\+ stuck_high = 1.4 are more than all cells"),
        ("[drift]\nnu = [0.1, 0.2]", "give one number, or four"),
        ("[noise]\nflicker = [0.1]", "give four numbers"),
        ("[drift]\nnu = [-0.1]", "'drift.nu' = .-0.1.: an exponent of drift and its deviation are 0 or more"),
        ("[drift]\nnu = [0.1]\nnu_deviation = [-0.1]", "'drift.nu_deviation' = .* are 0 or more"),
        ("[drift]\nnu = [0.0, 0.1, 0.5, 0.1]", "least = 0.5 lies above most = 0.1"),
        ("[noise]\nprogramming = [0.1, -0.4]", "at x = 1 it is -0.3; keep it at 0 or more"),
        ("[noise]\nread = nan", "'noise.read' = nan: Input should be a finite number"),
        ("[wires]\nrow_ohm = inf", "'wires.row_ohm' = inf: Input should be a finite number"),
        ("[noise]\nreed = 0.1", "unknown key 'noise.reed'; the nearest known key is 'noise.read'"),
        ("tiles = 64", "unknown key 'tiles'; the nearest known key is 'tile'"),
        ("tile = ", "is no TOML"),
    ],
)
def test_what_cannot_be_is_said(tmp_path, text, said) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        load_profile(str(path))
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text(tmp_path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\x00tile")
    with pytest.raises(ConfigError, match="is no TOML: 'utf-8' codec can't decode"):
        load_profile(str(path))
    path.write_bytes(b"\xef\xbb\xbftile = 32\n")  # as some editors begin a file
    assert load_profile(str(path)).tile == 32


def test_names_that_are_none(tmp_path) -> None:
    with pytest.raises(ConfigError, match="chip profile 'reram' is not known; the nearest is 'rram'"):
        load_profile("reram")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_profile(str(tmp_path / "missing.toml"))
    with pytest.raises(ConfigError, match="has no key 'noise.sigma'"):
        load_profile("rram").changed({"noise.sigma": 0.1})
