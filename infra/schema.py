"""The schema of the database: how it is brought up to date, and whether it is."""

from functools import cache
from importlib.resources import files
from typing import Final

import psycopg

from infra.database import Connection

_LOCK: Final = "SELECT pg_advisory_lock(hashtextextended('migrations', 0))"


class SchemaUnfit(Exception):
    """The database is at revision {found} and this program needs {needed}: {remedy}."""

    def __init__(self, found: str | None) -> None:
        """Say where the database stands, and what to do."""
        newer = found is not None and found not in _revisions()
        remedy = "run a newer version of the program" if newer else "run `ledger migrate`"
        message = str(self.__doc__).format(found=found or "none", needed=newest_revision(), remedy=remedy)
        super().__init__(message)


def migrate(url: str) -> None:
    """Bring the schema up to the newest revision; several processes may try at once, one does it.

    Raises SchemaUnfit when the database is at a revision that this program does not know.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    config = Config()
    config.set_main_option("script_location", str(files("migrations")))
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=NullPool)
    with psycopg.connect(url, autocommit=True) as guard, engine.begin() as connection:
        guard.execute(_LOCK)
        found = MigrationContext.configure(connection).get_current_revision()
        if found is not None and found not in _revisions():
            raise SchemaUnfit(found)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def newest_revision() -> str:
    """Return the revision that this version of the program works with."""
    return max(_revisions())


async def check(connection: Connection) -> None:
    """Raise SchemaUnfit unless the database is at the revision that this program works with."""
    found = await revision_of(connection)
    if found != newest_revision():
        raise SchemaUnfit(found)


async def revision_of(connection: Connection) -> str | None:
    """Return the revision that the database is at, or None when it has never been migrated."""
    cursor = await connection.execute("SELECT to_regclass('alembic_version') IS NOT NULL AS migrated")
    row = await cursor.fetchone()
    if row is None or not row["migrated"]:
        return None
    cursor = await connection.execute("SELECT version_num FROM alembic_version")
    row = await cursor.fetchone()
    return None if row is None else str(row["version_num"])


@cache
def _revisions() -> frozenset[str]:
    # Revisions are numbered, and their files are named after them.
    names = (file.name for file in (files("migrations") / "versions").iterdir())
    return frozenset(name.partition("_")[0] for name in names if name.endswith(".py"))
