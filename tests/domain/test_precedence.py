"""Precedence: campaigns share by weight and urgency, creatives take turns, and house campaigns come last."""

from collections import Counter
from hashlib import sha256
from random import Random
from typing import Any, Final
from uuid import UUID

from hypothesis import given as for_all
from hypothesis import strategies as st
from msgspec import structs

from domain.campaign import Active
from domain.choosing import Snapshot
from domain.pacing import ALWAYS, Pace
from domain.precedence import BY_WEIGHT_ONE_OF, choose, paced
from domain.rotation import Tried
from domain.slot import Slot
from tests.domain.catalogues import (
    CAMPAIGN,
    CREATIVE,
    NIGHT_OF_THE_CLOCKS,
    PLACEMENT,
    SLOT,
    SLOT_ID,
    Catalogue,
    shown,
)
from tests.domain.strategies import law

DRAWS: Final = 6_000


def campaigns(*given: tuple[dict[str, Any], list[int]]) -> Snapshot:
    """Return a snapshot of campaigns with these terms, and creatives with these weights.

    Campaigns are numbered from 100, their creatives from 0 for the first campaign, from 10 for the second.
    """
    creatives = {
        UUID(int=10 * number + place): shown(
            structs.replace(CREATIVE, campaign_id=UUID(int=100 + number), weight=weight)
        )
        for number, (_, weights) in enumerate(given)
        for place, weight in enumerate(weights)
    }
    return Catalogue(
        campaigns={
            UUID(int=100 + number): Active(terms=structs.replace(CAMPAIGN, **terms))
            for number, (terms, _) in enumerate(given)
        },
        # In an order in which those of a campaign do not lie side by side.
        creatives=dict(sorted(creatives.items(), key=lambda item: sha256(item[0].bytes).digest())),
        slots={SLOT_ID: Slot(terms=SLOT)},
    ).snapshot()


def order(snapshot: Snapshot, draw: int, *, bits: int | None = None) -> list[int]:
    """Return the numbers of the creatives in the order in which they are tried."""
    among = (1 << len(snapshot.lineups[SLOT_ID].candidates)) - 1 if bits is None else bits
    return [each.creative_id.int for each in choose(snapshot, among, PLACEMENT, NIGHT_OF_THE_CLOCKS, draw)]


def firsts(snapshot: Snapshot, *, bits: int | None = None) -> Counter[int]:
    """Return how often each creative comes first in as many draws as a keyed hash makes them."""
    draws = (int.from_bytes(sha256(b"%d" % number).digest()) for number in range(DRAWS))
    return Counter(order(snapshot, draw, bits=bits)[0] for draw in draws)


def are_as(found: Counter[int], shares: dict[int, float]) -> bool:
    """Tell whether counts are as shares say, by a chi-square that chance exceeds once in 10,000 for ten of them."""
    whole = sum(shares.values())
    expected = {number: DRAWS * share / whole for number, share in shares.items()}
    return found.keys() <= shares.keys() and (
        sum((found[number] - count) ** 2 / count for number, count in expected.items()) < 34
    )


def test_campaigns_share_by_weight_however_many_creatives_they_have() -> None:
    """Ten creatives get a campaign no more than one does; within it they take turns by their own weight."""
    snapshot = campaigns(({"weight": 2}, [1] * 9 + [11]), ({}, [1_000]), ({"weight": 3}, [1, 3]))
    shares = dict.fromkeys(range(9), 2 / 20) | {9: 22 / 20, 10: 1, 20: 3 / 4, 21: 9 / 4}
    assert are_as(firsts(snapshot), shares)


def test_what_cannot_be_shown_takes_no_share_from_its_campaign() -> None:
    """A campaign of which creatives are kept out has its whole share with the others."""
    snapshot = campaigns(({}, [1, 1, 1, 1]), ({}, [1]))
    kept = [number for number, each in enumerate(snapshot.lineups[SLOT_ID].candidates) if each.creative_id.int != 2]
    found = firsts(snapshot, bits=sum(1 << number for number in kept))
    assert are_as(found, {0: 1 / 3, 1: 1 / 3, 3: 1 / 3, 10: 1})


def test_urgency_multiplies_weight() -> None:
    """A campaign that is behind is drawn as often as one that weighs as much more, until it is not any more."""
    snapshot = campaigns(({}, [1, 1]), ({"weight": 2}, [1]))
    urgent = paced(snapshot, {UUID(int=100): Pace(odds=2**32, urgency=6, allowance=1)})
    assert are_as(firsts(urgent), {0: 3, 1: 3, 10: 2})
    assert paced(urgent, {}) == snapshot


def test_a_pace_holds_back_as_often_as_it_says() -> None:
    """Of the requests that a campaign would get, those go to others that its pace does not let pass."""
    snapshot = campaigns(({"priority": 1}, [1, 1]), ({}, [1]))
    held_back = paced(snapshot, {UUID(int=100): Pace(odds=2**30, urgency=1, allowance=1)})
    assert are_as(firsts(held_back), {0: 1 / 8, 1: 1 / 8, 10: 3 / 4})


def test_each_goes_by_its_own_pace() -> None:
    """One that is held back holds no other back; and a lineup without those whose pace changes stays as it is."""
    snapshot = campaigns(({}, [1]), ({}, [1]))
    never, always = Pace(odds=0, urgency=1, allowance=1), Pace(odds=ALWAYS, urgency=1, allowance=1)
    both = paced(snapshot, {UUID(int=100): never, UUID(int=101): always})
    random = Random(1)
    assert {tuple(order(both, random.getrandbits(256))) for _ in range(100)} == {(10,)}
    assert paced(snapshot, {UUID(int=999): structs.replace(always, urgency=6)}).lineups == snapshot.lineups


@law
@for_all(
    given=st.lists(
        st.tuples(
            st.fixed_dictionaries(
                {
                    "priority": st.integers(1, 5),
                    "house": st.booleans(),
                    "weight": st.integers(1, 1_000),
                    "rotation": st.sampled_from(["weight", "optimise"]),
                }
            ),
            st.lists(st.integers(1, 1_000), min_size=1, max_size=4),
        ),
        min_size=1,
        max_size=6,
    ),
    draw=st.integers(0, 2**256 - 1),
)
def test_ranks_are_strict(given: list[tuple[dict[str, Any], list[int]]], draw: int) -> None:
    """Every creative is tried once, by priority and house campaigns after all others, and the same way each time."""
    snapshot = campaigns(*given)
    found = order(snapshot, draw)
    assert sorted(found) == [
        10 * number + place for number, (_, many) in enumerate(given) for place in range(len(many))
    ]
    ranks = [(given[each // 10][0]["house"], given[each // 10][0]["priority"]) for each in found]
    assert ranks == sorted(ranks)
    assert order(snapshot, draw) == found


def test_optimised_creatives_come_to_the_better_one_and_none_starves() -> None:
    """Of three that are clicked 2, 4 and 8 times in 100, the last gets most turns; each has a tenth of its weight's."""
    snapshot, rates = campaigns(({"rotation": "optimise"}, [1, 1, 2])), {0: 0.02, 1: 0.04, 2: 0.08}
    found, counted = Counter[int](), {number: Tried() for number in rates}
    for number in range(DRAWS):
        digest = sha256(b"%d" % number).digest()
        # Figures come late: they are those of a while ago.
        if number % 100 == 0:
            tried = {UUID(int=creative): tried for creative, tried in counted.items()}
            snapshot = structs.replace(snapshot, tried=tried)
        first = order(snapshot, int.from_bytes(digest))[0]
        found[first] += 1
        is_clicked = int.from_bytes(digest[:4]) / 2**32 < rates[first]
        counted[first] = Tried(counted[first].impressions + 1, counted[first].clicks + is_clicked)
    assert found[2] > DRAWS * 0.75
    for number, weight in enumerate((1, 1, 2)):
        assert found[number] > 0.8 * DRAWS / BY_WEIGHT_ONE_OF * weight / 4
