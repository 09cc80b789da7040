"""What browsers are told of the doors for people: which pages may ask, and to believe nothing but what is said.

The ad doors are open to every page by rule, and say so themselves: see `api.guard`.
"""

from collections.abc import Collection
from http import HTTPStatus
from typing import Final

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

Headers = list[tuple[bytes, bytes]]

_DOCUMENTATION: Final = ("/schema", "/assets")
_CACHED: Final = b"cache-control"

NOSNIFF: Final = (b"x-content-type-options", b"nosniff")
HTTPS: Final = (b"strict-transport-security", b"max-age=63072000")
_ALWAYS: Final[Headers] = [
    NOSNIFF,
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_DATA: Final = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
# The page of the documentation is made by the framework, with its script in it.
_PAGE: Final = (
    b"content-security-policy",
    b"default-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'",
)
_NOT_KEPT: Final = (_CACHED, b"no-store")

_BY_ORIGIN: Final = (b"vary", b"Origin")
_SHOWN: Final = (b"access-control-expose-headers", b"ETag, Location, Retry-After, X-Request-Id")
_TO_WHAT: Final[Headers] = [
    (b"access-control-allow-methods", b"GET, HEAD, POST, PATCH, DELETE, PUT"),
    (
        b"access-control-allow-headers",
        b"Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, X-Request-Id",
    ),
    (b"access-control-max-age", b"600"),
]


def hardened(app: ASGIApp, origins: Collection[str], *, https: bool) -> ASGIApp:
    """Return the application with what browsers are to know; pages of `origins` may ask, with a token in a header.

    No cookie says who somebody is, so there is nothing that another page could make a browser send for somebody; the
    only one there is keeps, for minutes, what a sign-in through a provider has to find again (see `api.openid`).
    """
    known = frozenset(origin.encode() for origin in origins)
    told = [*_ALWAYS, *([HTTPS] if https else []), *([_BY_ORIGIN] if known else [])]

    async def harden(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        origin = _said(scope, b"origin")
        allowed: Headers = [(b"access-control-allow-origin", origin), _SHOWN] if origin in known else []
        policy = _PAGE if scope["path"].startswith(_DOCUMENTATION) else _DATA
        if allowed and scope["method"] == "OPTIONS" and _said(scope, b"access-control-request-method"):
            headers = [*told, *allowed, *_TO_WHAT]
            await send({"type": "http.response.start", "status": HTTPStatus.NO_CONTENT, "headers": headers})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return

        async def send_hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                said = list(message["headers"])
                kept = [] if any(name.lower() == _CACHED for name, _ in said) else [_NOT_KEPT]
                message["headers"] = [*said, *told, policy, *kept, *allowed]
            await send(message)

        await app(scope, receive, send_hardened)

    return harden


def _said(scope: HTTPScope, wanted: bytes) -> bytes:
    return next((value for name, value in scope["headers"] if name == wanted), b"")
