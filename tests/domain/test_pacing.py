"""Pacing: laws of a moment. Whole flights are in `tests/pacing`."""

from random import Random
from typing import Final
from uuid import uuid4

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from msgspec import structs

from domain.dayparts import Hours
from domain.pacing import ALWAYS, URGENCY_MAX, Delivered, Pace, Portion, pace, passes, target
from domain.pacing import portions as portions_of
from domain.traffic import ALWAYS as ANY_TIME
from domain.traffic import FLAT, WEEK_SECONDS, Curve, curve, openings
from domain.values import Pricing
from tests.domain.catalogues import CAMPAIGN
from tests.domain.strategies import law
from tests.pacing.scenes import (
    DAY,
    HOUR,
    MONDAY,
    WEEKLY,
    portion,
    shape_of,
)

MORNINGS: Final = Hours(every=7 * 1_440, spans=((8 * 60, 12 * 60), (32 * 60, 36 * 60)))

curves = st.sampled_from([WEEKLY, curve(FLAT, ANY_TIME), curve(FLAT, openings([MORNINGS], 0))])
portions = st.builds(
    lambda limit, delivered, since, length, each: Portion(
        limit=limit, delivered=delivered, since=MONDAY + since, until=MONDAY + since + length, each=each
    ),
    st.integers(0, 10**12),
    st.integers(0, 10**12).map(float),
    st.integers(-WEEK_SECONDS, WEEK_SECONDS),
    st.integers(0, 60 * DAY),
    st.sampled_from([1, 5_000, 0.01]),
)
moments = st.integers(-2 * WEEK_SECONDS, 2 * WEEK_SECONDS).map(lambda second: MONDAY + second)


@law
@for_all(portion=portions, used=curves, second=moments, workers=st.integers(0, 64))
def test_a_pace_is_never_nothing(portion: Portion, used: Curve, second: int, workers: int) -> None:
    """Whatever is due, some request passes and may be promised, and urgency is within its bounds."""
    found = pace([portion], used, second, workers=workers)
    assert 0 < found.odds <= ALWAYS
    assert 1 <= found.urgency <= URGENCY_MAX
    assert found.allowance >= 1


@law
@for_all(portion=portions, used=curves, second=moments, less=st.integers(0, 10**12))
def test_more_behind_never_passes_less(portion: Portion, used: Curve, second: int, less: int) -> None:
    """The less of the same is delivered at a moment, the likelier, the more urgent and the more of it is let pass."""
    behind = structs.replace(portion, delivered=max(portion.delivered - less, 0))
    now, then = pace([portion], used, second), pace([behind], used, second)
    assert (then.odds >= now.odds, then.urgency >= now.urgency, then.allowance >= now.allowance) == (True,) * 3


@law
@for_all(one=portions, other=portions, used=curves, second=moments)
def test_every_portion_is_kept_to(one: Portion, other: Portion, used: Curve, second: int) -> None:
    """A budget of the day and one of the flight let pass what both of them do; where there is none, everything."""
    apart, both = [pace([each], used, second) for each in (one, other)], pace([one, other], used, second)
    assert both.odds == min(each.odds for each in apart)
    assert both.urgency == min(each.urgency for each in apart)
    assert pace([], used, second) == Pace(odds=ALWAYS, urgency=1, allowance=ALWAYS)


@law
@for_all(portion=portions, used=curves, first=moments, seconds=st.integers(0, WEEK_SECONDS))
def test_the_curve_rises_from_nothing_to_all(portion: Portion, used: Curve, first: int, seconds: int) -> None:
    """What should be delivered never falls, is nothing before a portion begins and all of it when it ends."""
    assert target(portion, used, first) <= target(portion, used, first + seconds) <= portion.limit
    assert target(portion, used, portion.until) == portion.limit
    if portion.since < portion.until:
        assert target(portion, used, portion.since) in {0, portion.limit}


def test_a_campaign_that_is_not_ahead_is_never_held_back() -> None:
    """In the middle of a silent night, with nearly nothing due, everything passes to who is not ahead of that."""
    silent = curve(shape_of(lambda second: 1.0 if second % DAY >= 8 * HOUR else 0.0), ANY_TIME)
    at_three = MONDAY + 3 * HOUR
    assert pace([portion(1_000)], silent, at_three).odds == ALWAYS
    due = target(portion(1_000), silent, at_three)
    assert pace([portion(1_000, delivered=due)], silent, at_three).odds == ALWAYS


def test_passing_is_as_likely_as_the_odds_and_always_the_same() -> None:
    """Of many draws as many pass as the odds say, for each campaign others, and each again if it is asked again."""
    random, half = Random(1), Pace(odds=ALWAYS // 4, urgency=1, allowance=1)
    draws = [random.getrandbits(256) for _ in range(4_000)]
    one, other = uuid4().int, uuid4().int
    passed = [passes(half, one, draw) for draw in draws]
    assert sum(passed) == pytest.approx(1_000, rel=0.15)
    assert passed == [passes(half, one, draw) for draw in draws]
    both = sum(mine and passes(half, other, draw) for mine, draw in zip(passed, draws, strict=True))
    assert both == pytest.approx(250, rel=0.3)
    assert all(passes(structs.replace(half, odds=ALWAYS), one, draw) for draw in draws)


def test_each_limit_is_a_portion() -> None:
    """Of the flight and the day, in impressions and in money; what is held counts, and a day ends with the flight."""
    limits = {"impression_budget": 900, "budget_micros": 2_000, "daily_impression_budget": 90}
    terms = structs.replace(CAMPAIGN, daily_budget_micros=200, **limits)
    done = Delivered(impressions=10, micros=20, day_impressions=4, day_micros=8, held=3)
    of_day = [
        Portion(limit=90, delivered=7, since=500, until=2_000),
        Portion(limit=200, delivered=14, since=500, until=2_000, each=2),
    ]
    assert portions_of(terms, done, flight=(100, None), day=(500, 2_000)) == of_day
    assert portions_of(terms, done, flight=(100, 1_000), day=(500, 2_000)) == [
        Portion(limit=900, delivered=13, since=100, until=1_000),
        Portion(limit=2_000, delivered=26, since=100, until=1_000, each=2),
        *(structs.replace(each, until=1_000) for each in of_day),
    ]


def test_clicks_are_expected_and_a_price_paid_once_is_not_spread() -> None:
    """Before there are clicks, an impression is taken to cost a part of one; what a flat price leaves is no portion."""
    per_click = structs.replace(CAMPAIGN, budget_micros=10**6, pricing=Pricing(model="cpc", price_micros=50_000))
    span = {"flight": (0, 1_000), "day": (0, 500)}
    (fresh,) = portions_of(per_click, Delivered(impressions=500), **span)
    assert (fresh.each, fresh.delivered) == (50, 25_000)
    (clicked,) = portions_of(per_click, Delivered(impressions=500, micros=450_000), **span)
    assert (clicked.each, clicked.delivered) == (500, 450_000)
    flat = structs.replace(per_click, pricing=Pricing(model="flat", price_micros=10**6))
    assert portions_of(flat, Delivered(), **span) == []


def test_what_falls_into_no_opening_is_due_at_its_end() -> None:
    """A portion of hours in which the campaign is never shown has no curve: nothing is due before its end, then all."""
    mornings = curve(FLAT, openings([MORNINGS], 0))
    night = structs.replace(portion(1_000), since=MONDAY, until=MONDAY + 6 * HOUR)
    assert [target(night, mornings, MONDAY + hour * HOUR) for hour in (0, 3, 6)] == [0, 0, 1_000]
