"""The wall between ledgers: without a condition in the query, a web worker sees nothing of the neighbour."""

from collections.abc import AsyncIterator
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from infra import clock
from infra.database import APPLICATION_ROLE, Connection, Pool, connect_to, open_pool, see, viewing
from infra.event_log import create_ledger, read_head
from infra.tables import metadata
from projections import catalogue
from tests.infra.test_schema import WITHOUT_WALL
from tests.writing import appending, drafted, new_ledger, owning, rows, writing

VALUES = {
    "uuid": "gen_random_uuid()",
    "text": "''",
    "integer": "1",
    "smallint": "1",
    "bigint": "1",
    "boolean": "false",
    "bytea": "sha256(gen_random_uuid()::text::bytea)",
    "date": "now()",
    "timestamp with time zone": "now()",
    "json": "'{}'",
    "jsonb": "'{}'",
    "ARRAY": "'{}'",
}
"""A value of each type of column, in SQL."""

COLUMNS = """
    SELECT table_name, column_name, data_type FROM information_schema.columns
    JOIN information_schema.tables USING (table_schema, table_name)
    WHERE table_schema = 'public' AND table_type = 'BASE TABLE' ORDER BY table_name, ordinal_position
"""


@pytest.fixture
async def walled(database_url: str) -> AsyncIterator[Pool]:
    """The connections of a web worker."""
    async with open_pool(database_url, role=APPLICATION_ROLE, size_max=2) as pool:
        yield pool


async def walled_tables(owner: Connection) -> dict[str, dict[str, str]]:
    """Return the columns, with their types, of every table that is to have a wall."""
    found: dict[str, dict[str, str]] = {}
    for row in await rows(owner, COLUMNS):
        if row["table_name"] not in WITHOUT_WALL:
            found.setdefault(row["table_name"], {})[row["column_name"]] = row["data_type"]
    return found


async def fill(owner: Connection, table: str, columns: dict[str, str], ledger_id: UUID) -> None:
    """Put a row of a ledger into a table, whatever is in it."""
    values = [
        sql.Literal(str(ledger_id)) if name == "ledger_id" else sql.SQL(VALUES[kind]) for name, kind in columns.items()
    ]
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    insert = sql.SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT DO NOTHING")
    await owner.execute(insert.format(sql.Identifier(table), names, sql.SQL(", ").join(values)))


async def test_without_the_first_wall_nothing_is_seen_of_the_neighbour(
    database_url: str, walled: Pool, ledger_id: UUID
) -> None:
    """Of every table of the catalogue, a query without any condition shows the rows of the one ledger in view."""
    assert catalogue.PROJECTIONS  # importing the read models declares their tables
    async with owning(database_url) as owner, walled.connection() as connection:
        tables = await walled_tables(owner)
        assert set(tables) == set(metadata.tables) - WITHOUT_WALL
        neighbour = await new_ledger(owner)
        for table, columns in tables.items():
            for each in (ledger_id, neighbour):
                await fill(owner, table, columns, each)
            found = sql.SQL("SELECT DISTINCT ledger_id FROM {}").format(sql.Identifier(table))
            for each in (ledger_id, neighbour):
                await see(connection, each)
                seen = await (await connection.execute(found)).fetchall()
                assert [row["ledger_id"] for row in seen] == [each], table
            await see(connection, None)
            assert await (await connection.execute(found)).fetchall() == [], table


async def test_nothing_of_the_neighbour_is_written(database_url: str, walled: Pool, ledger_id: UUID) -> None:
    """No row of another ledger can be added, changed or taken away, whatever the rights of the role."""
    async with owning(database_url) as owner, walled.connection() as connection:
        tables = await walled_tables(owner)
        neighbour = await new_ledger(owner)
        for table, columns in tables.items():
            await fill(owner, table, columns, neighbour)
            await see(connection, ledger_id)
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
                await fill(connection, table, columns, neighbour)
            rights = await rows(owner, "SELECT has_table_privilege(%s, %s, 'UPDATE') AS may", APPLICATION_ROLE, table)
            if rights[0]["may"]:
                update = sql.SQL("UPDATE {} SET ledger_id = ledger_id").format(sql.Identifier(table))
                await connection.execute(update)
                theft = sql.SQL("UPDATE {} SET ledger_id = {} WHERE ledger_id = {}")
                stolen = theft.format(sql.Identifier(table), sql.Literal(str(ledger_id)), sql.Literal(str(neighbour)))
                assert (await connection.execute(stolen)).rowcount == 0, table


async def test_a_pooled_connection_turns_to_whoever_asks(walled: Pool, database_url: str, ledger_id: UUID) -> None:
    """What a connection was used for before is out of view for whoever gets it next, and nobody sees nothing."""
    async with owning(database_url) as owner:
        neighbour = await new_ledger(owner)
    for each in (ledger_id, neighbour, None, neighbour):
        for _ in range(3):
            with viewing(each):
                connection = await walled.getconn()
            try:
                assert connection.looks_at == each
                heads = await rows(connection, "SELECT ledger_id FROM ledger_heads")
                assert [row["ledger_id"] for row in heads] == ([] if each is None else [each])
            finally:
                await walled.putconn(connection)


async def test_a_ledger_can_be_begun_beside_the_one_in_view(walled: Pool, ledger_id: UUID) -> None:
    """Whoever begins another ledger goes on seeing their own, whether it came to be or not."""
    another = clock.fresh_id()
    async with walled.connection() as connection:
        await see(connection, ledger_id)
        await create_ledger(connection, another, "another", clock.now())
        with pytest.raises(psycopg.errors.UniqueViolation):
            await create_ledger(connection, another, "another", clock.now())
        assert [row["ledger_id"] for row in await rows(connection, "SELECT ledger_id FROM ledger_heads")] == [ledger_id]


async def test_the_writer_appends_to_each_ledger_in_turn(database_url: str, pool: Pool, ledger_id: UUID) -> None:
    """One writer of one connection appends to several ledgers, in one round as well."""
    async with pool.connection() as connection, writing(database_url) as writer:
        neighbour = await new_ledger(connection)
        for number in range(3):
            for each in (ledger_id, neighbour):
                await writer.append(appending(each, clock.fresh_id(), drafted()))
                assert (await read_head(connection, each)).position == number + 1
    async with await connect_to(database_url, neighbour) as connection:
        assert {row["ledger_id"] for row in await rows(connection, "SELECT ledger_id FROM events")} == {neighbour}
