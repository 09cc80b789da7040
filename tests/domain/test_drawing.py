"""Drawing by weight from a bitset."""

from collections import Counter
from itertools import accumulate

from hypothesis import given as for_all
from hypothesis import strategies as st

from domain.drawing import bitset, drawn, first_of_each, nth, urn_of
from tests.domain.strategies import law


@law
@for_all(numbers=st.sets(st.integers(0, 300), min_size=1))
def test_members_are_found_by_rank(numbers: set[int]) -> None:
    """The rank of a number is how many of the others are lower."""
    bits = bitset(list(numbers))
    assert [nth(bits, rank) for rank in range(len(numbers))] == sorted(numbers)


@law
@for_all(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=40), bits=st.integers(0, 2**160))
def test_each_group_is_represented_once(sizes: list[int], bits: int) -> None:
    """Of each group that has members in a bitset the lowest is found, and nothing else."""
    after = list(accumulate(sizes))
    groups = [range(end - size, end) for end, size in zip(after, sizes, strict=True)]
    bits &= (1 << after[-1]) - 1
    members = [[number for number in group if bits >> number & 1] for group in groups]
    lows, highs = bitset([group[0] for group in groups]), bitset([group[-1] for group in groups])
    assert first_of_each(bits, lows, highs) == bitset([of_group[0] for of_group in members if of_group])


@law
@for_all(weights=st.lists(st.integers(1, 1_000), min_size=1, max_size=40), draw=st.integers(0, 2**256), data=st.data())
def test_what_is_drawn_is_a_member(weights: list[int], draw: int, data: st.DataObject) -> None:
    """One after the other each member is drawn once, whatever it is drawn with, and the same again each time."""
    members = data.draw(st.sets(st.integers(0, len(weights) - 1), min_size=1))
    urn = urn_of(weights)

    def order() -> list[int]:
        left, rest, found = bitset(list(members)), draw, []
        while left:
            number, rest = drawn(urn, left, rest)
            left &= ~(1 << number)
            found.append(number)
        return found

    assert sorted(order()) == sorted(members)
    assert order() == order()


def test_chance_is_exactly_weight() -> None:
    """Among members of very different weights, each is drawn as often as its weight says; others never."""
    weights = (1, 3, 4, 7, 100, 250, 999, 1_000)
    members = bitset([0, 2, 3, 5, 7])
    found, draw = Counter[int](), 1
    for _ in range(50_000):
        number, draw = drawn(urn_of(weights), members, draw)
        found[number] += 1
    expected = {number: 50_000 * weights[number] / 1_262 for number in (0, 2, 3, 5, 7)}
    assert set(found) <= set(expected)
    assert sum((found[number] - count) ** 2 / count for number, count in expected.items()) < 18.5  # once in 1,000
