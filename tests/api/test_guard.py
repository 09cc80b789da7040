"""The guard of the ad doors: rates hold across workers, and a flood of ads leaves the other doors open."""

import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from time import perf_counter
from typing import Any

import httpx
import pytest

from tests.running import Service, running
from tests.world import World

PER_KEY = 120
PER_ADDRESS = 60


@pytest.fixture(scope="module")
def limited() -> Iterator[Service]:
    """A service with two web workers, rates by the day, and a proxy that it trusts: whoever is on this machine."""
    settings = {
        "LEDGER_RATE_PER_KEY": f"{PER_KEY}/day",
        "LEDGER_RATE_PER_ADDRESS": f"{PER_ADDRESS}/day",
        "LEDGER_TRUSTED_PROXIES": "127.0.0.0/8",
    }
    with TemporaryDirectory() as folder, running(Path(folder) / "data", workers=2, settings=settings) as started:
        yield started


def ask(service: Service, times: int, **headers: str) -> list[httpx.Response]:
    """Ask for a list of slots many times, each time on a new connection, so that both workers are asked."""

    def once(number: int) -> httpx.Response:
        said = {name: value.format(number=number) for name, value in headers.items()}
        with service.client(headers=said) as client:
            return client.get("/ads/v1/slots")

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(once, range(times)))


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


def test_other_doors_have_no_rate(limited: Service) -> None:
    """Admins and health checks are not counted."""
    answers = [httpx.get(f"{limited.url}/health/live").status_code for _ in range(PER_ADDRESS + 5)]
    assert set(answers) == {200}


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
    """Whoever does not finish its headers, or its body, loses the connection in bounded time, and nobody else waits."""
    beginning = b"POST /ads/v1/events HTTP/1.1\r\nHost: x\r\n"
    body = b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    address = ("127.0.0.1", service.port)
    with socket.create_connection(address) as slow_headers, socket.create_connection(address) as slow_body:
        slow_headers.sendall(beginning)
        slow_body.sendall(beginning + body)
        assert httpx.get(f"{service.url}/health/live", timeout=2).status_code == 200
        for connection, begins in ((slow_headers, (b"", b"HTTP/1.1 408")), (slow_body, (b"HTTP/1.1 503",))):
            connection.settimeout(20)
            assert connection.recv(1_000).startswith(begins)
            while connection.recv(1_000):
                pass
