"""The service does not work on a database that is not fit for it, and says why."""

from collections.abc import Iterator

import psycopg
import pytest

from infra import installation, schema
from infra.database import NotDurable, connect
from infra.schema import SchemaUnfit
from infra.settings import Settings, read


@pytest.fixture
def owner(database_url: str) -> Iterator[psycopg.Connection]:
    """A connection of the database's owner."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def settings() -> Settings:
    """Return settings without a first admin."""
    return read()


async def test_a_fit_database_is_worked_on(database_url: str) -> None:
    """A migrated and durable database is given its first ledger, once."""
    first = await installation.begin(database_url, settings())
    assert await installation.begin(database_url, settings()) == first


@pytest.mark.parametrize(
    ("revision", "remedy"), [("9999", "run a newer version of the program"), (None, "run `ledger migrate`")]
)
async def test_another_revision_is_refused(
    database_url: str, owner: psycopg.Connection, revision: str | None, remedy: str
) -> None:
    """A database that lacks migrations, or has newer ones, is refused with what to do about it."""
    owner.execute("DELETE FROM alembic_version")
    if revision is not None:
        owner.execute("INSERT INTO alembic_version VALUES (%s)", (revision,))
    with pytest.raises(SchemaUnfit, match=remedy):
        await installation.begin(database_url, settings())


def test_a_newer_database_is_not_migrated(database_url: str, owner: psycopg.Connection) -> None:
    """Migrating a database that a newer version of the program has migrated is refused."""
    owner.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaUnfit, match="a newer version"):
        schema.migrate(database_url)


async def test_a_database_that_forgets_is_refused(database_url: str, owner: psycopg.Connection) -> None:
    """A database whose commits are not durable is refused, and the setting is named."""
    name = owner.info.dbname
    owner.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    with pytest.raises(NotDurable, match="synchronous_commit must not be off"):
        await installation.begin(database_url, settings())


async def test_durability_is_asked_of_the_server(database_url: str) -> None:
    """The server that comes along has all durability on."""
    async with await connect(database_url) as connection:
        await installation.check(connection)
