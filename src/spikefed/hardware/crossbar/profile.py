"""A chip's profile: cells, noise, drift, faults, wires and converters, as data with a source for each number.

Four come with spikefed (`PROFILES`); a file of your own has the same tables. A key that is left out is exact: no noise,
no drift, no fault, no resistance, no rounding. What nobody has published stands under ``unknown`` and is never guessed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, field_validator, model_validator

from spikefed.errors import ConfigError
from spikefed.files import counted_from
from spikefed.hardware.crossbar.circuit import Wires
from spikefed.hyper import Hyperparameters
from spikefed.objects import nearest

FOLDER = Path(__file__).parent / "profiles"
PROFILES = tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))
"""Names of the profiles that come with spikefed."""


def flat(changes: Any) -> Any:
    """Changes by key from tables in tables: what TOML makes of ``noise.read = 0.2``, and what it means.

    >>> flat({"noise": {"read": 0.2}, "tile": 64})
    {'noise.read': 0.2, 'tile': 64}
    """
    if not isinstance(changes, Mapping):
        return changes
    found: dict[str, Any] = {}
    for key, value in changes.items():
        found |= {f"{key}.{k}": v for k, v in flat(value).items()} if isinstance(value, Mapping) else {key: value}
    return found


Changes = Annotated[dict[str, float | int | str | list[float]], BeforeValidator(flat)]
"""Numbers of a profile that are others, by key."""

Share = Annotated[float, Field(ge=0, le=1)]


class Mapped(Hyperparameters):
    """How weights become cells."""

    bits: int | None = Field(default=None, ge=2, le=16, description="of a weight, sign included; none: not rounded")
    signs: Literal["pairs", "offset"] = Field(
        default="pairs", description="a weight is the difference of two cells, or one cell less a fixed offset"
    )
    layers: Literal["all", "conv"] = Field(
        default="all", description="what lies on crossbars; 'conv': linear layers are digital and exact"
    )


class Cell(Hyperparameters):
    """One memory cell."""

    bits: int | None = Field(default=None, ge=1, le=8, description="levels of a cell, 2^bits; none: any conductance")
    g_max_us: float | None = Field(default=None, gt=0, description="largest conductance, microsiemens")
    g_min_us: float | None = Field(default=None, ge=0, description="smallest conductance, microsiemens")
    on_off: float | None = Field(default=None, gt=1, description="largest over smallest conductance, instead of g_min")


class Noise(Hyperparameters):
    """What a cell does not keep to; normal deviates, never below 0 siemens."""

    programming: list[float] = Field(
        default=[], description="deviation after programming, in g_max: c0 + c1 x + c2 x^2 ... with x = g / g_max"
    )
    read: float = Field(default=0.0, ge=0, le=10, description="deviation of a read, times the conductance")
    read_when: Literal["frozen", "each"] = Field(
        default="frozen", description="one draw a chip, or a fresh one at every read (vector, time step and image)"
    )
    flicker: list[float] = Field(
        default=[],
        description="1/f noise [a, b, most, t_read_s]: relative deviation min(a x^-b, most) "
        "sqrt(ln((t + t_read) / (2 t_read))) at age t, x = g / g_max",
    )

    @field_validator("programming")
    @classmethod
    def _deviation(cls, value: list[float]) -> list[float]:
        at = [sum(c * (x / 64) ** power for power, c in enumerate(value)) for x in range(65)]
        if min(at) < 0:
            raise ValueError(
                f"c0 + c1 x + c2 x^2 ... is a deviation, and at x = {at.index(min(at)) / 64:g} it is {min(at):g}; keep "
                "it at 0 or more from x = 0 to 1"
            )
        return value

    @field_validator("flicker")
    @classmethod
    def _four(cls, value: list[float]) -> list[float]:
        if value and (len(value) != 4 or min(value) < 0 or value[3] == 0):
            raise ValueError("give four numbers [a, b, most, t_read_s], none of them negative and the last above 0")
        return value


class Drift(Hyperparameters):
    """``G(t) = G(t0) ((t + t0) / t0)^-nu`` at age t after programming, nu drawn for each cell and never negative."""

    t0_s: float = Field(default=1.0, gt=0, description="seconds from programming to the first read")
    nu: list[float] = Field(
        default=[], description="mean exponent: [nu], or [slope, offset, least, most] of slope ln(x) + offset"
    )
    nu_deviation: list[float] = Field(default=[], description="its standard deviation, in the same form")

    @field_validator("nu", "nu_deviation")
    @classmethod
    def _form(cls, value: list[float]) -> list[float]:
        if value and len(value) not in (1, 4):
            raise ValueError("give one number, or four: [slope, offset, least, most]")
        bounds = value[-2:]
        if value and min(bounds) < 0:
            raise ValueError("an exponent of drift and its deviation are 0 or more")
        if value and bounds[0] > bounds[-1]:
            raise ValueError(f"of [slope, offset, least, most] least = {bounds[0]:g} lies above most = {bounds[-1]:g}")
        return value


class Faults(Hyperparameters):
    """Cells that cannot be programmed."""

    stuck_low: Share = Field(default=0.0, description="share of cells stuck at the smallest conductance")
    stuck_high: Share = Field(default=0.0, description="share of cells stuck at the largest conductance")

    @model_validator(mode="after")
    def _together(self) -> Faults:
        if self.stuck_low + self.stuck_high > 1:
            raise ValueError(f"stuck_low + stuck_high = {self.stuck_low + self.stuck_high:g} are more than all cells")
        return self


class Resistances(Hyperparameters):
    """As `Wires`."""

    row_ohm: float = Field(default=0.0, description="a segment of a word line")
    column_ohm: float = Field(default=0.0, description="a segment of a bit line")
    driver_ohm: float = Field(default=0.0, description="a row's voltage source")
    sense_ohm: float = Field(default=0.0, description="from the end of a bit line to ground")

    @field_validator("row_ohm", "column_ohm", "driver_ohm", "sense_ohm")
    @classmethod
    def _positive(cls, value: float) -> float:
        if value < 0:
            raise ValueError("a resistance is 0 or more ohm")
        return value

    @property
    def wires(self) -> Wires:
        """For `effective`."""
        return Wires(**self.model_dump())


class Converters(Hyperparameters):
    """Between digital and analog; ranges come from calibration. Several sums are rounded, then shifted and added."""

    dac_bits: int | None = Field(default=None, ge=1, le=16, description="of an input; none: exact")
    adc_bits: int | None = Field(default=None, ge=1, le=16, description="of a column's current; none: exact")


class ChipProfile(Hyperparameters):
    """A whole chip.

    Raises:
        pydantic.ValidationError: a number out of its range, or numbers that do not fit one another; `load_profile`
            makes one sentence of it.
    """

    name: str = Field(default="own", description="what tables call it")
    tile: int = Field(default=128, ge=16, le=256, description="rows and columns of a crossbar")
    weights: Mapped = Mapped()
    cell: Cell = Cell()
    noise: Noise = Noise()
    drift: Drift = Drift()
    faults: Faults = Faults()
    wires: Resistances = Resistances()
    converters: Converters = Converters()
    unknown: list[str] = Field(default=[], description="keys whose numbers nobody has published")
    sources: dict[str, str] = Field(default={}, description="where a number comes from, by key")

    @model_validator(mode="after")
    def _fits(self) -> ChipProfile:
        cell = self.cell
        if cell.on_off is not None and cell.g_min_us is not None:
            raise ValueError("cell.on_off and cell.g_min_us say the same; give one of them")
        if cell.g_min_us is not None and cell.g_max_us is None:
            raise ValueError("cell.g_min_us needs cell.g_max_us; give both, or cell.on_off")
        if cell.g_min_us is not None and cell.g_max_us is not None and cell.g_min_us >= cell.g_max_us:
            raise ValueError(
                f"cell.g_max_us = {cell.g_max_us:g} lies below or at cell.g_min_us = {cell.g_min_us:g}; nothing could "
                "be stored between them"
            )
        if not self.wires.wires.ideal and cell.g_max_us is None:
            raise ValueError(
                "wires have ohms, so cells need siemens: give cell.g_max_us, or leave all resistances at 0"
            )
        if cell.bits is not None and self.weights.bits is None:
            raise ValueError("cell.bits cuts weights into slices, so they need weights.bits; give both or neither")
        return self

    @property
    def g_min(self) -> float:
        """The smallest conductance over the largest; 0 where neither ratio nor conductance is given."""
        cell = self.cell
        if cell.on_off is not None:
            return 1 / cell.on_off
        return 0.0 if cell.g_min_us is None or cell.g_max_us is None else cell.g_min_us / cell.g_max_us

    @property
    def siemens(self) -> float:
        """The largest conductance; 1 where it is not given, and no resistance asks for it."""
        return 1.0 if self.cell.g_max_us is None else self.cell.g_max_us * 1e-6

    def changed(self, changes: Mapping[str, Any]) -> ChipProfile:
        """The same with other numbers.

        >>> load_profile("rram").changed({"noise.read": 0.2, "tile": 64}).tile
        64

        Args:
            changes: by key, a table's with its name before a dot.

        Raises:
            ConfigError: an unknown key, or numbers that do not fit.
        """
        tree = self.model_dump()
        for key, value in changes.items():
            table, _, last = key.rpartition(".")
            within = tree.get(table) if table else tree
            if not isinstance(within, dict) or last not in within:
                known = list(_keys(ChipProfile))
                raise ConfigError(
                    f"chip profile {self.name} has no key '{key}'; the nearest is '{nearest(key, known)}'"
                )
            within[last] = value
        return _made(tree, f"chip profile {self.name}")


def load_profile(name: str) -> ChipProfile:
    """One of `PROFILES`, or a TOML file of your own.

    Raises:
        ConfigError: no such profile or file, no TOML, an unknown key, or a number that cannot be: one sentence each.
    """
    path = FOLDER / f"{name}.toml" if name in PROFILES else Path(name)
    if name not in PROFILES and path.suffix != ".toml":
        close = nearest(name.lower(), PROFILES)
        raise ConfigError(
            f"chip profile '{name}' is not known; the nearest is '{close}' (there are {', '.join(PROFILES)}), and your "
            "own is a file that ends in .toml"
        )
    try:
        held = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"chip profile {name} cannot be read ({error.strerror}){counted_from(path)}; check the path"
        ) from error
    try:
        tree = tomllib.loads(held.decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"chip profile {name} is no TOML: {error}") from error
    return _made({"name": path.stem, **tree}, f"chip profile {name}")


def _made(tree: Mapping[str, Any], what: str) -> ChipProfile:
    known = list(_keys(ChipProfile))
    for key in _given(tree):
        if key not in known:
            raise ConfigError(f"{what} has an unknown key '{key}'; the nearest known key is '{nearest(key, known)}'")
    try:
        return ChipProfile.model_validate(dict(tree))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        place = f"'{key}' = {first.get('input')!r}: " if key else ""
        raise ConfigError(f"{what}: {place}{said}") from error


def _keys(model: type[BaseModel], before: str = "") -> Iterable[str]:
    """Every key, a table's with its name before a dot; of the lists of sources and unknowns their own name only."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        yield f"{before}{name}"
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _keys(kind, f"{name}.")


def _given(tree: Mapping[str, Any]) -> Iterable[str]:
    for key, value in tree.items():
        yield key
        if isinstance(value, Mapping) and key != "sources":
            yield from (f"{key}.{inner}" for inner in value)
