"""Fixtures for tests that speak HTTP to a running service."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from uuid import uuid4

import httpx
import pytest

from tests.api.organisations import PASSWORD, founded
from tests.databases import fresh_database
from tests.running import Service, running
from tests.world import World

DATA_CENTRE: Final = "203.0.113.0/24"
"""What the service takes for a data centre; it believes whoever says from this machine that it is a proxy."""

CONSOLE: Final = "https://console.example"
"""The origin of the pages that may ask the doors for people."""


@pytest.fixture(scope="session")
def service(cluster_url: str) -> Iterator[Service]:
    """A service on a fresh database, shared by all tests of a process that neither hurt it nor count what is in it."""
    with on_fresh_database(cluster_url) as started:
        yield started


@pytest.fixture(scope="module")
def own_service(cluster_url: str) -> Iterator[Service]:
    """The same for one module; which lets `service` stand for it."""
    with on_fresh_database(cluster_url) as started:
        yield started


@pytest.fixture(scope="module")
def admin(service: Service) -> Iterator[httpx.Client]:
    """A client of the first admin."""
    client = service.signed_in()
    yield client
    client.close()


@pytest.fixture
def world(service: Service, admin: httpx.Client) -> Iterator[World]:
    """Short words for setting up campaigns over HTTP."""
    made = World(service, admin)
    yield made
    for client in made.clients:
        client.close()


@pytest.fixture(scope="module")
def neighbour(service: Service) -> Iterator[World]:
    """The admin of another organisation at work: a person of that organisation alone."""
    founder, _, _ = founded(service)
    email = f"{uuid4().hex}@example.com"
    founder.post("/api/v1/users", json={"email": email, "password": PASSWORD, "role": "admin"}).raise_for_status()
    made = World(service, service.signed_in(email, PASSWORD))
    yield made
    for client in (founder, made.admin, *made.clients):
        client.close()


@contextmanager
def on_fresh_database(cluster_url: str, *, self_sign_up: bool = True) -> Iterator[Service]:
    """A service on a database of its own, in which anybody may begin an organisation, or operators alone."""
    with fresh_database(cluster_url, "ledger") as url, TemporaryDirectory() as folder:
        networks = Path(folder) / "data centres"
        networks.write_text(f"# Where tests say that they are\n{DATA_CENTRE}\n")
        settings = {
            "LEDGER_DATA_CENTRES_FILE": str(networks),
            "LEDGER_TRUSTED_PROXIES": "127.0.0.1",
            "LEDGER_CORS_ORIGINS": CONSOLE,
            "LEDGER_SELF_SIGN_UP": "on" if self_sign_up else "off",
        }
        with running(Path(folder) / "data", database_url=url, settings=settings) as started:
            yield started
