"""Who may do what: permissions by role, in one table, and the guards that hold every route to it."""

from collections.abc import Collection, Mapping
from typing import Any, Final, Literal, NamedTuple, get_args
from uuid import UUID

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from api.problems import Forbidden, SecondFactorMissing, Unauthenticated
from api.services import services_of
from domain.errors import NotFound, Refusal
from domain.rights import Rights
from infra import api_keys
from infra.access_tokens import Claims
from infra.database import look_at
from infra.ownership import advertiser_of
from infra.users import Role

Connection = ASGIConnection[Any, Any, Any, Any]
Permission = Literal[
    "read", "read_own", "contact", "draft", "change", "manage", "review", "spend", "administer", "audit", "operate"
]


class Caller(NamedTuple):
    """Who asks, a person or a program: in which ledger, what they may do, and how the log calls them.

    `advertisers`, where it is not None, are those whose things they see and change, and no others. `person` answers for
    what is done: who has the account, or who made the program's key.
    """

    ledger: UUID
    granted: frozenset[Permission]
    actor: str
    person: UUID
    advertisers: frozenset[UUID] | None = None


class ScopesUnfit(Refusal):
    """A key may do some of what its role may, or all of it, but no more."""

    code = "scopes_unfit"


ROLES: Final[Mapping[Role, frozenset[Permission]]] = {
    "admin": frozenset(get_args(Permission)) - {"operate"},
    "manager": frozenset({"read", "contact", "draft", "change", "manage"}),
    "reviewer": frozenset({"read", "review"}),
    "finance": frozenset({"read", "contact", "change", "spend"}),
    "viewer": frozenset({"read"}),
    "auditor": frozenset({"read", "audit"}),
    "advertiser": frozenset({"read_own", "contact", "draft", "change"}),
    "operator": frozenset({"operate"}),
    "newcomer": frozenset(),
}
"""What each role may do, and nothing else.

To `read` is to see everything but how people are reached, which is `contact`; to `read_own` is to see what some
advertisers own, and what is no secret. A route for which nothing is said of that is closed to whoever has only that.
To `draft` is to make campaigns and creatives, to `manage` to let them be served and to keep advertisers and slots;
`review` and `spend`, which is money, are for others than who manages. Who may `change` a campaign need not be allowed
to set all of it: see `domain.rights`.
"""


async def may_read(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Let those in who see everything."""
    await _let_in(connection, "read")


async def may_see(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Let everybody in who has signed in, to what they may see; lists and reports are limited to it."""
    await _let_in(connection, "read", "read_own")


def is_person(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Let those in who have an account of their own, and no programs."""
    if isinstance(_known(connection), Caller):
        raise Forbidden


async def may_draft(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Let those in who make campaigns and creatives."""
    await _let_in(connection, "draft")


async def may_change(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Let those in who set anything about a campaign."""
    await _let_in(connection, "change")


async def may_manage(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Let those in who run campaigns."""
    await _let_in(connection, "manage")


async def may_review(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Let those in who say what may be shown."""
    await _let_in(connection, "review")


async def may_spend(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Let those in who look after money."""
    await _let_in(connection, "spend")


async def may_administer(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Let those in who look after people."""
    await _let_in(connection, "administer")


async def may_audit(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Let those in who check the log."""
    await _let_in(connection, "audit")


async def _let_in(connection: Connection, *permissions: Permission) -> None:
    """Raise Forbidden unless whoever asks has one of these, and NotFound if the path names what is another's."""
    caller = permit(connection, *permissions)
    if caller.advertisers is None:
        return
    for parameter, value in connection.path_params.items():
        thing, _, is_id = parameter.rpartition("_")
        if is_id == "id":
            async with services_of(connection).log.pool.connection() as reading:
                owner = await advertiser_of(reading, caller.ledger, thing, value)
            if owner not in caller.advertisers:
                raise NotFound(thing, value)


async def may_operate(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Let those in who run the installation."""
    await _let_in(connection, "operate")


async def may_found(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Let those in who may begin an organisation: operators and, unless that is switched off, everybody."""
    if not services_of(connection).settings.self_sign_up:
        await _let_in(connection, "operate")


def reads_contacts(caller: Caller) -> bool:
    """Tell whether somebody may read how people are reached; to others it is shown as the log has it, encrypted."""
    return "contact" in caller.granted


def rights_of(caller: Caller) -> Rights:
    """Return what somebody may do with what they may change."""
    return Rights(
        plans="draft" in caller.granted,
        spends="spend" in caller.granted,
        beyond_drafts=bool({"manage", "spend"} & caller.granted),
        advertisers=caller.advertisers,
    )


def check_scopes(role: Role, scopes: Collection[Permission] | None) -> None:
    """Raise ScopesUnfit unless a role may do all of this."""
    beyond = sorted(set(scopes or ()) - ROLES[role])
    if beyond:
        raise ScopesUnfit(f"The role {role} may not {' or '.join(beyond)}.", pointer="/scopes")


def caller_of(connection: Connection) -> Caller:
    """Return who asks, by access token or API key, if it still holds; raise Unauthenticated or TokenRefused."""
    known = _known(connection)
    if isinstance(known, Caller):
        return known
    limited = _limited(known.role, known.advertisers)
    return Caller(known.ledger, ROLES[known.role], f"user:{known.sub}", known.sub, limited)


def _limited(role: Role, advertisers: Collection[UUID]) -> frozenset[UUID] | None:
    return frozenset(advertisers) if role == "advertiser" else None


def claims_of(connection: Connection) -> Claims:
    """Return what the access token of a person says, where only people are let in; raise as `caller_of` does."""
    known = _known(connection)
    if isinstance(known, Caller):
        raise Forbidden
    return known


def _known(connection: Connection) -> Claims | Caller:
    known = connection.scope.get("known")
    if isinstance(known, Claims | Caller):
        look_at(known.ledger)
        return known
    services, presented = services_of(connection), bearer(connection)
    found: Claims | Caller
    if presented.startswith(api_keys.PREFIX):
        ledger, key = services.ledgers.of_api_key(presented)
        granted = ROLES[key.role] if key.scopes is None else ROLES[key.role] & key.scopes
        limited = _limited(key.role, key.advertiser_ids)
        found = Caller(ledger.id, granted, f"key:{key.id}", key.created_by, limited)
    else:
        said = services.tokens.verified(presented)
        found = services.revocations.checked(said)
    connection.scope["known"] = found  # type: ignore[typeddict-unknown-key]  # verified once a request
    look_at(found.ledger)
    return found


def address_of(connection: Connection) -> str:
    """Return the address that a request came from."""
    return connection.client.host if connection.client else "unknown"


def agent_of(connection: Connection) -> str:
    """Return what the client of a request says it is."""
    return connection.headers.get("User-Agent", "")


def bearer(connection: Connection) -> str:
    """Return the bearer token of a request (RFC 6750); raise Unauthenticated."""
    scheme, _, token = connection.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated
    return token.strip()


def permit(connection: Connection, *permissions: Permission) -> Caller:
    """Return who asks; raise Forbidden unless they have one of these permissions.

    Raises SecondFactorMissing for people without one where it is demanded: all that is left to them is their account.
    """
    caller, known = caller_of(connection), _known(connection)
    if isinstance(known, Claims) and services_of(connection).revocations.lacks_second_factor(known):
        raise SecondFactorMissing
    if caller.granted.isdisjoint(permissions):
        raise Forbidden
    return caller
