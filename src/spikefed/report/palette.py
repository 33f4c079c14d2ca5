"""One colour, dash and marker for each method, the same in every report.

The first colours are those of Okabe and Ito's colour-blind-safe set (J*FLY, 2008); all have a lighter twin for dark
pages. So many hues cannot all be far apart: markers and dashes carry the same information without colour.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable

# (on light, on dark)
BLUE = ("#0072B2", "#56A8E0")
VERMILION = ("#C44F00", "#F08A4B")
GREEN = ("#00805D", "#3CC29B")
PURPLE = ("#A8497F", "#E08FBD")
OCHRE = ("#9A6B00", "#E6B84D")
SLATE = ("#4A5568", "#A7B4C6")
SKY = ("#2B83BA", "#8CCBF2")
INK = ("#1B2430", "#F1F4F8")
BRICK = ("#8C2D19", "#E07A66")
VIOLET = ("#6A3FB5", "#A98BF0")
OLIVE = ("#6B7A00", "#C3D13A")
CRIMSON = ("#D11A4A", "#FF6F91")
BROWN = ("#6B4A2B", "#BE9468")
NAVY = ("#1F3A8A", "#6F8DF5")
MAGENTA = ("#C21FB0", "#F279E6")
STONE = ("#858076", "#CFC9BC")
TEAL = ("#00868F", "#35C9D4")
FOREST = ("#1E5B1E", "#6CCB5F")
ROSE = ("#D4698A", "#FFC2D1")
PLUM = ("#5B1A4B", "#C48BB8")
PINE = ("#0B4A4A", "#7FA8A0")
LIME = ("#4C9A00", "#A5E04A")
UMBER = ("#7A5C8E", "#D9B8F0")
COPPER = ("#A0522D", "#E3A57C")
INDIGO = ("#34286B", "#8B7FD6")
MOSS = ("#3F5F00", "#93B83A")
HONEY = ("#B07800", "#F5CF73")
STEEL = ("#3C6E8F", "#9CC3DC")

METHODS = {
    "fsd": BLUE,
    "fsd+": INK,  # its nearest neighbour in every comparison is FSD, in blue
    "fedavg": VERMILION,
    "cfd": GREEN,
    "ds-fl": PURPLE,
    "hdsfl": OCHRE,
    "fd": BRICK,
    "fedavg-stc": MAGENTA,
    "fedprox": CRIMSON,
    "fedadam": SLATE,
    "fedyogi": OLIVE,
    "fedavgm": BROWN,
    "fedadagrad": VIOLET,
    "fednova": COPPER,
    "feddyn": INDIGO,
    "feddf": MOSS,
    "scaffold": STEEL,
    "tickets": TEAL,
    "fsd-tickets": HONEY,
    "dc-nas": UMBER,
    "adapters": LIME,
    "local": STONE,
    "central": NAVY,
}
OTHERS = [SKY, FOREST, ROSE, PLUM, PINE]
DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"]
SYMBOLS = {
    "fsd": "circle",
    "fsd+": "hexagon",
    "fedavg": "square",
    "cfd": "diamond",
    "ds-fl": "triangle-up",
    "hdsfl": "pentagon",
    "fd": "star",
    "fedavg-stc": "triangle-down",
    "fedprox": "x",
    "fedadam": "cross",
    "fedyogi": "x",
    "fedavgm": "cross",
    "fedadagrad": "x",
    "fednova": "triangle-up",
    "feddyn": "pentagon",
    "feddf": "circle",
    "scaffold": "square",
    "tickets": "star",
    "fsd-tickets": "pentagon",
    "dc-nas": "hexagon",
    "adapters": "diamond",
    "local": "square",
    "central": "diamond",
}
OTHER_SYMBOLS = ["cross", "x", "star", "hexagon", "pentagon"]
ALL_SYMBOLS = [
    "circle",
    "square",
    "diamond",
    "triangle-up",
    "triangle-down",
    "hexagon",
    "pentagon",
    "star",
    "cross",
    "x",
]


def dash_of(method: str, variant: int) -> str:
    """The line's dash: the first configuration of a method has a solid one, the floor and the ceiling have not."""
    first = {"local": 2, "central": 1}.get(method, 0)
    return DASHES[(first + variant) % len(DASHES)]


def colour_of(method: str) -> tuple[str, str]:
    """The method's colour on a light and on a dark page; an unknown name always gets the same one."""
    return METHODS.get(method) or OTHERS[zlib.crc32(method.encode()) % len(OTHERS)]


def colours_of(methods: Iterable[str]) -> dict[str, tuple[str, str]]:
    """A colour for each method of one page, no two alike while there are colours.

    Known methods have their own; of two unknown ones that would share one, the later takes a colour that is free.
    """
    names = list(dict.fromkeys(methods))
    out = {name: METHODS[name] for name in names if name in METHODS}
    for name in names:
        if name not in out:
            wanted = [colour_of(name), *OTHERS, *METHODS.values()]
            out[name] = next((colour for colour in wanted if colour not in out.values()), wanted[0])
    return out


def symbol_of(method: str, variant: int = 0) -> str:
    """The marker; of the configurations of one method, which share its colour, each has another, filled or open."""
    own = SYMBOLS.get(method) or OTHER_SYMBOLS[zlib.crc32(method.encode()) % len(OTHER_SYMBOLS)]
    place = (ALL_SYMBOLS.index(own) + variant // 2) % len(ALL_SYMBOLS)
    return ALL_SYMBOLS[place] + ("-open" if variant % 2 else "")


def outline_of(symbol: str) -> str:
    """The marker as a CSS shape that cuts a box: for the dots beside names in tables; ``"none"`` for a round one."""
    corners = _corners(symbol.removesuffix("-open"))
    if not corners:
        return "none"
    path = [*corners, corners[0]]
    if symbol.endswith("-open"):  # a hole of the same shape
        path += [(0.5 * x, 0.5 * y) for x, y in path]
    return f"polygon(evenodd, {', '.join(f'{50 + 50 * x:.0f}% {50 + 50 * y:.0f}%' for x, y in path)})"


def _corners(shape: str) -> list[tuple[float, float]]:
    """Corners in a box from -1 to 1, y downwards; none for a circle."""
    plus = [(-0.35, -1), (0.35, -1), (0.35, -0.35), (1, -0.35), (1, 0.35), (0.35, 0.35)]
    plus = [*plus, *((-x, -y) for x, y in plus)]
    half = math.sqrt(0.5)
    match shape:
        case "square":
            return [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]
        case "triangle-up":
            return [(0, -1), (1, 0.8), (-1, 0.8)]
        case "triangle-down":
            return [(0, 1), (1, -0.8), (-1, -0.8)]
        case "cross":
            return [(float(x), float(y)) for x, y in plus]
        case "x":
            return [(half * (x - y), half * (x + y)) for x, y in plus]
        case "star":
            return _ring(10, (1.0, 0.45))
    return _ring({"diamond": 4, "pentagon": 5, "hexagon": 6}.get(shape, 0), (1.0,))


def _ring(count: int, radii: tuple[float, ...]) -> list[tuple[float, float]]:
    """Corners around the middle, the first at the top."""
    turns = [(2 * math.pi * i / count, radii[i % len(radii)]) for i in range(count)]
    return [(r * math.sin(turn), -r * math.cos(turn)) for turn, r in turns]
