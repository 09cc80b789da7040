"""Nobody waits for an answer longer than a bound, whatever keeps the service from giving it."""

import asyncio
from typing import Any

import msgspec
import pytest
from litestar.types import ASGIApp, Receive, Scope, Send

from api.deadline import bounded

SECONDS = 0.05


async def answers(
    app: ASGIApp, method: str = "GET", path: str = "/api/v1/campaigns", query: bytes = b""
) -> list[dict[str, Any]]:
    """Return what an application sends for a request without a body."""
    sent: list[dict[str, Any]] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope: Any = {"type": "http", "method": method, "path": path, "query_string": query}
    await bounded(app, seconds=SECONDS)(scope, receive, send)
    return sent


async def test_who_waits_too_long_is_told() -> None:
    """An answer that does not begin in time is a problem that says when to try again."""

    async def never(_scope: Scope, _receive: Receive, _send: Send) -> None:
        await asyncio.Event().wait()

    start, body = await answers(never)
    assert start["status"] == 503
    assert dict(start["headers"])[b"retry-after"] == b"1"
    assert msgspec.json.decode(body["body"])["code"] == "unavailable"


@pytest.mark.parametrize("asked", [("POST", "/ads/v1/events", b"as_of=1"), ("POST", "/audit/v1/events", b"")])
async def test_nobody_may_send_slowly_under_the_name_of_a_replay(asked: tuple[str, str, bytes]) -> None:
    """Only what is read may be replayed: whoever sends a body has no more time for a word in the URL."""

    async def never(_scope: Scope, _receive: Receive, _send: Send) -> None:
        await asyncio.Event().wait()

    async with asyncio.timeout(100 * SECONDS):
        start, _ = await answers(never, *asked)
    assert start["status"] == 503


async def test_what_has_begun_may_take_its_time() -> None:
    """A stream that has begun in time is not cut off."""

    async def slow(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(3 * SECONDS)
        await send({"type": "http.response.body", "body": b"done", "more_body": False})

    start, body = await answers(slow)
    assert (start["status"], body["body"]) == (200, b"done")


async def test_a_time_out_of_the_application_is_its_own() -> None:
    """A TimeoutError from within, before the bound, is not taken for the bound."""

    async def fails(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await answers(fails)


async def test_who_waits_is_told_before_what_was_asked_is_called_off() -> None:
    """Calling off may take longer than the bound, and what it still says is not sent."""
    called_off = asyncio.Event()
    sent: list[dict[str, Any]] = []

    async def stubborn(_scope: Scope, _receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await called_off.wait()
            await send({"type": "http.response.start", "status": 500, "headers": []})
            raise

    async def send(message: Any) -> None:
        sent.append(message)
        if message["type"] == "http.response.body":
            called_off.set()  # so that this ends only if the answer comes first

    async def receive() -> Any:
        await asyncio.Event().wait()

    scope: Any = {"type": "http", "method": "GET", "path": "/", "query_string": b""}
    async with asyncio.timeout(100 * SECONDS):
        await bounded(stubborn, seconds=SECONDS)(scope, receive, send)
    assert [message.get("status") for message in sent] == [503, None]
