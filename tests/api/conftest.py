"""Fixtures for tests that speak HTTP to a running service."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import httpx
import psycopg
import pytest

from tests.conftest import with_database
from tests.running import Service, running
from tests.world import World


@pytest.fixture(scope="module")
def service(cluster_url: str) -> Iterator[Service]:
    """A service on a fresh database, shared by the tests of a module."""
    name = f"service_{uuid4().hex}"
    with psycopg.connect(with_database(cluster_url, "postgres"), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE ledger')
    with (
        TemporaryDirectory() as folder,
        running(Path(folder) / "data", database_url=with_database(cluster_url, name)) as started,
    ):
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
