"""Statements composed with SQLAlchemy Core, and how one runs on a connection."""

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from sqlalchemy import ClauseElement
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from infra.database import Connection, as_structs

T = TypeVar("T")

_DIALECT: Final = PGDialect_psycopg()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped


def composed(statement: ClauseElement) -> tuple[str, Mapping[str, Any]]:
    """Return the text and the parameters of a statement composed with SQLAlchemy Core."""
    compiled = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    return str(compiled), compiled.params


async def fetch(connection: Connection, statement: ClauseElement, kind: type[T]) -> list[T]:
    """Run a composed statement and return its rows as structs of `kind`."""
    text, parameters = composed(statement)
    cursor = await connection.execute(text, parameters)
    return as_structs(await cursor.fetchall(), kind)
