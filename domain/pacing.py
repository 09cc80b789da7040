"""Pacing: how a campaign's budget is spread over its flight, following the shape of the traffic.

How far a campaign should have come by a moment is its budget times the part of the traffic that is over by then, of
all the traffic in the hours that it may be shown in. What it delivered beside that says how likely the next request is
let pass to it, and how urgent it is to choose it among its equals.

Being ahead is measured in time: for how long the campaign could rest until the curve has come to where it stands. For
every so many seconds of it the odds of a request are smaller by e, so that the odds settle where the campaign delivers
as fast as it should, whether it could be shown to every second request or to one in a million; the few seconds that it
is then ahead are a small part of what it has come to.
"""

from collections.abc import Callable, Iterable
from math import ceil, exp
from typing import Final

from msgspec import Struct

from domain.budget import price_of_impression
from domain.terms import CampaignTerms
from domain.traffic import Curve
from domain.values import Pricing

ALWAYS: Final = 2**32
"""The odds that everything passes."""

URGENCY_MAX: Final = 8
URGENT_SECONDS: Final = 900.0
"""For every so many seconds that a campaign is behind it is as urgent as one more."""

PATIENCE_SECONDS_MIN: Final = 10.0
PATIENCE_SECONDS_MAX: Final = 60.0
PATIENCE_PART: Final = 1 / 600
"""How far a campaign is ahead when its odds are smaller by e: that part of what is due by now, within these bounds."""

SPARE_PART: Final = 0.01
"""So much of the traffic is left for when all should be delivered: less may come than is expected."""

RATE_SECONDS: Final = 900
"""A planned rate is that of the time around a moment, so long before it and after, or before it alone."""

LEAST_RATE_PART: Final = 0.02
"""A planned rate is not taken for less than this part of the average: what is due at night keeps nobody until noon."""

BURST_SECONDS: Final = 30.0
"""As much as is planned for so long may be delivered between two looks at the figures: requests come in bursts."""

CATCH_UP_LOOKS: Final = 150
"""What is behind beyond that is spread over about as many looks, lest it all goes to the same viewers."""

IMPRESSIONS_PER_CLICK: Final = 500
"""What a click is expected to take before there are any."""

_LEAST_RATE: Final = 1e-9
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


class Portion(Struct, frozen=True, kw_only=True):
    """What is to be delivered from one moment to another, in seconds since 1970, and how much of it is.

    Both are impressions, or micros, of which an impression costs `each`.
    """

    limit: int
    delivered: float
    since: int
    until: int
    each: float = 1.0


class Delivered(Struct, frozen=True, kw_only=True):
    """What a campaign was billed, in all and on its present day, and how many impressions beside that are held."""

    impressions: int = 0
    micros: int = 0
    day_impressions: int = 0
    day_micros: int = 0
    held: float = 0.0


def portions(
    terms: CampaignTerms, delivered: Delivered, *, flight: tuple[int, int | None], day: tuple[int, int]
) -> list[Portion]:
    """Return what a campaign has to keep to, in its flight and on a day of it: one for each limit that it has.

    A budget for all of a flight that has no end cannot be spread, nor can a price that is paid once.
    """
    each = _cost(terms.pricing, delivered)
    since, until = flight
    today = max(day[0], since), day[1] if until is None else min(day[1], until)
    money, of_day = delivered.micros + delivered.held * each, delivered.day_micros + delivered.held * each
    if terms.pricing.model == "cpc":  # what is shown now is clicked later
        money = max(delivered.micros, (delivered.impressions + delivered.held) * each)
        of_day = max(delivered.day_micros, (delivered.day_impressions + delivered.held) * each)
    limits = (
        (terms.impression_budget, delivered.impressions + delivered.held, 1.0, flight),
        (terms.budget_micros, money, each, flight),
        (terms.daily_impression_budget, delivered.day_impressions + delivered.held, 1.0, today),
        (terms.daily_budget_micros, of_day, each, today),
    )
    return [
        Portion(limit=limit, delivered=done, since=begins, until=ends, each=cost)
        for limit, done, cost, (begins, ends) in limits
        if limit is not None and ends is not None and cost
    ]


def _cost(pricing: Pricing, delivered: Delivered) -> float:
    """Return what an impression is expected to cost, in micros."""
    if pricing.model == "cpc":
        clicks = delivered.micros / pricing.price_micros
        return pricing.price_micros * (clicks + 1) / (delivered.impressions + IMPRESSIONS_PER_CLICK)
    return float(price_of_impression(pricing))


def passes(pace: Pace, campaign: int, draw: int) -> bool:
    """Tell whether a request passes to a campaign (the integer of its id): the same for the same draw for ever."""
    mixed = ((draw >> 64 ^ campaign) & _WORD) * _MIXING & _WORD
    return mixed >> (64 - _ODDS_BITS) < pace.odds


def target(portion: Portion, curve: Curve, second: float) -> float:
    """Return how much of a portion should be delivered by a moment."""
    return _plan(portion, curve)(second)


def _plan(portion: Portion, curve: Curve) -> Callable[[float], float]:
    """Return the target at any moment, as a function of it."""
    begun = curve.upto(portion.since)
    whole = curve.upto(portion.until) - begun
    if whole <= 0:
        return lambda second: portion.limit if second >= portion.until else 0.0
    return lambda second: portion.limit * min(max((curve.upto(second) - begun) / whole, 0.0), 1.0)


def pace(portions: Iterable[Portion], curve: Curve, second: int, *, workers: int = 1) -> Pace:
    """Return the pace of a campaign that has to keep to all of these portions, with so many workers at it."""
    paces = [_pace(portion, curve, second, max(workers, 1)) for portion in portions]
    return Pace(
        odds=min((each.odds for each in paces), default=ALWAYS),
        urgency=min((each.urgency for each in paces), default=1),
        allowance=min((each.allowance for each in paces), default=ALWAYS),
    )


def _pace(portion: Portion, curve: Curve, second: int, workers: int) -> Pace:
    start, end = max(second - RATE_SECONDS, portion.since), min(second + RATE_SECONDS, portion.until)
    by_start, by_now, by_end = map(_plan(portion, curve), (start, second, end))
    least = max(LEAST_RATE_PART * portion.limit / max(portion.until - portion.since, 1), _LEAST_RATE)
    past = max((by_now - by_start) / max(second - start, 1), least)
    rate = max((by_end - by_start) / max(end - start, 1), least)
    due_by_now = min(by_now / (1 - SPARE_PART), portion.limit)
    ahead, behind_seconds = portion.delivered - due_by_now, max(due_by_now - portion.delivered, 0.0) / rate
    # What is about to be due does not count: at dawn a campaign would be ahead of the whole night.
    patience = min(max(due_by_now * PATIENCE_PART, past * PATIENCE_SECONDS_MIN), past * PATIENCE_SECONDS_MAX)
    burst = rate * (BURST_SECONDS + behind_seconds / CATCH_UP_LOOKS) / portion.each
    return Pace(
        odds=max(int(ALWAYS * exp(-max(ahead, 0.0) / patience)), 1),
        urgency=min(1 + int(behind_seconds / URGENT_SECONDS), URGENCY_MAX),
        allowance=max(ceil(burst / workers), 1),
    )
