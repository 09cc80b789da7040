"""Pages: competitors are kept apart, a roadblock has all or nothing, and nobody is starved by the order of places."""

from collections.abc import Callable, Sequence
from hashlib import sha256
from itertools import count, permutations
from typing import Any, Final
from uuid import UUID

from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from msgspec import structs

from domain.ad_request import Placement
from domain.campaign import Active
from domain.choosing import Candidate, Snapshot, eligible
from domain.pages import Opening, Page, Seat, fill
from domain.slot import Slot
from domain.values import ContentRating
from tests.domain.catalogues import (
    CAMPAIGN,
    CREATIVE,
    NIGHT_OF_THE_CLOCKS,
    OTHER_SLOT_ID,
    REQUEST,
    SLOT,
    SLOT_ID,
    Catalogue,
    shown,
)
from tests.domain.strategies import law

FOR_ALL: Final = ContentRating(rating_system="PEGI", rating_label="3")
MATURE: Final = ContentRating(rating_system="PEGI", rating_label="18")
GROUPS: Final = ((), (), (), ("Cars",), ("cars", "food"), ("FOOD",))


def snapshot_of(*given: tuple[dict[str, Any], Sequence[ContentRating]]) -> Snapshot:
    """Return a snapshot of campaigns with these terms and creatives of these ratings, and of two slots.

    The other slot is for all audiences. Campaigns are numbered from 100, their creatives from 0, 10, 20 and so on.
    """
    return Catalogue(
        campaigns={
            UUID(int=100 + number): Active(terms=structs.replace(CAMPAIGN, **terms))
            for number, (terms, _) in enumerate(given)
        },
        creatives={
            UUID(int=10 * number + place): shown(
                structs.replace(CREATIVE, campaign_id=UUID(int=100 + number), content_rating=rating)
            )
            for number, (_, ratings) in enumerate(given)
            for place, rating in enumerate(ratings)
        },
        slots={
            SLOT_ID: Slot(terms=SLOT),
            OTHER_SLOT_ID: Slot(terms=structs.replace(SLOT, max_rating="all_audiences")),
        },
    ).snapshot()


def page_of(snapshot: Snapshot, *places: tuple[UUID, int]) -> Page:
    """Return a page of placements that each ask for so many creatives of a slot."""
    placements = [Placement(id=f"p{number}", slot_id=slot_id) for number, (slot_id, _) in enumerate(places)]
    openings = [
        Opening(placement, many, snapshot.lineups[placement.slot_id], eligible(snapshot, REQUEST, placement))
        for placement, (_, many) in zip(placements, places, strict=True)
    ]
    return Page(snapshot=snapshot, openings=openings, now=NIGHT_OF_THE_CLOCKS)


def filled(page: Page, seed: int, *, unwilling: frozenset[UUID] = frozenset()) -> list[Seat]:
    """Return who took the places of a page, when some campaigns cannot be promised."""
    seats: list[Seat] = []

    def take(asked: Sequence[Seat]) -> bool:
        is_willing = unwilling.isdisjoint(seat.candidate.campaign_id for seat in asked)
        seats.extend(asked if is_willing else ())
        return is_willing

    fill(page, draws_from(seed), take)
    return seats


def draws_from(seed: int) -> Callable[[int], int]:
    """Return what draws one number after the other as a keyed hash makes them, the same in every run."""
    numbers = count()
    return lambda _opening: int.from_bytes(sha256(b"%d %d" % (seed, next(numbers))).digest())


def willing(page: Page, number: int, unwilling: frozenset[UUID]) -> list[Candidate]:
    """Return what fits an opening and can be promised, found by looking at each."""
    opening = page.openings[number]
    return [
        each
        for place, each in enumerate(opening.lineup.candidates)
        if opening.bits >> place & 1 and each.campaign_id not in unwilling
    ]


def may_share(one: Candidate, other: Candidate) -> bool:
    """Tell whether two candidates may be in one answer."""
    groups = ({group.lower() for group in each.campaign.competitive_exclusion} for each in (one, other))
    compete = one.campaign_id != other.campaign_id and not set.isdisjoint(*groups)
    return one.creative_id != other.creative_id and not compete


def can_block(page: Page, campaign_id: UUID) -> bool:
    """Tell whether a campaign has creatives for all places, by trying all orders."""
    places = [number for number, opening in enumerate(page.openings) for _ in range(opening.places)]
    fitting = [
        {each.creative_id for each in willing(page, number, frozenset()) if each.campaign_id == campaign_id}
        for number in range(len(page.openings))
    ]
    return any(
        all(creative_id in fitting[number] for number, creative_id in zip(places, order, strict=True))
        for order in permutations(set.union(*fitting), len(places))
    )


def rank(candidate: Candidate) -> tuple[bool, int]:
    """Return when a candidate's turn is: by priority, house campaigns after all."""
    return candidate.campaign.house, candidate.campaign.priority


_terms: Final = st.fixed_dictionaries(
    {
        "priority": st.integers(1, 2),
        "house": st.sampled_from([False, False, True]),
        "roadblock": st.sampled_from([False, False, True]),
        "competitive_exclusion": st.sampled_from(GROUPS),
        "weight": st.integers(1, 3),
    }
)
_campaigns: Final = st.tuples(_terms, st.lists(st.sampled_from([FOR_ALL, FOR_ALL, MATURE]), min_size=1, max_size=4))


@settings(law, max_examples=200)
@for_all(
    given=st.lists(_campaigns, min_size=1, max_size=6),
    places=st.lists(
        st.tuples(st.sampled_from([SLOT_ID, SLOT_ID, OTHER_SLOT_ID]), st.integers(1, 2)), min_size=1, max_size=3
    ),
    refusing=st.sets(st.integers(100, 105)),
    seed=st.integers(0, 2**32),
)
def test_a_page_is_filled_by_its_rules(
    given: list[tuple[dict[str, Any], list[ContentRating]]],
    places: list[tuple[UUID, int]],
    refusing: set[int],
    seed: int,
) -> None:
    """No creative is there twice, nor two competitors; a roadblock has all places or none, and displaces no one.

    Nothing that could be shown is left out, and the same draws fill the page the same way.
    """
    page = page_of(snapshot_of(*given), *places)
    unwilling = frozenset(UUID(int=number) for number in refusing)
    seats = filled(page, seed, unwilling=unwilling)
    assert filled(page, seed, unwilling=unwilling) == seats
    fitting = [willing(page, number, unwilling) for number in range(len(places))]
    assert all(seat.candidate in fitting[seat.number] for seat in seats)
    candidates = [seat.candidate for seat in seats]
    assert all(may_share(one, other) for place, one in enumerate(candidates) for other in candidates[:place])

    others = [each for of_place in fitting for each in of_place if not each.campaign.roadblock]
    if any(each.campaign.roadblock for each in candidates):
        assert len({each.campaign_id for each in candidates}) == 1
        assert [seat.number for seat in seats] == [
            number for number, (_, many) in enumerate(places) for _ in range(many)
        ]
        assert all(rank(candidates[0]) <= rank(other) for other in others)
        return
    for number, (_, many) in enumerate(places):
        here = [seat.candidate for seat in seats if seat.number == number]
        left = [each for each in fitting[number] if all(may_share(each, other) for other in candidates)]
        assert len(here) == many or all(each.campaign.roadblock for each in left)
        assert [rank(each) for each in here] == sorted(rank(each) for each in here)
    if not others:
        blocking = {each.campaign_id for of_place in fitting for each in of_place}
        assert not any(can_block(page, campaign_id) for campaign_id in blocking)


def test_a_roadblock_has_the_share_of_its_weight() -> None:
    """Of two places in which it is one of two and one of four, a roadblock has both as often as its mean share."""
    others: list[tuple[dict[str, Any], list[ContentRating]]] = [({}, [MATURE]), *(({}, [FOR_ALL]) for _ in range(3))]
    snapshot = snapshot_of(({"roadblock": True}, [FOR_ALL, MATURE]), *others)
    pages = 3_000
    for order in ((SLOT_ID, OTHER_SLOT_ID), (OTHER_SLOT_ID, SLOT_ID)):
        page = page_of(snapshot, *((slot_id, 1) for slot_id in order))
        blocked = sum(filled(page, seed)[0].candidate.campaign.roadblock for seed in range(pages))
        # Of all audiences' place it wants a quarter, of the other, where all five are, a fifth.
        assert abs(blocked / pages - (1 / 4 + 1 / 5) / 2) < 0.03


def test_a_roadblock_seats_its_creatives_where_they_fit() -> None:
    """The creative that fits everywhere leaves the place to the one that fits only there."""
    snapshot = snapshot_of(({"roadblock": True}, [FOR_ALL, MATURE]))
    for order in ((SLOT_ID, OTHER_SLOT_ID), (OTHER_SLOT_ID, SLOT_ID)):
        for seed in range(20):
            seats = filled(page_of(snapshot, *((slot_id, 1) for slot_id in order)), seed)
            assert {order[seat.number]: seat.candidate.creative_id.int for seat in seats} == {
                SLOT_ID: 1,
                OTHER_SLOT_ID: 0,
            }


def test_an_earlier_priority_anywhere_keeps_a_roadblock_out() -> None:
    """A roadblock that would have one place to itself is not shown while the other is wanted before it."""
    first = ({"priority": 1}, [FOR_ALL])
    for road, blocked in (({"priority": 2}, False), ({"priority": 1, "weight": 1_000}, True)):
        snapshot = snapshot_of(first, ({"roadblock": True, **road}, [FOR_ALL, FOR_ALL]))
        seats = filled(page_of(snapshot, (OTHER_SLOT_ID, 1), (SLOT_ID, 1)), 1)
        assert all(seat.candidate.campaign.roadblock for seat in seats) == blocked
        assert len(seats) == (2 if blocked else 1)


def test_what_cannot_be_promised_leaves_its_place_to_others() -> None:
    """Whoever is drawn first but has nothing left is passed over; a place stays empty when nobody is willing."""
    snapshot = snapshot_of(({"priority": 1}, [FOR_ALL]), ({"priority": 2}, [FOR_ALL]))
    page, first, both = page_of(snapshot, (SLOT_ID, 2)), UUID(int=100), frozenset(UUID(int=each) for each in (100, 101))
    assert [seat.candidate.campaign.priority for seat in filled(page, 1)] == [1, 2]
    assert [seat.candidate.campaign.priority for seat in filled(page, 1, unwilling=frozenset({first}))] == [2]
    assert filled(page, 1, unwilling=both) == []


def test_competitors_are_kept_apart() -> None:
    """Of two campaigns that share a group in any case one is shown; a third beside it, and its own creatives."""
    rivals: list[tuple[dict[str, Any], list[ContentRating]]] = [
        ({"competitive_exclusion": ("Cars",)}, [FOR_ALL, FOR_ALL]),
        ({"competitive_exclusion": ("cars", "food"), "priority": 4}, [FOR_ALL]),
        ({"competitive_exclusion": ("shoes",), "priority": 5}, [FOR_ALL]),
    ]
    seats = filled(page_of(snapshot_of(*rivals), (SLOT_ID, 2), (OTHER_SLOT_ID, 2)), 1)
    assert [(seat.number, seat.candidate.campaign_id.int) for seat in seats] == [(0, 100), (0, 100), (1, 102)]


def test_a_roadblock_is_shown_rather_than_nothing() -> None:
    """Where those before it cannot be promised, a roadblock takes the page, unless it has too little for all of it."""
    first, road = ({"priority": 1}, [FOR_ALL]), ({"roadblock": True, "priority": 2}, [FOR_ALL, FOR_ALL])
    for places, shown_ones in ((2, 2), (3, 0)):
        page = page_of(snapshot_of(first, road), (SLOT_ID, places))
        for seed in range(5):
            seats = filled(page, seed, unwilling=frozenset({UUID(int=100)}))
            assert [seat.candidate.campaign.roadblock for seat in seats] == [True] * shown_ones
