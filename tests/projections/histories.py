"""Histories as the domain makes them: lists of entries of one thing, or of deliveries, for read models to fold."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from msgspec import UNSET

from domain import advertiser, campaign
from domain.advertiser import ADVERTISER, CreateAdvertiser
from domain.campaign import CAMPAIGN
from domain.creative import CREATIVE
from domain.decider import Context, Decider, fold, stream_of
from domain.delivery import EVENT_OF
from domain.errors import Refusal
from domain.events import (
    AdvertiserCreated,
    CampaignCreated,
    ConversionRecorded,
    DeliveryRecorded,
    Entry,
    Event,
    ImpressionRecorded,
)
from domain.slot import SLOT, CreateSlot
from domain.terms import BudgetLimit, BudgetPolicy
from infra.database import Connection
from infra.event_log import Recorded, encode_entry, type_of
from projections.counting import Counting, Span, apply
from tests.domain import strategies
from tests.domain.given import NOW
from tests.domain.stored import stored
from tests.domain.strategies import evenly

AnyDecider = Decider[Any, Any, Any]

CAMPAIGN_IDS: Final = (UUID(int=101), UUID(int=102))
_OTHERS: Final = {
    "advertiser": advertiser.evolve(None, stored(AdvertiserCreated)),
    "campaign": campaign.evolve(None, stored(CampaignCreated)),
    "policy": BudgetPolicy(limits=(BudgetLimit(currency="EUR", above_micros=10**9),)),
}


class Life(NamedTuple):
    """What happened to a thing, and the state it led to."""

    decider: AnyDecider
    subject: UUID
    recorded: list[Recorded]
    state: Any


def recorded_at(position: int, stream: str, version: int, event: Event, at: datetime = NOW) -> Recorded:
    """Return an event as the log holds it at a position."""
    entry = Entry(stream=stream, version=version, actor="user:somebody", occurred_at=at, recorded_at=at, event=event)
    return Recorded(position=position, entry=entry)


def _life(decider: AnyDecider, subject: UUID, commands: Sequence[Any]) -> Life:
    events: list[Any] = []
    for command in commands:
        others = {stream: _OTHERS[stream.partition("-")[0]] for stream in decider.references(command)}
        context = Context(now=NOW, actor="user:somebody", subject=subject, others=others)
        try:
            events += decider.decide(fold(decider, None, events), command, context)
        except Refusal:
            continue
    stream = stream_of(decider.thing, subject)
    recorded = [
        # Other streams' entries stand between those of this one.
        recorded_at(number * 3, stream, number, event, NOW + timedelta(seconds=number))
        for number, event in enumerate(events, start=1)
    ]
    return Life(decider, subject, recorded, fold(decider, None, events))


def _lives(decider: AnyDecider, first: SearchStrategy[Any], later: SearchStrategy[Any]) -> SearchStrategy[Life]:
    commands = st.builds(lambda command, more: [command, *more], first, st.lists(later, max_size=15))
    return st.builds(lambda subject, asked: _life(decider, subject, asked), st.uuids(), commands)


LIVES: Final[dict[str, SearchStrategy[Life]]] = {
    "advertiser": _lives(
        ADVERTISER, strategies.made(CreateAdvertiser, strategies.ADVERTISER), strategies.advertiser_commands
    ),
    "campaign": _lives(CAMPAIGN, strategies.drafted_campaigns, strategies.campaign_commands),
    "creative": _lives(CREATIVE, strategies.drafted_creatives, strategies.creative_commands),
    "slot": _lives(SLOT, strategies.made(CreateSlot, strategies.SLOT), strategies.slot_commands),
}
"""Lives of each kind of thing, from its creation on, with all that its decider let happen."""

_FEW: Final = st.sampled_from([UUID(int=1), UUID(int=2)])
_RULES: Final = st.sampled_from([UNSET, 1])
_PLACES: Final = st.sampled_from([None, "216", "217"])
_COMMON: Final[strategies.Fields] = {
    "campaign_id": st.sampled_from(CAMPAIGN_IDS),
    **dict.fromkeys(("creative_id", "advertiser_id", "slot_id"), _FEW),
    **dict.fromkeys(("country", "region", "city"), _PLACES),
    "currency": st.sampled_from(["CNY", "EUR"]),
    "price_micros": st.integers(0, 5_000),
    "viewer": st.sampled_from(
        [None, "6sJ1BvFh0tWc8cG7rjLxkA", '"viewer":', 'a","currency":"XXX","billed":true,', "\\ü:"]
    ),
}
delivery_events: Final[SearchStrategy[DeliveryRecorded]] = evenly(
    *(
        st.builds(kind, **_COMMON, billed=st.just(reason is None), reason=st.just(reason))
        for kind in EVENT_OF.values()
        for reason in (None, "late", "over_budget", "invalid:crawler")
    ),
    *(
        st.builds(
            ImpressionRecorded, **_COMMON, billed=st.just(True), reason=st.none(), rules=_RULES, basis=strategies.bases
        )
        for _ in range(4)
    ),
    *(
        st.builds(
            ConversionRecorded,
            **_COMMON | {"price_micros": st.just(0), "decision_id": _FEW, "value_micros": st.integers(0, 5_000)},
            billed=st.just(reason is None),
            reason=st.just(reason),
            rules=_RULES,
        )
        for reason in (None, "late", "invalid:prefetch")
    ),
)
_steps: Final = st.integers(0, 40_000).map(lambda seconds: timedelta(seconds=seconds))


def _traffic(events: list[Any], steps: list[timedelta], claims: list[timedelta]) -> list[Recorded]:
    recorded = []
    at = datetime(2026, 3, 8, 22, 30, tzinfo=UTC)
    for number, (event, step, claim) in enumerate(zip(events, steps, claims, strict=False), start=3):
        at += step
        each = recorded_at(number, f"decision-{UUID(int=number)}", 1, event, at)
        entry = Entry(
            **{name: getattr(each.entry, name) for name in Entry.__struct_fields__} | {"occurred_at": at - claim}
        )
        recorded.append(Recorded(position=number, entry=entry))
    return recorded


traffic: Final = st.builds(
    _traffic,
    st.lists(delivery_events, max_size=40),
    st.lists(_steps, min_size=40, max_size=40),
    st.lists(_steps, min_size=40, max_size=40),
)
"""Deliveries of two campaigns over some days, some reported long after they occurred; from position 3 on."""


async def kept(connection: Connection, ledger_id: UUID, recorded: Sequence[Recorded], *, spaced: bool = False) -> None:
    """Put entries where they belong in the log of a ledger: as the writer would, or as texts of another form."""
    for each in recorded:
        text = encode_entry(each.entry)
        if spaced:
            text = msgspec.json.format(msgspec.json.encode(_backwards(msgspec.json.decode(text))))
        await connection.execute(
            "INSERT INTO events (ledger_id, position, stream_id, version, type, recorded_at, entry)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)",
            (
                *(ledger_id, each.position, each.entry.stream, each.entry.version, type_of(each.entry)),
                *(each.entry.recorded_at, text.decode()),
            ),
        )


def _backwards(value: Any) -> Any:
    return {key: _backwards(value[key]) for key in reversed(value)} if isinstance(value, dict) else value


async def applied(
    connection: Connection, counting: Counting, ledger_id: UUID, batches: Sequence[Sequence[Recorded]]
) -> None:
    """Count batches of entries of the log, one range after the other."""
    for batch in batches:
        if batch:
            await apply(connection, counting, Span(ledger_id, batch[0].position - 1, batch[-1].position))


def cut(recorded: Sequence[Recorded], at: Sequence[int]) -> list[Sequence[Recorded]]:
    """Return the batches that entries make when they are cut at these places."""
    places = sorted({0, len(recorded), *(place % (len(recorded) + 1) for place in at)})
    return [recorded[start:end] for start, end in pairwise(places)]


cuts: Final = st.lists(st.integers(0, 100), max_size=4)
