"""The reports as of a position, folded from exported entries: there need be no database."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from heapq import merge
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Final
from uuid import UUID

import msgspec
from msgspec import Struct, structs

from domain.delivery import EVENT_OF, PLAYBACK
from domain.events import (
    CampaignChanged,
    CampaignCreated,
    ClickRecorded,
    ConversionRecorded,
    DeliveryRecorded,
    ImpressionRecorded,
    RequestsTallied,
    ViewRecorded,
)
from domain.validity import is_invalid
from infra.accounts import Book
from infra.event_log import Recorded, decode_entry
from infra.inspection import ACCOUNTS, BUDGETS, DELIVERIES
from projections import advertisers, budgets, campaigns, creatives, delivery, history, requests, slots
from projections.budgets import SpendingRow, Spent
from projections.delivery import BILLED, FURTHER, DeliveryRow
from projections.requests import RequestRow
from projections.rows import ReadModel, subject_of

THINGS: Final[tuple[ReadModel[Any], ...]] = (
    advertisers.READ_MODEL,
    campaigns.READ_MODEL,
    creatives.READ_MODEL,
    slots.READ_MODEL,
)
COUNTS: Final = ("impressions", "views", "clicks", "spent_micros")
_PLACE_OF: Final[Mapping[type[DeliveryRecorded], int]] = {
    EVENT_OF[kind]: place for place, kind in enumerate(PLAYBACK, start=len(COUNTS))
}
_NOTHING: Final = dict.fromkeys(("impressions", "views", "clicks"), 0)
LINES_IN_MEMORY_MAX: Final = 200_000

Key = tuple[str, ...]
"""What the deliveries of a line have in common: the fields of DeliveryRow before the counts, as text."""

Line = tuple[Key, list[int]]


class Deliveries:
    """Deliveries by hour, creative, slot and place; what is too much for memory is sorted and put on disk."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._lines: dict[Key, list[int]] = {}
        self._runs: list[IO[bytes]] = []

    def add(self, event: DeliveryRecorded, hour: str, spent: Spent) -> None:
        """Add a delivery that occurred in an hour (UTC)."""
        things = map(str, (event.campaign_id, event.creative_id, event.advertiser_id, event.slot_id))
        places = (event.country or "", event.region or "", event.city or "")
        key = (hour, *things, *places, event.currency, event.reason or BILLED)
        sums = self._lines.get(key)
        if sums is None:
            if len(self._lines) >= LINES_IN_MEMORY_MAX:
                self._put_away()
            sums = self._lines[key] = [0] * len((*COUNTS, *FURTHER))
        for at, name in enumerate(COUNTS):
            sums[at] += getattr(spent, name)
        if (place := _PLACE_OF.get(type(event))) is not None:
            sums[place] += 1
        if isinstance(event, ConversionRecorded):
            sums[-2] += 1
            sums[-1] += event.value_micros

    def rows(self) -> Iterator[DeliveryRow]:
        """Yield the rows of the read model, in the order of its key; that can be done once."""
        runs: list[Iterable[Line]] = [*map(_lines_in, self._runs), sorted(self._lines.items())]
        for key, lines in groupby(merge(*runs, key=itemgetter(0)), key=itemgetter(0)):
            sums = map(sum, zip(*(counts for _, counts in lines), strict=True))
            named = dict(zip(DeliveryRow.__struct_fields__, (*key, *sums), strict=True))
            yield msgspec.convert(named, DeliveryRow)

    def _put_away(self) -> None:
        run = TemporaryFile()  # noqa: SIM115  it lasts as long as this object
        run.writelines(msgspec.json.encode(line) + b"\n" for line in sorted(self._lines.items()))
        self._runs.append(run)
        self._lines.clear()


def _lines_in(run: IO[bytes]) -> Iterator[Line]:
    with run:
        run.seek(0)
        yield from map(msgspec.json.Decoder(Line).decode, run)


class Statements:
    """What the entries so far lead to: the budgets, and the deliveries."""

    def __init__(self) -> None:
        """Begin before the first entry."""
        self.spendings: dict[UUID, SpendingRow] = {}
        self.deliveries = Deliveries()

    def add(self, recorded: Recorded) -> None:
        """Fold an entry."""
        event = recorded.entry.event
        if isinstance(event, CampaignCreated | CampaignChanged):
            campaign_id = subject_of(recorded)
            self.spendings[campaign_id] = budgets.fold(self.spendings.get(campaign_id), recorded)
        elif isinstance(event, DeliveryRecorded):
            spent = spent_by(recorded, event)
            if event.campaign_id in self.spendings:
                net = structs.replace(spent, **_NOTHING) if is_invalid(event.reason) else spent
                self.spendings[event.campaign_id] = budgets.fold(self.spendings[event.campaign_id], net)
            hour = f"{recorded.entry.occurred_at.astimezone(UTC):%Y-%m-%dT%H}:00:00Z"
            self.deliveries.add(event, hour, spent)


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

        made = fold(booked())
        accounts.write(book.balances(map(msgspec.to_builtins, made.spendings.values())))
    draft.replace(folder / ACCOUNTS)
    _write_rows(folder / BUDGETS, (made.spendings[key] for key in sorted(made.spendings)))
    _write_rows(folder / DELIVERIES, made.deliveries.rows())


def fold(entries: Iterable[tuple[int, bytes]]) -> Statements:
    """Return what entries lead to, each of which comes with its position."""
    made = Statements()
    for position, entry in entries:
        made.add(Recorded(position=position, entry=decode_entry(entry)))
    return made


def rows_of(name: str, entries: Iterable[tuple[int, bytes]]) -> list[Struct]:
    """Return the rows of the read model of a name that entries lead to, in the order of its key."""
    if name in (budgets.PROJECTION.name, delivery.PROJECTION.name):
        made = fold(entries)
        by_campaign = [made.spendings[key] for key in sorted(made.spendings)]
        return list(made.deliveries.rows()) if name == delivery.PROJECTION.name else list(by_campaign)
    if name == requests.PROJECTION.name:
        return list(_requests(entries))
    model = next((each for each in THINGS if each.projection == name), None)
    rows: dict[Any, Struct] = {}
    for position, entry in entries:
        if b'"stream":"decision-' not in entry[:40]:
            _fold_into(rows, model, Recorded(position=position, entry=decode_entry(entry)))
    return [rows[key] for key in sorted(rows)]


def _requests(entries: Iterable[tuple[int, bytes]]) -> list[RequestRow]:
    rows: dict[tuple[datetime, UUID, str, str], RequestRow] = {}
    for _, entry in entries:
        if b'"stream":"requests-' in entry[:40] and isinstance(event := decode_entry(entry).event, RequestsTallied):
            for row in requests.rows_of(event):
                key = (row.hour, row.slot_id, row.country, row.reason)
                known = rows.get(key)
                rows[key] = structs.replace(row, requests=row.requests + known.requests) if known else row
    return [rows[key] for key in sorted(rows)]


def _fold_into(rows: dict[Any, Any], model: ReadModel[Any] | None, recorded: Recorded) -> None:
    thing = recorded.entry.stream.partition("-")[0]
    if model is not None and model.thing == thing:
        subject = subject_of(recorded)
        rows[subject] = model.fold(rows.get(subject), recorded)
    elif model is None and thing == campaigns.READ_MODEL.thing:
        row = history.fold(recorded)
        rows[row.campaign_id, row.version] = row


def _write_rows(path: Path, rows: Iterable[Struct]) -> None:
    """Write rows, each as JSON in a line of its own, into a file that is there whole or not at all."""
    draft = path.with_name(f".{path.name}.part")
    with draft.open("wb") as file:
        file.writelines(msgspec.json.encode(row) + b"\n" for row in rows)
    draft.replace(path)
