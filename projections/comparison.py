"""What tells a read model from the same one made anew: rows, sums, checksums by bucket, then the differing keys."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from msgspec import Struct
from psycopg.rows import DictRow
from sqlalchemy import BigInteger, Table

from infra.database import Connection

BUCKETS: Final = 256
DIFFERENCES_MAX: Final = 100
"""How many differing keys are shown; all are counted."""

POSITIONS: Final = frozenset({"position"})
"""Numbers that are no amounts: there is no sense in their sum."""


class Side(Struct, frozen=True, kw_only=True):
    """One of the two tables that are compared: how many rows, and the sum of each amount."""

    rows: int
    sums: dict[str, int]


class Difference(Struct, frozen=True, kw_only=True):
    """A key whose rows differ, and the columns in which they do; null where there is no row."""

    key: dict[str, Any]
    live: dict[str, Any] | None
    anew: dict[str, Any] | None


class Comparison(Struct, frozen=True, kw_only=True):
    """A read model beside the same one made anew, both at the same position of each ledger."""

    projection: str
    live_version: int
    version: int
    positions: dict[UUID, int]
    live: Side
    anew: Side
    buckets: int
    differing_buckets: int
    differing_keys: int
    differences: list[Difference]


async def compared(
    connection: Connection,
    table: Table,
    *,
    schemas: tuple[str, str],
    projection: str,
    versions: tuple[int, int],
    positions: Mapping[UUID, int],
) -> Comparison:
    """Compare the tables of one name in two schemas: the live one, and the one made anew."""
    live, anew = [await _buckets(connection, table, schema) for schema in schemas]
    differing = [bucket for bucket in live.keys() | anew.keys() if live.get(bucket) != anew.get(bucket)]
    rows = await _differing_rows(connection, table, schemas, differing) if differing else []
    return Comparison(
        projection=projection,
        live_version=versions[0],
        version=versions[1],
        positions=dict(positions),
        live=_side(table, live.values()),
        anew=_side(table, anew.values()),
        buckets=BUCKETS,
        differing_buckets=len(differing),
        differing_keys=rows[0]["differing"] if rows else 0,
        differences=[_difference(table, row) for row in rows],
    )


async def _buckets(connection: Connection, table: Table, schema: str) -> dict[int, DictRow]:
    """Return count, sums and checksum of each bucket of keys that has rows."""
    sums = "".join(f", sum({name}) AS {name}" for name in _amounts(table))
    checksum = f"bit_xor(hashtextextended({_row(table)}, 0))"
    cursor = await connection.execute(f"""
        SELECT {_bucket(table)} AS bucket, count(*) AS rows, {checksum} AS checksum{sums}
        FROM {schema}.{table.name} GROUP BY 1
    """)
    return {row.pop("bucket"): row for row in await cursor.fetchall()}


async def _differing_rows(
    connection: Connection, table: Table, schemas: tuple[str, str], buckets: Sequence[int]
) -> list[DictRow]:
    """Return the first rows of these buckets that differ or are on one side only, each with how many there are."""
    keys = ", ".join(_keys(table))
    live, anew = (
        f"(SELECT {keys}, {_row(table)} AS text, to_jsonb(whole) AS row FROM {schema}.{table.name} AS whole"
        f" WHERE {_bucket(table)} = ANY(%(buckets)s))"
        for schema in schemas
    )
    cursor = await connection.execute(
        f"""
        SELECT live.row AS live, anew.row AS anew, count(*) OVER () AS differing
        FROM {live} AS live FULL JOIN {anew} AS anew USING ({keys})
        WHERE live.text IS DISTINCT FROM anew.text
        ORDER BY {keys} LIMIT {DIFFERENCES_MAX}
        """,
        {"buckets": list(buckets)},
    )
    return await cursor.fetchall()


def _difference(table: Table, row: DictRow) -> Difference:
    live, anew = row["live"], row["anew"]
    whole: Mapping[str, Any] = live or anew
    differing = {name for name in whole if live is None or anew is None or live[name] != anew[name]}
    differing -= set(_keys(table))
    return Difference(
        key={name: whole[name] for name in _keys(table)},
        live=None if live is None else {name: live[name] for name in sorted(differing)},
        anew=None if anew is None else {name: anew[name] for name in sorted(differing)},
    )


def _side(table: Table, buckets: Iterable[DictRow]) -> Side:
    found = list(buckets)
    amounts = {name: sum(int(bucket[name] or 0) for bucket in found) for name in _amounts(table)}
    return Side(rows=sum(bucket["rows"] for bucket in found), sums=amounts)


def _keys(table: Table) -> list[str]:
    return [column.name for column in table.primary_key]


def _amounts(table: Table) -> list[str]:
    return [
        column.name for column in table.columns if isinstance(column.type, BigInteger) and column.name not in POSITIONS
    ]


def _row(table: Table) -> str:
    return f"ROW({', '.join(column.name for column in table.columns)})::text"


def _bucket(table: Table) -> str:
    return f"hashtextextended(ROW({', '.join(_keys(table))})::text, 0) & {BUCKETS - 1}"
