"""Inspecting a live database: the whole verifier over it, and every table that repeats what the log says.

columns       what stands beside an entry for indexing is what the entry says
read models   every row is the one that the log leads to, up to where its projection stands
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from datetime import datetime
from itertools import chain
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import Struct
from psycopg.rows import DictRow
from sqlalchemy import Table, select

from domain.books import Books
from domain.budget import Budget, on_day, prices
from domain.merkle import HASH_BYTES, TILE_HASHES
from domain.values import Pricing
from infra import tables, tiles, tree
from infra.composed import composed
from infra.database import Connection
from infra.event_log import Recorded, decode_entry, read_head
from infra.recount import COUNTS, DELIVERIES, GROUP, PLACE, Recount, add_further
from infra.verifier import Policy, Report, Signed, Tree, signed_trees
from projections import budgets, campaigns, delivery, history, requests
from projections.budgets import SpendingRow
from projections.delivery import DeliveryRow
from projections.history import HistoryRow
from projections.requests import RequestRow
from projections.rows import subject_of
from projections.statements import THINGS

PAGE_ENTRIES: Final = 64 * TILE_HASHES

_READ_PAGE: Final = """
    SELECT position, stream_id, version, type, recorded_at, entry::text AS entry FROM events
    WHERE ledger_id = %s AND position > %s ORDER BY position LIMIT %s
"""

_READ_NOTES: Final = """
    SELECT size, note FROM log_checkpoints WHERE ledger_id = %s AND size > %s AND size <= %s ORDER BY size
"""

_READ_LEASES: Final = """
    SELECT campaign_id, sum(impressions)::bigint AS impressions FROM leases WHERE ledger_id = %s GROUP BY campaign_id
"""

_READ_DELIVERIES: Final = f"""
    SELECT to_char(hour AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24') AS hour,
        {", ".join(name for name in DeliveryRow.__struct_fields__ if name != "hour")}
    FROM deliveries WHERE ledger_id = %s
"""

Progress = Callable[[int, int], None]


async def inspect_database(
    connection: Connection,
    ledger_id: UUID,
    policy: Policy,
    kept: Iterable[tuple[str, str]],
    report: Report,
    progress: Progress,
) -> None:
    """Check a ledger as it stands at one moment; `kept` are notes that an auditor kept, each with its name."""
    async with connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        await inspect_within(connection, ledger_id, policy, kept, report, progress)


async def inspect_within(
    connection: Connection,
    ledger_id: UUID,
    policy: Policy,
    kept: Iterable[tuple[str, str]],
    report: Report,
    progress: Progress,
) -> None:
    """Check a ledger as the transaction that is open sees it."""
    with closing(Recount(report)) as recount:
        await _Inspection(connection, ledger_id, policy, report, recount).run(kept, progress)


class _Inspection:
    def __init__(
        self, connection: Connection, ledger_id: UUID, policy: Policy, report: Report, recount: Recount
    ) -> None:
        self._connection = connection
        self._ledger_id = ledger_id
        self._policy = policy
        self._report = report
        self._tree = Tree(report)
        self._recount = recount
        self._things: dict[str, dict[UUID, Struct]] = {model.projection: {} for model in THINGS}
        self._histories: dict[tuple[UUID, int], HistoryRow] = {}
        self._standing: dict[int, list[str]] = {}

    async def run(self, kept: Iterable[tuple[str, str]], progress: Progress) -> None:
        head = await read_head(self._connection, self._ledger_id)
        cosigned = self._policy.quorum != "none"
        sealed = await tree.read_published(self._connection, self._ledger_id, cosigned=cosigned)
        size = sealed.size if sealed else 0
        signed = sorted(signed_trees(kept, self._policy, self._report))
        if sealed is not None:
            notes = [("the last checkpoint", sealed.note)]
            signed += signed_trees(notes, self._policy, self._report, quorum=True)
        await self._read_standing()
        await self._compare_standing(0)
        position = 0
        while page := await self._rows(_READ_PAGE, position, PAGE_ENTRIES):
            end = page[-1]["position"]
            if end != position + len(page):
                self._report.wrong("structure", f"of the positions up to {end:,} some have no entry", position + 1)
                return
            signed += await self._signed_between(position, end)
            await self._add_to_tree(page, size, [each for each in signed if position < each[0].size <= end])
            for row in page:
                position = row["position"]
                self._add(row)
                await self._compare_standing(position)
            progress(position, head.position)
        if head.position != position or size > position:
            detail = f"its head says that it ends at {head.position:,}, and {size:,} entries were sealed"
            self._report.wrong("structure", f"the log ends at {position:,}; {detail}")
        for checkpoint, where in signed:
            if checkpoint.size > size:
                detail = f"{where}: {checkpoint.size:,} entries were signed, and here are {size:,}"
                self._report.wrong("consistency", detail)
        self._recount.finish()
        await self._compare_budgets(head.recorded_at)

    async def _rows(self, statement: str, *parameters: object) -> list[DictRow]:
        cursor = await self._connection.execute(statement.encode(), (self._ledger_id, *parameters))
        return await cursor.fetchall()

    async def _signed_between(self, after: int, upto: int) -> list[Signed]:
        statement = (
            "SELECT size, note FROM log_checkpoints WHERE ledger_id = %s AND size > %s AND size <= %s ORDER BY size"
        )
        rows = await self._rows(statement, after, upto)
        notes = ((f"the stored checkpoint of {row['size']:,} entries", str(row["note"])) for row in rows)
        return list(signed_trees(notes, self._policy, self._report))

    async def _add_to_tree(self, page: list[DictRow], size: int, signed: list[Signed]) -> None:
        """Add the entries of a page as far as they are sealed, bundle by bundle."""
        start, end = page[0]["position"] - 1, min(page[-1]["position"], size)
        wanted = [
            (place.level, place.number)
            for place in tiles.places(end)
            if place.level is not None and (place.number + 1) * TILE_HASHES ** (place.level + 1) > start
        ]
        stored = await tree.read_tiles(self._connection, self._ledger_id, wanted)

        def tile(level: int, number: int, width: int) -> bytes | None:
            return stored.get((level, number), b"")[: width * HASH_BYTES]

        for first in range(start, end, TILE_HASHES):
            last = min(first + TILE_HASHES, end)
            entries = [row["entry"].encode() for row in page[first - start : last - start]]
            self._tree.add(entries, tile, [each for each in signed if first < each[0].size <= last])
        if start < size == end:
            self._tree.finish(tile)

    def _add(self, row: DictRow) -> None:
        said = self._recount.add(row["position"], row["entry"].encode())
        if said is None:
            return
        self._report.checked["columns"] += 1
        for name, value in (
            ("stream_id", said["stream"]),
            ("version", said["version"]),
            ("type", said["event"]["type"]),
            ("recorded_at", said["recorded_at"]),
        ):
            column = msgspec.to_builtins(row[name])
            if column != value:
                detail = f"the column {name} says {column!r}, the entry {value!r}"
                self._report.wrong("columns", detail, row["position"])
        if said["event"]["type"] not in DELIVERIES and said["event"]["type"] != "requests_tallied":
            self._fold(row["position"], row["entry"])

    def _fold(self, position: int, entry: str) -> None:
        try:
            recorded = Recorded(position=position, entry=decode_entry(entry))
            thing = recorded.entry.stream.partition("-")[0]
            for model in THINGS:
                if model.thing == thing:
                    rows = self._things[model.projection]
                    rows[subject_of(recorded)] = model.fold(rows.get(subject_of(recorded)), recorded)
            if thing == campaigns.READ_MODEL.thing:
                row = history.fold(recorded)
                self._histories[row.campaign_id, row.version] = row
        except (msgspec.MsgspecError, ValueError, AssertionError) as error:
            self._report.wrong("read models", f"it cannot be folded: {error!r}", position)

    async def _read_standing(self) -> None:
        for row in await self._rows("SELECT projection, position FROM checkpoints WHERE ledger_id = %s"):
            self._standing.setdefault(row["position"], []).append(row["projection"])
        statement = "SELECT projection, key, position, error FROM parked_events WHERE ledger_id = %s"
        for row in await self._rows(statement):
            detail = f"the projection {row['projection']} could not apply it: {row['error']}"
            self._report.wrong("read models", detail, row["position"])

    async def _compare_standing(self, position: int) -> None:
        for projection in self._standing.get(position, ()):
            if projection == budgets.PROJECTION.name:
                rows = await self._table(budgets.spendings, SpendingRow)
                self._recount.check_budgets(map(msgspec.to_builtins, rows))
            elif projection == delivery.PROJECTION.name:
                await self._compare_deliveries()
            elif projection == requests.PROJECTION.name:
                await self._compare_requests()
            elif projection == history.PROJECTION.name:
                stored = await self._table(history.histories, HistoryRow)
                upto = {key: row for key, row in self._histories.items() if row.position <= position}
                self._compare(projection, {(row.campaign_id, row.version): row for row in stored}, upto)
            for model in THINGS:
                if model.projection == projection:
                    things: list[Any] = await self._table(model.table, model.kind)
                    self._compare(projection, {row.id: row for row in things}, self._things[projection])

    async def _table(self, table: Table, kind: type[Any]) -> list[Any]:
        columns = [table.columns[name] for name in kind.__struct_fields__]
        text, parameters = composed(select(*columns).where(table.c.ledger_id == self._ledger_id))
        cursor = await self._connection.execute(text.encode(), parameters)
        found = []
        async for row in cursor:
            try:
                found.append(msgspec.convert(row, kind))
            except msgspec.ValidationError as error:
                self._report.wrong("read models", f"a row of {table.name} cannot be read: {error}")
        return found

    def _compare(self, projection: str, said: Mapping[Any, Struct], right: Mapping[Any, Struct]) -> None:
        for key in sorted(said.keys() | right.keys(), key=str):
            self._report.checked["read models"] += 1
            left, expected = (_as_said(side.get(key)) for side in (said, right))
            for name in sorted(left.keys() | expected.keys()):
                if left.get(name) != expected.get(name):
                    detail = (
                        f"{projection} {key}: the {name} is {left.get(name)!r}, and {expected.get(name)!r} is right"
                    )
                    self._report.wrong("read models", detail, expected.get("position"))

    async def _compare_deliveries(self) -> None:
        said, further = self._recount.deliveries.beside(), self._recount.further.beside()
        async with self._connection.cursor(name="deliveries") as cursor:
            await cursor.execute(_READ_DELIVERIES, (self._ledger_id,))
            async for row in cursor:
                row["day"] = row["hour"][:10]
                group = tuple(str(row[name]) for name in GROUP)
                said.add(group, row["hour"], [row[name] for name in PLACE], [row[name] for name in COUNTS])
                add_further(further, group, row["hour"], row)
        self._recount.check_deliveries(said)
        self._recount.check_further(further)

    async def _compare_requests(self) -> None:
        said = self._recount.requests.beside()
        for row in await self._table(requests.ad_requests, RequestRow):
            hour = f"{row.hour:%Y-%m-%dT%H}"
            said.add((hour[:10], str(row.slot_id), row.reason), hour, [row.country], [row.requests])
        self._recount.check_requests(said)

    async def _compare_budgets(self, at: datetime) -> None:
        """Compare what the writer believes of budgets at a moment; what is leased has to be what workers hold."""
        said = {row.budget_id: on_day(row, at) for row in await self._table(tables.budgets, Budget)}
        counted = dict(self._counted())
        books = Books(counted, at)
        for row in await self._rows(_READ_LEASES):
            campaign = books.find(row["campaign_id"])
            if campaign is not None:
                books.lease(campaign, row["impressions"])
        self._compare("budget", said, {key: each for key in counted if (each := books.find(key)) is not None})

    def _counted(self) -> Iterator[tuple[UUID, Budget]]:
        """Return the budgets that the entries lead to, with nothing leased."""
        for budget_id, counts in chain(self._recount.campaigns.items(), self._recount.funds.items()):
            billed = {"impressions": counts["billed_impressions"], "day_impressions": counts["day_billed_impressions"]}
            named = {name: counts[name] for name in Budget.__struct_fields__ if name in counts}
            try:
                priced = prices(msgspec.convert(counts["pricing"], Pricing)) if "pricing" in counts else {}
                budget = msgspec.convert({"budget_id": budget_id} | named | billed | priced, Budget)
            except msgspec.ValidationError as error:
                self._report.wrong("read models", f"its budget cannot be told: {error}", counts.get("position"))
            else:
                yield budget.budget_id, budget


def _as_said(row: Struct | None) -> dict[str, Any]:
    """Return a row as JSON says it, in which a tuple is a list."""
    return {} if row is None else msgspec.json.decode(msgspec.json.encode(row), type=dict[str, Any])
