"""What an installation begins with: a database, its schema, a ledger, and somebody who may sign in."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Final
from uuid import UUID

from infra import clock, embedded, schema, users
from infra.database import Connection, check_durability, connect
from infra.event_log import create_ledger
from infra.settings import Settings

FIRST_LEDGER_NAME: Final = "ledger"

SLUGS_SHOWN_MAX: Final = 20


class NotInstalled(Exception):
    """The database holds no ledger yet; run `ledger migrate` first."""


class OrganisationUnclear(Exception):
    """{found}; say --organisation or LEDGER_ORGANISATION, which may be {slugs}."""

    def __init__(self, said: str | None, slugs: Sequence[str]) -> None:
        """Say what there is instead of what was said, if anything was."""
        shown = [*slugs[:SLUGS_SHOWN_MAX], *(["..."] if len(slugs) > SLUGS_SHOWN_MAX else [])]
        found = f"{len(slugs)} organisations share this installation" if said is None else f"There is no {said}"
        super().__init__(str(self.__doc__).format(found=found, slugs=", ".join(shown)))


@contextmanager
def database(settings: Settings, *, begins: bool = False) -> Iterator[str]:
    """Yield the URL of the database: the configured one, or the service's own, started if nobody has.

    Raises NotInstalled when that is not there yet, unless the caller `begins` an installation.
    """
    if settings.database_url is not None:
        yield settings.database_url
    elif not begins and not embedded.exists(settings.data_dir):
        raise NotInstalled(f"There is no ledger in {settings.data_dir}; `ledger serve` or `ledger migrate` begins one.")
    else:
        with embedded.attach(settings.data_dir) as url:
            yield url


async def begin(url: str, settings: Settings) -> UUID:
    """Make what is missing of a migrated installation, the first ledger and its first admin, and return the ledger.

    Raises SchemaUnfit or NotDurable when the service must not work on this database.
    """
    async with await connect(url) as connection:
        await check(connection)
        await connection.execute("SELECT pg_advisory_lock(hashtextextended('installation', 0))")
        ledger_id = await _first_ledger(connection)
        if ledger_id is None:
            ledger_id = clock.fresh_id()
            await create_ledger(connection, ledger_id, FIRST_LEDGER_NAME, clock.now())
        if settings.admin_email and settings.admin_password and not await users.page(connection, ledger_id, limit=1):
            await users.create(
                connection, ledger_id, email=settings.admin_email, password=settings.admin_password, role="admin"
            )
        return ledger_id


async def check(connection: Connection) -> None:
    """Raise SchemaUnfit or NotDurable when the service must not work on this database."""
    await schema.check(connection)
    await check_durability(connection)


@asynccontextmanager
async def opened(url: str, organisation: str | None) -> AsyncIterator[tuple[Connection, UUID]]:
    """Yield a connection, and the ledger that a command is about; raise as `ledger_of` does."""
    async with await connect(url) as connection:
        yield connection, await ledger_of(connection, organisation)


async def ledger_of(connection: Connection, organisation: str | None) -> UUID:
    """Return the ledger of an organisation by its slug or, where none is said, the only one there is.

    Raises NotInstalled when there is none, and OrganisationUnclear.
    """
    cursor = await connection.execute("SELECT ledger_id, slug FROM ledgers ORDER BY slug")
    slugs: dict[str, UUID] = {row["slug"]: row["ledger_id"] for row in await cursor.fetchall()}
    if not slugs:
        raise NotInstalled(NotInstalled.__doc__)
    chosen = [ledger_id for slug, ledger_id in slugs.items() if organisation in {None, slug}]
    if len(chosen) != 1:
        raise OrganisationUnclear(organisation, list(slugs))
    return chosen[0]


async def first_ledger(connection: Connection) -> UUID:
    """Return the ledger that the installation began with; raise NotInstalled when there is none."""
    ledger_id = await _first_ledger(connection)
    if ledger_id is None:
        raise NotInstalled(NotInstalled.__doc__)
    return ledger_id


async def ledgers(connection: Connection) -> list[UUID]:
    """Return all ledgers of the installation, the first first."""
    cursor = await connection.execute("SELECT ledger_id FROM ledgers ORDER BY created_at, ledger_id")
    return [row["ledger_id"] for row in await cursor.fetchall()]


async def _first_ledger(connection: Connection) -> UUID | None:
    found = await ledgers(connection)
    return found[0] if found else None
