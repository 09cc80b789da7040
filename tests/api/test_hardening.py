"""What browsers are told: which pages may ask the doors for people, and what no page may do with their answers."""

from typing import Any, Final

import httpx
import pytest
from litestar.types import Receive, Scope, Send

from api.hardening import hardened
from tests.api.conftest import CONSOLE
from tests.running import Service

ASKED_BEFORE: Final = {
    "Access-Control-Request-Method": "PATCH",
    "Access-Control-Request-Headers": "authorization,if-match",
}


def asked(service: Service, method: str, path: str, origin: str = CONSOLE, **options: Any) -> httpx.Response:
    """Ask as a page of an origin does."""
    headers = {"Origin": origin, **options.pop("headers", {})}
    return httpx.request(method, f"{service.url}{path}", headers=headers, **options)


def test_a_page_of_the_console_may_ask(service: Service) -> None:
    """Its origin is let in, with the headers that commands take, and may read those that answers carry."""
    before = asked(service, "OPTIONS", "/api/v1/campaigns", headers=ASKED_BEFORE)
    assert before.status_code == 204
    assert before.headers["Access-Control-Allow-Origin"] == CONSOLE
    assert {"PATCH", "DELETE"} <= set(before.headers["Access-Control-Allow-Methods"].split(", "))
    allowed = {each.lower() for each in before.headers["Access-Control-Allow-Headers"].split(", ")}
    assert {"authorization", "content-type", "idempotency-key", "if-match"} <= allowed
    answer = asked(service, "POST", "/api/v1/auth/refresh", json={"refresh_token": "nobody's"})
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (401, CONSOLE)
    assert "ETag" in answer.headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize(
    "origin", ["https://console.example.thief.example", "http://console.example", CONSOLE + ":8443", "null", "*", ""]
)
def test_no_other_page_may(service: Service, origin: str) -> None:
    """Nothing in an answer lets a page of another origin read it, beforehand or afterwards; caches know."""
    for method, headers in (("OPTIONS", ASKED_BEFORE), ("GET", {})):
        answer = asked(service, method, "/api/v1/campaigns", origin, headers=headers)
        assert [name for name in answer.headers if name.startswith("access-control")] == []
        assert "Origin" in answer.headers["Vary"]


def test_the_ad_doors_are_open_to_every_page(service: Service) -> None:
    """An ad slot is on any page: its door says so once, whoever asks."""
    for origin in (CONSOLE, "https://news.example"):
        answer = asked(service, "POST", "/ads/v1/decisions", origin, json={})
        assert answer.headers.get_list("Access-Control-Allow-Origin") == ["*"]


@pytest.mark.parametrize("path", ["/api/v1/campaigns", "/audit/v1/events", "/health/live", "/nothing/here", "/schema/"])
def test_answers_are_no_pages(service: Service, path: str) -> None:
    """No answer is taken for something else, shown in a frame, kept by a cache, or told to another site."""
    answer = asked(service, "GET", path)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src '" in answer.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert answer.headers.get_list("Cache-Control") == ["no-store"]


def test_what_may_be_kept_says_so_itself(service: Service) -> None:
    """A door that says how long its answer may be kept is believed."""
    answer = asked(service, "GET", "/.well-known/jwks.json")
    assert answer.headers.get_list("Cache-Control") == ["public, max-age=300"]


@pytest.mark.parametrize(("https", "told"), [(True, [b"max-age=63072000"]), (False, [])])
async def test_browsers_are_told_to_stay_with_https(https: bool, told: list[bytes]) -> None:
    """Where the service is reached by HTTPS, browsers are to reach it so for two years; else nothing is said of it."""
    headers: list[tuple[bytes, bytes]] = []

    async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        headers.extend(message["headers"])

    scope: Any = {"type": "http", "method": "GET", "path": "/api/v1/campaigns", "headers": []}
    await hardened(answer, [], https=https)(scope, receive, send)
    assert [value for name, value in headers if name == b"strict-transport-security"] == told
    assert b"vary" not in dict(headers)
