"""Rotation: which of a campaign's creatives has its turn, when it is to be the one that is clicked most.

Thompson sampling: what is known of each creative's click rate is a Beta distribution; a rate is drawn from each, and
the highest has the turn. What is hardly known is tried as often as it might be the best, and what is known to be worse
hardly ever, but for a part of all turns that goes by weight, so that nothing starves and a change is noticed.

Thompson (1933), Biometrika 25; gamma variates by Marsaglia and Tsang (2000), ACM TOMS 26, of
normal ones by Box and Muller (1958).
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from math import cos, log, sqrt, tau
from typing import Final, NamedTuple

BY_WEIGHT_ONE_OF: Final = 10
"""One turn of so many goes by weight: each creative has at least that part of its share by weight."""

_UNIFORM_BITS: Final = 52
"""So many, and a half, are a number that floating point holds exactly, and that is neither 0 nor 1."""

_WORD_BYTES: Final = 8
_DIGEST_BYTES: Final = 64


class Tried(NamedTuple):
    """How often a creative was shown, and clicked."""

    impressions: int = 0
    clicks: int = 0


def most_clicked(creatives: Sequence[Tried], draw: int) -> int:
    """Return the place of the creative with the highest click rate, of rates that a draw takes from what is known.

    Before anything is known of a creative every rate is as likely. The same draw takes the same for ever.
    """
    uniforms = _uniforms(draw)
    rates = [_rate(tried, uniforms) for tried in creatives]
    return rates.index(max(rates))


def _rate(tried: Tried, uniforms: Iterator[float]) -> float:
    # Of what is recorded twice or late there may be more clicks than impressions.
    clicked = _gamma(1 + tried.clicks, uniforms)
    return clicked / (clicked + _gamma(1 + max(tried.impressions - tried.clicks, 0), uniforms))


def _gamma(shape: int, uniforms: Iterator[float]) -> float:
    d = shape - 1 / 3
    c = 1 / sqrt(9 * d)
    while True:
        x = sqrt(-2 * log(next(uniforms))) * cos(tau * next(uniforms))
        v = (1 + c * x) ** 3
        # At most one of twenty is drawn again.
        if v > 0 and log(next(uniforms)) < x * x / 2 + d - d * v + d * log(v):
            return d * v


def _uniforms(draw: int) -> Iterator[float]:
    seed, number = draw.to_bytes((draw.bit_length() + 7) // 8, "big"), 0
    while True:
        octets = blake2b(seed, digest_size=_DIGEST_BYTES, salt=number.to_bytes(_WORD_BYTES, "big")).digest()
        for place in range(0, _DIGEST_BYTES, _WORD_BYTES):
            word = int.from_bytes(octets[place : place + _WORD_BYTES], "big")
            yield ((word >> (8 * _WORD_BYTES - _UNIFORM_BITS)) + 0.5) / 2**_UNIFORM_BITS
        number += 1
