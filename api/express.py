"""The express lane: what ad slots ask by the thousand is answered before the framework has looked at it.

Finding a route, reading the body and making the answer took the framework a third of a decision. Only what is ordinary
goes this way, to the same functions that the routes call; whatever is not, wrong requests first, goes on to the routes.
"""

from functools import lru_cache
from typing import Final

import msgspec
from litestar import Litestar
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, ReceiveMessage, Scope, Send

from api.decisions import DECISIONS_PATH, decide
from api.services import Services
from domain.ad_request import AdRequest

BODY_BYTES_MAX: Final = 100_000

_ad_requests: Final = msgspec.json.Decoder(AdRequest, strict=True)
_answers: Final = msgspec.json.Encoder()


def expressed(app: ASGIApp, routes: Litestar) -> ASGIApp:
    """Return the application with ordinary decisions answered at once; `routes` knows the services of the process."""

    async def express(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or scope["path"] != DECISIONS_PATH or scope["method"] != "POST":
            await app(scope, receive, send)
            return
        message = await receive()
        answer = _decided(routes.state.services, scope, message)
        if answer is None:
            await app(scope, _again(message, receive), send)
            return
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        scope["operation_id"] = decide.__name__  # type: ignore[typeddict-unknown-key]  # for the log of requests
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer, "more_body": False})

    return express


def _decided(services: Services, scope: HTTPScope, message: ReceiveMessage) -> bytes | None:
    """Return the answer to an ordinary request that arrived in one piece, None for any other; nothing is held then."""
    headers = dict(scope["headers"])
    if (
        message["type"] != "http.request"
        or message["more_body"]
        or len(message["body"]) > BODY_BYTES_MAX
        or headers.get(b"content-type") != b"application/json"
        or len(headers) < len(list(scope["headers"]))  # which of two that have one name counts, is not for here to say
    ):
        return None
    try:
        request = _ad_requests.decode(message["body"])
        key = headers[b"authorization"].decode("latin-1").removeprefix("Bearer ")
        return _answers.encode(decide(services, request, key, _base_url(scope["scheme"], headers[b"host"])))
    except Exception:  # noqa: BLE001  the routes say what is wrong
        return None


@lru_cache(maxsize=256)
def _base_url(scheme: str, host: bytes) -> str:
    return f"{scheme}://{host.decode('latin-1')}"


def _again(message: ReceiveMessage, receive: Receive) -> Receive:
    """Return what receives a message that was taken already, and then the rest."""
    taken = False

    async def receive_again() -> ReceiveMessage:
        nonlocal taken
        if taken:
            return await receive()
        taken = True
        return message

    return receive_again
