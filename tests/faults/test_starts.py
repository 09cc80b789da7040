"""A start on a database that is not fit for it is refused with the reason, by every process that would work on it."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import psycopg
import pytest

from infra import embedded, schema
from infra.database import DURABILITY
from tests.running import Service, free_port

COULD_NOT_RUN: Final = 2


@pytest.fixture
def own_url() -> Iterator[str]:
    """A database of a server whose settings concern nobody else."""
    with TemporaryDirectory() as folder, embedded.hold(Path(folder)) as url:
        schema.migrate(url)
        yield url


def refusals(environment: Mapping[str, str]) -> set[tuple[int, str]]:
    """Return the exit status and the last line of everything that would work on a database."""
    commands = [
        ["serve", "--port", str(free_port())],
        ["serve", "--no-background", "--port", str(free_port())],
        ["work"],
    ]

    def run(command: list[str]) -> tuple[int, str]:
        whole = [sys.executable, "-m", "api.cli", *command]
        done = subprocess.run(whole, env=environment, check=False, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stderr.splitlines()[-1]

    with ThreadPoolExecutor(len(commands)) as threads:
        return set(threads.map(run, commands))


def test_a_database_that_forgets(own_url: str, data_dir: Path) -> None:
    """With fsync, full_page_writes and synchronous_commit off nothing starts, and all that is off is named."""
    data_dir.mkdir()
    with psycopg.connect(own_url, autocommit=True) as owner:
        for name in DURABILITY:
            owner.execute(f"ALTER SYSTEM SET {name} = off".encode())
        owner.execute("SELECT pg_reload_conf()")
        reason = f"ledger: PostgreSQL would lose what it has confirmed: {' and '.join(DURABILITY)} must not be off."
        assert refusals(Service(data_dir, database_url=own_url).environment) == {(COULD_NOT_RUN, reason)}


@pytest.mark.parametrize(
    ("revision", "remedy"),
    [("0003", "run `ledger migrate`"), ("9999", "run a newer version of the program")],
    ids=["older", "newer"],
)
def test_a_database_of_another_version(database_url: str, data_dir: Path, revision: str, remedy: str) -> None:
    """A database that lacks migrations, or has newer ones, is refused with what to do; nothing is written into it."""
    data_dir.mkdir()
    service = Service(data_dir, database_url=database_url)
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute("UPDATE alembic_version SET version_num = %s", (revision,))
        needed = f"this program needs {schema.newest_revision()}"
        reason = f"ledger: The database is at revision {revision} and {needed}: {remedy}."
        assert refusals(service.environment) == {(COULD_NOT_RUN, reason)}
        assert owner.execute("SELECT count(*) FROM ledgers").fetchone() == (0,)
