"""The reports as of a position, folded from exported entries by the folds of the read models."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec
from msgspec import structs

from domain.events import CampaignChanged, CampaignCreated, DeliveryRecorded
from infra.accounts import Book
from infra.event_log import Recorded, decode_entry
from infra.inspection import ACCOUNTS, BUDGETS, DELIVERIES
from infra.mirror import write
from projections import budgets, delivery
from projections.budgets import SpendingRow
from projections.delivery import DeliveryRow

BATCH_ENTRIES: Final = 5_000
COUNTERS: Final = ("impressions", "views", "clicks", "spent_micros")


class Statements:
    """What the entries so far lead to: a row a campaign, and a row for deliveries that have everything in common."""

    def __init__(self) -> None:
        """Begin before the first entry."""
        self.spendings: dict[UUID, SpendingRow] = {}
        self._deliveries: dict[tuple[object, ...], DeliveryRow] = {}

    def add(self, batch: Sequence[Recorded]) -> None:
        """Fold a batch of entries."""
        for recorded in batch:
            if isinstance(recorded.entry.event, CampaignCreated | CampaignChanged | DeliveryRecorded):
                campaign_id = budgets.campaign_of(recorded)
                row = self.spendings.get(campaign_id)
                if row is not None or isinstance(recorded.entry.event, CampaignCreated):
                    self.spendings[campaign_id] = budgets.fold(row, recorded)
        for added in delivery.fold([each for each in batch if isinstance(each.entry.event, DeliveryRecorded)]):
            key = tuple(value for name, value in structs.asdict(added).items() if name not in COUNTERS)
            before = self._deliveries.get(key)
            sums = {name: getattr(added, name) + getattr(before, name) for name in COUNTERS} if before else {}
            self._deliveries[key] = structs.replace(added, **sums)

    @property
    def deliveries(self) -> list[DeliveryRow]:
        """The rows of the delivery report, in order."""
        return [self._deliveries[key] for key in sorted(self._deliveries, key=str)]


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
    while batch := [Recorded(position, decode_entry(entry)) for position, entry in islice(remaining, BATCH_ENTRIES)]:
        statements.add(batch)
    return statements


def encoded(statements: Statements) -> tuple[bytes, bytes]:
    """Return both reports as JSON, a row a line: budgets in the order of campaigns, and deliveries."""
    lines = msgspec.json.Encoder().encode_lines
    return lines([statements.spendings[key] for key in sorted(statements.spendings)]), lines(statements.deliveries)
