"""Rotation towards the creative that is clicked most."""

from math import exp, lgamma, log, sqrt

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from domain.rotation import Tried, most_clicked
from tests.domain.strategies import law

tried = st.builds(Tried, impressions=st.integers(0, 10**9), clicks=st.integers(0, 10**6))


@law
@for_all(creatives=st.lists(tried, min_size=1, max_size=10), draw=st.integers(0, 2**256))
def test_the_same_draw_takes_the_same(creatives: list[Tried], draw: int) -> None:
    """Whatever was counted, a creative has its turn, and the same again each time."""
    place = most_clicked(creatives, draw)
    assert 0 <= place < len(creatives)
    assert most_clicked(list(creatives), draw) == place


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Tried(), Tried()),
        (Tried(0, 0), Tried(30, 1)),
        (Tried(100, 10), Tried(100, 17)),
        (Tried(40_000, 30), Tried(50_000, 50)),
        (Tried(9, 9), Tried(5, 4)),
    ],
)
def test_chance_is_that_of_being_the_best(one: Tried, other: Tried) -> None:
    """Of two, each has its turn as often as the click rate behind it is probably the higher one."""
    expected, draws = _chance_of_second(one, other), 4_000
    found = sum(most_clicked([one, other], draw**20) for draw in range(3, 3 + draws)) / draws
    assert abs(found - expected) < 3.5 * sqrt(expected * (1 - expected) / draws)


def _chance_of_second(one: Tried, other: Tried) -> float:
    """Return the probability that the second of two Beta distributed rates is higher, as a sum of exact terms."""
    a, b = 1 + one.clicks, 1 + one.impressions - one.clicks
    c, d = 1 + other.clicks, 1 + other.impressions - other.clicks

    def beta(x: int, y: int) -> float:
        return lgamma(x) + lgamma(y) - lgamma(x + y)

    return sum(exp(beta(a + i, b + d) - log(d + i) - beta(1 + i, d) - beta(a, b)) for i in range(c))
