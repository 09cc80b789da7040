"""The raw INSERT that appending is measured beside: the same rows, the same table and indexes, nothing decided."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from time import perf_counter
from typing import Any

import psycopg

from domain.decider import stream_of
from domain.delivery import Ticket
from domain.events import Entry, ImpressionRecorded
from infra import clock, schema
from infra.event_log import encode_entry, type_of

COLUMNS = 7
_ROW = f"({', '.join(['%s'] * COLUMNS)})"


class RawTable:
    """The table `events` of another database on the same PostgreSQL."""

    def __init__(self, connection: psycopg.Connection) -> None:
        """Begin with an empty table."""
        self._connection = connection
        self._ledger_id = clock.fresh_id()
        self._position = 0

    def insert(self, tickets: Sequence[Ticket], *, batch: int) -> float:
        """Insert an impression of each ticket, `batch` rows a statement and a commit; return rows a second."""
        rows = [self._row(ticket) for ticket in tickets]
        batches = [
            [value for row in rows[first : first + batch] for value in row] for first in range(0, len(rows), batch)
        ]
        statement = f"INSERT INTO events VALUES {', '.join([_ROW] * batch)}".encode()
        started = perf_counter()
        for values in batches:
            self._connection.execute(statement, values, prepare=True)
        return len(rows) / (perf_counter() - started)

    def _row(self, ticket: Ticket) -> tuple[Any, ...]:
        self._position += 1
        entry = entry_of(ticket)
        return (
            *(self._ledger_id, self._position, entry.stream, entry.version, type_of(entry)),
            *(entry.recorded_at, encode_entry(entry).decode()),
        )


@contextmanager
def table(url: str) -> Iterator[RawTable]:
    """A database of its own, migrated like ours, on the server of `url`."""
    name = f"raw_{clock.fresh_id().hex}"
    other = url.replace("/ledger?", f"/{name}?")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
        schema.migrate(other)
        try:
            # Parameters sent beside a prepared statement: measured twice as fast as values written into its text.
            with psycopg.connect(other, autocommit=True) as inserting:
                yield RawTable(inserting)
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def entry_of(ticket: Ticket) -> Entry:
    """Return an entry like that of an impression of a ticket."""
    now = clock.now()
    names = set(ImpressionRecorded.__struct_fields__) & set(Ticket.__struct_fields__)
    event = ImpressionRecorded(**{name: getattr(ticket, name) for name in names}, price_micros=2_000, billed=True)
    return Entry(
        stream=stream_of("decision", ticket.decision_id),
        version=1,
        actor=f"slot:{ticket.slot_id}",
        occurred_at=now - timedelta(milliseconds=5),
        recorded_at=now,
        event=event,
    )
