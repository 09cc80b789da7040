"""The reports as of a position, folded from exported entries: there need be no database."""

from collections.abc import Iterable, Iterator
from datetime import UTC
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import Struct

from domain.events import (
    CampaignChanged,
    CampaignCreated,
    ClickRecorded,
    DeliveryRecorded,
    ImpressionRecorded,
    ViewRecorded,
)
from infra.accounts import Book
from infra.event_log import Recorded, decode_entry
from infra.inspection import ACCOUNTS, BUDGETS, DELIVERIES
from infra.mirror import write
from projections import budgets
from projections.budgets import SpendingRow, Spent
from projections.delivery import BILLED
from projections.rows import subject_of

COUNTS: Final = ("impressions", "views", "clicks", "spent_micros")


class DeliveryLine(Struct, frozen=True, kw_only=True):
    """The deliveries of one day (UTC) of a creative in a slot that were billed, or not for the same reason."""

    day: str
    campaign_id: UUID
    creative_id: UUID
    advertiser_id: UUID
    slot_id: UUID
    currency: str
    reason: str
    impressions: int
    views: int
    clicks: int
    spent_micros: int


class Statements:
    """What the entries so far lead to: the budgets, and the deliveries by day, creative and slot."""

    def __init__(self) -> None:
        """Begin before the first entry."""
        self.spendings: dict[UUID, SpendingRow] = {}
        self._deliveries: dict[tuple[Any, ...], list[int]] = {}

    def add(self, recorded: Recorded) -> None:
        """Fold an entry."""
        event = recorded.entry.event
        if isinstance(event, CampaignCreated | CampaignChanged):
            campaign_id = subject_of(recorded)
            self.spendings[campaign_id] = budgets.fold(self.spendings.get(campaign_id), recorded)
        elif isinstance(event, DeliveryRecorded):
            spent = spent_by(recorded, event)
            if event.campaign_id in self.spendings:
                self.spendings[event.campaign_id] = budgets.fold(self.spendings[event.campaign_id], spent)
            day = recorded.entry.occurred_at.astimezone(UTC).date().isoformat()
            thing = (event.campaign_id, event.creative_id, event.advertiser_id, event.slot_id)
            key = (day, *thing, event.currency, event.reason or BILLED)
            sums = self._deliveries.setdefault(key, [0] * len(COUNTS))
            for at, name in enumerate(COUNTS):
                sums[at] += getattr(spent, name)

    @property
    def deliveries(self) -> list[DeliveryLine]:
        """The lines of the delivery report, in order."""
        names = DeliveryLine.__struct_fields__
        return [
            DeliveryLine(**dict(zip(names, (*key, *counts), strict=True)))
            for key, counts in sorted(self._deliveries.items())
        ]


def spent_by(recorded: Recorded, event: DeliveryRecorded) -> Spent:
    """Return what one delivery comes to."""
    impression, click = isinstance(event, ImpressionRecorded), isinstance(event, ClickRecorded)
    return Spent(
        campaign_id=event.campaign_id,
        position=recorded.position,
        recorded_at=recorded.entry.recorded_at,
        impressions=int(impression),
        billed_impressions=int(impression and event.billed),
        views=int(isinstance(event, ViewRecorded)),
        clicks=int(click),
        billed_clicks=int(click and event.billed),
        spent_micros=event.price_micros if event.billed else 0,
    )


def write_reports(folder: Path, origin: str, entries: Iterable[tuple[int, bytes]]) -> None:
    """Write what entries lead to into a folder: budgets, deliveries and accounts."""
    book = Book(origin)
    draft = folder / f".{ACCOUNTS}.part"
    with draft.open("w", encoding="utf-8") as accounts:
        accounts.write(book.header)

        def booked() -> Iterator[tuple[int, bytes]]:
            for position, entry in entries:
                accounts.write(book.text_of(position, msgspec.json.decode(entry)))
                yield position, entry

        statements = fold(booked())
        accounts.write(book.balances(map(msgspec.to_builtins, statements.spendings.values())))
    draft.replace(folder / ACCOUNTS)
    budgets_lines, delivery_lines = encoded(statements)
    write(folder / BUDGETS, budgets_lines)
    write(folder / DELIVERIES, delivery_lines)


def fold(entries: Iterable[tuple[int, bytes]]) -> Statements:
    """Return what entries lead to, each of which comes with its position."""
    statements = Statements()
    for position, entry in entries:
        statements.add(Recorded(position=position, entry=decode_entry(entry)))
    return statements


def encoded(statements: Statements) -> tuple[bytes, bytes]:
    """Return both reports as JSON, a row a line: budgets in the order of campaigns, and deliveries."""
    lines = msgspec.json.Encoder().encode_lines
    return lines([statements.spendings[key] for key in sorted(statements.spendings)]), lines(statements.deliveries)
