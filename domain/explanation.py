"""Explanations: why a placement got the creative that it got, and which rule kept each other one out.

Most follows from the log as of the decision: the rules, and the ranks. What does not (whom others had just bought out,
what the viewer had seen, what the request said) is the basis, which travels with the decision and is recorded with its
impression, so that an explanation can be repeated years later, and is the same.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from msgspec import Struct

from domain.ad_request import AdRequest, Blocked, Content, Device, Geo, Placement, Privacy, Site
from domain.advertiser import Advertiser
from domain.basis import Basis, Facts
from domain.campaign import Campaign
from domain.choosing import Candidate, Choosiness, K, Lineup, Snapshot, index
from domain.creative import Creative
from domain.errors import Refusal
from domain.rules import NO_CREATIVE, RULES, Case, first_stop
from domain.slot import Slot
from domain.targeting import domain_of, lineage_of

BITS_OUT_MAX: Final = 64
BASIS_BYTES_MAX: Final = 360
"""Beyond these a decision cannot be explained later: its token would be longer than what it is for."""

KEPT_OUT_MAX: Final = 1_000
"""Bounds an explanation; those that came furthest are told."""

SITUATIONS: Final[dict[str, str]] = {
    "outranked": "What was shown has an earlier priority.",
    "on_page": "The page shows the creative already.",
    "rival_on_page": "The page shows a campaign that shares an exclusion group with this one.",
    "roadblock": "A roadblock takes all placements of the page or none.",
    "format": "The player does not take it.",
    "frequency_capped": "The viewer has seen it as often as its cap allows.",
    "no_budget": "Nothing is left of it that could be promised.",
    "paced": "Its pace let this request go by.",
    "not_drawn": "It fitted, but another was drawn: by weight, and where it is spread evenly, by its pace.",
}
"""What keeps out those that no rule does, in the order in which it is asked."""


class NotExplainable(Refusal):
    """What was known when this was decided has not been recorded."""

    kind = "conflict"
    code = "not_explainable"


class Catalogue(Struct, frozen=True, kw_only=True):
    """Everything that there is, by id, as of a moment."""

    campaigns: Mapping[UUID, Campaign]
    creatives: Mapping[UUID, Creative]
    slots: Mapping[UUID, Slot]
    advertisers: Mapping[UUID, Advertiser]


class Chosen(Struct, frozen=True, kw_only=True):
    """What was shown, and by what it came before others: priority, then chance by weights and urgency."""

    campaign_id: UUID
    creative_id: UUID
    priority: int
    house: bool
    campaign_weight: int
    creative_weight: int
    rotation: str
    pacing: str
    urgency: int
    because: str


class KeptOut(Struct, frozen=True, kw_only=True):
    """A creative that was not shown, and the first rule that kept it out; or a campaign that has none."""

    campaign_id: UUID
    creative_id: UUID | None = None
    rule: str
    because: str


class Explanation(Struct, frozen=True, kw_only=True):
    """Why a placement got what it got; of those kept out, `untold` more were further from it."""

    slot_id: UUID
    position: int
    at: datetime
    chosen: Chosen | None
    kept_out: tuple[KeptOut, ...]
    untold: int = 0


def basis_of(
    snapshot: Snapshot,
    request: AdRequest,
    lineup: Lineup,
    chosen: Candidate | None,
    out: Mapping[str, int],
    *,
    late_seconds: int,
) -> Basis:
    """Return what was known when a lineup's candidate, or none, was chosen.

    `out` holds bitsets of those that a situation kept out.
    """
    numbers = {}
    if any(out.values()):
        reach = _reach(lineup, chosen)
        numbers = {name: _numbers(bits & reach) for name, bits in out.items() if bits & reach}
    pace = snapshot.paces.get(chosen.campaign_id) if chosen and snapshot.paces else None
    return Basis(
        position=snapshot.position,
        late_seconds=late_seconds,
        urgency=1 if pace is None else pace.urgency,
        out=numbers,
        facts=_facts(lineup, request),
    )


def kept(basis: Basis) -> Basis:
    """Return a basis as it travels: if it is too long, cut."""
    if not basis.out and basis.facts is None:
        return basis
    is_long = sum(map(len, basis.out.values())) > BITS_OUT_MAX or len(_encoded(basis)) > BASIS_BYTES_MAX
    return Basis(position=basis.position, cut=True) if is_long else basis


def explain(
    catalogue: Catalogue, basis: Basis, slot_id: UUID, geo: Geo, now: datetime, chosen: UUID | None
) -> Explanation:
    """Return the explanation of a placement that got a creative, or none; raise NotExplainable.

    The catalogue is that of the basis's position. Of `geo` country, region and city are looked at.
    """
    if basis.cut:
        raise NotExplainable("Too much was involved in this decision for all of it to be recorded.")
    slots = {slot_id: catalogue.slots[slot_id]}
    snapshot = index(
        position=basis.position,
        campaigns=catalogue.campaigns,
        creatives=catalogue.creatives,
        slots=slots,
        advertisers=catalogue.advertisers,
    )
    lineup, request = snapshot.lineups[slot_id], request_of(basis.facts or Facts(), slot_id, geo)
    found = None if chosen is None else next((c for c in lineup.candidates if c.creative_id == chosen), None)
    if chosen is not None and found is None:
        raise NotExplainable("What was shown could not be shown as of that position of the log.")
    situations = dict(_situations(lineup, basis, found))
    kept_out = [
        KeptOut(campaign_id=campaign_id, rule=NO_CREATIVE.name, because=NO_CREATIVE.sentence)
        for campaign_id in catalogue.campaigns.keys()
        - {creative.terms.campaign_id for creative in catalogue.creatives.values()}
    ]
    for creative_id, creative in catalogue.creatives.items():
        stop = first_stop(_case(catalogue, creative_id, request, slots[slot_id], now))
        if creative_id != chosen:
            rule, because = (stop.name, stop.sentence) if stop else _situation(situations, creative_id)
            kept_out.append(
                KeptOut(campaign_id=creative.terms.campaign_id, creative_id=creative_id, rule=rule, because=because)
            )
        elif stop:
            raise NotExplainable(f"What was shown should not have been shown: {stop.sentence}")
    kept_out.sort(key=lambda each: (-_ORDER[each.rule], each.campaign_id, each.creative_id or each.campaign_id))
    return Explanation(
        slot_id=slot_id,
        position=basis.position,
        at=now,
        chosen=None if found is None else _chosen(found, basis.urgency),
        kept_out=tuple(kept_out[:KEPT_OUT_MAX]),
        untold=max(len(kept_out) - KEPT_OUT_MAX, 0),
    )


def second_of(decision_id: UUID) -> int:
    """Return the second since 1970 in which the id of a decision was made (UUID version 7, RFC 9562)."""
    return (decision_id.int >> 80) // 1_000


def request_of(facts: Facts, slot_id: UUID, geo: Geo) -> AdRequest:
    """Return a request that says what one said."""
    return AdRequest(
        id="",
        placements=(Placement(id="", slot_id=slot_id),),
        geo=msgspec.structs.replace(geo, zip=facts.zip, utcoffset=facts.utcoffset),
        device=Device(language=facts.language, type=facts.device),
        site=Site(domain=facts.domain, keywords=facts.keywords, categories=facts.categories),
        content=Content(
            max_rating=facts.max_rating, rating_system=facts.rating_system, rating_label=facts.rating_label
        ),
        blocked=Blocked(
            advertisers=facts.blocked_advertisers,
            creatives=facts.blocked_creatives,
            categories=facts.blocked_categories,
        ),
        privacy=Privacy(coppa=facts.coppa),
        key_values=facts.key_values,
    )


def _facts(lineup: Lineup, request: AdRequest) -> Facts | None:
    """Return what a request said, as far as any candidate or rule goes by it."""
    content, blocked, facets = request.content, request.blocked, lineup.choosiness
    said = Facts(
        zip=request.geo.zip if "postcode" in lineup.asked else None,
        utcoffset=request.geo.utcoffset if "viewer_time" in lineup.asked else None,
        keywords=_heeded(facets.get("keywords"), request.site.keywords, lambda word: (word.casefold(),)),
        categories=_heeded(facets.get("categories"), request.site.categories, lineage_of),
        language=request.device.language if "language" in facets else None,
        device=request.device.type if "device" in facets else None,
        domain=domain_of(request) if "domain" in facets else None,
        key_values=_heeded_values(lineup, request.key_values) if request.key_values else {},
        max_rating=content.max_rating,
        rating_system=content.rating_system,
        rating_label=content.rating_label,
        coppa=request.privacy.coppa,
        blocked_advertisers=_known(blocked.advertisers, lineup.by_advertiser),
        blocked_creatives=_known(blocked.creatives, lineup.by_creative),
        blocked_categories=_known(blocked.categories, lineup.by_category),
    )
    return None if said == _NOTHING_SAID else said


def _heeded(
    facet: Choosiness | None, words: Collection[str], as_compared: Callable[[str], Iterable[str]]
) -> tuple[str, ...]:
    """Return those of some words that any candidate wants or avoids."""
    if facet is None or not words:
        return ()
    return tuple([word for word in words if not facet.heeded.isdisjoint(as_compared(word))])


def _known(keys: Collection[K], index_: Mapping[K, int]) -> tuple[K, ...]:
    return tuple(key for key in keys if key in index_) if keys else ()


def _heeded_values(lineup: Lineup, said: Mapping[str, Collection[str]]) -> dict[str, tuple[str, ...]]:
    heeded = {
        key: tuple(value for value in values if (key, value) in lineup.by_key_value) for key, values in said.items()
    }
    return {key: values for key, values in heeded.items() if values}


_NOTHING_SAID: Final = Facts()
_encoded: Final = msgspec.msgpack.Encoder(uuid_format="bytes").encode
_ORDER: Final = {
    name: number for number, name in enumerate((NO_CREATIVE.name, *(rule.name for rule in RULES), *SITUATIONS))
}


def _reach(lineup: Lineup, chosen: Candidate | None) -> int:
    """Return the bitset of the ranks up to that of the chosen one, or of all."""
    own = 0 if chosen is None else lineup.by_creative[chosen.creative_id]
    reach = 0
    for of_rank in lineup.by_rank:
        reach |= of_rank
        if of_rank & own:
            break
    return reach


def _numbers(bits: int) -> tuple[int, ...]:
    numbers = []
    while bits:
        lowest = bits & -bits
        numbers.append(lowest.bit_length() - 1)
        bits ^= lowest
    return tuple(numbers)


def _situations(lineup: Lineup, basis: Basis, chosen: Candidate | None) -> Iterator[tuple[UUID, str]]:
    """Yield each candidate with what kept it out if no rule did: what comes first is yielded last."""
    reach = _reach(lineup, chosen)
    own = 0 if chosen is None else lineup.by_creative[chosen.creative_id]
    own = next((bits for bits in lineup.by_rank if bits & own), 0)
    for number, candidate in enumerate(lineup.candidates):
        if not reach >> number & 1:
            yield candidate.creative_id, "outranked"
        else:
            # Of an earlier rank all are tried before what was shown; its pace alone lets one go by.
            yield candidate.creative_id, "not_drawn" if own >> number & 1 else "paced"
    for name in reversed(SITUATIONS):
        for number in basis.out.get(name, ()):
            yield lineup.candidates[number].creative_id, name


def _situation(situations: Mapping[UUID, str], creative_id: UUID) -> tuple[str, str]:
    name = situations[creative_id]
    return name, SITUATIONS[name]


def _case(catalogue: Catalogue, creative_id: UUID, request: AdRequest, slot: Slot, now: datetime) -> Case:
    creative = catalogue.creatives[creative_id]
    campaign = catalogue.campaigns[creative.terms.campaign_id]
    advertiser = catalogue.advertisers.get(campaign.terms.advertiser_id)
    return Case(
        creative_id=creative_id,
        creative=creative,
        campaign=campaign,
        is_advertiser_active=advertiser is None or advertiser.terms.status == "active",
        request=request,
        slot=slot.terms,
        now=now,
    )


def _chosen(candidate: Candidate, urgency: int) -> Chosen:
    campaign = candidate.campaign
    rank = "as a house campaign" if campaign.house else f"by priority {campaign.priority}"
    urgent = f", {urgency} times as urgent as one that is on time" if urgency > 1 else ""
    return Chosen(
        campaign_id=candidate.campaign_id,
        creative_id=candidate.creative_id,
        priority=campaign.priority,
        house=campaign.house,
        campaign_weight=campaign.weight,
        creative_weight=candidate.creative.weight,
        rotation=campaign.rotation,
        pacing=campaign.pacing,
        urgency=urgency,
        because=f"It fitted, and was drawn {rank} and weight {campaign.weight}{urgent}.",
    )
