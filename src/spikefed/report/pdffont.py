"""The font of a PDF's text, embedded as journals ask: Aileron Regular (CC0), which Pillow carries in its own module.

Pillow is there anyway, to read pictures; one older than 10.1 or built without FreeType has no such font, and text is
then set in Helvetica, which every reader of PDF has (ISO 32000-1, 9.6.2.2) and the file does not hold. The font is read
as OpenType says: big-endian tables ``head``, ``hhea``, ``hmtx`` and ``cmap`` (format 4).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

_LAST = 126
"""Character code of ``~``, the last that is looked up by itself."""
_SPELT = {"\u00a0": " ", "−": "-", "–": "-", "×": "x", "’": "'"}
"""Characters that the font lacks, by what looks alike."""


@dataclass(frozen=True)
class Font:
    """A TrueType font.

    Attributes:
        data: its file.
        widths: of ASCII's characters and of others of cp1252 that it has, in thousandths of the size.
        box: of all glyphs, likewise.
        ascent: likewise.
        descent: likewise, below 0.
    """

    data: bytes
    widths: Mapping[str, int]
    box: tuple[int, ...]
    ascent: int
    descent: int

    def spelt(self, text: str) -> str | None:
        """The text in letters of this font; None where it lacks one."""
        told = "".join(letter if letter in self.widths else _SPELT.get(letter, letter) for letter in text)
        return told if all(letter in self.widths for letter in told) else None

    def width_of(self, text: str, size: float) -> float:
        """Of a line of this font's letters, in pixels."""
        return sum(self.widths[letter] for letter in text) * size / 1000

    def objects(self, first: int) -> list[bytes]:
        """Font, descriptor and file as PDF objects; ``first`` is the number of the first."""
        codes = range(32, 256)
        letters = [bytes([code]).decode("cp1252", "replace") for code in codes]
        widths = " ".join(str(self.widths.get(letter, 0)) for letter in letters)
        packed = zlib.compress(self.data, 9)
        return [
            f"<< /Type /Font /Subtype /TrueType /BaseFont /Aileron-Regular /Encoding /WinAnsiEncoding /FirstChar 32 "
            f"/LastChar 255 /Widths [{widths}] /FontDescriptor {first + 1} 0 R >>".encode(),
            f"<< /Type /FontDescriptor /FontName /Aileron-Regular /Flags 32 /FontBBox [{' '.join(map(str, self.box))}] "
            f"/ItalicAngle 0 /Ascent {self.ascent} /Descent {self.descent} /CapHeight {self.ascent} /StemV 80 "
            f"/FontFile2 {first + 2} 0 R >>".encode(),
            b"<< /Filter /FlateDecode /Length %d /Length1 %d >>\nstream\n" % (len(packed), len(self.data))
            + packed
            + b"\nendstream",
        ]


@cache
def embedded() -> Font | None:
    """The font that Pillow carries; None where it carries none that can be read."""
    from PIL import ImageFont

    data = getattr(ImageFont.load_default(), "font_bytes", None)
    try:
        return None if data is None else _read(bytes(data))
    except (KeyError, struct.error):
        return None


def _read(data: bytes) -> Font:
    count = _numbers(data, 4, "H")[0]
    tables = {data[at : at + 4]: _numbers(data, at + 8, "II") for at in range(12, 12 + 16 * count, 16)}
    head, _ = tables[b"head"]
    metrics, _ = tables[b"hhea"]
    (em,) = _numbers(data, head + 18, "H")
    ascent, descent = _numbers(data, metrics + 4, "hh")
    (known,) = _numbers(data, metrics + 34, "H")
    glyphs = _glyphs(data, tables[b"cmap"][0])
    widths = {}
    for code in range(32, 256):
        letter = bytes([code]).decode("cp1252", "replace")
        glyph = glyphs.get(ord(letter), 0)
        if glyph:
            (advance,) = _numbers(data, tables[b"hmtx"][0] + 4 * min(glyph, known - 1), "H")
            widths[letter] = round(1000 * advance / em)
    box = tuple(round(1000 * side / em) for side in _numbers(data, head + 36, "hhhh"))
    return Font(data, widths, box, round(1000 * ascent / em), round(1000 * descent / em))


def _glyphs(data: bytes, cmap: int) -> dict[int, int]:
    """Glyphs by character code, of the Unicode table in segments."""
    (count,) = _numbers(data, cmap + 2, "H")
    found = {
        _numbers(data, at, "HH"): _numbers(data, at + 4, "I")[0] for at in range(cmap + 4, cmap + 4 + 8 * count, 8)
    }
    at = cmap + found[3, 1]
    segments = _numbers(data, at + 6, "H")[0] // 2
    ends = _numbers(data, at + 14, "H" * segments)
    starts = _numbers(data, at + 16 + 2 * segments, "H" * segments)
    deltas = _numbers(data, at + 16 + 4 * segments, "H" * segments)
    place = at + 16 + 6 * segments
    offsets = _numbers(data, place, "H" * segments)
    glyphs = {}
    for index, (start, end, delta, offset) in enumerate(zip(starts, ends, deltas, offsets, strict=True)):
        for code in range(start, min(end, 0xFFFE) + 1):
            glyph = code
            if offset:
                (glyph,) = _numbers(data, place + 2 * index + offset + 2 * (code - start), "H")
            if glyph or not offset:
                glyphs[code] = (glyph + delta) % 65536
    return glyphs


def _numbers(data: bytes, at: int, kinds: str) -> tuple[int, ...]:
    return struct.unpack_from(">" + kinds, data, at)
