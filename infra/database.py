"""Connections to PostgreSQL."""

import select
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, TypeVar
from uuid import UUID

import msgspec
import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import set_json_dumps, set_json_loads
from psycopg_pool import AsyncConnectionPool


class Connection(psycopg.AsyncConnection[DictRow]):
    """A connection that knows which ledger it looks at: none before it is told."""

    looks_at: UUID | None = None


@dataclass
class View:
    """The ledger of whoever is being answered, to which connections from a pool are turned; none before it is known."""

    ledger_id: UUID | None = None


Pool = AsyncConnectionPool[Connection]
T = TypeVar("T")

APPLICATION_ROLE: Final = "ledger_app"
"""The role of web workers: of what is a ledger's it sees that of the one ledger a connection looks at (see `see`).

Like the one below it may append to the log, and neither update nor delete.
"""

WORKER_ROLE: Final = "ledger_worker"
"""The role of background work and of the command line: it sees every ledger."""

_views: Final[ContextVar["View | None"]] = ContextVar("views", default=None)

CONNECT_TIMEOUT_SECONDS: Final = 10
IDLE_IN_TRANSACTION_SECONDS_MAX: Final = 60
"""For so long a process that is frozen in a transaction may keep others waiting for what it has locked."""

DURABILITY: Final = ("fsync", "full_page_writes", "synchronous_commit")
"""The settings without which an answer does not mean that it is durable."""

set_json_dumps(msgspec.json.encode)
set_json_loads(msgspec.json.decode)


class NotDurable(Exception):
    """PostgreSQL would lose what it has confirmed: {settings} must not be off."""

    def __init__(self, names: Sequence[str]) -> None:
        """Name the settings that are off."""
        super().__init__(str(self.__doc__).format(settings=" and ".join(names)))


def open_pool(url: str, *, size_max: int = 10, size_min: int = 1, role: str = WORKER_ROLE) -> Pool:
    """Return a pool that is not yet open (`async with` it) of connections in autocommit mode.

    Those of the application's role see what is in view (see `look_at`), and else nothing of any ledger.
    """
    return AsyncConnectionPool(
        url,
        min_size=size_min,
        max_size=size_max,
        open=False,
        timeout=CONNECT_TIMEOUT_SECONDS,
        check=_check,
        connection_class=Connection,
        kwargs={
            "autocommit": True,
            "row_factory": dict_row,
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            # Plans for array parameters go wrong when they are made for fresh, empty tables and then kept.
            "options": f"-c role={role} -c plan_cache_mode=force_custom_plan -c timezone=UTC",
        },
    )


async def _check(connection: Connection) -> None:
    """Turn a connection to the ledger that is in view, if it looked at another; raise when the server has left.

    The server is asked whether it is there only if it has said something meanwhile.
    """
    said = select.poll()
    said.register(connection.fileno(), select.POLLIN)
    if said.poll(0):
        await Pool.check_connection(connection)
    view = _views.get()
    await see(connection, None if view is None else view.ledger_id)


@contextmanager
def viewing(ledger_id: UUID | None = None) -> Iterator[None]:
    """Begin a view, which all tasks and threads that begin within it share."""
    token = _views.set(View(ledger_id))
    try:
        yield
    finally:
        _views.reset(token)


def look_at(ledger_id: UUID) -> None:
    """Bring a ledger into view."""
    view = _views.get()
    assert view is not None  # noqa: S101  whoever is answered has one
    view.ledger_id = ledger_id


async def see(connection: Connection, ledger_id: UUID | None) -> None:
    """Let row-level security show a connection one ledger, or (None) nothing of any; a transaction: until it ends."""
    within = connection.pgconn.transaction_status != TransactionStatus.IDLE
    if within or connection.looks_at != ledger_id:
        await connection.execute("SELECT set_config('ledger.id', %s, %s)", (str(ledger_id or ""), within))
        connection.looks_at = connection.looks_at if within else ledger_id


@asynccontextmanager
async def seeing(connection: Connection, ledger_id: UUID) -> AsyncIterator[None]:
    """Show a connection another ledger for a part of its transaction."""
    await see(connection, ledger_id)
    yield
    await see(connection, connection.looks_at)


async def connect(
    url: str, *, role: str = WORKER_ROLE, idle_in_transaction_seconds: int = IDLE_IN_TRANSACTION_SECONDS_MAX
) -> Connection:
    """Return a connection of its own, in autocommit mode."""
    settings = f"-c role={role} -c timezone=UTC"
    return await Connection.connect(
        url,
        autocommit=True,
        row_factory=dict_row,
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        options=f"{settings} -c idle_in_transaction_session_timeout={idle_in_transaction_seconds}s",
    )


async def connect_to(url: str, ledger_id: UUID) -> Connection:
    """Return a connection of its own that sees one ledger, for good."""
    connection = await connect(url, role=APPLICATION_ROLE)
    await see(connection, ledger_id)
    return connection


async def check_durability(connection: Connection) -> None:
    """Raise NotDurable when the server does not keep what it has confirmed through a crash."""
    cursor = await connection.execute(
        "SELECT name FROM pg_settings WHERE name = ANY(%s) AND setting = 'off' ORDER BY name", (list(DURABILITY),)
    )
    off = [str(row["name"]) for row in await cursor.fetchall()]
    if off:
        raise NotDurable(off)


def as_structs(rows: Sequence[DictRow], kind: type[T]) -> list[T]:
    """Return rows, whose columns are named as the fields of a struct, as structs of `kind`."""
    return msgspec.convert(rows, list[kind])  # type: ignore[valid-type]  # a type that is only known at run time
