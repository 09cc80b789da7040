"""Catalogues of any size, made without clicking: written to the log as events, or indexed in memory."""

import asyncio
import random
from datetime import date
from itertools import cycle, islice
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
from msgspec import Struct

from domain.ad_request import AdRequest
from domain.campaign import Active
from domain.choosing import Snapshot, index
from domain.creative import Creative
from domain.decider import copied, stream_of
from domain.delivery import Ticket
from domain.events import (
    CampaignActivated,
    CampaignCreated,
    CreativeActivated,
    CreativeApproved,
    CreativeCreated,
    CreativeSubmitted,
    Event,
    SlotCreated,
    SlotKeyIssued,
)
from domain.slot import Slot
from domain.terms import CampaignTerms, CreativeTerms, SlotTerms
from domain.values import Pricing, Target, TimeSlot
from infra import clock, slot_keys
from infra.batch import Appending
from infra.writer import Writer

SIZES: Final = ((300, 250), (728, 90), (160, 600))
COUNTRIES: Final = ("DE", "FR", "GB", "US", "CN", "BR", "IN", "JP", "ES", "IT")
CATEGORIES: Final = ("cars", "food", "games", "travel", "news")
MATCHES: Final = 30
"""How many campaigns match every request of `with_equal_matches`."""
AT_ONCE: Final = 100


class Catalogue(NamedTuple):
    """What there is to serve, by id, and the key of its slots."""

    campaigns: dict[UUID, CampaignTerms]
    creatives: dict[UUID, CreativeTerms]
    slots: dict[UUID, SlotTerms]
    slot_key: str


def mixed(count: int) -> Catalogue:
    """Return campaigns of every kind: a tenth for everywhere, the others for countries, regions and cities."""
    return _made([_mixed_targets(number) for number in range(count)])


def with_equal_matches(count: int) -> Catalogue:
    """Return campaigns of which the same number match a request from Germany, however many there are."""
    here, elsewhere = (Target(country="DE"),), [(Target(country=country),) for country in COUNTRIES[1:]]
    return _made([here if n < MATCHES else elsewhere[n % len(elsewhere)] for n in range(count)])


def snapshot(catalogue: Catalogue) -> Snapshot:
    """Return what a worker keeps in memory of a catalogue."""
    return index(
        position=1,
        campaigns={each: Active(terms=terms) for each, terms in catalogue.campaigns.items()},
        creatives={
            each: Creative(terms=terms, status="active", review="approved")
            for each, terms in catalogue.creatives.items()
        },
        slots={each: Slot(terms=terms) for each, terms in catalogue.slots.items()},
    )


async def write(catalogue: Catalogue, writer: Writer, ledger_id: UUID) -> None:
    """Append a catalogue to a log; the slots come last, so that who knows their key knows everything."""
    written: list[tuple[str, UUID, tuple[Event, ...]]] = [
        ("campaign", campaign_id, (copied(CampaignCreated, terms), CampaignActivated()))
        for campaign_id, terms in catalogue.campaigns.items()
    ]
    written += [
        (
            "creative",
            creative_id,
            (copied(CreativeCreated, terms), CreativeSubmitted(), CreativeApproved(), CreativeActivated()),
        )
        for creative_id, terms in catalogue.creatives.items()
    ]
    await _append(writer, ledger_id, written)
    issued = SlotKeyIssued(key_id=clock.fresh_id(), key_sha256=slot_keys.digest(catalogue.slot_key))
    slots = [("slot", slot_id, (copied(SlotCreated, terms), issued)) for slot_id, terms in catalogue.slots.items()]
    await _append(writer, ledger_id, slots)


def requests(catalogue: Catalogue, count: int, *, country: str | None = None) -> list[bytes]:
    """Return bodies of ad requests from all over, or all from one country."""
    chance = random.Random(1)
    slots = list(catalogue.slots)
    return [msgspec.json.encode(_request(number, chance, slots, country)) for number in range(count)]


def tickets(catalogue: Catalogue, count: int) -> list[Ticket]:
    """Return what fresh decisions promised, for creatives all over the catalogue."""
    creatives = [
        (creative_id, terms.campaign_id, catalogue.campaigns[terms.campaign_id])
        for creative_id, terms in catalogue.creatives.items()
    ]
    slots = list(catalogue.slots)
    expires_at = int(clock.now().timestamp()) + 86_400
    return [
        Ticket(
            decision_id=clock.fresh_id(),
            campaign_id=campaign_id,
            creative_id=creative_id,
            advertiser_id=campaign.advertiser_id,
            slot_id=slots[number % len(slots)],
            country=COUNTRIES[number % 7],
            region=f"R{number % 5}",
            city="Alpha",
            viewer=f"6sJ1BvFh0tWc{number:010}",
            expires_at=expires_at,
            hold_expires_at=expires_at,
            worker=0,
            pricing=campaign.pricing,
            currency=campaign.currency,
            test=False,
        )
        for number, (creative_id, campaign_id, campaign) in enumerate(islice(cycle(creatives), count))
    ]


def decoded(body: bytes) -> AdRequest:
    """Return the request in a body."""
    return msgspec.json.decode(body, type=AdRequest)


async def _append(writer: Writer, ledger_id: UUID, written: list[tuple[str, UUID, tuple[Any, ...]]]) -> None:
    for first in range(0, len(written), AT_ONCE):
        await asyncio.gather(
            *(
                writer.append(
                    Appending(
                        ledger_id=ledger_id,
                        subject=subject,
                        stream=stream_of(thing, subject),
                        expected_version=0,
                        position=0,
                        events=events,
                        actor="bench",
                    )
                )
                for thing, subject, events in written[first : first + AT_ONCE]
            )
        )


def _made(targets: list[tuple[Target, ...]]) -> Catalogue:
    advertisers = [clock.fresh_id() for _ in range(max(1, len(targets) // 10))]
    campaigns = {
        clock.fresh_id(): CampaignTerms(
            advertiser_id=advertisers[number % len(advertisers)],
            name=f"Campaign {number}",
            start_date=date(2020, 1, 1),
            timezone=("UTC", "Europe/Berlin", "Asia/Shanghai")[number % 3],
            priority=1 + number % 5,
            pricing=Pricing(model=("cpm", "cpm", "cpc")[number % 3], price_micros=1_000 * (1 + number % 50)),
            currency="EUR",
            budget_micros=10**15 if number % 2 else None,
            daily_impression_budget=10**9 if number % 4 else None,
            targeting=places,
            categories=(CATEGORIES[number % 5],),
            blocked_categories=("gambling",) if number % 7 == 0 else (),
        )
        for number, places in enumerate(targets)
    }
    creatives = {
        clock.fresh_id(): CreativeTerms(
            campaign_id=campaign_id,
            name=f"Creative of {width} by {height}",
            ad_type="top_bar_ad",
            media_type="image",
            media_url=f"https://cdn.example/{campaign_id}/{width}x{height}.png",
            width=width,
            height=height,
            click_url="https://shop.example/landing",
            weight=1 + number % 3,
            time_slots=_HALVES_OF_THE_DAY if number % 10 == 0 else (),
        )
        for number, campaign_id in enumerate(campaigns)
        for width, height in SIZES
    }
    slots = {
        clock.fresh_id(): SlotTerms(name=f"{width} by {height}", ad_type="top_bar_ad", width=width, height=height)
        for width, height in SIZES
    }
    return Catalogue(campaigns, creatives, slots, slot_keys.fresh().key)


_HALVES_OF_THE_DAY: Final = (TimeSlot(start="00:00", end="12:00"), TimeSlot(start="12:00", end="00:00"))


def _mixed_targets(number: int) -> tuple[Target, ...]:
    country = COUNTRIES[number // 10 % len(COUNTRIES)]
    other = COUNTRIES[(number // 10 + 3) % len(COUNTRIES)]
    region = f"R{number // 100 % 5}"
    match number % 10:
        case 0:
            return ()
        case 1 | 2 | 3 | 4:
            return (Target(country=country), Target(country=other))
        case 5 | 6 | 7:
            return (Target(country=country, region=region),)
        case _:
            return (Target(country=country, region=region, cities=("Alpha", "Beta", "Gamma")),)


class _Body(Struct):
    id: str
    placements: list[dict[str, Any]]
    geo: dict[str, Any]
    viewer: dict[str, Any]
    device: dict[str, Any]
    site: dict[str, Any]


def _request(number: int, chance: random.Random, slots: list[UUID], country: str | None) -> _Body:
    return _Body(
        id=f"request-{number}",
        placements=[{"id": "p1", "slot_id": slots[number % len(slots)], "count": 1}],
        geo={
            "country": country or chance.choice(COUNTRIES),
            "region": f"R{chance.randrange(5)}",
            "city": chance.choice(("Alpha", "Beta", "Gamma", "Delta")),
            "zip": None,
        },
        viewer={"id": f"viewer-{chance.randrange(10**6)}"},
        device={"ua": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/130 Safari/537.36", "language": "en"},
        site={"domain": "news.example", "page": "https://news.example/articles/1", "categories": ["sports"]},
    )
