"""Whom people are at providers of OpenID Connect: each account is bound to the `sub` of an issuer.

An address may be given to somebody else; issuer and `sub` together never are (OpenID Connect Core 1.0, section 5.7).
So an address finds an account only the first time, and only one without a link to that issuer.
"""

from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import Struct

from domain.errors import NotFound
from infra import clock, users
from infra.database import Connection, as_structs
from infra.openid import Identity


class ProviderLink(Struct, frozen=True, kw_only=True):
    """An account at a provider, by its issuer, through which a person signs in; and since when."""

    id: UUID
    issuer: str
    linked_at: datetime


class LinkedOtherwise(Exception):
    """The person, or the account at the provider, has another link by now."""


# Find who is linked, or else who has the address and no link to this issuer yet.
FIND: Final = """
    SELECT user_id FROM provider_links WHERE issuer = %(issuer)s AND subject = %(subject)s
    UNION ALL
    SELECT id FROM people WHERE email = %(email)s AND NOT EXISTS (
        SELECT FROM provider_links WHERE issuer = %(issuer)s AND (user_id = people.id OR subject = %(subject)s)
    )
"""

LINK: Final = """
    INSERT INTO provider_links (id, user_id, issuer, subject, linked_at)
    VALUES (%(id)s, %(user_id)s, %(issuer)s, %(subject)s, %(now)s)
    ON CONFLICT DO NOTHING
"""

IS_LINKED: Final = """
    SELECT FROM provider_links WHERE user_id = %(user_id)s AND issuer = %(issuer)s AND subject = %(subject)s
"""

LIST: Final = "SELECT id, issuer, linked_at FROM provider_links WHERE user_id = %(user_id)s ORDER BY id"

REMOVE: Final = "DELETE FROM provider_links WHERE user_id = %(user_id)s AND id = %(id)s RETURNING issuer"


async def find(connection: Connection, known: Identity) -> UUID | None:
    """Return the person whose account at a provider this is, or may become with the first sign-in."""
    asked = {"issuer": known.issuer, "subject": known.subject, "email": users.canonical(known.email)}
    row = await (await connection.execute(FIND, asked)).fetchone()
    return row["user_id"] if row else None


async def link(connection: Connection, user_id: UUID, *, issuer: str, subject: str) -> bool:
    """Bind a person to an account at a provider; tell whether they were not before. Raises LinkedOtherwise."""
    asked = {"id": clock.fresh_id(), "user_id": user_id, "issuer": issuer, "subject": subject, "now": clock.now()}
    made = (await connection.execute(LINK, asked)).rowcount
    if not (await connection.execute(IS_LINKED, asked)).rowcount:
        raise LinkedOtherwise
    return bool(made)


async def of_person(connection: Connection, user_id: UUID) -> list[ProviderLink]:
    """Return through which providers a person signs in."""
    return as_structs(await (await connection.execute(LIST, {"user_id": user_id})).fetchall(), ProviderLink)


async def remove(connection: Connection, user_id: UUID, link_id: UUID) -> str:
    """Forget a link and return its issuer, where the address finds the account again; raise NotFound."""
    row = await (await connection.execute(REMOVE, {"user_id": user_id, "id": link_id})).fetchone()
    if row is None:
        raise NotFound("link", link_id)
    return str(row["issuer"])
