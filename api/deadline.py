"""The deadline: whoever sends too slowly, or asks a database that does not answer, is told so within a bounded time."""

import asyncio
from http import HTTPStatus
from typing import Final

import msgspec
from litestar.enums import HttpMethod, ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import PROBLEM_JSON, RETRY_AFTER_SECONDS, problem

BEGIN_SECONDS_MAX: Final = 15.0
"""For how long an answer may take to begin; one that has begun, such as a stream of the log, may take any time."""

REPLAY_SECONDS_MAX: Final = 600.0
"""The same for an answer that is replayed from the log: a million entries take a minute."""

_TOO_LATE: Final = msgspec.json.encode(
    problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "unavailable",
        "This took too long, and may or may not have been done; try again with the same key or token.",
    )
)
_HEADERS: Final = [
    (b"content-type", PROBLEM_JSON.encode()),
    (b"content-length", str(len(_TOO_LATE)).encode()),
    (b"retry-after", str(RETRY_AFTER_SECONDS).encode()),
    (b"connection", b"close"),
]


def bounded(app: ASGIApp, *, seconds: float = BEGIN_SECONDS_MAX) -> ASGIApp:
    """Return the application with a problem for whoever it has not begun to answer in time."""

    async def bound(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        replays = scope["method"] == HttpMethod.GET and (
            b"as_of=" in scope["query_string"] or scope["path"].startswith("/audit/")
        )
        deadline = asyncio.timeout(REPLAY_SECONDS_MAX if replays else seconds)

        async def send_in_time(message: Message) -> None:
            if message["type"] == "http.response.start":
                deadline.reschedule(None)
            await send(message)

        try:
            async with deadline:
                await app(scope, receive, send_in_time)
        except TimeoutError:
            if not deadline.expired():
                raise
            await send({"type": "http.response.start", "status": HTTPStatus.SERVICE_UNAVAILABLE, "headers": _HEADERS})
            await send({"type": "http.response.body", "body": _TOO_LATE, "more_body": False})

    return bound
