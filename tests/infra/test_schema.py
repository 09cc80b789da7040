"""The schema: what the migrations make is what the tables declare, however often and by how many it is made."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool

from infra import account_tables, schema
from infra.database import APPLICATION_ROLE, WORKER_ROLE, Pool, connect, open_pool
from infra.tables import metadata
from projections import catalogue
from tests.databases import fresh_database
from tests.writing import owning, rows

WITHOUT_LEDGER = {"alembic_version", "login_attempts", "people", "provider_links", "second_factors", "spent_codes"}
"""The one is Alembic's; the others are about people, who may belong to several ledgers, and about how they sign in."""

WITHOUT_WALL = WITHOUT_LEDGER | {"account_tokens", "ledgers", "members", "refresh_tokens"}
"""What tells which ledgers there are, and who belongs where: it is looked up before that is known."""

STRUCTURE = """
    SELECT table_name, column_name, ordinal_position, is_nullable, data_type, column_default,
        col_description(format('public.%I', table_name)::regclass, ordinal_position::int) AS comment
    FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'alembic_version'
    UNION ALL
    SELECT tablename, indexname, 0, '', '', indexdef, NULL
    FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version'
    UNION ALL
    SELECT relname, relname, 0, '', '', '', obj_description(oid)
    FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version'
    ORDER BY 1, 2
"""

RIGHTS = """
    SELECT relname, array_agg(privilege_type::text ORDER BY privilege_type) AS rights
    FROM pg_class, aclexplode(relacl)
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND grantee = %s::regrole
    GROUP BY relname
"""


def engine_of(url: str) -> Engine:
    """Return SQLAlchemy's way to a database."""
    return create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=NullPool)


@pytest.fixture
def empty_url(cluster_url: str) -> Iterator[str]:
    """A database that was never migrated."""
    with fresh_database(cluster_url, "template0") as url:
        yield url


def structure(url: str) -> list[tuple[Any, ...]]:
    """Return all columns, indexes and comments of a database."""
    with psycopg.connect(url) as connection:
        return connection.execute(STRUCTURE.encode()).fetchall()


def test_alembic_finds_nothing_left_to_migrate(database_url: str) -> None:
    """The migrations leave nothing that Alembic would want to change."""
    assert catalogue.PROJECTIONS  # importing the read models declares their tables
    assert account_tables.invitations.metadata is metadata
    with engine_of(database_url).connect() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []


def test_the_migrated_schema_is_the_declared_one(database_url: str, empty_url: str) -> None:
    """The migrations make what the tables would make directly: columns in their order, comments, partial indexes."""
    with engine_of(empty_url).begin() as connection:
        metadata.create_all(connection)
    assert structure(database_url) == structure(empty_url)


def test_migrating_at_once_and_again_is_harmless(empty_url: str) -> None:
    """Several processes may migrate the same database at the same time, and it may be done over and over."""
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(schema.migrate, [empty_url] * 4))
    migrated = structure(empty_url)
    schema.migrate(empty_url)
    assert structure(empty_url) == migrated
    assert {table for table, *_ in migrated} == {*metadata.tables, "users"}


def test_the_newest_revision_is_the_one_that_alembic_ends_with() -> None:
    """What the names of the files say of the revisions is what is in them."""
    scripts = ScriptDirectory(str(files("migrations")))
    assert scripts.get_heads() == [schema.newest_revision()]
    assert all(Path(each.path).name.startswith(f"{each.revision}_") for each in scripts.walk_revisions())


async def test_the_revision_can_be_asked_for(empty_url: str) -> None:
    """A database says at which revision it is, and that it has none."""
    async with await connect(empty_url) as connection:
        assert await schema.revision_of(connection) is None
        await asyncio.to_thread(schema.migrate, empty_url)
        assert await schema.revision_of(connection) == schema.newest_revision()
    async with owning(empty_url) as owner, await connect(empty_url) as connection:
        await owner.execute("DELETE FROM alembic_version")
        assert await schema.revision_of(connection) is None


def test_every_primary_key_begins_with_the_ledger(database_url: str) -> None:
    """Every table can be distributed by its ledger: the primary key begins with it, and nothing refers across."""
    with psycopg.connect(database_url) as connection:
        keys = connection.execute("""
            SELECT conrelid::regclass::text, (
                SELECT attname FROM pg_attribute WHERE attrelid = conrelid AND attnum = conkey[1]
            ) FROM pg_constraint WHERE contype = 'p' AND connamespace = 'public'::regnamespace
        """).fetchall()
        foreign = connection.execute("SELECT count(*) FROM pg_constraint WHERE contype = 'f'").fetchone()
    assert {table for table, first in keys if first != "ledger_id"} == WITHOUT_LEDGER
    assert {table for table, _ in keys} == set(metadata.tables) | {"alembic_version"}
    assert foreign == (0,)


async def test_the_service_has_no_more_rights_than_it_needs(pool: Pool) -> None:
    """What is never to change can only be read and added to; what cannot be lost can only be changed."""
    async with pool.connection() as connection:
        found = await rows(connection, RIGHTS, APPLICATION_ROLE)
    rights = {row["relname"]: set(row["rights"]) for row in found}
    assert set(rights) == set(metadata.tables) | {"alembic_version"}
    assert rights["alembic_version"] == {"SELECT"}
    assert {table for table, may in rights.items() if may == {"INSERT", "SELECT"}} == {
        "events",
        "idempotency_keys",
        "log_checkpoints",
        "log_cosigned",
        "log_keys",
    }
    assert {table for table, may in rights.items() if may == {"INSERT", "SELECT", "UPDATE"}} == {
        "budgets",
        "checkpoints",
        "ledger_heads",
        "ledgers",
        "members",
        "people",
        "subject_keys",
        "tiles",
    }
    assert all(may <= {"DELETE", "INSERT", "SELECT", "UPDATE"} for may in rights.values())


async def test_every_connection_takes_the_services_role(pool: Pool, database_url: str) -> None:
    """Whoever may sign in to the database, the service works with the rights of its role, in UTC."""
    async with (
        pool.connection() as pooled,
        await connect(database_url) as own,
        open_pool(database_url, role=APPLICATION_ROLE) as others,
        others.connection() as walled,
    ):
        for connection, role in ((pooled, WORKER_ROLE), (own, WORKER_ROLE), (walled, APPLICATION_ROLE)):
            found = await rows(connection, "SELECT current_user, current_setting('timezone') AS timezone")
            assert found == [{"current_user": role, "timezone": "UTC"}]


async def test_a_background_worker_may_do_what_a_web_worker_may(pool: Pool) -> None:
    """Neither role owns anything or passes by the wall; the one that sees every ledger has the rights of the other."""
    async with pool.connection() as connection:
        found = await rows(
            connection,
            """
            SELECT rolname, rolsuper, rolbypassrls, rolcanlogin, pg_has_role(rolname, %s, 'USAGE') AS inherits
            FROM pg_roles WHERE rolname = ANY(%s) ORDER BY rolname
            """,
            APPLICATION_ROLE,
            [APPLICATION_ROLE, WORKER_ROLE],
        )
        owned = await rows(
            connection,
            "SELECT relname FROM pg_class WHERE relowner::regrole::text = ANY(%s) AND relkind = 'r'",
            [APPLICATION_ROLE, WORKER_ROLE],
        )
    assert [tuple(each.values()) for each in found] == [
        (role, False, False, False, True) for role in (APPLICATION_ROLE, WORKER_ROLE)
    ]
    assert owned == []
