"""The commands that look after read models, as an operator runs them beside a running service."""

import json
import sys
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any, Final
from uuid import UUID

import httpx
import psycopg
import pytest

from api import cli
from tests.running import Service
from tests.world import World

REBUILD_SECONDS_MAX: Final = 30

Ledger = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ledger(
    service: Service, admin: httpx.Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Ledger:
    """The commands below `ledger projections` on the first ledger of the service: exit status, output and errors."""
    slug = admin.get("/api/v1/organisation").json()["slug"]
    for name, value in {**service.environment, "LEDGER_ORGANISATION": slug}.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ledger", "projections", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return (int(ended.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def campaign_id(service: Service, admin: httpx.Client) -> Iterator[str]:
    """A campaign with an impression."""
    world = World(service, admin)
    size = {"width": 311, "height": 113}  # nobody else has creatives of it
    campaign_id, _ = world.active_campaign(**size)
    slot_id, ads = world.slot(**size)
    assert ads.get(world.served(ads, slot_id)["impression_url"]).status_code == 204
    world.caught_up()
    yield campaign_id
    ads.close()


@pytest.fixture
def database(service: Service) -> Iterator[psycopg.Connection[Any]]:
    """The database of the service, as its owner sees it."""
    with psycopg.connect(service.environment["LEDGER_DATABASE_URL"], autocommit=True) as connection:
        yield connection


def test_a_forged_row_is_found_and_taken_back(
    world: World, ledger: Ledger, campaign_id: str, database: psycopg.Connection[Any]
) -> None:
    """Comparing ends with 1 and names key and columns; rebuilding shows the same and repairs it; then they agree."""
    status, said, errors = ledger("compare", "budgets")
    assert (status, said.splitlines()[-1], errors) == (0, "They are the same.", "")
    database.execute("UPDATE spendings SET spent_micros = 0 WHERE campaign_id = %s", (campaign_id,))
    status, said, _ = ledger("compare", "budgets")
    assert status == 1
    assert "1 keys" in said
    assert f"{campaign_id}\n    live spent_micros=0\n    anew spent_micros=5000\n" in said
    found = json.loads(ledger("compare", "budgets", "--json")[1])
    assert (found["differing_keys"], found["differences"][0]["anew"]) == (1, {"spent_micros": 5_000})
    status, said, _ = ledger("rebuild", "budgets")
    assert (status, said.splitlines()[-1]) == (0, "budgets is swapped in, version 1.")
    (line,) = world.get("reports/budgets", campaign_id=campaign_id)["items"]
    assert line["spent_micros"] == 5_000
    assert ledger("compare", "budgets")[0] == 0


def test_what_is_not_there_cannot_be_discarded(ledger: Ledger) -> None:
    """Discarding says whether there was anything; a name that is none ends with 2."""
    assert ledger("rebuild", "slots", "--discard") == (0, "No rebuild of slots was left.\n", "")
    discarded = json.loads(ledger("rebuild", "slots", "--discard", "--json")[1])
    assert discarded == {"projection": "slots", "discarded": False}
    assert ledger("rebuild", "everything")[0] == 2


def test_a_running_rebuild_is_not_disturbed(ledger: Ledger, database: psycopg.Connection[Any]) -> None:
    """While somebody rebuilds a read model, nobody else does."""
    database.execute("SELECT pg_advisory_lock(hashtextextended('rebuild slots', 0))")
    said = "ledger: The read model slots is being rebuilt or compared by somebody else.\n"
    assert ledger("rebuild", "slots") == (2, "", said)


def test_errors_are_shown_and_retried(ledger: Ledger, campaign_id: str, database: psycopg.Connection[Any]) -> None:
    """What is parked is listed with its error and ends with 1; a retry applies it, and nothing is left."""
    assert ledger("errors") == (0, "", "")
    stream = f"campaign-{UUID(campaign_id)}"
    database.execute(
        "INSERT INTO parked_events SELECT ledger_id, 'history', stream_id, position, 'Oops(1)', now()"
        " FROM events WHERE stream_id = %s",
        (stream,),
    )
    status, said, _ = ledger("errors")
    assert (status, said.split("\n", 1)[1]) == (1, "  Oops(1)\n")
    assert stream in said
    assert [each["key"] for each in json.loads(ledger("errors", "--json")[1])] == [stream]
    assert ledger("retry", stream) == (0, f"{'history':<14}2 events applied\n", "")
    assert ledger("errors") == (0, "", "")
    status, _, errors = ledger("retry", stream)
    assert status == 2
    assert "Nothing is parked" in errors


def test_the_service_rebuilds_what_is_of_an_older_version(
    world: World, ledger: Ledger, campaign_id: str, database: psycopg.Connection[Any]
) -> None:
    """After a deploy the background worker rebuilds by itself what an older version made, and readers see no gap."""
    database.execute("UPDATE spendings SET spent_micros = 0 WHERE campaign_id = %s", (campaign_id,))
    database.execute("UPDATE checkpoints SET version = 0 WHERE projection = 'budgets'")
    deadline = monotonic() + REBUILD_SECONDS_MAX
    spent = set()
    while 5_000 not in spent:
        assert monotonic() < deadline, "it was not rebuilt"
        (line,) = world.get("reports/budgets", campaign_id=campaign_id)["items"]
        spent.add(line["spent_micros"])
    assert spent <= {0, 5_000}
    versions = {each["name"]: each["version"] for each in world.admin.get("/audit/v1/projections").json()}
    assert versions["budgets"] == 1
    assert ledger("compare", "budgets")[0] == 0
