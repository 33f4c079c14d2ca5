"""What two machines say of their public sets, and what differs between them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from torch import Tensor

from spikefed.data.images import public_set_id, row_digests

_SHORT = 16
"""Hexadecimal digits that tell two sets apart by accident; the whole id stands in every packet."""


@dataclass(frozen=True)
class PublicFacts:
    """A public set in a few words.

    Attributes:
        id: start of `public_set_id`: rows and their order.
        content: the same of the rows in any order.
        rows: how many there are.
        shape: of one, with its type.
        classes: outputs of the network.
        names: digest of the classes' names; empty where they have none.
        pixels: pixel mode, means and deviations as text; empty where they are left to the experiment.
    """

    id: str
    content: str
    rows: int
    shape: str
    classes: int
    names: str
    pixels: str

    def told(self) -> str:
        """For the other machine."""
        return json.dumps(asdict(self), separators=(",", ":"))


def facts_of(images: Tensor, classes: int, names: Sequence[str], pixels: str = "") -> PublicFacts:
    """The facts of a public set.

    Args:
        images: the public rows ``[P, C, H, W]`` or ``[P, T, C, H, W]``, in order.
        classes: outputs of the network.
        names: of the classes; may be empty.
        pixels: how they become network input, see `scale_text`.
    """
    digests = row_digests(images)
    return PublicFacts(
        id=public_set_id(images).hex()[:_SHORT],
        content=hashlib.sha256(b"".join(sorted(digests))).hexdigest()[:_SHORT],
        rows=len(images),
        shape="x".join(map(str, images.shape[1:])) + f" {str(images.dtype).removeprefix('torch.')}",
        classes=classes,
        names=hashlib.sha256("\n".join(names).encode()).hexdigest()[:_SHORT] if names else "",
        pixels=pixels,
    )


def scale_text(mode: str, mean: Sequence[float], std: Sequence[float]) -> str:
    """Pixel mode with the moments ``[C]`` that it uses, in six digits."""
    return " ".join([mode, *(f"{number:.6g}" for number in (*mean, *std))])


def difference(own: PublicFacts, told: str) -> str | None:
    """What differs between our public set and the server's, in one sentence; None where nothing does.

    Args:
        own: ours.
        told: what the server's `PublicFacts.told` gave; empty from a server that says nothing.
    """
    if not told:
        return None
    try:
        other = PublicFacts(**json.loads(told))
    except (ValueError, TypeError):
        return None  # another version's words; the id in every packet still counts
    if own.shape != other.shape:
        return f"its public rows are {own.shape}, the server's {other.shape}; copy public.npz from one machine"
    if own.rows != other.rows:
        return f"its public set has {own.rows:,} rows, the server's {other.rows:,}; copy public.npz from one machine"
    if own.content != other.content:
        return (
            f"its public set has {own.rows:,} rows like the server's, but other pixels in some of them; copy "
            "public.npz from one machine (pictures saved as JPEG once more are other pictures)"
        )
    if own.id != other.id:
        return (
            f"its public set has the server's {own.rows:,} rows in another order; set data.public_order = 'content' in "
            "the experiment of every machine, or copy public.npz from one"
        )
    if own.classes != other.classes:
        return f"its public.npz says {own.classes} classes, the server's {other.classes}; give all machines the same"
    if own.names and other.names and own.names != other.names:
        return (
            "its public.npz names other classes than the server's, or in another order; give 'class_names' alike, "
            "their order is that of the network's outputs"
        )
    if own.pixels and other.pixels and own.pixels != other.pixels:
        return f"its pixels are scaled as '{own.pixels}', the server's as '{other.pixels}'; copy public.npz from one"
    return None
