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
    """Return the application with a problem for whoever it has not begun to answer in time.

    What it was doing is then called off, which may take longer: a database that stands still does not hear of it.
    """

    async def bound(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        replays = scope["method"] == HttpMethod.GET and (
            b"as_of=" in scope["query_string"] or scope["path"].startswith("/audit/")
        )
        loop, working = asyncio.get_running_loop(), asyncio.current_task()
        told: asyncio.Task[None] | None = None

        def call_off() -> None:
            nonlocal told
            told = loop.create_task(_tell(send))
            assert working is not None  # noqa: S101  coroutines run in tasks
            working.cancel()

        deadline = loop.call_later(REPLAY_SECONDS_MAX if replays else seconds, call_off)

        async def send_in_time(message: Message) -> None:
            deadline.cancel()
            if told is None:
                await send(message)

        try:
            await app(scope, receive, send_in_time)
        except asyncio.CancelledError:
            if told is None or working is None or working.uncancel():
                raise
        finally:
            deadline.cancel()
            if told is not None:
                await told

    return bound


async def _tell(send: Send) -> None:
    await send({"type": "http.response.start", "status": HTTPStatus.SERVICE_UNAVAILABLE, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _TOO_LATE, "more_body": False})
