"""Connections to PostgreSQL, and how a statement composed with SQLAlchemy Core runs on one."""

import select
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import set_json_dumps, set_json_loads
from psycopg_pool import AsyncConnectionPool
from sqlalchemy import ClauseElement
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

Connection = psycopg.AsyncConnection[DictRow]
Pool = AsyncConnectionPool[Connection]
T = TypeVar("T")

APPLICATION_ROLE: Final = "ledger_app"
"""The role that every connection of the service takes: it may append to the log, and neither update nor delete."""

CONNECT_TIMEOUT_SECONDS: Final = 10
IDLE_IN_TRANSACTION_SECONDS_MAX: Final = 60
"""For so long a process that is frozen in a transaction may keep others waiting for what it has locked."""

DURABILITY: Final = ("fsync", "full_page_writes", "synchronous_commit")
"""The settings without which an answer does not mean that it is durable."""

_DIALECT: Final = PGDialect_psycopg()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped

set_json_dumps(msgspec.json.encode)
set_json_loads(msgspec.json.decode)


class NotDurable(Exception):
    """PostgreSQL would lose what it has confirmed: {settings} must not be off."""

    def __init__(self, names: Sequence[str]) -> None:
        """Name the settings that are off."""
        super().__init__(str(self.__doc__).format(settings=" and ".join(names)))


def open_pool(url: str, *, size_max: int = 10, size_min: int = 1) -> Pool:
    """Return a pool that is not yet open (`async with` it) of connections in autocommit mode and the service's role."""
    return AsyncConnectionPool(
        url,
        min_size=size_min,
        max_size=size_max,
        open=False,
        timeout=CONNECT_TIMEOUT_SECONDS,
        check=_check,
        connection_class=psycopg.AsyncConnection[DictRow],
        kwargs={
            "autocommit": True,
            "row_factory": dict_row,
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            # Plans for array parameters go wrong when they are made for fresh, empty tables and then kept.
            "options": f"-c role={APPLICATION_ROLE} -c plan_cache_mode=force_custom_plan -c timezone=UTC",
        },
    )


async def _check(connection: Connection) -> None:
    """Raise psycopg.OperationalError when the server has left; it is asked only if it has said something meanwhile."""
    said = select.poll()
    said.register(connection.fileno(), select.POLLIN)
    if said.poll(0):
        await Pool.check_connection(connection)


async def connect(url: str, *, idle_in_transaction_seconds: int = IDLE_IN_TRANSACTION_SECONDS_MAX) -> Connection:
    """Return a connection of its own, in autocommit mode and the service's role."""
    settings = f"-c role={APPLICATION_ROLE} -c timezone=UTC"
    return await psycopg.AsyncConnection[DictRow].connect(
        url,
        autocommit=True,
        row_factory=dict_row,
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        options=f"{settings} -c idle_in_transaction_session_timeout={idle_in_transaction_seconds}s",
    )


async def check_durability(connection: Connection) -> None:
    """Raise NotDurable when the server does not keep what it has confirmed through a crash."""
    cursor = await connection.execute(
        "SELECT name FROM pg_settings WHERE name = ANY(%s) AND setting = 'off' ORDER BY name", (list(DURABILITY),)
    )
    off = [str(row["name"]) for row in await cursor.fetchall()]
    if off:
        raise NotDurable(off)


def composed(statement: ClauseElement) -> tuple[str, Mapping[str, Any]]:
    """Return the text and the parameters of a statement composed with SQLAlchemy Core."""
    compiled = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    return str(compiled), compiled.params


async def fetch(connection: Connection, statement: ClauseElement, kind: type[T]) -> list[T]:
    """Run a composed statement and return its rows as structs of `kind`."""
    text, parameters = composed(statement)
    cursor = await connection.execute(text, parameters)
    return as_structs(await cursor.fetchall(), kind)


def as_structs(rows: Sequence[DictRow], kind: type[T]) -> list[T]:
    """Return rows, whose columns are named as the fields of a struct, as structs of `kind`."""
    return msgspec.convert(rows, list[kind])  # type: ignore[valid-type]  # a type that is only known at run time
