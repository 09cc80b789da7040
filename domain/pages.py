"""Pages: how the placements of one request are filled together.

No creative is in one answer twice, and no two campaigns are that share a group of competitors. A campaign is no
competitor of itself, and neither are those of one advertiser, unless they share a group.

A roadblock takes all places of a page, each with a creative of its own, or none. Whether it does is drawn in one of the
places, each as likely to be it, among all campaigns that want that place: a roadblock has the part of the impressions
that another campaign of its weight has. It is not shown where it would displace an earlier priority, but rather than
nothing at all.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import NamedTuple
from uuid import UUID

from msgspec import Struct, structs

from domain.ad_request import Placement
from domain.choosing import Candidate, Lineup, Snapshot, rivals
from domain.precedence import choose
from domain.terms import CampaignTerms


class Opening(NamedTuple):
    """A placement: its places, the lineup of its slot, and the bitset of those of it that may be shown there."""

    placement: Placement
    places: int
    lineup: Lineup
    bits: int
    admits: Callable[[Candidate], bool] | None = None

    @property
    def others(self) -> int:
        """The bitset without roadblocks."""
        # Most slots have none, and large integers are not copied for nothing.
        return self.bits & ~self.lineup.roadblocks if self.lineup.roadblocks else self.bits


class Seat(NamedTuple):
    """A candidate for a place of an opening, which is known by its number."""

    number: int
    candidate: Candidate


Take = Callable[[Sequence[Seat]], bool]
"""Promises all of these, or none and answers no."""


class Page(Struct, frozen=True, kw_only=True):
    """What a page asks for at a moment; the viewer's clock is so many minutes ahead of UTC, if that is known."""

    snapshot: Snapshot
    openings: Sequence[Opening]
    now: datetime
    minutes_ahead: int | None = None

    def offered(self, number: int, bits: int, draw: int) -> Iterator[Candidate]:
        """Return these candidates for an opening in the order in which they should be tried."""
        opening = self.openings[number]
        found = choose(self.snapshot, bits, opening.placement, self.now, draw, minutes_ahead=self.minutes_ahead)
        return found if opening.admits is None else filter(opening.admits, found)


def fill(page: Page, draws: Callable[[int], int], take: Take) -> None:
    """Have the places of a page taken, by a roadblock or one after the other, each with a draw of its own.

    `draws` is told the number of the opening that something is drawn for, the first where it is for the whole page.
    """
    may_be_blocked = all(opening.bits & opening.lineup.roadblocks for opening in page.openings)
    if may_be_blocked and _is_blocked(page, draws(0), take):
        return
    shown: list[Seat] = []
    for number, opening in enumerate(page.openings):
        places, left = opening.places, apart(opening.lineup, opening.others, shown)
        while places and left:
            for candidate in page.offered(number, left, draws(number)):
                seat = Seat(number, candidate)
                if take([seat]):
                    shown.append(seat)
                    places -= 1
                    left = apart(opening.lineup, left, [seat]) if places else 0
                    break
            else:
                break
    if may_be_blocked and not shown:
        roadblocks = [each._replace(bits=each.bits & each.lineup.roadblocks) for each in page.openings]
        _is_blocked(structs.replace(page, openings=roadblocks), draws(0), take)


def apart(lineup: Lineup, bits: int, shown: Iterable[Seat]) -> int:
    """Return the bitset without what is shown already, and without the competitors of what is."""
    for _, each in shown:
        bits &= ~(lineup.by_creative.get(each.creative_id, 0) | rivals(lineup, each.campaign_id, each.campaign))
    return bits


def _is_blocked(page: Page, draw: int, take: Take) -> bool:
    """Let the first roadblock that is drawn, and can, take all places; tell whether one did."""
    places = [number for number, opening in enumerate(page.openings) for _ in range(opening.places)]
    lead = places[draw % len(places)]
    tried: set[UUID] = set()
    for candidate in page.offered(lead, page.openings[lead].bits, draw // len(places)):
        if not candidate.campaign.roadblock:
            return False
        if candidate.campaign_id not in tried:
            tried.add(candidate.campaign_id)
            seats = _seated(page, places, candidate.campaign_id, draw)
            if seats and not _displaces(page, candidate.campaign, draw) and take(seats):
                return True
    return False


def _displaces(page: Page, campaign: CampaignTerms, draw: int) -> bool:
    firsts = (next(page.offered(number, opening.others, draw), None) for number, opening in enumerate(page.openings))
    return any(first is not None and _rank(first.campaign) < _rank(campaign) for first in firsts)


def _rank(campaign: CampaignTerms) -> tuple[bool, int]:
    return campaign.house, campaign.priority


def _seated(page: Page, places: Sequence[int], campaign_id: UUID, draw: int) -> list[Seat]:
    """Return a creative of a campaign for each place, none of them twice; nothing when not enough of them fit."""
    fitting: list[Mapping[UUID, Candidate]] = []
    for number, opening in enumerate(page.openings):
        offered = page.offered(number, opening.bits & opening.lineup.by_campaign.get(campaign_id, 0), draw)
        # Of as many as there are places, one is always left for this one.
        fitting.append({each.creative_id: each for each in islice(offered, len(places))})
    place_of: dict[UUID, int] = {}

    def seat(place: int, asked: set[UUID]) -> bool:
        """Seat a place, if need be by seating others anew (Kuhn's augmenting paths)."""
        for creative_id in fitting[places[place]]:
            if creative_id not in asked:
                asked.add(creative_id)
                if creative_id not in place_of or seat(place_of[creative_id], asked):
                    place_of[creative_id] = place
                    return True
        return False

    if not all(seat(place, set()) for place in range(len(places))):
        return []
    seated = sorted((place, creative_id) for creative_id, place in place_of.items())
    return [Seat(places[place], fitting[places[place]][creative_id]) for place, creative_id in seated]
