"""Who may do what: permissions by role, in one table, and the guards that hold every route to it."""

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, get_args
from uuid import UUID

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from api.problems import Forbidden, Unauthenticated
from api.services import services_of
from domain.rights import Rights
from infra import access_tokens, api_keys
from infra.access_tokens import Claims
from infra.users import Role

Connection = ASGIConnection[Any, Any, Any, Any]
Permission = Literal["read", "contact", "draft", "change", "manage", "review", "spend", "administer", "audit"]


class Caller(NamedTuple):
    """Who asks, a person or a program: in which ledger, in what role, and how the log calls them."""

    ledger: UUID
    role: Role
    actor: str


ROLES: Final[Mapping[Role, frozenset[Permission]]] = {
    "admin": frozenset(get_args(Permission)),
    "manager": frozenset({"read", "contact", "draft", "change", "manage"}),
    "reviewer": frozenset({"read", "review"}),
    "finance": frozenset({"read", "contact", "change", "spend"}),
    "viewer": frozenset({"read"}),
    "auditor": frozenset({"read", "audit"}),
}
"""What each role may do, and nothing else.

To `draft` is to make campaigns and creatives, to `manage` to let them be served and to keep advertisers and slots;
`review` and `spend`, which is money, are for others than who manages. Who may `change` a campaign need not be allowed
to set all of it: see `domain.rights`.
"""


def may_read(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Let everybody in who has signed in."""
    permit("read", connection)


def is_person(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Let those in who have an account of their own, and no programs."""
    if isinstance(_known(connection), Caller):
        raise Forbidden


def may_draft(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Let those in who make campaigns and creatives."""
    permit("draft", connection)


def may_change(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Let those in who set anything about a campaign."""
    permit("change", connection)


def may_manage(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Let those in who run campaigns."""
    permit("manage", connection)


def may_review(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Let those in who say what may be shown."""
    permit("review", connection)


def may_spend(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Let those in who look after money."""
    permit("spend", connection)


def may_administer(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Let those in who look after people."""
    permit("administer", connection)


def may_audit(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Let those in who check the log."""
    permit("audit", connection)


def reads_contacts(caller: Caller) -> bool:
    """Tell whether somebody may read how people are reached; to others it is shown as the log has it, encrypted."""
    return "contact" in ROLES[caller.role]


def rights_of(caller: Caller) -> Rights:
    """Return what somebody may do with what they may change."""
    granted = ROLES[caller.role]
    return Rights(
        plans="draft" in granted, spends="spend" in granted, beyond_drafts=bool({"manage", "spend"} & granted)
    )


def caller_of(connection: Connection) -> Caller:
    """Return who asks, by access token or API key, if it still holds; raise Unauthenticated or TokenRefused."""
    known = _known(connection)
    return known if isinstance(known, Caller) else Caller(known.ledger, known.role, f"user:{known.sub}")


def claims_of(connection: Connection) -> Claims:
    """Return what the access token of a person says, where only people are let in; raise as `caller_of` does."""
    known = _known(connection)
    if isinstance(known, Caller):
        raise Forbidden
    return known


def _known(connection: Connection) -> Claims | Caller:
    known = connection.scope.get("known")
    if isinstance(known, Claims | Caller):
        return known
    services, presented = services_of(connection), bearer(connection)
    found: Claims | Caller
    if presented.startswith(api_keys.PREFIX):
        key = services.api_keys.known(presented)
        if key is None:
            raise Unauthenticated
        found = Caller(services.ledger_id, key.role, f"key:{key.id}")
    else:
        said = access_tokens.verify(presented, keys=services.keys, issuer=services.issuer)
        found = services.revocations.checked(said)
    connection.scope["known"] = found  # type: ignore[typeddict-unknown-key]  # verified once a request
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


def permit(permission: Permission, connection: Connection) -> None:
    """Raise Forbidden unless whoever asks may do this."""
    if permission not in ROLES[caller_of(connection).role]:
        raise Forbidden
