"""One colour, dash and marker for each method, the same in every report.

Colours are those of Okabe and Ito's colour-blind-safe set (J*FLY, 2008), each with a lighter twin for dark pages;
markers and dashes carry the same information without colour.
"""

from __future__ import annotations

import zlib

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

METHODS = {
    "fsd": BLUE,
    "fsd+": INK,  # its nearest neighbour in every comparison is FSD, in blue
    "fedavg": VERMILION,
    "cfd": GREEN,
    "ds-fl": PURPLE,
    "hdsfl": OCHRE,
    "fd": BRICK,
    "fedavg-stc": OCHRE,
    "fedprox": BRICK,
    "fedadam": SLATE,
    "fedyogi": GREEN,
    "fedavgm": OCHRE,
    "fedadagrad": PURPLE,
    "local": SLATE,
    "central": SLATE,
}
OTHERS = [SKY, BRICK, SLATE, GREEN, PURPLE, OCHRE]
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
    "local": "square",
    "central": "diamond",
}
OTHER_SYMBOLS = ["cross", "x", "star", "hexagon", "pentagon"]


def dash_of(method: str, variant: int) -> str:
    """The line's dash: the first configuration of a method has a solid one, the floor and the ceiling have not."""
    first = {"local": 2, "central": 1}.get(method, 0)
    return DASHES[(first + variant) % len(DASHES)]


def colour_of(method: str) -> tuple[str, str]:
    """The method's colour on a light and on a dark page; an unknown name always gets the same one."""
    return METHODS.get(method) or OTHERS[zlib.crc32(method.encode()) % len(OTHERS)]


def symbol_of(method: str) -> str:
    """The method's marker."""
    return SYMBOLS.get(method) or OTHER_SYMBOLS[zlib.crc32(method.encode()) % len(OTHER_SYMBOLS)]
