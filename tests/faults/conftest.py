"""Fixtures for tests of faults: a service with its own PostgreSQL, at work for all of them."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.api.pages import Page
from tests.faults.traffic import Traffic, market
from tests.running import Service, running
from tests.world import World


@pytest.fixture(scope="session")
def shared() -> Iterator[tuple[Service, Traffic]]:
    """A service with two web workers and a PostgreSQL of its own, and all that is asked of it."""
    # Not below pytest's own folder, which another run closes to the account that PostgreSQL runs as.
    with TemporaryDirectory() as folder, running(Path(folder) / "data", workers=2) as started:
        yield started, Traffic()


@pytest.fixture(scope="module")
def service(shared: tuple[Service, Traffic]) -> Service:
    """The service under test: the shared one, unless a module has its own."""
    return shared[0]


@pytest.fixture(scope="module")
def traffic(shared: tuple[Service, Traffic]) -> Traffic:
    """All that is asked of it."""
    return shared[1]


@pytest.fixture(scope="module")
def world(service: Service) -> Iterator[World]:
    """An admin at work."""
    with closing(service.signed_in()) as admin:
        made = World(service, admin)
        yield made
        for client in made.clients:
            client.close()


@pytest.fixture
def page(world: World) -> Page:
    """A slot and campaigns with every kind of limit, none of which is spent yet."""
    return market(world)
