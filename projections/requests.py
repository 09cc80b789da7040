"""The read model of requests: what slots asked for, by hour and country, and what became of it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import Struct
from sqlalchemy import BigInteger, Column, DateTime, Table, Text, Uuid

from domain.events import RequestsTallied
from infra.database import Connection
from infra.tables import metadata
from projections.counting import Counting, Span, conditions, parameters, row_of, tag

FILLED: Final = ""
"""What stands in the place of a reason when a creative was found."""

KEY: Final = "stream_id"

ad_requests = Table(
    "ad_requests",
    metadata,
    Column("ledger_id", Uuid, primary_key=True),
    Column("hour", DateTime(timezone=True), primary_key=True),
    Column("slot_id", Uuid, primary_key=True),
    Column("country", Text, primary_key=True),
    Column("reason", Text, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    comment="Read model: creatives asked for by hour (UTC). reason: why there was none, empty where there was one.",
)


class RequestRow(Struct, frozen=True, kw_only=True):
    """What a slot asked for in one hour and country, and got (no reason), or did not get for one reason."""

    hour: datetime
    slot_id: UUID
    country: str
    reason: str
    requests: int


_COLUMNS: Final = ", ".join(RequestRow.__struct_fields__)

# The predicate on the stream is that of a partial index: nothing is read of the deliveries in between.
_LINES: Final = """
    SELECT (event ->> 'hour')::timestamptz AS hour, slot_id, coalesce(country, '') AS country, reason,
        sum(requests)::bigint AS requests
    FROM (
        SELECT entry -> 'event' AS event FROM events
        WHERE ledger_id = %(ledger_id)s AND position > %(after)s AND position <= %(until)s
            AND stream_id ~~ 'requests-%%' AND type = '{type}' {conditions}
        OFFSET 0
    ) AS tallies,
        json_to_recordset(event -> 'lines') AS line (slot_id uuid, country text, fills bigint, no_fill json),
        LATERAL (
            SELECT '{filled}' AS reason, fills AS requests WHERE fills > 0
            UNION ALL
            SELECT key, value::bigint FROM json_each_text(no_fill)
        ) AS outcome
    GROUP BY 1, 2, 3, 4
"""

_ADD: Final = f"""
    INSERT INTO ad_requests (ledger_id, {_COLUMNS}) SELECT %(ledger_id)s, {_COLUMNS} FROM {{lines}} AS lines
    ON CONFLICT (ledger_id, hour, slot_id, country, reason)
    DO UPDATE SET requests = ad_requests.requests + EXCLUDED.requests
"""

_TOLD: Final = "json_populate_recordset(NULL::ad_requests, %(lines)s::json)"


async def tally(connection: Connection, span: Span) -> Mapping[str, str]:
    """Return what a range adds to the table, as JSON."""
    statement = f"SELECT coalesce(json_agg(lines), '[]')::text AS lines FROM ({_lines(span)}) AS lines"
    return await row_of(connection, statement, parameters(span))


async def add(connection: Connection, ledger_id: UUID, counts: Mapping[str, str]) -> None:
    """Add what a range comes to."""
    await connection.execute(_ADD.format(lines=_TOLD).encode(), {"ledger_id": ledger_id, **counts})


async def count(connection: Connection, span: Span) -> None:
    """Add what a range comes to, in one statement."""
    await connection.execute(_ADD.format(lines=f"({_lines(span)})").encode(), parameters(span))


def _lines(span: Span) -> str:
    return _LINES.format(type=tag(RequestsTallied), filled=FILLED, conditions=conditions(span, KEY))


def rows_of(tallied: RequestsTallied) -> list[RequestRow]:
    """Return the rows that one event is about, with what it adds to each."""
    return [
        RequestRow(hour=tallied.hour, slot_id=line.slot_id, country=line.country or "", reason=reason, requests=count)
        for line in tallied.lines
        for reason, count in ((FILLED, line.fills), *line.no_fill.items())
        if count
    ]


PROJECTION: Final = Counting(
    name="requests",
    version=1,
    handles=(RequestsTallied,),
    table=ad_requests,
    key=KEY,
    tally=tally,
    add=add,
    in_place=count,
)
