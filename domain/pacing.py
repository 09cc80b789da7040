"""Pacing: how a campaign's budget is spread over its flight, following the shape of the traffic.

How far a campaign should have come by a moment is its budget times the part of the traffic that is over by then, of
all the traffic in the hours that it may be shown in. What it delivered beside that says how likely the next request is
let pass to it, and how urgent it is to choose it among its equals.
"""

from typing import Final

from msgspec import Struct

URGENCY_MAX: Final = 8
_ODDS_BITS: Final = 32
_MIXING: Final = 0x9E3779B97F4A7C15
_WORD: Final = 2**64 - 1


class Pace(Struct, frozen=True, kw_only=True):
    """How a campaign is to be delivered until it is looked at again.

    A request passes with `odds` / 2**32. A campaign that is let pass is chosen among those of its priority as if its
    creatives weighed `urgency` times as much, 1 to 8. Each worker promises `allowance` impressions at most.
    """

    odds: int
    urgency: int
    allowance: int


def passes(pace: Pace, campaign: int, draw: int) -> bool:
    """Tell whether a request passes to a campaign (the integer of its id): the same for the same draw for ever."""
    mixed = ((draw >> 64 ^ campaign) & _WORD) * _MIXING & _WORD
    return mixed >> (64 - _ODDS_BITS) < pace.odds
