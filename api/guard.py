"""The guard of the ad doors: open to scripts of every page, and whoever asks too often is told when to come back."""

import os
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from time import monotonic
from typing import Final
from urllib.parse import parse_qsl

import msgspec
from granian.utils.proxies import wrap_asgi_with_proxy_headers
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send
from litestar.utils.path import normalize_path

from api.hardening import HTTPS, NOSNIFF
from api.problems import PROBLEM_JSON, problem
from infra.rate_limits import RateExceeded, RateLimits

GUARDED: Final = "/ads/v1/"
LOOK_EVERY_SECONDS: Final = 1.0
CROWDED_SHARE: Final = 0.75
"""So full, of the connections that a worker holds, is crowded."""

_OPEN_FILES: Final = "/dev/fd"
_CLOSE: Final = (b"connection", b"close")
_OPEN: Final = (b"access-control-allow-origin", b"*")
_OPEN_TO_WHAT: Final = [
    (b"access-control-allow-methods", b"GET, HEAD, POST"),
    (b"access-control-allow-headers", b"authorization, content-type"),
    (b"access-control-max-age", b"86400"),
]
"""Every page may ask, for nothing of a browser's own is believed here: no cookie, only what a page has to know."""


def guarded(app: ASGIApp, others: ASGIApp, limits: RateLimits, *, connections_max: int, https: bool = False) -> ASGIApp:
    """Return the application with its ad doors counted by slot key and by address; what is none goes to `others`.

    What all of their answers tell browsers is put together once: a content type is not guessed, and `https` stays so.

    While most of the connections are open that a worker holds, ad doors close theirs after an answer. Else those who
    keep all of them busy would keep everybody out who comes later, health checks first.
    """
    crowded = _crowds(int(connections_max * CROWDED_SHARE))
    told = [_OPEN, NOSNIFF, *([HTTPS] if https else [])]
    told_last = [*told, _CLOSE]

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and _is_ad_door(scope["path"]):
            send = _adding(told_last if crowded() else told, send)
            try:
                limits.count(_key(scope) if limits.counts_keys else "", scope["client"][0] if scope["client"] else "")
            except RateExceeded as exceeded:
                await _refuse(send, exceeded)
                return
            if scope["method"] == "OPTIONS":
                await _open(send)
                return
            await app(scope, receive, send)
        else:
            await others(scope, receive, send)

    return guard


def behind_proxies(app: ASGIApp, trusted: str) -> ASGIApp:
    """Return the application with the client's address as the proxies report it that are trusted, if any are.

    `trusted` are addresses and networks, separated by commas. Of X-Forwarded-For counts the last address that is none
    of theirs: what stands before it was said by whoever came from there.
    """
    return wrap_asgi_with_proxy_headers(app, trusted) if trusted else app


def _is_ad_door(path: str) -> bool:
    # The framework takes several slashes for one.
    return path.startswith(GUARDED) or ("//" in path and normalize_path(path).startswith(GUARDED))


def _key(scope: HTTPScope) -> str:
    """Return the key of a request however it is spelled: see `access.bearer`."""
    said = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    if not said and scope["query_string"]:  # players cannot set headers
        return dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("key", "").strip()
    return said.decode("latin-1").partition(" ")[2].strip()


def _crowds(many: int) -> Callable[[], bool]:
    """Return what tells whether this process has more files open than that: nearly all of them are connections."""
    looked_at, found = 0.0, False

    def crowded() -> bool:
        nonlocal looked_at, found
        if (now := monotonic()) - looked_at > LOOK_EVERY_SECONDS:
            looked_at = now
            with suppress(OSError):
                found = len(os.listdir(_OPEN_FILES)) > many  # noqa: PTH208  that would make thousands of paths
        return found

    return crowded


def _adding(headers: list[tuple[bytes, bytes]], send: Send) -> Send:
    async def send_with(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *headers]
        await send(message)

    return send_with


async def _open(send: Send) -> None:
    """Say what a page may ask (CORS, Fetch standard, 3.3)."""
    await send({"type": "http.response.start", "status": HTTPStatus.NO_CONTENT, "headers": _OPEN_TO_WHAT})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _refuse(send: Send, exceeded: RateExceeded) -> None:
    body = msgspec.json.encode(problem(HTTPStatus.TOO_MANY_REQUESTS, "rate_limited", str(exceeded)))
    headers = [
        (b"content-type", PROBLEM_JSON.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", str(exceeded.retry_after_seconds).encode()),
    ]
    await send({"type": "http.response.start", "status": HTTPStatus.TOO_MANY_REQUESTS, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
