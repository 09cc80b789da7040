"""What every request leaves behind: an id, a few numbers, a line in the log. Never a secret, never a person."""

import re
from time import perf_counter
from typing import Any, Final

import structlog
from litestar.connection import ASGIConnection
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from infra import clock, metrics

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,100}")
_CLIENT_ERROR: Final = 400
_SERVER_ERROR: Final = 500
_AD_DOORS: Final = "/ads/v1/"

log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger("http")


def observed(app: ASGIApp) -> ASGIApp:
    """Return the application with each HTTP request named, measured and logged."""

    async def observe(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        started = perf_counter()
        request_id = _named(scope)
        status = _SERVER_ERROR

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await app(scope, receive, send_named)
        finally:
            _note(scope, request_id, status, perf_counter() - started)

    return observe


def request_id(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    """Return the id of a request: the client's own, where it sent a sensible one."""
    return str(connection.scope["request_id"])  # type: ignore[typeddict-item]  # set by `observed`


def _named(scope: HTTPScope) -> str:
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    name = given.decode() if _REQUEST_ID.fullmatch(given) else clock.fresh_name()
    scope["request_id"] = name  # type: ignore[typeddict-unknown-key]  # a key of our own
    return name


def _note(scope: HTTPScope, name: str, status: int, seconds: float) -> None:
    # The operation, not the path: paths of ad slots carry tokens.
    operation = scope.get("operation_id") or getattr(scope.get("route_handler"), "operation_id", None) or "unmatched"
    metrics.request_counter(operation, status).inc()
    metrics.request_seconds(operation).observe(seconds)
    # What ad slots ask by the thousand, and get, is counted; a line of the log each cost a fifth of a decision.
    note = log.debug if status < _CLIENT_ERROR and scope["path"].startswith(_AD_DOORS) else log.info
    note("request", id=name, method=scope["method"], operation=operation, status=status, ms=round(seconds * 1_000, 2))
