"""kill -9 at named points: before the insert, between insert and commit, in a projection's batch, in a migration.

Locks that a test holds in the database stop the service at the point, so that nothing in the service has to know of it.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg

from tests.api.pages import Page, eventually
from tests.faults.aftermath import KINDS, aftermath, check_log
from tests.faults.traffic import Traffic, ticket_of
from tests.infra.test_schema import empty_url, structure
from tests.running import START_SECONDS_MAX, Service, killed

__all__ = ["empty_url"]  # a fixture

GATE: Final = 7_423_017
_EVENTS_GATE: Final = (
    f"""
    CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock_shared({GATE});
        RETURN NULL;
    END $$
    """,
    """
    CREATE CONSTRAINT TRIGGER gate AFTER INSERT ON events DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION wait_at_gate()
    """,
    "DROP FUNCTION wait_at_gate CASCADE",
)
_MIGRATION_GATE: Final = (
    f"""
    CREATE FUNCTION wait_at_gate() RETURNS event_trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock_shared({GATE});
    END $$
    """,
    "CREATE EVENT TRIGGER gate ON ddl_command_end WHEN TAG IN ('CREATE SCHEMA') EXECUTE FUNCTION wait_at_gate()",
    "DROP FUNCTION wait_at_gate CASCADE",
)

_OTHERS: Final = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
_OF_WAITING: Final = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
_WAITING: Final = f"SELECT pid {_OF_WAITING} AND wait_event = %s AND query ~* %s"


def _seen(connection: psycopg.Connection, event: str, query: str) -> Callable[[], bool]:
    """Return what tells whether a backend waits for a lock of this kind, in a statement of this form."""
    return lambda: bool(connection.execute(_WAITING, (event, query)).fetchall())


@contextmanager
def locked(url: str, table: str, query: str) -> Iterator[Callable[[], bool]]:
    """Keep everybody from writing to a table, while all read; yield what tells whether anybody waits for that."""
    with psycopg.connect(url, autocommit=True) as watching, psycopg.connect(url) as holding:
        holding.execute(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE".encode())
        yield _seen(watching, "relation", query)


@contextmanager
def gated(url: str, function: str, trigger: str, drop: str) -> Iterator[Callable[[], bool]]:
    """Keep everybody at a trigger, which is gone afterwards; yield what tells whether anybody waits there."""
    with psycopg.connect(url, autocommit=True) as watching, psycopg.connect(url, autocommit=True) as holding:
        holding.execute(f"SELECT pg_advisory_lock({GATE})".encode())
        for statement in (function, trigger):
            holding.execute(statement.encode())
        yield _seen(watching, "advisory", ".")
        holding.execute("SELECT pg_advisory_unlock_all()")
        holding.execute(drop.encode())


def test_before_the_insert(service: Service, page: Page, traffic: Traffic) -> None:
    """Workers that are killed while their batch waits to be inserted: nothing of it is in the log."""
    with service.database() as url, traffic.flowing(page):
        eventually(traffic.is_under_way)
        with locked(url, "events", "INSERT INTO events") as is_reached:
            eventually(is_reached)
            eventually(lambda: len(traffic.open) > 1)
            before = set(traffic.open)
            traffic.stopped.set()
            killed(service.web_workers())
            with psycopg.connect(url) as owner:  # the database learns of it only when it answers
                owner.execute("SELECT pg_terminate_backend(pid) " + _OF_WAITING)
    with service.database() as url:
        delivered = check_log(url, traffic).delivered
    lost = {(str(ticket_of(token).decision_id), KINDS[token[0]]) for token in before & traffic.open}
    assert lost - delivered.keys(), "all that was under way was in the log already"
    eventually(lambda: len(service.web_workers()) == 2)
    aftermath(page.world, traffic)


def test_between_insert_and_commit(service: Service, page: Page, traffic: Traffic) -> None:
    """Workers that are killed while their batch is being committed: it comes to be in the log, and is so once."""
    with service.database() as url, traffic.flowing(page):
        eventually(traffic.is_under_way)
        with gated(url, *_EVENTS_GATE) as is_reached:
            eventually(is_reached)
            eventually(lambda: len(traffic.open) > 1)
            before = set(traffic.open)
            killed(service.web_workers())
            traffic.stopped.set()
    lost = {(str(ticket_of(token).decision_id), KINDS[token[0]]) for token in before & traffic.open}
    with service.database() as url:
        eventually(lambda: lost & check_log(url, traffic).delivered.keys())
    eventually(lambda: len(service.web_workers()) == 2)
    aftermath(page.world, traffic)


def test_in_the_middle_of_a_projections_batch(service: Service, page: Page, traffic: Traffic) -> None:
    """A background worker that is killed while it writes a read model: the next one goes on where it was."""
    with service.database() as url, traffic.flowing(page):
        with locked(url, "deliveries", "INTO deliveries|deliveries") as is_reached:
            eventually(is_reached)
            eventually(traffic.is_under_way)
            before = service.background()
            killed([before])
        eventually(lambda: service.background() != before)
    aftermath(page.world, traffic)


def test_in_the_middle_of_a_migration(empty_url: str, database_url: str, data_dir: Path) -> None:
    """A migration that is killed leaves nothing behind, and the next one makes the whole schema."""
    data_dir.mkdir()
    migrate = [sys.executable, "-m", "api.cli", "migrate"]
    environment = Service(data_dir, database_url=empty_url).environment
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    with psycopg.connect(empty_url, autocommit=True) as connection:
        with gated(empty_url, *_MIGRATION_GATE) as is_reached:
            with subprocess.Popen(migrate, env=environment) as migrating:
                try:
                    eventually(is_reached, seconds=START_SECONDS_MAX)
                finally:
                    migrating.kill()
            assert connection.execute(tables).fetchall() == []
        eventually(lambda: connection.execute(_OTHERS).fetchone() == (0,))
        assert connection.execute(tables).fetchall() == []
    done = subprocess.run(migrate, env=environment, check=False, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert structure(empty_url) == structure(database_url)
