"""The guard of the ad doors: rates hold across workers, and a flood of ads leaves the other doors open."""

import asyncio
import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from time import perf_counter
from typing import Any

import httpx
import pytest
from litestar.types import ASGIApp, Receive, Scope, Send

from api.guard import behind_proxies, guarded
from infra.rate_limits import RateLimits, SharedCounts
from tests.databases import IN_MEMORY
from tests.running import Service, running
from tests.world import World

PER_KEY = 120
PER_ADDRESS = 60
CONNECTIONS_MAX = 64
"""For each of two workers, in one test; files that are no connections take about half of them."""

SIGN_INS = 50
IDLE = 200


@pytest.fixture(scope="module")
def limited() -> Iterator[Service]:
    """A service with two web workers, rates by the day, and a proxy that it trusts: whoever is on this machine."""
    settings = {
        "LEDGER_RATE_PER_KEY": f"{PER_KEY}/day",
        "LEDGER_RATE_PER_ADDRESS": f"{PER_ADDRESS}/day",
        "LEDGER_TRUSTED_PROXIES": "127.0.0.0/8",
        "LEDGER_CONNECTIONS_MAX": str(CONNECTIONS_MAX),
    }
    with (
        TemporaryDirectory(dir=IN_MEMORY) as folder,
        running(Path(folder) / "data", workers=2, settings=settings) as started,
    ):
        yield started


def ask(service: Service, times: int, **headers: str) -> list[httpx.Response]:
    """Ask for a list of slots many times, each time on a new connection, so that both workers are asked."""

    def once(number: int) -> httpx.Response:
        said = {name: value.format(number=number) for name, value in headers.items()}
        with service.client(headers=said) as client:
            return client.get("/ads/v1/slots")

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(once, range(times)))


async def passed(
    app: ASGIApp,
    path: str,
    authorization: list[bytes],
    client: str = "192.0.2.1",
    *,
    told: list[tuple[bytes, bytes]] | None = None,
) -> int:
    """Return the status of a request as an application gets it; `told` gains the headers of the answer."""
    statuses: list[int] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        statuses.append(message.get("status"))
        if told is not None:
            told.extend(message.get("headers", ()))

    headers = [(b"host", b"ads.example"), *((b"authorization", said) for said in authorization)]
    scope: Any = {"type": "http", "method": "GET", "path": path, "headers": headers, "client": (client, 1)}
    await app(scope, receive, send)
    return statuses[0]


async def let_in(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer whoever passes the guard."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


@pytest.mark.parametrize("path", ["/ads/v1/slots", "//ads/v1/slots", "/ads//v1/slots", "/ads/v1///slots/"])
@pytest.mark.parametrize(
    "authorization",
    [[b"Bearer k"], [b"bearer k"], [b"BEARER    k"], [b"Bearer \xa0k\t"], [b"Bearer k", b"Bearer other"]],
)
async def test_however_it_is_spelled_it_is_the_same_door_and_key(path: str, authorization: list[bytes]) -> None:
    """What the framework takes for the same path and the same key is counted as the same."""
    app = guarded(let_in, let_in, RateLimits("1/day", "", SharedCounts(None, 1)), connections_max=2_048)
    assert await passed(app, "/ads/v1/decisions", [b"Bearer k"]) == 200
    assert await passed(app, path, authorization) == 429
    assert await passed(app, path, [b"Bearer another"]) == 200
    assert await passed(app, "/api/v1/slots", authorization) == 200


@pytest.mark.parametrize(("https", "told"), [(True, b"max-age=63072000"), (False, None)])
async def test_browsers_guess_nothing_and_stay_with_https(https: bool, told: bytes | None) -> None:
    """Whatever ad doors answer, refusals too, is what it says it is, and by HTTPS where the service is."""
    limits = RateLimits("1/day", "", SharedCounts(None, 1))
    app = guarded(let_in, let_in, limits, connections_max=2_048, https=https)
    for status in (200, 429):
        headers: list[tuple[bytes, bytes]] = []
        assert await passed(app, "/ads/v1/decisions", [b"Bearer k"], told=headers) == status
        assert [value for name, value in headers if name == b"x-content-type-options"] == [b"nosniff"]
        assert dict(headers).get(b"strict-transport-security") == told


@pytest.mark.parametrize(
    ("client", "forwarded", "expected"),
    [
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["203.0.113.9, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["203.0.113.9", "198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1, 192.0.2.8, 10.0.0.7"], "198.51.100.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("198.51.100.2", ["203.0.113.9"], "198.51.100.2"),
    ],
)
async def test_a_proxy_that_is_trusted_says_who_asks(client: str, forwarded: list[str], expected: str) -> None:
    """The address is the last that none of the trusted proxies has; who is not trusted is asked for no other."""
    seen: list[str] = []

    async def inner(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(str(scope["client"] and scope["client"][0]))

    headers = [(b"x-forwarded-for", each.encode()) for each in forwarded]
    scope: Any = {"type": "http", "path": "/", "headers": headers, "client": (client, 1)}
    nothing: Any = None
    await behind_proxies(inner, "10.0.0.0/8, 192.0.2.8")(scope, nothing, nothing)
    assert seen == [expected]


def test_a_key_has_a_rate_across_workers(limited: Service) -> None:
    """However many addresses and workers a key is used with, it passes as often as its rate says, but for one more."""
    headers = {"Authorization": "Bearer a-key", "X-Forwarded-For": "198.51.100.{number}"}
    answers = ask(limited, PER_KEY + 40, **headers)
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses.keys() == {401, 429}
    assert PER_KEY <= statuses[401] <= PER_KEY + 1
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.json()["code"] == "rate_limited"
    assert 0 < int(refused.headers["Retry-After"]) <= 86_400
    assert refused.headers["X-Request-Id"]


def test_an_address_has_a_rate_across_workers(limited: Service) -> None:
    """However many keys come from an address, they pass together as often as the rate of the address says."""
    headers = {"Authorization": "Bearer key-{number}", "X-Forwarded-For": "192.0.2.7"}
    statuses = Counter(answer.status_code for answer in ask(limited, PER_ADDRESS + 30, **headers))
    assert PER_ADDRESS <= statuses[401] <= PER_ADDRESS + 1
    # What stands before the address that the proxy saw was said by whoever came from there.
    (claiming,) = ask(limited, 1, Authorization="Bearer k", **{"X-Forwarded-For": "203.0.113.9, 192.0.2.7"})
    (other,) = ask(limited, 1, Authorization="Bearer k", **{"X-Forwarded-For": "203.0.113.9"})
    assert (claiming.status_code, other.status_code) == (429, 401)


def test_attempts_to_sign_in_count_for_the_address_that_the_proxy_reports(limited: Service) -> None:
    """Who has tried too often has to wait, and not everybody behind the same proxy."""

    def attempt(number: int, address: str) -> int:
        body = {"email": f"nobody-{number}@example.com", "password": "a guess that is wrong"}
        with limited.client(headers={"X-Forwarded-For": address}) as client:
            return client.post("/api/v1/auth/login", json=body).status_code

    with ThreadPoolExecutor(4) as pool:
        statuses = Counter(pool.map(attempt, range(SIGN_INS + 3), ["198.51.100.77"] * (SIGN_INS + 3)))
    assert statuses == {401: SIGN_INS, 429: 3}
    assert attempt(0, "198.51.100.78") == 401


def test_other_doors_have_no_rate(limited: Service) -> None:
    """Admins and health checks are not counted."""
    answers = [httpx.get(f"{limited.url}/health/live").status_code for _ in range(PER_ADDRESS + 5)]
    assert set(answers) == {200}


def test_more_connections_than_are_held_keep_nobody_out(limited: Service) -> None:
    """While more connections ask for ads than the workers hold, and none is ever idle, others get their turn."""
    asked: Counter[bytes] = Counter()

    async def flood(over: asyncio.Event) -> None:
        while not over.is_set():
            with suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", limited.port)
                said = b""
                with closing(writer), suppress(OSError, asyncio.IncompleteReadError):
                    while not over.is_set() and b"connection: close" not in said:
                        writer.write(b"HEAD /ads/v1/i/x HTTP/1.1\r\nHost: x\r\n\r\n")
                        said = await reader.readuntil(b"\r\n\r\n")
                        asked[said.split()[1]] += 1
                        await asyncio.sleep(0.1)
                await writer.wait_closed()

    async def turns() -> list[float]:
        over = asyncio.Event()
        flooding = [asyncio.create_task(flood(over)) for _ in range(6 * CONNECTIONS_MAX)]
        await asyncio.sleep(1.5)  # longer than it takes to see that it is crowded
        seconds: list[float] = []
        for _ in range(10):
            started = perf_counter()
            async with httpx.AsyncClient(timeout=10) as client:
                assert (await client.get(f"{limited.url}/health/ready")).status_code == 200
            seconds.append(perf_counter() - started)
        over.set()
        await asyncio.gather(*flooding)
        return seconds

    assert sorted(asyncio.run(turns()))[8] < 3
    assert asked.keys() <= {b"204", b"429"}
    assert asked[b"429"] > 6 * CONNECTIONS_MAX


def test_a_flood_at_the_ad_doors_leaves_the_others_open(service: Service, world: World) -> None:
    """While 64 connections ask for ads and report them without a pause, health, reads and commands are answered."""
    world.active_campaign()
    slot_id, slot = world.slot()
    world.served(slot, slot_id)
    over = Event()
    answered: Counter[int] = Counter()
    body = {"id": "flood", "placements": [{"id": "p", "slot_id": slot_id, "count": 1}]}

    def flood(_: int) -> None:
        with service.client(headers=slot.headers) as client:
            while not over.is_set():
                decided = client.post("/ads/v1/decisions", json=body)
                answered[decided.status_code] += 1
                for ad in decided.json()["decisions"][0]["ads"]:
                    answered[client.get(ad["impression_url"]).status_code] += 1

    def timed(path: str, **body: Any) -> float:
        started = perf_counter()
        answer = world.admin.post(path, json=body) if body else world.admin.get(path)
        assert answer.status_code in {200, 201}, answer.text
        return perf_counter() - started

    with ThreadPoolExecutor(64) as pool:
        flooding = [pool.submit(flood, number) for number in range(64)]
        try:
            seconds = [
                timed(path, **said)
                for _ in range(8)
                for path, said in (
                    ("/health/live", {}),
                    ("/health/ready", {}),
                    ("/api/v1/campaigns", {}),
                    ("/api/v1/advertisers", {"name": "Not drowned"}),
                )
            ]
        finally:
            over.set()
        for each in flooding:
            each.result()
    assert sorted(seconds)[int(len(seconds) * 0.9)] < 2
    assert answered[200] + answered[204] > 500
    assert answered.keys() <= {200, 204}


def test_slow_clients_are_let_go(service: Service) -> None:
    """Whoever says nothing, or does not finish its headers or body, is let go in bounded time; nobody else waits."""
    beginning = b"POST /ads/v1/events HTTP/1.1\r\nHost: x\r\n"
    body = b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    address = ("127.0.0.1", service.port)
    with ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection(address)) for _ in range(IDLE)]
        slow_headers, slow_body = (stack.enter_context(socket.create_connection(address)) for _ in range(2))
        slow_headers.sendall(beginning)
        slow_body.sendall(beginning + body)
        assert httpx.get(f"{service.url}/health/live", timeout=2).status_code == 200
        for connection, begins in ((slow_headers, (b"", b"HTTP/1.1 408")), (slow_body, (b"HTTP/1.1 503",))):
            connection.settimeout(20)
            assert connection.recv(1_000).startswith(begins)
            while connection.recv(1_000):
                pass
        for connection in idle:
            connection.settimeout(1)
            assert connection.recv(1_000) == b""
