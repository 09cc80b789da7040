"""Drawing one of many by weight, from a bitset, without looking at each of them.

Weights are kept in classes within a factor of two. A ticket names a class, a member of it, and a height; when the
member is not that tall, the next ticket is drawn: fewer than two on average, however many members there are.
"""

from bisect import bisect_right
from collections.abc import Sequence
from hashlib import blake2b
from itertools import accumulate
from typing import Final

from msgspec import Struct

_DRAW_BYTES: Final = 64
_EVEN_BITS: Final = 64
"""A ticket taken from a number this much longer is as good as uniform."""


class Urn(Struct, frozen=True, kw_only=True):
    """What each number weighs, and for each class of weights the largest of it and the bitset of its numbers."""

    weights: tuple[int, ...]
    classes: tuple[tuple[int, int], ...]


def urn_of(weights: Sequence[int]) -> Urn:
    """Return the urn in which each number weighs what is given, at least 1."""
    classes: dict[int, list[int]] = {}
    for number, weight in enumerate(weights):
        classes.setdefault(weight.bit_length(), []).append(number)
    return Urn(
        weights=tuple(weights),
        classes=tuple(
            (max(weights[number] for number in numbers), bitset(numbers)) for _, numbers in sorted(classes.items())
        ),
    )


def drawn(urn: Urn, bits: int, draw: int) -> tuple[int, int]:
    """Return the number that a draw takes from the members of a bitset, at least one, and what to draw the next with.

    The same draw takes the same number for ever.
    """
    classes = [(ceiling, bits & of_class) for ceiling, of_class in urn.classes]
    totals = list(accumulate(ceiling * members.bit_count() for ceiling, members in classes))
    while True:
        if draw >> _EVEN_BITS < totals[-1]:
            draw = renewed(draw)
        draw, ticket = divmod(draw, totals[-1])
        of_class = bisect_right(totals, ticket)
        ceiling, members = classes[of_class]
        rank, height = divmod(totals[of_class] - 1 - ticket, ceiling)
        number = nth(members, rank)
        if height < urn.weights[number]:
            return number, draw


def nth(bits: int, rank: int) -> int:
    """Return the number of the bit that has `rank` set bits below it."""
    number, width = 0, bits.bit_length()
    while width > 1:
        half = width >> 1
        below = bits & ((1 << half) - 1)
        count = below.bit_count()
        if rank < count:
            bits, width = below, half
        else:
            rank -= count
            bits >>= half
            number += half
            width -= half
    return number


def first_of_each(bits: int, lows: int, highs: int) -> int:
    """Return the lowest member of each group of a bitset; groups lie side by side, each from a low bit to a high one.

    Subtracting the lowest bit of every group at once turns its lowest member off and whatever is below on; the highest
    bit, set beforehand, keeps one group from borrowing of the next.
    """
    return bits & ~((bits | highs) - lows)


def bitset(numbers: Sequence[int]) -> int:
    """Return the integer whose set bits are these numbers."""
    octets = bytearray((max(numbers, default=-1) >> 3) + 1)
    for number in numbers:
        octets[number >> 3] |= 1 << (number & 7)
    return int.from_bytes(octets, "little")


def renewed(draw: int) -> int:
    """Return what to draw with once a draw is used up."""
    octets = draw.to_bytes(max(_DRAW_BYTES, (draw.bit_length() + 7) // 8), "big")
    return int.from_bytes(blake2b(octets, digest_size=_DRAW_BYTES).digest(), "big")
