"""Who may do what: permissions by role, in one table, and the guards that hold every route to it."""

from collections.abc import Mapping
from typing import Any, Final, Literal

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from api.problems import Forbidden, Unauthenticated
from api.services import services_of
from infra import access_tokens
from infra.access_tokens import Claims
from infra.users import Role

Connection = ASGIConnection[Any, Any, Any, Any]
Permission = Literal["read", "manage", "administer", "audit"]

PERMISSIONS: Final[Mapping[Permission, frozenset[Role]]] = {
    "read": frozenset({"admin", "manager", "viewer", "auditor"}),
    "manage": frozenset({"admin", "manager"}),
    "administer": frozenset({"admin"}),
    "audit": frozenset({"admin", "auditor"}),
}


def may_read(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Let everybody in who has signed in."""
    _permit("read", connection)


def may_manage(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Let those in who run campaigns."""
    _permit("manage", connection)


def may_administer(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Let those in who look after people."""
    _permit("administer", connection)


def may_audit(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Let those in who check the log."""
    _permit("audit", connection)


def claims_of(connection: Connection) -> Claims:
    """Return what the access token of a request says; raise Unauthenticated when there is none, or TokenRefused."""
    known = connection.scope.get("claims")
    if isinstance(known, Claims):
        return known
    services = services_of(connection)
    claims = access_tokens.verify(bearer(connection), keys=services.keys, issuer=services.issuer)
    connection.scope["claims"] = claims  # type: ignore[typeddict-unknown-key]  # verified once a request
    return claims


def bearer(connection: Connection) -> str:
    """Return the bearer token of a request (RFC 6750); raise Unauthenticated."""
    scheme, _, token = connection.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated
    return token.strip()


def _permit(permission: Permission, connection: Connection) -> None:
    if claims_of(connection).role not in PERMISSIONS[permission]:
        raise Forbidden
