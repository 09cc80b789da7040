"""Beacons as networks deliver them: twice, in the wrong order, hours late, after the secret was replaced, elsewhere."""

import random
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from contextlib import closing
from os import urandom
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from msgspec import structs

from infra.beacon_tokens import BeaconTokens
from infra.ledger_keys import LedgerKeys, derived
from tests.databases import fresh_database
from tests.faults.aftermath import KINDS, aftermath
from tests.faults.traffic import ANSWERS, Traffic, market, ticket_of, token_of
from tests.running import Service, running
from tests.world import World

DECISIONS: Final = 30
HOURS_SECONDS: Final = 5 * 3_600


@pytest.fixture
def own_service(cluster_url: str) -> Iterator[Service]:
    """A service on a database that somebody else keeps, and with a secret that can be replaced."""
    with (
        fresh_database(cluster_url, "ledger") as url,
        TemporaryDirectory() as folder,
        running(Path(folder) / "data", database_url=url) as started,
    ):
        yield started


def rotate(service: Service) -> str:
    """Restart with a new secret, and the old one beside it, which is returned."""
    service.stop()
    old = service.environment["LEDGER_SECRET_KEY"]
    new = urlsafe_b64encode(urandom(32)).decode()
    service.environment = {**service.environment, "LEDGER_SECRET_KEY": new, "LEDGER_PREVIOUS_SECRET_KEY": old}
    service.start()
    return old


def signer(secret: str, ledger_id: UUID) -> BeaconTokens:
    """Return what signs for a ledger with a secret."""
    key = derived(urlsafe_b64decode(secret), "beacon", ledger_id)
    return BeaconTokens(LedgerKeys(ledger_id=ledger_id, beacon=(key,), viewer=b"", draw=b""))


def ledger_of(service: Service) -> UUID:
    """Return the ledger that a service serves."""
    with psycopg.connect(service.environment["LEDGER_DATABASE_URL"]) as connection:
        ((ledger_id,),) = connection.execute("SELECT ledger_id FROM ledgers").fetchall()
    assert isinstance(ledger_id, UUID)
    return ledger_id


def head_of(service: Service) -> int:
    """Return the position at which the log ends."""
    with psycopg.connect(service.environment["LEDGER_DATABASE_URL"]) as connection:
        ((position,),) = connection.execute("SELECT position FROM ledger_heads").fetchall()
    return int(position)


def refused(client: httpx.Client, token: str) -> bool:
    """Tell whether a token is refused as forged at both doors."""
    one = client.get(f"/ads/v1/{token[0]}/{token}")
    many = client.post("/ads/v1/events", json={"tokens": [token]}).json()["results"]
    return one.status_code == 403 and many == [{"result": "refused", "code": "token_forged"}]


def test_beacons_as_networks_deliver_them(own_service: Service) -> None:
    """However they come, each is recorded once and billed by rule, also under the secret before; no foreign one is."""
    traffic, names = Traffic(), ("impression_url", "view_url", "click_url")
    with closing(own_service.signed_in()) as admin, own_service.client() as web:
        page = market(World(own_service, admin))
        tokens = [token_of(ad[name]) for _ in range(DECISIONS) for ad in page.ask(2)[0]["ads"] for name in names]
        ledger_id, before = ledger_of(own_service), page.served()
        old = rotate(own_service)
        late = []
        for token in tokens[:3]:  # as signed hours ago
            ticket = ticket_of(token)
            moment = ticket.expires_at - HOURS_SECONDS - 86_400
            past = structs.replace(ticket, decision_id=uuid4(), expires_at=moment, hold_expires_at=moment)
            late += [signer(old, ledger_id).sign("click", past), signer(old, ledger_id).sign("impression", past)]
        everything = [*tokens, *late] * 2
        random.shuffle(everything)
        for token in everything:
            traffic.beacon(web, token)
        assert not traffic.open
        position = head_of(own_service)
        ticket = ticket_of(tokens[0])
        elsewhere = signer(urlsafe_b64encode(urandom(32)).decode(), ledger_id).sign("impression", ticket)
        other_ledger = signer(old, uuid4()).sign("impression", ticket)
        assert refused(web, elsewhere)
        assert refused(web, other_ledger)
        assert head_of(own_service) == position
        counted = aftermath(page.world, traffic)
        assert len(counted.delivered) == len(set(everything))
        assert counted.unbilled["late"] == len(late)
        first = {
            name[0]: name[1] for name in sorted(counted.delivered, key=counted.delivered.__getitem__, reverse=True)
        }
        assert KINDS["c"] in first.values(), "no click came before its impression"
        rotate(own_service)
        assert refused(web, token_of(before["impression_url"]))
        assert ANSWERS["i"] == web.get(page.served()["impression_url"]).status_code
        for client in page.world.clients:
            client.close()
