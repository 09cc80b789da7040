"""Organisations: each owns one ledger, and people belong to any number of them."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import Struct, structs

from domain import organisation
from domain.decider import stream_of
from domain.errors import NotFound, Refusal
from domain.events import OrganisationChanged, OrganisationEvent, OrganisationFounded
from domain.terms import OrganisationTerms
from infra import clock, users
from infra.access_audit import actor_of
from infra.batch import Appending
from infra.commit import commit
from infra.database import Connection, as_structs, seeing
from infra.event_log import create_ledger
from infra.users import INSTALLATION, Role

THING: Final = "organisation"
"""The stream that tells of an organisation is named after it; nothing is decided on it."""

ORGANISATIONS_MADE_MAX: Final = 20
"""How many organisations one person may have made: each takes some memory of every process."""


class Organisation(OrganisationTerms, frozen=True, kw_only=True):
    """An organisation, whose id is that of its ledger."""

    id: UUID
    created_at: datetime


class Membership(Struct, frozen=True, kw_only=True):
    """An organisation that somebody belongs to, what they may do there, and whether they are signed in to it."""

    id: UUID
    name: str
    slug: str
    role: Role
    current: bool = False


class SlugTaken(Refusal):
    """Another organisation is called that."""

    kind = "conflict"
    code = "slug_taken"


class TooManyOrganisations(Refusal):
    """Somebody makes so many organisations and no more."""

    kind = "conflict"
    code = "too_many_organisations"


_COLUMNS: Final = "ledger_id AS id, name, slug, created_at, logo_url, logo_file, timezone, currency"

READ: Final = f"SELECT {_COLUMNS} FROM ledgers WHERE ledger_id = %(ledger_id)s"

SLUG_OF_ANOTHER: Final = "SELECT FROM ledgers WHERE slug = %(slug)s AND ledger_id <> %(ledger_id)s"

# Of two that want one slug, or of one person who makes several at once, the second sees the first.
LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended('organisations', 0))"

CHANGE: Final = f"""
    UPDATE ledgers
    SET name = %(name)s, slug = %(slug)s, logo_url = %(logo_url)s, logo_file = %(logo_file)s,
        timezone = %(timezone)s, currency = %(currency)s
    WHERE ledger_id = %(ledger_id)s
    RETURNING {_COLUMNS}
"""

# The organisations whose first member somebody was.
COUNT_MADE: Final = """
    SELECT count(*) AS made FROM members AS own
    WHERE user_id = %(user_id)s AND ledger_id <> %(nowhere)s AND NOT EXISTS (
        SELECT FROM members AS earlier
        WHERE earlier.ledger_id = own.ledger_id AND (earlier.joined_at, earlier.user_id) < (own.joined_at, own.user_id)
    )
"""

OF_PERSON: Final = """
    SELECT ledger_id AS id, name, slug, role, ledger_id = %(current)s AS current
    FROM members JOIN ledgers USING (ledger_id) WHERE user_id = %(user_id)s AND active ORDER BY joined_at, ledger_id
"""


async def read(connection: Connection, ledger_id: UUID) -> Organisation:
    """Return the organisation that owns a ledger; raise NotFound."""
    row = await (await connection.execute(READ, {"ledger_id": ledger_id})).fetchone()
    if row is None:
        raise NotFound("organisation", ledger_id)
    return msgspec.convert(row, Organisation)


async def of_person(connection: Connection, user_id: UUID, current: UUID) -> list[Membership]:
    """Return the organisations that somebody belongs to, in the order in which they joined."""
    cursor = await connection.execute(OF_PERSON, {"user_id": user_id, "current": current})
    return as_structs(await cursor.fetchall(), Membership)


async def create(connection: Connection, user_id: UUID, terms: OrganisationTerms) -> Organisation:
    """Begin an organisation with an empty ledger, of which somebody is the first admin; that is its first entry.

    Raises SlugTaken, UnknownTimeZone, UnknownCurrency or TooManyOrganisations.
    """
    ledger_id, now = clock.fresh_id(), clock.now()
    async with connection.transaction():
        await connection.execute(LOCK)
        made = await (await connection.execute(COUNT_MADE, {"user_id": user_id, "nowhere": INSTALLATION})).fetchone()
        if made is not None and made["made"] >= ORGANISATIONS_MADE_MAX:
            raise TooManyOrganisations(f"Nobody makes more than {ORGANISATIONS_MADE_MAX} organisations.")
        await create_ledger(connection, ledger_id, terms.name, now)
        created = await _write(connection, ledger_id, terms)
        founder = await users.join(connection, ledger_id, user_id, role="admin")
        async with seeing(connection, ledger_id):
            await _tell(connection, ledger_id, OrganisationFounded(**_terms(terms)), actor_of(founder))
    return created


async def change(connection: Connection, ledger_id: UUID, actor: str, **fields: str | None) -> Organisation:
    """Set what is said about an organisation; raise SlugTaken, UnknownTimeZone or UnknownCurrency."""
    async with connection.transaction():
        await connection.execute(LOCK)
        before = await read(connection, ledger_id)
        changed = await _write(connection, ledger_id, structs.replace(before, **fields))
        if changed != before:
            await _tell(connection, ledger_id, OrganisationChanged(**_terms(changed)), actor)
    return changed


async def _write(connection: Connection, ledger_id: UUID, terms: OrganisationTerms) -> Organisation:
    organisation.check(terms)
    row = _terms(terms) | {"ledger_id": ledger_id}
    if (await connection.execute(SLUG_OF_ANOTHER, row)).rowcount:
        raise SlugTaken(f"Another organisation is called {terms.slug}.", pointer="/slug")
    return msgspec.convert(await (await connection.execute(CHANGE, row)).fetchone(), Organisation)


def _terms(terms: OrganisationTerms) -> dict[str, Any]:
    return {name: getattr(terms, name) for name in OrganisationTerms.__struct_fields__}


async def _tell(connection: Connection, ledger_id: UUID, event: OrganisationEvent, actor: str) -> None:
    """Append to the organisation's own log, in the transaction that is open on the connection."""
    appending = Appending(
        ledger_id=ledger_id,
        subject=ledger_id,
        stream=stream_of(THING, ledger_id),
        expected_version=None,
        position=0,
        events=(event,),
        actor=actor,
    )
    await commit(connection, ledger_id, [appending], clock.now)
