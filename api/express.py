"""The express lane: what ad slots ask by the thousand is answered before the framework has looked at it.

Finding a route, reading the body and making the answer took the framework a third of a decision. What is ordinary goes
this way, to the same functions that the routes call; whatever is not goes on to the routes.
"""

from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Final

import msgspec
from litestar import Litestar
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, ReceiveMessage, Scope, Send

from api import answers, beacons, decisions, problems
from api.services import Services
from domain.ad_request import AdRequest
from domain.budget import DeliveryKind
from infra.beacon_tokens import TOKEN_CHARACTERS_MAX

BODY_BYTES_MAX: Final = 100_000
KIND_OF_DOOR: Final[dict[str, DeliveryKind]] = {
    answers.IMPRESSION_PATH: "impression",
    answers.VIEW_PATH: "view",
}
_DOOR_CHARACTERS: Final = len(answers.IMPRESSION_PATH)
"""Both are as long."""

_ad_requests: Final = msgspec.json.Decoder(AdRequest, strict=True)
_answers: Final = msgspec.json.Encoder()


def expressed(app: ASGIApp, routes: Litestar) -> ASGIApp:
    """Return the application with what is ordinary answered at once; `routes` knows the services of the process."""

    async def express(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP:
            path, method = scope["path"], scope["method"]
            if method == "GET" and (kind := KIND_OF_DOOR.get(path[:_DOOR_CHARACTERS])):
                token = path[_DOOR_CHARACTERS:]
                if "/" not in token and 0 < len(token) <= TOKEN_CHARACTERS_MAX:
                    await _report(routes.state.services, scope, kind, token, receive, send)
                    return
            elif method == "POST" and path == answers.DECISIONS_PATH:
                message = await receive()
                receive = _again(message, receive)
                if (request := _ad_request(scope, message)) is not None:
                    await _decide(routes.state.services, scope, request, send)
                    return
        await app(scope, receive, send)

    return express


async def _report(
    services: Services, scope: HTTPScope, kind: DeliveryKind, token: str, receive: Receive, send: Send
) -> None:
    scope["operation_id"] = f"record_{kind}"  # type: ignore[typeddict-unknown-key]  # as the route is called
    try:
        answer = await beacons.record(services, scope, kind, token)
    except Exception as error:  # noqa: BLE001  answered as the routes answer it
        await _refuse(error, send)
    else:
        await answer(scope, receive, send)


async def _decide(services: Services, scope: HTTPScope, request: AdRequest, send: Send) -> None:
    scope["operation_id"] = "decide"  # type: ignore[typeddict-unknown-key]  # as the route is called
    headers = dict(scope["headers"])
    key = headers[b"authorization"].decode("latin-1").removeprefix("Bearer ")
    try:
        base_url = _base_url(scope["scheme"], headers[b"host"])
        body = _answers.encode(decisions.decide(services, services.ledgers.of_slot_key(key), request, base_url))
    except Exception as error:  # noqa: BLE001  answered as the routes answer it
        await _refuse(error, send)
    else:
        await _send(send, 200, {"content-type": "application/json"}, body)


def _ad_request(scope: HTTPScope, message: ReceiveMessage) -> AdRequest | None:
    """Return the request of an ad slot if it is ordinary: right, arrived in one piece, and asks for no explanation."""
    found = list(scope["headers"])
    headers = dict(found)
    if (
        message["type"] != "http.request"
        or len(message["body"]) > BODY_BYTES_MAX
        or headers.get(b"content-length") != b"%d" % len(message["body"])  # the server does not say that it is all
        or headers.get(b"content-type") != b"application/json"
        or not headers.get(b"authorization", b"").startswith(b"Bearer ")
        or b"host" not in headers
        or len(headers) < len(found)  # which of two that have one name counts, is not for here to say
    ):
        return None
    try:
        request = _ad_requests.decode(message["body"])
    except msgspec.DecodeError:
        return None
    return None if request.explain else request


@lru_cache(maxsize=256)
def _base_url(scheme: str, host: bytes) -> str:
    return f"{scheme}://{host.decode('latin-1')}"


async def _refuse(error: Exception, send: Send) -> None:
    answer = problems.answer_to(error)
    headers = {"content-type": problems.PROBLEM_JSON, **answer.headers}
    await _send(send, answer.status_code or HTTPStatus.INTERNAL_SERVER_ERROR, headers, answer.content)


async def _send(send: Send, status: int, headers: Mapping[str, str], body: bytes) -> None:
    said = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    said.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": said})
    await send({"type": "http.response.body", "body": body, "more_body": False})


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
