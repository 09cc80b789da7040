"""Installations: what is missing is made once, by whoever comes first."""

import asyncio
from pathlib import Path

import psycopg
import pytest
from msgspec import structs

from infra import embedded, installation, settings
from infra.database import connect
from infra.installation import NotInstalled
from infra.settings import Settings
from tests.writing import owning, rows

EMAIL = "admin@example.com"


@pytest.fixture
def found(database_url: str, tmp_path: Path) -> Settings:
    """The settings of a service on this database, with somebody to be its first admin."""
    read = settings.read(data_dir=tmp_path)
    return structs.replace(
        read, database_url=database_url, admin_email=EMAIL, admin_password="correct horse battery staple"
    )


async def test_several_that_begin_at_once_make_one_ledger(database_url: str, found: Settings) -> None:
    """However many processes begin an installation at the same time, there is one ledger and one first admin."""
    ledgers = await asyncio.gather(*(installation.begin(database_url, found) for _ in range(4)))
    assert len(set(ledgers)) == 1
    async with owning(database_url) as owner:
        assert [row["ledger_id"] for row in await rows(owner, "SELECT ledger_id FROM ledgers")] == ledgers[:1]
        assert await rows(owner, "SELECT email, role FROM users") == [{"email": EMAIL, "role": "admin"}]


async def test_the_first_admin_is_made_once(database_url: str, found: Settings) -> None:
    """Who is named as first admin later, when there are people already, is not made."""
    await installation.begin(database_url, found)
    await installation.begin(database_url, structs.replace(found, admin_email="other@example.com"))
    async with owning(database_url) as owner:
        assert await rows(owner, "SELECT email FROM users") == [{"email": EMAIL}]


async def test_an_installation_may_begin_without_people(database_url: str, found: Settings) -> None:
    """With nobody named there is a ledger, and nobody who could sign in."""
    ledger_id = await installation.begin(database_url, structs.replace(found, admin_email=None))
    async with await connect(database_url) as connection, owning(database_url) as owner:
        assert await installation.first_ledger(connection) == ledger_id
        assert await rows(owner, "SELECT email FROM users") == []


async def test_a_database_without_ledger_is_not_installed(database_url: str) -> None:
    """Who looks for the ledger before there is one is told what to do."""
    async with await connect(database_url) as connection:
        with pytest.raises(NotInstalled, match="ledger migrate"):
            await installation.first_ledger(connection)


@pytest.fixture
def own(tmp_path: Path, found: Settings) -> Settings:
    """The settings of a service that keeps its own database."""
    return structs.replace(found, database_url=None, data_dir=tmp_path / "data")


def test_the_database_is_the_configured_one_or_its_own(found: Settings, own: Settings) -> None:
    """A configured database is used as it is; without one, the service's own is started and left running for others."""
    with installation.database(found) as url:
        assert url == found.database_url
    with embedded.hold(own.data_dir) as held, installation.database(own) as url:
        assert url == held
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT current_database()").fetchone() == ("ledger",)
