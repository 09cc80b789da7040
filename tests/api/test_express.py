"""The express lane: what is ordinary is answered there, however the server hands a body over, and nothing else is."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from api.app import create_app, serving
from api.express import expressed
from infra import installation, settings
from infra.rate_limits import SharedCounts

BODY = json.dumps({"id": "r", "placements": [{"id": "p", "slot_id": str(uuid4())}]}).encode()
WHOLE = ({"body": BODY, "more_body": False},)
UNANNOUNCED_END = ({"body": BODY, "more_body": True}, {"body": b"", "more_body": False})
IN_PIECES = ({"body": BODY[:20], "more_body": True}, {"body": BODY[20:], "more_body": False})


@pytest.fixture
async def express(database_url: str, data_dir: Path) -> AsyncIterator[ASGIApp]:
    """The express lane of a service in which there is nothing yet; what it leaves to the routes answers 418."""
    found = settings.read(data_dir=data_dir)
    await installation.begin(database_url, found)
    app = create_app(found)
    async with serving(database_url, found, SharedCounts(found.rates_file, found.workers)) as services:
        app.state.services = services
        yield expressed(_leave, app)


async def _leave(_scope: Scope, receive: Receive, send: Send) -> None:
    body, more = b"", True
    while more:
        message: Any = await receive()
        body, more = body + message["body"], message["more_body"]
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def answered(app: ASGIApp, parts: Any, **changed: bytes) -> tuple[int, bytes]:
    """Ask for a decision, the body handed over in these parts; return status and body of the answer."""
    headers = {"host": b"a", "content-type": b"application/json", "authorization": b"Bearer nobody's"}
    headers |= {"content-length": b"%d" % len(BODY), **{name.replace("_", "-"): said for name, said in changed.items()}}
    told = iter({"type": "http.request", **part} for part in parts)
    said: list[Any] = []

    async def receive() -> Any:
        return next(told)

    async def send(message: Message) -> None:
        said.append(message)

    scope: Any = {
        "type": "http",
        "method": "POST",
        "scheme": "http",
        "path": "/ads/v1/decisions",
        "headers": [(name.encode(), value) for name, value in headers.items()],
    }
    await app(scope, receive, send)
    start, body = said
    return start["status"], body["body"]


@pytest.mark.parametrize("parts", [WHOLE, UNANNOUNCED_END])
async def test_what_is_ordinary_is_answered_at_once(express: ASGIApp, parts: Any) -> None:
    """Also where the server says only with a second message that the first was all, as granian does."""
    status, body = await answered(express, parts)
    assert (status, json.loads(body)["code"]) == (401, "unauthenticated")


@pytest.mark.parametrize(
    ("parts", "changed"),
    [
        (IN_PIECES, {}),
        (WHOLE, {"content_type": b"text/plain"}),
        (WHOLE, {"authorization": b"Basic eA=="}),
        (WHOLE, {"content_length": b"%d" % (len(BODY) + 1)}),
        (UNANNOUNCED_END, {"content_type": b"application/xml"}),
    ],
)
async def test_the_rest_is_left_to_the_routes(express: ASGIApp, parts: Any, changed: dict[str, bytes]) -> None:
    """They receive all of the body, as if nobody had looked at it."""
    assert await answered(express, parts, **changed) == (418, BODY)
