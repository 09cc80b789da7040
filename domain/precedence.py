"""Precedence: in which order the candidates for a placement are tried.

Priorities come strictly one after the other, and house campaigns after them all. Within one, a campaign is drawn by
weight and urgency, however many creatives it has, and then one of its creatives by rotation.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import structs

from domain.ad_request import Placement
from domain.choosing import Candidate, Lineup, Snapshot, is_time
from domain.drawing import drawn, first_of_each, nth, renewed, urn_of
from domain.pacing import Pace, passes
from domain.rotation import Tried, most_clicked

BY_WEIGHT_ONE_OF: Final = 10
"""Where a campaign is optimised, one turn of so many goes by weight: that part of its share each creative has."""


def choose(
    snapshot: Snapshot, bits: int, placement: Placement, now: datetime, draw: int, *, minutes_ahead: int | None = None
) -> Iterator[Candidate]:
    """Yield the candidates for a placement in the order in which they should be tried.

    `bits` is what `eligible` returned. Campaigns that their pace holds back are left out. `draw` is a large random
    integer; the viewer's clock is so many minutes ahead of UTC, if that is known.
    """
    lineup = snapshot.lineups.get(placement.slot_id)
    if lineup is None:
        return
    second, paces, first_draw = int(now.timestamp()), snapshot.paces, draw
    for of_rank in lineup.by_rank:
        left = bits & of_rank
        while left:
            one_each = left if lineup.lows == lineup.highs else first_of_each(left, lineup.lows, lineup.highs)
            number, draw = drawn(lineup.campaigns, one_each, draw)
            campaign_id = lineup.candidates[number].campaign_id
            of_campaign = left & lineup.by_campaign[campaign_id]
            if campaign_id in paces and not passes(paces[campaign_id], campaign_id.int, first_draw):
                # Others may be held back as well; asking each of them is quicker than drawing it.
                left &= ~_held_back(lineup, one_each, paces, first_draw)
                continue
            while of_campaign:
                number, draw = _turn(snapshot, lineup, of_campaign, draw)
                of_campaign &= ~(1 << number)
                left &= ~(1 << number)
                candidate = lineup.candidates[number]
                if candidate.starts_at <= second < candidate.ends_at and is_time(candidate, now, minutes_ahead):
                    yield candidate
                    break


def paced(snapshot: Snapshot, paces: Mapping[UUID, Pace]) -> Snapshot:
    """Return the snapshot with other paces: a campaign weighs as much more as it is urgent."""
    before, after = _urgencies(snapshot.paces), _urgencies(paces)
    differing = {campaign_id for campaign_id, _ in before.items() ^ after.items()}
    made: dict[int, Lineup] = {}
    for lineup in snapshot.lineups.values() if differing else ():
        if id(lineup) not in made and not differing.isdisjoint(lineup.by_campaign):
            weights = [each.campaign.weight * after.get(each.campaign_id, 1) for each in lineup.candidates]
            made[id(lineup)] = structs.replace(lineup, campaigns=urn_of(weights))
    lineups = {slot_id: made.get(id(lineup), lineup) for slot_id, lineup in snapshot.lineups.items()}
    return structs.replace(snapshot, lineups=lineups, paces=paces)


def _urgencies(paces: Mapping[UUID, Pace]) -> dict[UUID, int]:
    return {campaign_id: pace.urgency for campaign_id, pace in paces.items() if pace.urgency > 1}


def _held_back(lineup: Lineup, one_each: int, paces: Mapping[UUID, Pace], draw: int) -> int:
    """Return the bitset of all candidates of those campaigns, given by one of each, that their pace holds back."""
    bits = 0
    while one_each:
        lowest = one_each & -one_each
        one_each ^= lowest
        campaign_id = lineup.candidates[lowest.bit_length() - 1].campaign_id
        pace = paces.get(campaign_id)
        if pace is not None and not passes(pace, campaign_id.int, draw):
            bits |= lineup.by_campaign[campaign_id]
    return bits


def _turn(snapshot: Snapshot, lineup: Lineup, of_campaign: int, draw: int) -> tuple[int, int]:
    """Return the number of that creative, of these of a campaign, that has its turn, and what to draw the next with."""
    last = of_campaign.bit_length() - 1
    if of_campaign == 1 << last:
        return last, draw
    if lineup.candidates[last].campaign.rotation == "optimise":
        draw, by_weight = divmod(draw, BY_WEIGHT_ONE_OF)
        if by_weight:
            numbers = [nth(of_campaign, rank) for rank in range(of_campaign.bit_count())]
            tried = [snapshot.tried.get(lineup.candidates[number].creative_id, Tried()) for number in numbers]
            return numbers[most_clicked(tried, draw)], renewed(draw)
    return drawn(lineup.turns, of_campaign, draw)
