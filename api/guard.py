"""The guard of the ad doors: whoever asks more often than is allowed is told when to come back."""

from http import HTTPStatus
from typing import Final

import msgspec
from granian.utils.proxies import wrap_asgi_with_proxy_headers
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from api.problems import PROBLEM_JSON, problem
from infra.rate_limits import RateExceeded, RateLimits

GUARDED: Final = "/ads/v1/"


def guarded(app: ASGIApp, limits: RateLimits) -> ASGIApp:
    """Return the application with its ad doors counted by slot key and by address."""

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and scope["path"].startswith(GUARDED):
            key = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
            client = scope["client"]
            try:
                limits.count(key.decode("latin-1"), client[0] if client else "")
            except RateExceeded as exceeded:
                await _refuse(send, exceeded)
                return
        await app(scope, receive, send)

    return guard


def behind_proxies(app: ASGIApp, trusted: str) -> ASGIApp:
    """Return the application with the client's address as the proxies report it that are trusted, if any are.

    `trusted` are addresses and networks, separated by commas. Of X-Forwarded-For counts the last address that is none
    of theirs: what stands before it was said by whoever came from there.
    """
    return wrap_asgi_with_proxy_headers(app, trusted) if trusted else app


async def _refuse(send: Send, exceeded: RateExceeded) -> None:
    body = msgspec.json.encode(problem(HTTPStatus.TOO_MANY_REQUESTS, "rate_limited", str(exceeded)))
    headers = [
        (b"content-type", PROBLEM_JSON.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", str(exceeded.retry_after_seconds).encode()),
        (b"access-control-allow-origin", b"*"),
    ]
    await send({"type": "http.response.start", "status": HTTPStatus.TOO_MANY_REQUESTS, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
