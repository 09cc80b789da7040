"""The log: how entries are read from PostgreSQL and how a batch of them is inserted.

An entry is stored once, as the JSON text that is hashed. Reading never skips one: positions are given out under the
lock of the ledger's head, gapless and in the order of commits.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from msgspec import Struct
from psycopg.rows import tuple_row

from domain.errors import Refusal
from domain.events import Entry, Event
from infra.database import Connection, seeing

CHANNEL: Final = "ledger_appended"
"""Where one notification a batch says that a ledger has grown; its payload is the ledger's id."""

CATALOGUE: Final = (
    "stream_id !~~ 'decision-%%' AND stream_id !~~ 'requests-%%' AND stream_id !~~ 'conversion-%%'"
    " AND stream_id !~~ 'access-%%'"
)
"""What tells the entries of commands, which make the catalogue, from those of traffic: the predicate of an index."""

SECURITY: Final = "(stream_id ~~ 'access-%%' OR type = 'slot_key_issued' OR type = 'slot_key_revoked')"
"""What tells the entries about people and keys from all others: the predicate of another index."""

ENTRY_BYTES_MAX: Final = 60_000
PAGE_ENTRIES: Final = 5_000

encode_entry: Final = msgspec.json.Encoder().encode
decode_entry: Final = msgspec.json.Decoder(Entry).decode


class Recorded(Struct, frozen=True, kw_only=True):
    """An entry and where in the log it stands."""

    position: int
    entry: Entry


class EntryTooLarge(Refusal):
    """What was asked for makes a larger entry than the log takes."""

    code = "entry_too_large"


class Head(Struct, frozen=True, kw_only=True):
    """The end of a log: its last position, the last one that a command wrote, and when it was last written to.

    Before that moment nothing is recorded any more. Leases move it as well, though they write no entry.
    """

    position: int
    command_position: int
    recorded_at: datetime


LOCK_HEAD: Final = """
    SELECT position, command_position, recorded_at FROM ledger_heads WHERE ledger_id = %(ledger_id)s FOR UPDATE
"""

# The texts of a batch arrive joined by line feeds, which no name and no JSON text contains: the cheapest form to send.
INSERT_EVENTS: Final = """
    INSERT INTO events (ledger_id, position, stream_id, version, type, recorded_at, entry)
    SELECT %(ledger_id)s, %(position)s + number, stream_id, version, type, %(recorded_at)s, entry
    FROM unnest(
        string_to_array(%(streams)s, E'\\n'),
        string_to_array(%(versions)s, E'\\n')::int[],
        string_to_array(%(types)s, E'\\n'),
        string_to_array(%(entries)s, E'\\n')::json[]
    ) WITH ORDINALITY AS batch (stream_id, version, type, entry, number)
"""

MOVE_HEAD: Final = """
    UPDATE ledger_heads
    SET position = %(position)s, command_position = %(command_position)s, recorded_at = %(recorded_at)s
    WHERE ledger_id = %(ledger_id)s
"""

# A limit within the lateral keeps the planner on the unique index, a look-up a stream, also while the table is new and
# unanalysed; without it the look-ups become a join with the whole log (100 ms for 1,000 streams among 180,000 events).
STREAM_VERSIONS: Final = """
    SELECT wanted.stream_id, last.version
    FROM unnest(string_to_array(%(streams)s, E'\\n')) AS wanted (stream_id)
    CROSS JOIN LATERAL (
        SELECT version FROM events
        WHERE ledger_id = %(ledger_id)s AND stream_id = wanted.stream_id
        ORDER BY version DESC LIMIT 1
    ) AS last
"""

DECISION_EVENTS: Final = """
    SELECT wanted.stream_id, recorded.type, recorded.reason
    FROM unnest(string_to_array(%(streams)s, E'\\n')) AS wanted (stream_id)
    CROSS JOIN LATERAL (
        SELECT type, entry #>> '{event,reason}' AS reason FROM events
        WHERE ledger_id = %(ledger_id)s AND stream_id = wanted.stream_id
        ORDER BY version LIMIT 100
    ) AS recorded
"""


def insert_parameters(ledger_id: UUID, after: int, entries: Sequence[Entry]) -> Mapping[str, object]:
    """Return the parameters of INSERT_EVENTS for entries that follow the position `after`."""
    return {
        "ledger_id": ledger_id,
        "position": after,
        "recorded_at": entries[0].recorded_at,
        "streams": "\n".join([entry.stream for entry in entries]),
        "versions": "\n".join([str(entry.version) for entry in entries]),
        "types": "\n".join([type_of(entry) for entry in entries]),
        "entries": b"\n".join([encode_entry(entry) for entry in entries]).decode(),
    }


def check_size(entries: Iterable[Entry]) -> None:
    """Raise EntryTooLarge when the log does not take one of these entries."""
    for entry in entries:
        if len(encode_entry(entry)) > ENTRY_BYTES_MAX:
            raise EntryTooLarge(f"An entry of the log has at most {ENTRY_BYTES_MAX:,} bytes; ask for less at once.")


def type_of(entry: Entry) -> str:
    """Return the tag of an entry's event."""
    return str(entry.event.__struct_config__.tag)


async def create_ledger(connection: Connection, ledger_id: UUID, name: str, now: datetime) -> None:
    """Begin a ledger with an empty log, and tell those who serve ledgers; its owner is called by its id at first."""
    async with connection.transaction():
        await connection.execute(
            "INSERT INTO ledgers (ledger_id, name, created_at, slug, timezone) VALUES (%s, %s, %s, %s, 'UTC')",
            (ledger_id, name, now, str(ledger_id)),
        )
        async with seeing(connection, ledger_id):
            await connection.execute(
                "INSERT INTO ledger_heads (ledger_id, position, command_position, recorded_at) VALUES (%s, 0, 0, %s)",
                (ledger_id, now),
            )
        await connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, str(ledger_id)))


async def read_head(connection: Connection, ledger_id: UUID) -> Head:
    """Return the end of a log."""
    cursor = await connection.execute(
        "SELECT position, command_position, recorded_at FROM ledger_heads WHERE ledger_id = %s", (ledger_id,)
    )
    return msgspec.convert(await cursor.fetchone(), Head)


async def read_recorded_at(connection: Connection, ledger_id: UUID, position: int) -> datetime:
    """Return when the entry at a position was recorded."""
    cursor = await connection.execute(
        "SELECT recorded_at FROM events WHERE ledger_id = %s AND position = %s", (ledger_id, position)
    )
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101  positions have no gaps, and the log is never cut
    recorded_at: datetime = row["recorded_at"]
    return recorded_at


async def read_streams(connection: Connection, ledger_id: UUID, streams: Iterable[str]) -> dict[str, list[Recorded]]:
    """Return the entries of streams, in the order of their versions; a stream that has not begun is empty."""
    found: dict[str, list[Recorded]] = {stream: [] for stream in streams}
    cursor = await connection.execute(
        """
        SELECT stream_id, position, entry::text AS entry FROM events
        WHERE ledger_id = %(ledger_id)s AND stream_id = ANY(%(streams)s) ORDER BY stream_id, version
        """,
        {"ledger_id": ledger_id, "streams": list(found)},
    )
    for row in await cursor.fetchall():
        found[row["stream_id"]].append(Recorded(position=row["position"], entry=decode_entry(row["entry"])))
    return found


class Text(Struct, frozen=True, kw_only=True):
    """An entry's exact text, and where in the log it stands."""

    position: int
    entry: str


async def read_texts(
    connection: Connection,
    ledger_id: UUID,
    position: int,
    *,
    until: int | None = None,
    catalogue_only: bool = False,
    event_type: str | None = None,
    stream: str | None = None,
    actor: str | None = None,
    limit: int = PAGE_ENTRIES,
) -> list[Text]:
    """Return up to `limit` entries after a position, none of them after `until`, in order.

    `catalogue_only` leaves out all but what commands decided; `event_type`, `stream` and `actor` leave those
    of one.
    """
    # The predicate is that of a partial index: the catalogue is read without passing over millions of deliveries.
    conditions = f"AND {CATALOGUE}" if catalogue_only else ""
    conditions += " AND position <= %(until)s" if until is not None else ""
    conditions += " AND type = %(event_type)s" if event_type is not None else ""
    conditions += " AND stream_id = %(stream)s" if stream is not None else ""
    conditions += " AND entry ->> 'actor' = %(actor)s" if actor is not None else ""
    cursor = connection.cursor(row_factory=tuple_row)
    await cursor.execute(
        f"""
        SELECT position, entry::text FROM events
        WHERE ledger_id = %(ledger_id)s AND position > %(position)s {conditions}
        ORDER BY position LIMIT %(limit)s
        """,
        {
            "ledger_id": ledger_id,
            "position": position,
            "until": until,
            "event_type": event_type,
            "stream": stream,
            "actor": actor,
            "limit": limit,
        },
    )
    return [Text(position=position, entry=entry) for position, entry in await cursor.fetchall()]


async def read_last(connection: Connection, ledger_id: UUID, kind: type[Event], *, limit: int) -> list[Recorded]:
    """Return the last entries of a type that commands write, in order."""
    cursor = await connection.execute(
        f"""
        SELECT position, entry::text AS entry FROM events
        WHERE ledger_id = %s AND {CATALOGUE} AND type = %s ORDER BY position DESC LIMIT %s
        """,
        (ledger_id, str(kind.__struct_config__.tag), limit),
    )
    rows = reversed(await cursor.fetchall())
    return [Recorded(position=row["position"], entry=decode_entry(row["entry"])) for row in rows]


async def read_catalogue(connection: Connection, ledger_id: UUID, position: int) -> AsyncIterator[Recorded]:
    """Yield every entry after a position but those of traffic, in order."""
    while page := await read_texts(connection, ledger_id, position, catalogue_only=True):
        for text in page:
            yield Recorded(position=text.position, entry=decode_entry(text.entry))
        position = page[-1].position
