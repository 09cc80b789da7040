"""Choosing: which creatives a request may be answered with, and which one it gets.

A snapshot indexes what can be served by bitsets, Python integers with one bit a creative: a request looks up a few of
them and ANDs them together, so that its cost grows with what matches and not with what exists. `choose` is pure: the
same snapshot, request, moment and draw give the same order for ever, so that an auditor can repeat it.
"""

from bisect import bisect
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import accumulate, product
from typing import Final, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from msgspec import Struct

from domain.ad_request import AdRequest, Placement
from domain.campaign import Active, Campaign
from domain.creative import Creative
from domain.events import CampaignTerms, CreativeTerms, SlotTerms
from domain.iso import alpha_2
from domain.rating import audience_of
from domain.slot import Slot
from domain.values import AUDIENCES, Audience, Target, flight, zone

K = TypeVar("K")

Place = tuple[str | None, str | None, str | None, str | None]
"""Country, region, city (case-folded) and postcode; None where a target does not say."""

EVERYWHERE: Final[Place] = (None, None, None, None)
_FOREVER: Final = 2**62
"""A moment, in seconds since 1970, after every flight."""


class Candidate(Struct, frozen=True, kw_only=True):
    """A creative that can be served, with what choosing and answering need to know about it."""

    campaign_id: UUID
    creative_id: UUID
    campaign: CampaignTerms
    creative: CreativeTerms
    starts_at: int
    ends_at: int
    minutes: tuple[tuple[int, int], ...]
    timezone: ZoneInfo | None


class Snapshot(Struct, frozen=True, kw_only=True):
    """What can be served at one position of the log, indexed; every mapping's value is a bitset over `candidates`."""

    position: int = 0
    candidates: tuple[Candidate, ...] = ()
    slots: Mapping[UUID, SlotTerms] = {}
    slot_by_key_sha256: Mapping[str, UUID] = {}
    by_slot: Mapping[UUID, int] = {}
    by_place: Mapping[Place, int] = {}
    by_advertiser: Mapping[UUID, int] = {}
    by_creative: Mapping[UUID, int] = {}
    by_category: Mapping[str, int] = {}
    by_blocked_category: Mapping[str, int] = {}
    by_audience: Mapping[Audience, int] = {}
    by_priority: tuple[int, ...] = ()


def index(
    *,
    position: int,
    campaigns: Mapping[UUID, Campaign],
    creatives: Mapping[UUID, Creative],
    slots: Mapping[UUID, Slot],
) -> Snapshot:
    """Return the snapshot of a catalogue: approved active creatives of active campaigns, and active slots."""
    candidates = tuple(
        _candidate(creative_id, creative.terms, campaigns[creative.terms.campaign_id].terms)
        for creative_id, creative in creatives.items()
        if creative.status == "active"
        and creative.review == "approved"
        and isinstance(campaigns.get(creative.terms.campaign_id), Active)
    )
    open_slots = {slot_id: slot.terms for slot_id, slot in slots.items() if slot.terms.status == "active"}
    by_ad_type = _bits((c.creative.ad_type,) for c in candidates)
    by_size = _bits(((c.creative.width, c.creative.height),) for c in candidates)
    by_media_type = _bits((c.creative.media_type,) for c in candidates)
    by_audience = _up_to(_bits((audience_of(c.creative.content_rating),) for c in candidates))
    return Snapshot(
        position=position,
        candidates=candidates,
        slots=open_slots,
        slot_by_key_sha256={sha256: slot_id for slot_id in open_slots for sha256 in slots[slot_id].keys.values()},
        by_slot={
            slot_id: by_ad_type.get(slot.ad_type, 0)
            & by_size.get((slot.width, slot.height), 0)
            & _any_of(by_media_type, slot.media_types)
            & by_audience[slot.max_rating]
            & _at_least(slot.floor_cpm_micros, candidates)
            for slot_id, slot in open_slots.items()
        },
        by_place=_bits(_places(c.campaign.targeting) for c in candidates),
        by_advertiser=_bits((c.campaign.advertiser_id,) for c in candidates),
        by_creative=_bits((c.creative_id,) for c in candidates),
        by_category=_bits(c.campaign.categories for c in candidates),
        by_blocked_category=_bits(c.campaign.blocked_categories for c in candidates),
        by_audience=by_audience,
        by_priority=tuple(_bits((c.campaign.priority,) for c in candidates).get(p, 0) for p in range(1, 6)),
    )


def eligible(snapshot: Snapshot, request: AdRequest) -> int:
    """Return the bitset of what a request may be answered with, whatever the slot."""
    bits = _any_of(snapshot.by_place, _places_of(request))
    blocked = request.blocked
    bits &= ~_any_of(snapshot.by_advertiser, blocked.advertisers)
    bits &= ~_any_of(snapshot.by_creative, blocked.creatives)
    bits &= ~_any_of(snapshot.by_category, blocked.categories)
    bits &= ~_any_of(snapshot.by_blocked_category, request.site.categories)
    limit = AUDIENCES[0] if request.privacy.coppa else request.content.max_rating
    return bits if limit is None else bits & snapshot.by_audience.get(limit, 0)


def choose(snapshot: Snapshot, bits: int, placement: Placement, now: datetime, draw: int) -> Iterator[Candidate]:
    """Yield the candidates for a placement in the order in which they should be tried.

    `bits` is what `eligible` returned, less what the page shows already. Priorities come strictly one after the other;
    within one, each next candidate is drawn by weight. `draw` is a large random integer.
    """
    bits &= snapshot.by_slot.get(placement.slot_id, 0)
    second = int(now.timestamp())
    for of_priority in snapshot.by_priority:
        pool = [
            candidate
            for candidate in map(snapshot.candidates.__getitem__, members(bits & of_priority))
            if candidate.starts_at <= second < candidate.ends_at and _is_time(candidate, now)
        ]
        total = sum(candidate.creative.weight for candidate in pool)
        while pool:
            draw, ticket = divmod(draw, total)
            drawn = bisect(tuple(accumulate(candidate.creative.weight for candidate in pool)), ticket)
            total -= pool[drawn].creative.weight
            yield pool.pop(drawn)


def members(bits: int) -> Iterator[int]:
    """Yield the numbers of the bits that are set, lowest first."""
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


def _candidate(creative_id: UUID, creative: CreativeTerms, campaign: CampaignTerms) -> Candidate:
    starts = [flight(campaign.start_date, campaign.end_date, campaign.timezone)]
    if creative.start_date is not None:
        starts.append(flight(creative.start_date, None, campaign.timezone))
    last_days = [day for day in (campaign.expiry_date, creative.end_date, creative.expiry_date) if day is not None]
    ends = [flight(day, day, campaign.timezone)[1] for day in last_days] + [starts[0][1]]
    return Candidate(
        campaign_id=creative.campaign_id,
        creative_id=creative_id,
        campaign=campaign,
        creative=creative,
        starts_at=int(max(start for start, _ in starts).timestamp()),
        ends_at=min((int(end.timestamp()) for end in ends if end is not None), default=_FOREVER),
        minutes=tuple((_minute(slot.start), _minute(slot.end)) for slot in creative.time_slots),
        timezone=zone(campaign.timezone),
    )


def _minute(clock: str) -> int:
    return int(clock[:2]) * 60 + int(clock[3:])


def _is_time(candidate: Candidate, now: datetime) -> bool:
    if not candidate.minutes:
        return True
    local = now.astimezone(candidate.timezone)
    minute = local.hour * 60 + local.minute
    return any(
        start <= minute < end if start < end else minute >= start or minute < end for start, end in candidate.minutes
    )


def _places(targets: Iterable[Target]) -> frozenset[Place]:
    return frozenset(
        (target.country, target.region, city and city.casefold(), postcode)
        for target in targets
        for city, postcode in product(target.cities or (None,), target.postcodes or (None,))
    ) or frozenset({EVERYWHERE})


def _places_of(request: AdRequest) -> Iterable[Place]:
    geo = request.geo
    country = geo.country and alpha_2(geo.country)
    return product({country, None}, {geo.region, None}, {geo.city and geo.city.casefold(), None}, {geo.zip, None})


def _at_least(floor_cpm_micros: int, candidates: Sequence[Candidate]) -> int:
    return _bitset(
        number
        for number, candidate in enumerate(candidates)
        if candidate.campaign.pricing.model != "cpm" or candidate.campaign.pricing.price_micros >= floor_cpm_micros
    )


def _any_of(index_: Mapping[K, int], keys: Iterable[K]) -> int:
    bits = 0
    for key in keys:
        bits |= index_.get(key, 0)
    return bits


def _up_to(by_audience: Mapping[Audience, int]) -> dict[Audience, int]:
    bits = 0
    return {audience: (bits := bits | by_audience.get(audience, 0)) for audience in AUDIENCES}


def _bits(keys_of_each: Iterable[Iterable[K]]) -> dict[K, int]:
    numbers: dict[K, list[int]] = defaultdict(list)
    for number, keys in enumerate(keys_of_each):
        for key in keys:
            numbers[key].append(number)
    return {key: _bitset(of_key) for key, of_key in numbers.items()}


def _bitset(numbers: Iterable[int]) -> int:
    octets = bytearray()
    for number in numbers:
        if number >> 3 >= len(octets):
            octets.extend(bytes((number >> 3) + 1 - len(octets)))
        octets[number >> 3] |= 1 << (number & 7)
    return int.from_bytes(octets, "little")
