"""Invitations: an address is mailed a token, and whoever has that makes an account in the role that was offered.

An invitation is open until it was accepted, withdrawn, or its time is over. Sent again it has another token and as much
time as at first, and the token before opens nothing.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

from msgspec import Struct

from domain.errors import NotFound, Refusal
from infra import account_letters, addresses, clock, mailed_tokens, throttle, users
from infra.account_letters import moment
from infra.database import Connection, as_structs, see
from infra.keys import Keys
from infra.mailed_tokens import TokenUnfit
from infra.users import EmailTaken, EmailUnfit, Role, User

Status = Literal["open", "accepted", "expired", "withdrawn"]

VALID_DAYS: Final = 7
OPEN_MAX: Final = 500
"""Of a ledger: bounds whom it has written to that may not want to hear of it."""

KEPT_DAYS: Final = 90
"""For so long it is shown what came of an invitation."""


class Invitation(Struct, frozen=True, kw_only=True):
    """Somebody who was asked to join, in which role, by whom, and what came of it."""

    id: UUID
    email: str
    name: str
    role: Role
    advertiser_ids: tuple[UUID, ...]
    status: Status
    created_by: str
    created_at: datetime
    sent_at: datetime
    expires_at: datetime
    accepted_at: datetime | None
    accepted_by: UUID | None
    withdrawn_at: datetime | None


class AlreadyInvited(Refusal):
    """Somebody has one open invitation."""

    kind = "conflict"
    code = "already_invited"


class TooManyInvitations(Refusal):
    """A ledger has so many open invitations and no more."""

    kind = "conflict"
    code = "too_many_invitations"


class InvitationOver(Refusal):
    """An invitation that was accepted or withdrawn stays so."""

    kind = "conflict"
    code = "invitation_over"


_OPEN: Final = "accepted_at IS NULL AND withdrawn_at IS NULL"

_COLUMNS: Final = """
    id, email, name, role, advertiser_ids, created_by, created_at, sent_at, expires_at, accepted_at, accepted_by,
    withdrawn_at,
    CASE
        WHEN accepted_at IS NOT NULL THEN 'accepted'
        WHEN withdrawn_at IS NOT NULL THEN 'withdrawn'
        WHEN expires_at <= %(now)s THEN 'expired'
        ELSE 'open'
    END AS status
"""

# Of two that are made at once, the second sees the first.
LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended('invitations ' || %(ledger_id)s::text, 0))"

COUNT: Final = f"""
    SELECT count(*) AS waiting, coalesce(bool_or(email = %(email)s), false) AS invited FROM invitations
    WHERE ledger_id = %(ledger_id)s AND expires_at > %(now)s AND {_OPEN}
"""

INSERT: Final = """
    INSERT INTO invitations (
        ledger_id, id, email, name, role, advertiser_ids, token_id, created_by, created_at, sent_at, expires_at
    )
    VALUES (
        %(ledger_id)s, %(id)s, %(email)s, %(name)s, %(role)s, %(advertiser_ids)s::uuid[], %(token_id)s, %(created_by)s,
        %(now)s, %(now)s, %(expires_at)s
    )
"""

READ: Final = f"SELECT {_COLUMNS} FROM invitations WHERE ledger_id = %(ledger_id)s AND id = %(id)s"

PAGE: Final = f"""
    SELECT * FROM (
        SELECT {_COLUMNS} FROM invitations
        WHERE ledger_id = %(ledger_id)s AND (%(after)s::uuid IS NULL OR id > %(after)s)
    ) AS listed
    WHERE %(status)s::text IS NULL OR status = %(status)s ORDER BY id LIMIT %(limit)s
"""

WITHDRAW: Final = f"""
    UPDATE invitations SET withdrawn_at = %(now)s WHERE ledger_id = %(ledger_id)s AND id = %(id)s AND {_OPEN}
"""

RENEW: Final = f"""
    UPDATE invitations SET token_id = %(token_id)s, sent_at = %(now)s, expires_at = %(now)s + (expires_at - sent_at)
    WHERE ledger_id = %(ledger_id)s AND id = %(id)s AND {_OPEN}
    RETURNING email, role, expires_at
"""

# Of two who accept with one token at once, the second waits and finds it used.
ACCEPT: Final = f"""
    UPDATE invitations SET accepted_at = %(now)s
    WHERE ledger_id = %(ledger_id)s AND token_id = %(token_id)s AND expires_at > %(now)s AND {_OPEN}
    RETURNING id, email, name, role, advertiser_ids
"""

ACCEPTED_BY: Final = "UPDATE invitations SET accepted_by = %(by)s WHERE ledger_id = %(ledger_id)s AND id = %(id)s"

FORGET_PAST: Final = """
    DELETE FROM invitations WHERE greatest(accepted_at, withdrawn_at, expires_at) <= %(begin)s
"""


async def invite(
    connection: Connection,
    ledger_id: UUID,
    *,
    keys: Keys,
    email: str,
    role: Role,
    advertiser_ids: Sequence[UUID] = (),
    name: str = "",
    days: int = VALID_DAYS,
    by: str,
) -> UUID:
    """Invite somebody, whether or not they have an account.

    Raises EmailUnfit, AdvertisersUnfit, AlreadyInvited, TooManyInvitations, or Throttled: a ledger writes to so many
    strangers in a while, and to one of them less often.
    """
    users.check_advertisers(role, advertiser_ids)
    address, now = users.canonical(email), clock.now()
    if address is None:
        raise EmailUnfit("This is not an e-mail address.", pointer="/email")
    row: dict[str, Any] = {"ledger_id": ledger_id, "id": clock.fresh_id(), "email": address, "name": name, "role": role}
    row |= {"token_id": clock.fresh_id(), "created_by": by, "now": now, "expires_at": now + timedelta(days=days)}
    row["advertiser_ids"] = list(advertiser_ids)
    async with connection.transaction():
        await connection.execute(LOCK, row)
        found = await (await connection.execute(COUNT, row)).fetchone()
        if found is not None and found["invited"]:
            raise AlreadyInvited("This address has an open invitation; send that again.", pointer="/email")
        if found is not None and found["waiting"] >= OPEN_MAX:
            raise TooManyInvitations(f"{OPEN_MAX} invitations are open already; withdraw one that is not needed.")
        await connection.execute(INSERT, row)
        await _mail(connection, keys, row)
    return UUID(str(row["id"]))


async def send_again(connection: Connection, keys: Keys, ledger_id: UUID, invitation_id: UUID) -> Invitation:
    """Mail another token in place of the one before; raise NotFound, InvitationOver or Throttled."""
    asked = {"ledger_id": ledger_id, "id": invitation_id, "token_id": clock.fresh_id(), "now": clock.now()}
    async with connection.transaction():
        renewed = await (await connection.execute(RENEW, asked)).fetchone()
        found = await by_id(connection, ledger_id, invitation_id)
        if renewed is None:
            raise InvitationOver(f"The invitation is {found.status}.")
        await _mail(connection, keys, asked | renewed)
    return found


async def withdraw(connection: Connection, ledger_id: UUID, invitation_id: UUID) -> Invitation:
    """Make the token of an invitation worthless; raise NotFound, or InvitationOver if that is over."""
    asked = {"ledger_id": ledger_id, "id": invitation_id, "now": clock.now()}
    withdrawn = (await connection.execute(WITHDRAW, asked)).rowcount
    found = await by_id(connection, ledger_id, invitation_id)
    if not withdrawn:
        raise InvitationOver(f"The invitation is {found.status}.")
    return found


async def accept(
    connection: Connection,
    keys: Keys,
    token: str,
    *,
    password: str,
    name: str,
    signed_in: User | None,
    proven: str | None = None,
) -> tuple[User, UUID]:
    """Make an account in the role that was offered, or let who is signed in with that address have the role.

    Who has `proven` an address elsewhere accepts what was sent there alone. Returns the person and the id of the
    invitation.

    Raises TokenUnfit, also when somebody has an account and is not signed in to it; else PasswordTooWeak or LastAdmin.
    Only an invitation that was accepted is used up.
    """
    ledger_id, token_id = mailed_tokens.read(keys, "invitation", token)
    asked = {"ledger_id": ledger_id, "token_id": token_id, "now": clock.now()}
    async with connection.transaction():
        await see(connection, ledger_id)
        offered = await (await connection.execute(ACCEPT, asked)).fetchone()
        if offered is None or proven not in {None, offered["email"]}:
            raise TokenUnfit
        email, role, limited_to = offered["email"], offered["role"], offered["advertiser_ids"]
        user: User | None
        if signed_in is not None and signed_in.email == email:
            await users.join(connection, ledger_id, signed_in.id, role=role, advertiser_ids=limited_to)
            user = await addresses.proven(connection, ledger_id, signed_in.id, email)
        else:
            said = {"password": password, "name": name or offered["name"], "advertiser_ids": limited_to}
            try:
                user = await users.create(connection, ledger_id, email=email, role=role, email_verified=True, **said)
            except EmailTaken:
                raise TokenUnfit from None
        if user is None:
            raise TokenUnfit
        await connection.execute(ACCEPTED_BY, {"ledger_id": ledger_id, "id": offered["id"], "by": user.id})
    return user, offered["id"]


async def by_id(connection: Connection, ledger_id: UUID, invitation_id: UUID) -> Invitation:
    """Return an invitation; raise NotFound."""
    asked = {"ledger_id": ledger_id, "id": invitation_id, "now": clock.now()}
    rows = as_structs(await (await connection.execute(READ, asked)).fetchall(), Invitation)
    if not rows:
        raise NotFound("invitation", invitation_id)
    return rows[0]


async def page(
    connection: Connection, ledger_id: UUID, *, status: Status | None, after: UUID | None, limit: int
) -> list[Invitation]:
    """Return invitations in the order in which they were made, of one status perhaps, after one of them."""
    asked = {"ledger_id": ledger_id, "status": status, "after": after, "limit": limit, "now": clock.now()}
    return as_structs(await (await connection.execute(PAGE, asked)).fetchall(), Invitation)


async def forget_past(connection: Connection) -> int:
    """Delete invitations that ended three months ago, and return how many; to be called now and then."""
    return (await connection.execute(FORGET_PAST, {"begin": clock.now() - timedelta(days=KEPT_DAYS)})).rowcount


async def _mail(connection: Connection, keys: Keys, row: dict[str, Any]) -> None:
    ledger_id, email = row["ledger_id"], row["email"]
    await throttle.count(connection, keys, account=f"invitation {email}", address=f"invitations of {ledger_id}")
    told = {"role": row["role"], "until": moment(row["expires_at"])}
    await account_letters.put(connection, ledger_id, "invitation", row["token_id"], to=email, **told)
