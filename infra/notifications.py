"""Which mail people get: what their role has to do with, unless they chose otherwise."""

from collections.abc import Mapping
from typing import Final, Literal, get_args
from uuid import UUID

import msgspec
from msgspec import UNSET, Struct, UnsetType

from infra import users
from infra.database import Connection
from infra.users import Role, User

Reason = Literal[
    "campaign_activated",
    "campaign_ending",
    "budget_at_80_percent",
    "budget_spent",
    "creative_approved",
    "creative_denied",
    "weekly_report",
    "new_sign_in",
]

REASONS: Final[tuple[Reason, ...]] = get_args(Reason)

_PLANNING: Final = frozenset[Role]({"admin", "manager"})
_PAYING: Final = frozenset[Role]({"admin", "manager", "finance"})
_EVERYBODY: Final = frozenset[Role](get_args(Role))

ROLES: Final[Mapping[Reason, frozenset[Role]]] = {
    "campaign_activated": _PLANNING,
    "campaign_ending": _PLANNING,
    "budget_at_80_percent": _PAYING,
    "budget_spent": _PAYING,
    "creative_approved": _PLANNING,
    "creative_denied": _PLANNING,
    "weekly_report": _PAYING,
    "new_sign_in": _EVERYBODY,
}
"""Who gets what without having chosen."""


class Notifications(Struct, frozen=True, kw_only=True):
    """Which mail somebody gets."""

    campaign_activated: bool
    campaign_ending: bool
    budget_at_80_percent: bool
    budget_spent: bool
    creative_approved: bool
    creative_denied: bool
    weekly_report: bool
    new_sign_in: bool


class ChangeNotifications(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which mail somebody wants from now on; what is left out stays as it is."""

    campaign_activated: bool | UnsetType = UNSET
    campaign_ending: bool | UnsetType = UNSET
    budget_at_80_percent: bool | UnsetType = UNSET
    budget_spent: bool | UnsetType = UNSET
    creative_approved: bool | UnsetType = UNSET
    creative_denied: bool | UnsetType = UNSET
    weekly_report: bool | UnsetType = UNSET
    new_sign_in: bool | UnsetType = UNSET


_CHOOSE: Final = """
    INSERT INTO mail_choices (ledger_id, user_id, reason, wanted)
    VALUES (%(ledger_id)s, %(user_id)s, %(reason)s, %(wanted)s)
    ON CONFLICT (ledger_id, user_id, reason) DO UPDATE SET wanted = EXCLUDED.wanted
"""

_READERS: Final = """
    SELECT id FROM users
    LEFT JOIN mail_choices
        ON mail_choices.ledger_id = users.ledger_id AND user_id = users.id AND reason = %(reason)s
    WHERE users.ledger_id = %(ledger_id)s AND active AND coalesce(wanted, role = ANY(%(roles)s))
        AND (role <> 'advertiser' OR coalesce(%(advertiser_id)s::uuid = ANY(advertiser_ids), false))
    ORDER BY id
"""


async def read(connection: Connection, ledger_id: UUID, user_id: UUID) -> Notifications:
    """Return which mail somebody gets; raise NotFound."""
    user = await users.by_id(connection, ledger_id, user_id)
    cursor = await connection.execute(
        "SELECT reason, wanted FROM mail_choices WHERE ledger_id = %s AND user_id = %s", (ledger_id, user_id)
    )
    chosen = {row["reason"]: row["wanted"] for row in await cursor.fetchall()}
    return msgspec.convert({reason: user.role in ROLES[reason] for reason in REASONS} | chosen, Notifications)


async def choose(connection: Connection, ledger_id: UUID, user_id: UUID, wanted: ChangeNotifications) -> Notifications:
    """Let somebody get what they want, whatever their role comes to be, and return all that they get."""
    async with connection.transaction():
        for reason in REASONS:
            if (said := getattr(wanted, reason)) is not UNSET:
                row = {"ledger_id": ledger_id, "user_id": user_id, "reason": reason, "wanted": said}
                await connection.execute(_CHOOSE, row)
        return await read(connection, ledger_id, user_id)


async def wants(connection: Connection, user: User, reason: Reason) -> bool:
    """Return whether somebody gets the mail of a reason."""
    return bool(getattr(await read(connection, user.ledger_id, user.id), reason))


async def readers(
    connection: Connection, ledger_id: UUID, reason: Reason, *, advertiser_id: UUID | None = None
) -> list[UUID]:
    """Return who gets the mail of a reason; in the role `advertiser` only what is about an advertiser of theirs."""
    roles = list(ROLES[reason])
    parameters = {"ledger_id": ledger_id, "reason": reason, "roles": roles, "advertiser_id": advertiser_id}
    return [row["id"] for row in await (await connection.execute(_READERS, parameters)).fetchall()]


async def reader(connection: Connection, ledger_id: UUID, user_id: UUID) -> User | None:
    """Return whom a letter is for, if they may still read it."""
    user = await users.by_id(connection, ledger_id, user_id)
    return user if user.active else None
