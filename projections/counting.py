"""Counting deliveries where they are: PostgreSQL sums a range of the log, and nothing is fetched but the sums.

A read model that is a sum needs no fold of one event after the other. It says what a range of positions comes to
(`tally`) and how that is added to its table (`add`); the same two keep the live table, make it anew and replay it.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

import psycopg
import structlog
from psycopg.rows import DictRow
from sqlalchemy import Table

from domain.delivery import EVENT_OF, PLAYBACK
from domain.events import ClickRecorded, ConversionRecorded, Event, ImpressionRecorded, ViewRecorded
from infra import clock
from infra.database import Connection

DELIVERIES: Final = (
    *(ImpressionRecorded, ViewRecorded, ClickRecorded),
    *(EVENT_OF[kind] for kind in PLAYBACK),
    ConversionRecorded,
)

GROUPED_IN_MEMORY: Final = "64MB"
"""What PostgreSQL takes to group a range of deliveries without files, twice that for hashes."""

log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)


class Span(NamedTuple):
    """Entries of a log: those after one position up to another, less those of keys that are parked; or only some."""

    ledger_id: UUID
    after: int
    until: int
    parked: tuple[str, ...] = ()
    only: tuple[int, ...] | None = None


class Counting(NamedTuple):
    """A read model that counts.

    `key` is the SQL expression of the key under which an entry is parked that cannot be counted: all of that key wait.
    What `tally` returns, `add` takes: on another connection, if need be. `in_place` is both of them in one statement,
    where there is no need.
    """

    name: str
    version: int
    handles: tuple[type[Event], ...]
    table: Table
    key: str
    tally: Callable[[Connection, Span], Awaitable[Any]]
    add: Callable[[Connection, UUID, Any], Awaitable[None]]
    in_place: Callable[[Connection, Span], Awaitable[None]] | None = None
    catalogue_only: bool = False


async def prepare(connection: Connection) -> None:
    """Let a connection count large ranges.

    What is in a range cannot be estimated while the log is new, and not well later: it is read by its index, and not
    the whole log for it, and grouped by hashes: twice as fast as sorted.
    """
    await connection.execute(f"SET work_mem TO '{GROUPED_IN_MEMORY}'")
    await connection.execute("SET enable_seqscan TO off")
    await connection.execute("SET enable_sort TO off")


async def apply(connection: Connection, counting: Counting, span: Span, ahead: Awaitable[Any] | None = None) -> None:
    """Count a range and add it; what cannot be counted is found by halving, and parked with what waits behind it.

    `ahead` is what it was counted to on another connection.
    """
    try:
        async with connection.transaction():
            if ahead is None and counting.in_place is not None:
                await counting.in_place(connection, span)
            else:
                sums = await (counting.tally(connection, span) if ahead is None else ahead)
                await counting.add(connection, span.ledger_id, sums)
            if span.parked:
                await _park_waiting(connection, counting, span)
    except (psycopg.OperationalError, psycopg.ProgrammingError, psycopg.InterfaceError):
        raise  # no fault of an entry
    except Exception as error:  # noqa: BLE001  whatever counting stumbles over is what parking is for
        if span.until - span.after == 1:
            await _park(connection, counting, span, error)
            return
        middle = (span.after + span.until) // 2
        await apply(connection, counting, span._replace(until=middle))
        parked = await parked_keys(connection, span.ledger_id, counting.name)
        await apply(connection, counting, span._replace(after=middle, parked=parked))


async def parked_keys(connection: Connection, ledger_id: UUID, projection: str) -> tuple[str, ...]:
    """Return the keys that are parked."""
    cursor = await connection.execute(
        "SELECT DISTINCT key FROM parked_events WHERE ledger_id = %s AND projection = %s", (ledger_id, projection)
    )
    return tuple(row["key"] for row in await cursor.fetchall())


async def _park(connection: Connection, counting: Counting, span: Span, error: Exception) -> None:
    log.error("event parked", projection=counting.name, position=span.until, error=repr(error))
    await _insert_parked(connection, counting, span, repr(error), "")


async def _park_waiting(connection: Connection, counting: Counting, span: Span) -> None:
    error = repr(ValueError("an earlier event of the same key is parked"))
    await _insert_parked(connection, counting, span, error, f"AND {counting.key} = ANY(%(parked)s)")


async def _insert_parked(connection: Connection, counting: Counting, span: Span, error: str, conditions: str) -> None:
    await connection.execute(
        f"""
        INSERT INTO parked_events (ledger_id, projection, key, position, error, parked_at)
        SELECT ledger_id, %(projection)s, {counting.key}, position, %(error)s, %(now)s FROM events
        WHERE ledger_id = %(ledger_id)s AND position > %(after)s AND position <= %(until)s
            AND type = ANY(%(types)s) {conditions}
        """,
        {
            **span._asdict(),
            "parked": list(span.parked),
            "projection": counting.name,
            "types": [tag(kind) for kind in counting.handles],
            "error": error,
            "now": clock.now(),
        },
    )


def tag(kind: type[Event]) -> str:
    """Return the tag by which the log names a kind of event."""
    return str(kind.__struct_config__.tag)


class Cut(NamedTuple):
    """What is left out of the text of an event, so that more of them are the same: from one name up to another.

    So is the basis of a decision, which stands last. `safe` tells that nothing is left out that counts: from the bytes
    before the cut, from the gap that it leaves, and from the rest behind it, up to the basis.
    """

    start: str
    end: str
    safe: str


# Many deliveries are the same text but for what does not count, so that they are grouped as they are, and each group is
# parsed once: twice as fast as parsing every entry. They are divided as bytes, where no character has to be told from
# the next. A text of another form than the writer's is parsed by itself (`whole`), and counts as well. No text within
# an entry contains a name: a quotation mark is written \" there.
_TEXTS: Final = """
    SELECT position, recorded_at, before, rest,
        CASE WHEN is_utc THEN substr(stored, occurred, 13)
            ELSE convert_to(entry ->> 'occurred_at', 'UTF8') END AS occurred,
        CASE WHEN start > 0 AND stop > start AND {safe}
                AND CASE basis WHEN 0 THEN rest LIKE '%%}}' ELSE position('}'::bytea IN rest) = 0 END
            THEN NULL ELSE entry ->> 'event' END AS whole
    FROM (
        SELECT *,
            substr(event, 1, greatest(start - 1, 0)) AS before,
            substr(event, start + {start_length}, greatest(stop - start - {start_length}, 0)) AS gap,
            CASE basis WHEN 0 THEN substr(event, stop + {end_length})
                ELSE substr(event, stop + {end_length}, greatest(basis - stop - {end_length}, 0)) END AS rest
        FROM (
            SELECT *,
                position('{start}'::bytea IN event) AS start,
                position('{end}'::bytea IN event) AS stop,
                position(',"basis":{'::bytea IN event) AS basis
            FROM (
                SELECT *,
                    position('"occurred_at":"'::bytea IN stored) + length('"occurred_at":"') AS occurred,
                    position('Z","recorded_at":"'::bytea IN stored) > 0 AS is_utc,
                    substr(stored, position('"event":'::bytea IN stored) + length('"event":')) AS event
                FROM (
                    SELECT position, recorded_at, entry, convert_to(entry::text, 'UTF8') AS stored FROM events
                    WHERE ledger_id = %(ledger_id)s AND position > %(after)s AND position <= %(until)s
                        AND type IN ({types}) {conditions}
                    OFFSET 0
                ) AS texts
                OFFSET 0
            ) AS opened
            OFFSET 0
        ) AS found
        OFFSET 0
    ) AS parts
"""

# Counts of one range fit into an int, and sums of those are made in half the time of others. What lacks what every
# delivery has is not counted: null is refused by the columns of the read models.
_COUNTED: Final = """
    SELECT {by},
        coalesce(sum(n::int) FILTER (WHERE event.type = 'impression_recorded' AND {counts}), 0) AS impressions,
        coalesce(sum(n::int) FILTER (WHERE event.type = 'impression_recorded' AND billed), 0) AS billed_impressions,
        coalesce(sum(n::int) FILTER (WHERE event.type = 'view_recorded' AND {counts}), 0) AS views,
        coalesce(sum(n::int) FILTER (WHERE event.type = 'click_recorded' AND {counts}), 0) AS clicks,
        coalesce(sum(n::int) FILTER (WHERE event.type = 'click_recorded' AND billed), 0) AS billed_clicks,
        {playback},
        coalesce(sum(n::int) FILTER (WHERE event.type = 'conversion_recorded'), 0) AS conversions,
        coalesce(sum(value_micros * n) FILTER (WHERE event.type = 'conversion_recorded'), 0)
            AS conversion_micros,
        CASE WHEN bool_and(event.type IS NOT NULL AND billed IS NOT NULL AND price_micros IS NOT NULL)
            THEN sum(CASE WHEN billed THEN price_micros * n ELSE 0 END) END AS spent_micros
    FROM (
        SELECT {text_by}, before, rest, whole,
            count(*) AS n, max(position) AS position, max(recorded_at) AS recorded_at
        FROM ({texts}) AS texts GROUP BY {text_group}
    ) AS grouped,
        json_to_record(
            coalesce(
                whole,
                convert_from(before || '{end}', 'UTF8')
                    || CASE WHEN rest LIKE '%%}}}}' THEN left(convert_from(rest, 'UTF8'), -1)
                        ELSE convert_from(rest, 'UTF8') || '}}' END
            )::json
        ) AS event (type text, {fields}, price_micros bigint, billed boolean,
            value_micros bigint)
    GROUP BY {group_by}
"""


_PLAYED: Final = ", ".join(
    f"coalesce(sum(n::int) FILTER (WHERE event.type = '{EVENT_OF[kind].__struct_config__.tag}'), 0) AS {kind}s"
    for kind in PLAYBACK
)


VALID: Final = "coalesce(reason, '') NOT LIKE 'invalid:%%'"
"""What tells the deliveries that are valid, where `reason` is one of the fields."""


def counted(
    span: Span,
    key: str,
    *,
    cut: Cut,
    text_by: Sequence[str],
    fields: str,
    by: str,
    columns: int,
    counts: str = "TRUE",
) -> str:
    """Return the statement that counts the deliveries of a range, for the parameters of `parameters`.

    `text_by` is what deliveries are grouped by before they are parsed, made of `position`, `recorded_at` and `occurred`
    (the bytes of its hour, `YYYY-MM-DDTHH`, or of the exact time). `fields` are those that are parsed, and their types.
    `by` is what a group has: as many columns as `columns` says are what it is grouped by, and the others are sums. What
    does not fulfil `counts` is no impression, view or click.
    """
    types = ", ".join(f"'{tag(kind)}'" for kind in DELIVERIES)
    texts = _TEXTS
    lengths = {"start_length": str(len(cut.start)), "end_length": str(len(cut.end))}
    for name, text in {**cut._asdict(), **lengths, "types": types, "conditions": conditions(span, key)}.items():
        texts = texts.replace(f"{{{name}}}", text)
    return _COUNTED.format(
        by=by,
        playback=_PLAYED,
        counts=counts,
        end=cut.end,
        fields=fields,
        text_by=", ".join(text_by),
        text_group=_numbers(len(text_by) + 3),
        texts=texts,
        group_by=_numbers(columns),
    )


def _numbers(count: int) -> str:
    return ", ".join(str(number) for number in range(1, count + 1))


def conditions(span: Span, key: str) -> str:
    """Return what entries of a span have to fulfil beside being in the range."""
    without = f" AND {key} <> ALL(%(parked)s)" if span.parked else ""
    return without + (" AND position = ANY(%(only)s)" if span.only is not None else "")


def parameters(span: Span) -> dict[str, Any]:
    """Return the parameters of a statement about a span."""
    only = None if span.only is None else list(span.only)
    return {**span._asdict(), "parked": list(span.parked), "only": only}


async def row_of(connection: Connection, statement: str, values: dict[str, Any]) -> DictRow:
    """Return the one row of a statement."""
    row = await (await connection.execute(statement.encode(), values)).fetchone()
    assert row is not None  # noqa: S101  an aggregate has one
    return row


async def recount(connection: Connection, counting: Counting, ledger_id: UUID, positions: Sequence[int]) -> None:
    """Count entries that were parked, and add them."""
    span = Span(ledger_id, positions[0] - 1, positions[-1], only=tuple(positions))
    await counting.add(connection, ledger_id, await counting.tally(connection, span))
