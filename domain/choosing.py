"""Choosing: which creatives a request may be answered with, and which one it gets.

For each format of slot a lineup indexes the creatives that fit it by bitsets, Python integers with one bit a creative:
a request looks up a few of them and ANDs them together, so that its cost grows with what matches and not with what
exists.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from itertools import accumulate, chain
from types import MappingProxyType
from typing import Final, NamedTuple, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from msgspec import Struct

from domain.ad_request import AdRequest, Placement
from domain.advertiser import Advertiser
from domain.budget import is_limited
from domain.campaign import Active, Campaign
from domain.creative import Creative
from domain.dayparts import Hours, ahead, hours_of, is_open, minute_of_week
from domain.drawing import Urn, bitset, urn_of
from domain.frequency import SECONDS_FOR_EVER, Cap, window_seconds
from domain.pacing import Pace
from domain.rating import LABELS, audience_of, is_within
from domain.rotation import Tried
from domain.slot import Slot
from domain.targeting import EVERYWHERE, FACETS, Place, asked_by, beginnings_of, categories_of, places, places_of
from domain.terms import CampaignTerms, CreativeTerms, SlotTerms
from domain.values import AUDIENCES, AdType, Audience, ContentRating, MediaType, Pricing, RatingSystem, flight, zone

K = TypeVar("K")

Shape = tuple[AdType, int | None, int | None]
Format = tuple[AdType, int | None, int | None, frozenset[MediaType], Audience, int]
"""What a slot takes: ad type, width, height, media types, audience, and the lowest price per thousand."""

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
    hours: tuple[Hours, ...]
    timezone: ZoneInfo | None
    by_viewers_clock: bool
    limited: bool
    campaign_cap: Cap | None
    creative_cap: Cap | None


class Choosiness(NamedTuple):
    """A respect in which candidates of a lineup choose: by the words they want (None: any) and those they avoid."""

    words: Callable[[AdRequest], Collection[str]]
    wanted: Mapping[str | None, int]
    avoided: Mapping[str, int]
    heeded: frozenset[str | None]


class Lineup(Struct, frozen=True, kw_only=True):
    """The candidates that fit the slots of one format, indexed; every mapping's value is a bitset over `candidates`.

    Those of a campaign lie side by side, from a bit of `lows` to one of `highs`. `campaigns` holds what the campaign of
    each weighs among campaigns, `turns` what each weighs in its campaign. Ranks are priorities, then house campaigns.
    """

    candidates: tuple[Candidate, ...]
    campaigns: Urn
    turns: Urn
    lows: int
    highs: int
    by_place: Mapping[Place, int]
    by_excluded_place: Mapping[Place, int]
    beginnings: frozenset[int]
    choosiness: Mapping[str, Choosiness]
    by_key_value: Mapping[tuple[str, str], int]
    key_counts: tuple[int, ...]
    asked: frozenset[str]
    by_advertiser: Mapping[UUID, int]
    by_campaign: Mapping[UUID, int]
    by_creative: Mapping[UUID, int]
    by_category: Mapping[str, int]
    by_audience: Mapping[Audience, int]
    by_limit: Mapping[tuple[RatingSystem, str], int]
    by_exclusion: Mapping[str, int]
    roadblocks: int
    by_rank: tuple[int, ...]


class Snapshot(Struct, frozen=True, kw_only=True):
    """What can be served at one position of the log: the active slots, and the lineup of each.

    `paces` holds the campaigns that are paced; others are served as soon as possible. `tried` holds how often
    creatives were shown and clicked, as far as that decides whose turn it is. `companions` are the pictures and
    documents of campaigns that have video or audio, to be shown beside it. No cap looks back further than
    `cap_seconds_max`.
    """

    position: int = 0
    slots: Mapping[UUID, SlotTerms] = {}
    slot_by_key_sha256: Mapping[str, UUID] = {}
    lineups: Mapping[UUID, Lineup] = {}
    asks_for_devices: bool = False
    limited: frozenset[UUID] = frozenset()
    caps: Mapping[UUID, Cap] = {}
    cap_seconds_max: int = 0
    companions: Mapping[UUID, tuple[Candidate, ...]] = {}
    paces: Mapping[UUID, Pace] = {}
    tried: Mapping[UUID, Tried] = {}


def index(
    *,
    position: int,
    campaigns: Mapping[UUID, Campaign],
    creatives: Mapping[UUID, Creative],
    slots: Mapping[UUID, Slot],
    advertisers: Mapping[UUID, Advertiser] = MappingProxyType({}),
) -> Snapshot:
    """Return the snapshot of a catalogue: approved active creatives of active campaigns, and active slots.

    The campaigns of an advertiser that is known to be inactive are not served.
    """
    inactive = {each for each, advertiser in advertisers.items() if advertiser.terms.status == "inactive"}
    funded = {each for each, advertiser in advertisers.items() if advertiser.funds_micros is not None}
    by_shape: dict[Shape, list[Candidate]] = defaultdict(list)
    for creative_id, creative in creatives.items():
        campaign = campaigns.get(creative.terms.campaign_id)
        if (
            creative.status == "active"
            and creative.review == "approved"
            and isinstance(campaign, Active)
            and campaign.terms.advertiser_id not in inactive
        ):
            terms = creative.terms
            shape = (terms.ad_type, terms.width, terms.height)
            is_funded = campaign.terms.advertiser_id in funded
            by_shape[shape].append(_candidate(creative_id, terms, campaign.terms, is_funded=is_funded))
    open_slots = {slot_id: slot.terms for slot_id, slot in slots.items() if slot.terms.status == "active"}
    by_format: dict[Format, Lineup] = {}
    for slot in open_slots.values():
        if _format(slot) not in by_format:
            by_format[_format(slot)] = _lineup(slot, by_shape[slot.ad_type, slot.width, slot.height])
    candidates = [candidate for of_shape in by_shape.values() for candidate in of_shape]
    caps = {each.campaign_id: each.campaign_cap for each in candidates if each.campaign_cap}
    caps |= {each.creative_id: each.creative_cap for each in candidates if each.creative_cap}
    return Snapshot(
        position=position,
        slots=open_slots,
        slot_by_key_sha256={sha256: slot_id for slot_id in open_slots for sha256 in slots[slot_id].keys.values()},
        asks_for_devices=any(each.campaign.device_types for each in candidates),
        lineups={slot_id: by_format[_format(slot)] for slot_id, slot in open_slots.items()},
        limited=frozenset(each.campaign_id for each in candidates if each.limited),
        caps=caps,
        cap_seconds_max=max((cap.seconds or SECONDS_FOR_EVER for cap in caps.values()), default=0),
        companions=_companions(candidates),
    )


def eligible(snapshot: Snapshot, request: AdRequest, placement: Placement) -> int:
    """Return the bitset of the candidates for a placement that no rule keeps out, whatever the time."""
    lineup = snapshot.lineups.get(placement.slot_id)
    if lineup is None:
        return 0
    bits = _any_of(lineup.by_place, places_of(request.geo, lineup.beginnings))
    if lineup.by_excluded_place:
        bits &= ~_any_of(lineup.by_excluded_place, places_of(request.geo, lineup.beginnings))
    for facet in lineup.choosiness.values():
        words = facet.words(request)
        bits &= facet.wanted.get(None, 0) | _any_of(facet.wanted, words)
        if facet.avoided:
            bits &= ~_any_of(facet.avoided, words)
    if lineup.key_counts:
        bits &= _agreeing(lineup, request.key_values)
    blocked = request.blocked
    if blocked.creatives:
        bits &= ~_any_of(lineup.by_creative, blocked.creatives)
    if blocked.advertisers:
        bits &= ~_any_of(lineup.by_advertiser, blocked.advertisers)
    if blocked.categories:
        bits &= ~_any_of(lineup.by_category, blocked.categories)
    if request.content.rating_system is not None and request.content.rating_label is not None:
        bits &= lineup.by_limit.get((request.content.rating_system, request.content.rating_label), 0)
    limit = AUDIENCES[0] if request.privacy.coppa else request.content.max_rating
    return bits if limit is None else bits & lineup.by_audience[limit]


def of_campaigns(lineup: Lineup, campaigns: Iterable[UUID]) -> int:
    """Return the bitset of the candidates of these campaigns."""
    return _any_of(lineup.by_campaign, campaigns)


def rivals(lineup: Lineup, campaign_id: UUID, campaign: CampaignTerms) -> int:
    """Return the bitset of what must not be in one answer with a campaign: others that share a group with it."""
    if not campaign.competitive_exclusion:
        return 0
    groups = (group.casefold() for group in campaign.competitive_exclusion)
    return _any_of(lineup.by_exclusion, groups) & ~lineup.by_campaign.get(campaign_id, 0)


def of_subjects(snapshot: Snapshot, slot_id: UUID, subjects: Collection[UUID]) -> int:
    """Return the bitset of the candidates for a slot that are, or whose campaigns are, among these."""
    lineup = snapshot.lineups.get(slot_id)
    return 0 if lineup is None else _any_of(lineup.by_campaign, subjects) | _any_of(lineup.by_creative, subjects)


def is_time(candidate: Candidate, now: datetime, minutes_ahead: int | None) -> bool:
    """Tell whether this is a time of day for a candidate; the viewer's clock is so many minutes ahead of UTC."""
    if not candidate.hours:
        return True
    if not candidate.by_viewers_clock:
        clock: tzinfo | None = candidate.timezone
    elif minutes_ahead is None:
        return False
    else:
        clock = ahead(minutes_ahead)
    minute = minute_of_week(now.astimezone(clock))
    return all(is_open(hours, minute) for hours in candidate.hours)


def _companions(candidates: Iterable[Candidate]) -> dict[UUID, tuple[Candidate, ...]]:
    by_campaign: dict[UUID, list[Candidate]] = {
        each.campaign_id: [] for each in candidates if each.creative.media_type in {"video", "audio"}
    }
    for each in candidates if by_campaign else ():
        if each.creative.media_type in {"image", "html"} and each.campaign_id in by_campaign:
            by_campaign[each.campaign_id].append(each)
    return {campaign_id: tuple(shown) for campaign_id, shown in by_campaign.items() if shown}


def _format(slot: SlotTerms) -> Format:
    return slot.ad_type, slot.width, slot.height, frozenset(slot.media_types), slot.max_rating, slot.floor_cpm_micros


def _lineup(slot: SlotTerms, of_shape: Iterable[Candidate]) -> Lineup:
    widest = AUDIENCES.index(slot.max_rating)
    by_campaign: dict[UUID, list[Candidate]] = defaultdict(list)
    for candidate in of_shape:
        if (
            candidate.creative.media_type in slot.media_types
            and AUDIENCES.index(audience_of(candidate.creative.content_rating)) <= widest
            and _pays(candidate.campaign.pricing, slot.floor_cpm_micros)
        ):
            by_campaign[candidate.campaign_id].append(candidate)
    candidates = tuple(chain.from_iterable(by_campaign.values()))
    ends = tuple(accumulate(len(of_campaign) for of_campaign in by_campaign.values()))
    by_rank = _bits(((c.campaign.house, c.campaign.priority),) for c in candidates)
    return Lineup(
        candidates=candidates,
        campaigns=urn_of([c.campaign.weight for c in candidates]),
        turns=urn_of([c.creative.weight for c in candidates]),
        lows=bitset([0, *ends[:-1]]) if ends else 0,
        highs=bitset([end - 1 for end in ends]),
        by_place=_bits(places(c.campaign.targeting) or (EVERYWHERE,) for c in candidates),
        by_excluded_place=_bits(places(c.campaign.excluded_targeting) for c in candidates),
        beginnings=frozenset().union(*(beginnings_of(c.campaign) for c in candidates)),
        choosiness=dict(_choosiness(candidates)),
        by_key_value=_bits(
            {(key, value) for key, values in c.campaign.key_values.items() for value in values} for c in candidates
        ),
        key_counts=_counts([len(c.campaign.key_values) for c in candidates]),
        asked=frozenset(chain.from_iterable(asked_by(c.campaign) for c in candidates)),
        by_advertiser=_bits((c.campaign.advertiser_id,) for c in candidates),
        by_campaign=_bits((c.campaign_id,) for c in candidates),
        by_creative=_bits((c.creative_id,) for c in candidates),
        by_category=_bits(categories_of(c.campaign.categories) for c in candidates),
        by_audience=_up_to(_bits((audience_of(c.creative.content_rating),) for c in candidates)),
        by_limit=_limits(_bits((_unwarned(c.creative.content_rating),) for c in candidates)),
        by_exclusion=_bits({group.casefold() for group in c.campaign.competitive_exclusion} for c in candidates),
        roadblocks=bitset([number for number, c in enumerate(candidates) if c.campaign.roadblock]),
        by_rank=tuple(by_rank[rank] for rank in sorted(by_rank)),
    )


def _pays(pricing: Pricing, floor_cpm_micros: int) -> bool:
    return pricing.model != "cpm" or pricing.price_micros >= floor_cpm_micros


def _candidate(creative_id: UUID, creative: CreativeTerms, campaign: CampaignTerms, *, is_funded: bool) -> Candidate:
    starts = [flight(campaign.start_date, campaign.end_date, campaign.timezone)]
    if creative.start_date is not None:
        starts.append(flight(creative.start_date, None, campaign.timezone))
    last_days = [day for day in (campaign.expiry_date, creative.end_date, creative.expiry_date) if day is not None]
    ends = [flight(day, day, campaign.timezone)[1] for day in last_days] + [starts[0][1]]
    campaign_hours = hours_of(campaign.time_slots, campaign.weekdays)
    return Candidate(
        campaign_id=creative.campaign_id,
        creative_id=creative_id,
        campaign=campaign,
        creative=creative,
        starts_at=int(max(start for start, _ in starts).timestamp()),
        ends_at=min((int(end.timestamp()) for end in ends if end is not None), default=_FOREVER),
        hours=tuple(hours for hours in (campaign_hours, hours_of(creative.time_slots)) if hours is not None),
        timezone=zone(campaign.timezone),
        by_viewers_clock=campaign.time_basis == "viewer",
        limited=is_funded or is_limited(campaign),
        campaign_cap=_campaign_cap(campaign),
        creative_cap=None if creative.max_views is None else Cap(views=creative.max_views, seconds=0),
    )


def _campaign_cap(campaign: CampaignTerms) -> Cap | None:
    if campaign.max_view_count is None or campaign.max_view_duration is None:
        return None
    return Cap(views=campaign.max_view_count, seconds=window_seconds(campaign.max_view_duration))


def _choosiness(candidates: Collection[Candidate]) -> Iterator[tuple[str, Choosiness]]:
    """Yield the respects in which any of the candidates chooses, by name."""
    for facet in FACETS:
        wanted = _bits(facet.wanted(c.campaign) or (None,) for c in candidates)
        avoided = _bits(facet.avoided(c.campaign) for c in candidates)
        if avoided or any(word is not None for word in wanted):
            heeded = frozenset((*wanted, *avoided))
            yield facet.name, Choosiness(facet.words, wanted, avoided, heeded)


def _agreeing(lineup: Lineup, key_values: Mapping[str, Collection[str]]) -> int:
    """Return the bitset of the candidates that have one of these values for each key they name.

    The matching keys of all candidates are counted at once, each bit of the counts in an integer of its own.
    """
    counts = [0] * len(lineup.key_counts)
    for key, values in key_values.items():
        carry = _any_of(lineup.by_key_value, [(key, value) for value in values])
        for place, count in enumerate(counts):
            counts[place], carry = count ^ carry, count & carry
    differing = 0
    for count, needed in zip(counts, lineup.key_counts, strict=True):
        differing |= count ^ needed
    return ~differing


def _counts(numbers: Sequence[int]) -> tuple[int, ...]:
    """Return numbers as bitsets, one for each bit of them: in each, those numbers that have the bit."""
    return tuple(
        bitset([each for each, number in enumerate(numbers) if number >> place & 1])
        for place in range(max(numbers, default=0).bit_length())
    )


def _unwarned(rating: ContentRating) -> ContentRating:
    return ContentRating(rating_system=rating.rating_system, rating_label=rating.rating_label)


def _limits(by_rating: Mapping[ContentRating, int]) -> dict[tuple[RatingSystem, str], int]:
    return {
        (system, label): _any_of(by_rating, (rating for rating in by_rating if is_within(rating, system, label)))
        for system, labels in LABELS.items()
        for label in labels
    }


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
    return {key: bitset(of_key) for key, of_key in numbers.items()}
