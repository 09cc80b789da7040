"""The reports as of a position, folded from exported entries by the folds of the read models."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import Struct

from domain.events import CampaignChanged, CampaignCreated, DeliveryRecorded
from infra.accounts import Book
from infra.event_log import Recorded, decode_entry
from infra.inspection import ACCOUNTS, BUDGETS, DELIVERIES
from infra.mirror import write
from projections import budgets, delivery
from projections.budgets import SpendingRow

BATCH_ENTRIES: Final = 5_000
DAY_CHARACTERS: Final = len("2026-01-31")
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

    def add(self, batch: Sequence[Recorded]) -> None:
        """Fold a batch of entries."""
        for recorded in batch:
            if isinstance(recorded.entry.event, CampaignCreated | CampaignChanged | DeliveryRecorded):
                campaign_id = budgets.campaign_of(recorded)
                row = self.spendings.get(campaign_id)
                if row is not None or isinstance(recorded.entry.event, CampaignCreated):
                    self.spendings[campaign_id] = budgets.fold(row, recorded)
        for delivered in delivery.fold([each for each in batch if isinstance(each.entry.event, DeliveryRecorded)]):
            day = delivered.hour.isoformat()[:DAY_CHARACTERS]
            thing = (delivered.campaign_id, delivered.creative_id, delivered.advertiser_id, delivered.slot_id)
            sums = self._deliveries.setdefault((day, *thing, delivered.currency, delivered.reason), [0] * len(COUNTS))
            for at, name in enumerate(COUNTS):
                sums[at] += getattr(delivered, name)

    @property
    def deliveries(self) -> list[DeliveryLine]:
        """The lines of the delivery report, in order."""
        names = DeliveryLine.__struct_fields__
        return [
            DeliveryLine(**dict(zip(names, (*key, *counts), strict=True)))
            for key, counts in sorted(self._deliveries.items())
        ]


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
    remaining = iter(entries)
    while batch := [
        Recorded(position=position, entry=decode_entry(entry)) for position, entry in islice(remaining, BATCH_ENTRIES)
    ]:
        statements.add(batch)
    return statements


def encoded(statements: Statements) -> tuple[bytes, bytes]:
    """Return both reports as JSON, a row a line: budgets in the order of campaigns, and deliveries."""
    lines = msgspec.json.Encoder().encode_lines
    return lines([statements.spendings[key] for key in sorted(statements.spendings)]), lines(statements.deliveries)
