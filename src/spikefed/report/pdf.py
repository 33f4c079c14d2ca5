"""A figure as a PDF of one page: vectors and text, the same bytes for the same figure.

Text is set in a font that the file holds (`spikefed.report.pdffont`). A line with letters that this font lacks, as é,
is set in Helvetica, one of the fonts that every reader of PDF has (ISO 32000-1, 9.6.2.2); it is not embedded.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from spikefed.report.pdffont import embedded
from spikefed.report.shapes import FONT_PX, INK, Dot, Label, Path, Point, Shape

ROUND = 0.5523
"""Control points of a quarter circle as a Bezier curve, in radii."""
_WIDTHS = (
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, 556, 556, 556, 556, 556, 556, 556,
    556, 556, 556, 278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833,
    722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556, 333, 556, 556, 500, 556,
    556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556, 556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334,
    260, 334, 584,
)  # fmt: skip
"""Of Helvetica's characters from the space to ``~``, in thousandths of the size (Adobe's font metrics)."""
_OTHERS = {"\u00a0": 278, "±": 584, "×": 584, "−": 584, "–": 556, "µ": 556}
_SPELT = {"−": "\u2013"}
"""Characters that the font's encoding lacks, by one that looks alike."""


def pdf(shapes: Sequence[Shape], width: int, height: int, title: str) -> bytes:
    """The figure as a PDF file, a pixel a point.

    Args:
        shapes: from back to front.
        width: in pixels.
        height: in pixels.
        title: of the document.
    """
    opacities = sorted({shape.opacity for shape in shapes if isinstance(shape, Path) and shape.closed})
    names = {opacity: f"/A{place}" for place, opacity in enumerate(opacities)}
    body = "\n".join(_drawn(shape, height, names) for shape in shapes)
    content = zlib.compress(f"1 1 1 rg 0 0 {width} {height} re f\n{body}\n".encode("cp1252", "replace"), 9)
    states = " ".join(f"{name} << /ca {opacity:g} >>" for opacity, name in names.items())
    named, fonts = _fonts([shape.text for shape in shapes if isinstance(shape, Label)], first=5)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width} {height}] /Contents 4 0 R /Resources "
        f"<< /Font << {named} >> /ExtGState << {states} >> >> >>".encode(),
        b"<< /Filter /FlateDecode /Length %d >>\nstream\n" % len(content) + content + b"\nendstream",
        *fonts,
        f"<< /Title {_string(title)} /Producer (spikefed) >>".encode("cp1252", "replace"),
    ]
    return _file(objects)


def width_of(text: str, size: float = FONT_PX) -> float:
    """Of a line of text in Helvetica, in pixels; the embedded font's differ by a few per cent."""
    widths = (_WIDTHS[ord(letter) - 32] if " " <= letter <= "~" else _OTHERS.get(letter, 556) for letter in text)
    return sum(widths) * size / 1000


def _fonts(texts: Sequence[str], first: int) -> tuple[str, list[bytes]]:
    """The fonts of these lines: their names as the page's resources, and their objects from number ``first`` on."""
    font = embedded()
    told = [None if font is None else font.spelt(text) for text in texts]
    names: list[str] = []
    objects: list[bytes] = []
    if font is not None and any(text is not None for text in told):
        names.append(f"/E {first} 0 R")
        objects += font.objects(first)
    if None in told:
        names.append(f"/F {first + len(objects)} 0 R")
        objects.append(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>")
    return " ".join(names), objects


def _file(objects: Sequence[bytes]) -> bytes:
    out = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    places = []
    for number, content in enumerate(objects, start=1):
        places.append(len(out))
        out += b"%d 0 obj\n" % number + content + b"\nendobj\n"
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<< /Size %d /Root 1 0 R /Info %d 0 R >>\n" % (len(objects) + 1, len(objects))
    return bytes(out + b"startxref\n%d\n%%%%EOF\n" % start)


def _drawn(shape: Shape, height: int, opacities: dict[float, str]) -> str:
    if isinstance(shape, Label):
        return _text(shape, height)
    if isinstance(shape, Dot):
        return f"{_colour(shape.colour)} rg {_circle(shape.centre, shape.radius, height)} f"
    points = [(x, height - y) for x, y in shape.points]
    path = f"{_at(points[0])} m " + " ".join(f"{_at(point)} l" for point in points[1:])
    if shape.closed:
        return f"q {opacities[shape.opacity]} gs {_colour(shape.colour)} rg {path} h f Q"
    return f"{_colour(shape.colour)} RG {shape.width:g} w [{shape.dash}] 0 d {path} S"


def _text(label: Label, height: int) -> str:
    x, y = label.at
    font = embedded()
    told = None if font is None else font.spelt(label.text)
    wide = width_of(label.text) if font is None or told is None else font.width_of(told, FONT_PX)
    back = {"start": 0.0, "middle": 0.5, "end": 1.0}[label.anchor] * wide
    turn = "0 1 -1 0" if label.turned else "1 0 0 1"
    at = (x, height - y - back) if label.turned else (x - back, height - y)
    name, text = ("/F", label.text) if told is None else ("/E", told)
    return f"BT {name} {FONT_PX} Tf {_colour(INK)} rg {turn} {_at(at)} Tm {_string(text)} Tj ET"


def _circle(centre: Point, radius: float, height: int) -> str:
    x, y = centre[0], height - centre[1]
    r, c = radius, ROUND * radius
    return (
        f"{_at((x + r, y))} m {_at((x + r, y + c))} {_at((x + c, y + r))} {_at((x, y + r))} c "
        f"{_at((x - c, y + r))} {_at((x - r, y + c))} {_at((x - r, y))} c "
        f"{_at((x - r, y - c))} {_at((x - c, y - r))} {_at((x, y - r))} c "
        f"{_at((x + c, y - r))} {_at((x + r, y - c))} {_at((x + r, y))} c"
    )


def _at(point: Point) -> str:
    return f"{point[0]:.2f} {point[1]:.2f}"


def _colour(colour: str) -> str:
    return " ".join(f"{int(colour[i : i + 2], 16) / 255:.3f}" for i in (1, 3, 5))


def _string(text: str) -> str:
    spelt = "".join(_SPELT.get(letter, letter) for letter in text)
    return "(" + spelt.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)") + ")"
