"""Flights simulated second by second: workers that promise impressions at the pace they were told, on some traffic."""

from collections.abc import Callable, Sequence
from math import exp, sqrt
from random import Random
from typing import NamedTuple

from domain.pacing import ALWAYS, Portion, pace, target
from domain.traffic import Curve

LEAST = 3
"""So many impressions of a curve are no deviation: there are no halves of them."""


class Flown(NamedTuple):
    """How far a campaign had come at the end of each step, how far it should have, and what came in the step."""

    seconds: list[int]
    delivered: list[float]
    curve: list[float]
    requests: list[float]

    def __repr__(self) -> str:
        """Return a word, for there are thousands of numbers."""
        return "Flown"

    def deviation(self, seconds: Sequence[int]) -> float:
        """Return the largest deviation from the curve at any of these moments, as a part of the curve."""
        at = {second: number for number, second in enumerate(self.seconds)}
        worst = 0.0
        for second in seconds:
            right = self.curve[at[second]]
            beyond = abs(self.delivered[at[second]] - right) - LEAST
            worst = max(worst, beyond / right if right else 0.0)
        return worst


def fly(
    portions: Sequence[Portion],
    curve: Curve,
    traffic: Callable[[int], float],
    span: tuple[int, int],
    *,
    workers: int = 2,
    delay: int = 2,
    step: int = 1,
    seed: int = 1,
) -> Flown:
    """Fly through a span of seconds, and return how it went.

    To what was delivered of the portions before is added what was flown until `delay` steps ago. `traffic` is
    how many requests a second the campaign could be shown to.
    """
    random = Random(seed)
    flown = Flown([], [], [], [])
    total, known = 0.0, [0.0] * (delay + 1)
    for second in range(*span, step):
        told = [
            Portion(
                limit=each.limit,
                delivered=each.delivered + known[0] * each.each,
                since=each.since,
                until=each.until,
                each=each.each,
            )
            for each in portions
        ]
        paced = pace(told, curve, second, workers=workers)
        room = min(int((each.limit - each.delivered) / each.each) for each in portions) - int(total)
        requests = traffic(second) * step
        for _ in range(workers):
            asked = drawn(random, requests / workers * paced.odds / ALWAYS)
            taken = max(min(asked, paced.allowance * step, room), 0)
            total, room = total + taken, room - taken
        known = [*known[1:], total]
        flown.seconds.append(second + step)
        flown.delivered.append(total)
        flown.requests.append(requests)
        flown.curve.append(min((target(each, curve, second + step) - each.delivered) / each.each for each in portions))
    return flown


def drawn(random: Random, expected: float) -> int:
    """Return how many of many happen, of which so many are expected."""
    if expected > 50:
        return max(round(random.gauss(expected, sqrt(expected))), 0)
    count, chance, limit = 0, random.random(), exp(-expected)
    while chance > limit:
        chance *= random.random()
        count += 1
    return count
