"""What doors tell the audit of people: who changes what somebody may do, and who is denied what they ask for."""

from typing import Any, Final, TypeVar
from uuid import UUID

from litestar import Request, Response
from msgspec import structs

from api import problems
from api.access import address_of, caller_of
from api.observe import request_id
from api.problems import Forbidden
from api.services import services_of
from domain.access import AccessChange, Exported, ExportKind
from infra.access_tokens import TokenRefused
from infra.revocations import TokenTakenBack
from infra.whereabouts import truncated

E = TypeVar("E", bound=AccessChange)


async def record(request: Request[Any, Any, Any], subject: UUID, event: AccessChange) -> None:
    """Tell the log what whoever asks does to a person or key, and from which network.

    To be called within the transaction that does it, which LogBusy or LogUnavailable undoes.
    """
    caller, seen = caller_of(request), seen_from(request, event)
    audit = services_of(request).audit
    await audit.record(caller.ledger, subject, seen, actor=caller.actor, correlation_id=request_id(request))


async def record_export(request: Request[Any, Any, Any], what: ExportKind) -> None:
    """Tell the log that whoever asks takes something with them; now and then, if they do it again and again."""
    caller, event = caller_of(request), seen_from(request, Exported(what=what))
    await services_of(request).audit.record_export(caller.ledger, event, actor=caller.actor)


def seen_from(request: Request[Any, Any, Any], event: E) -> E:
    """Return an event with the network that a request came from."""
    return structs.replace(event, network=truncated(address_of(request)))


def on_forbidden(request: Request[Any, Any, Any], error: Forbidden) -> Response[bytes]:
    """Count who may not do this, and answer."""
    caller = caller_of(request)
    operation = str(getattr(request.scope.get("route_handler"), "operation_id", None))
    _count(request, caller.ledger, caller.actor, operation)
    return problems.on_forbidden(request, error)


def on_taken_back(request: Request[Any, Any, Any], error: TokenTakenBack) -> Response[bytes]:
    """Count whose token holds no more, and answer as for any that is not valid."""
    _count(request, error.claims.ledger, f"user:{error.claims.sub}", error.reason)
    return problems.on_unauthenticated(request, TokenRefused(error.reason))


EXCEPTION_HANDLERS: Final[dict[type[Exception] | int, Any]] = {
    **problems.EXCEPTION_HANDLERS,
    Forbidden: on_forbidden,
    TokenTakenBack: on_taken_back,
}


def _count(request: Request[Any, Any, Any], ledger_id: UUID, actor: str, reason: str) -> None:
    address = address_of(request)
    services_of(request).audit.refuse(ledger_id, "access_denied", actor=actor, reason=reason, address=address)
