"""Fixtures that every test can ask for: a PostgreSQL of the session's own, and fresh databases in it."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import hypothesis
import pytest

from infra import clock, embedded, schema
from infra.database import Pool, open_pool
from infra.event_log import create_ledger
from tests import evening
from tests.databases import IN_MEMORY, fresh_database

# How long an example takes says how busy the machine is; what is too slow is found by the bench.
hypothesis.settings.register_profile("untimed", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("untimed")

# Nobody is trusted whom a test does not name; reading all public authorities took each HTTP client 30 ms.
os.environ.pop("SSL_CERT_FILE", None)
os.environ["SSL_CERT_DIR"] = os.devnull


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run asynchronous tests on asyncio, as the service does."""
    return "asyncio"


@pytest.fixture(scope="session")
def cluster_url() -> Iterator[str]:
    """A PostgreSQL of this test process, whose database `ledger` is migrated and serves as the template of others."""
    # Not below pytest's own folder, which another run closes to the account that PostgreSQL runs as.
    with TemporaryDirectory(dir=IN_MEMORY) as folder, embedded.hold(Path(folder)) as url:
        schema.migrate(url)
        yield url


@pytest.fixture
def database_url(cluster_url: str) -> Iterator[str]:
    """A fresh, migrated database."""
    with fresh_database(cluster_url, "ledger") as url:
        yield url


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    """Connections to a fresh, migrated database."""
    async with open_pool(database_url) as opened:
        yield opened


@pytest.fixture
async def ledger_id(pool: Pool) -> UUID:
    """A ledger with an empty log."""
    ledger = clock.fresh_id()
    async with pool.connection() as connection:
        await create_ledger(connection, ledger, "test", clock.now())
    return ledger


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data folder that does not exist yet."""
    return tmp_path / "data"


@pytest.fixture(scope="session")
def evening_source(cluster_url: str) -> Iterator[tuple[str, Path]]:
    """A database with a small ledger in it, projected and sealed, and the folder that it was exported to."""
    with evening.copied_database(cluster_url) as url, TemporaryDirectory() as folder:
        yield url, asyncio.run(evening.prepared(url, Path(folder)))


@pytest.fixture
def evening_url(evening_source: tuple[str, Path]) -> Iterator[str]:
    """A copy of that database."""
    with evening.copied_database(evening_source[0]) as url:
        yield url


@pytest.fixture
def evening_export(evening_source: tuple[str, Path], tmp_path: Path) -> Path:
    """A copy of that folder."""
    return evening.copied_folder(evening_source[1], tmp_path / "export")
