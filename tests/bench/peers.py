"""`make bench-peers`: our log beside PyPI's eventsourcing, on the same PostgreSQL."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final
from urllib.parse import parse_qs, urlsplit

import psycopg

from projections import delivery
from tests.bench import catalogue, log_rows, projection_rows, servers
from tests.bench.load import run
from tests.bench.rounds import Plan, Row, in_turns

SUMMED_EVENTS: Final = 1_000_000
PAGE_EVENTS: Final = 5_000
PYTHON: Final = Path(__file__).parents[2] / "build" / "peers-venv" / "bin" / "python"


def peers(plan: Plan) -> Iterator[Row]:
    """Batches, single commands, and the delivery report made anew, beside eventsourcing's PostgreSQL recorder."""
    yield from _appending(plan)
    yield from _summing(plan)


def _appending(plan: Plan) -> Iterator[Row]:
    with servers.database() as url, _eventsourcing(url) as theirs:
        log = run(log_rows.begun(url, catalogue.mixed(1_000)))
        events = int(log_rows.EVENTS_A_SECOND * plan.seconds) // log_rows.BATCH_EVENTS * log_rows.BATCH_EVENTS
        yield in_turns(
            plan.rounds,
            lambda: run(log_rows.append(log, events)),
            lambda: theirs(f"batches {events} {log_rows.BATCH_EVENTS}"),
        ).row(
            name="appending-peers",
            what="events appended by the writer, batches of 500",
            beside="eventsourcing, PostgresApplicationRecorder.insert_events",
            unit="/s",
            target=2.5,
        )
        commands = int(log_rows.COMMANDS_A_SECOND * plan.seconds)
        yield in_turns(
            plan.rounds,
            lambda: run(log_rows.create_slots(log, commands)),
            lambda: theirs(f"single {commands} {log_rows.COMMAND_CLIENTS}"),
        ).row(
            name="commands-peers",
            what="single commands in process (execute), 16 clients",
            beside="eventsourcing, one event an append, 16 clients",
            unit="/s",
            target=2,
        )


def _summing(plan: Plan) -> Iterator[Row]:
    with (
        projection_rows.delivered(SUMMED_EVENTS) as log,
        _eventsourcing(log.url) as theirs,
        NamedTemporaryFile("wb", suffix=".ndjson") as file,
    ):
        with psycopg.connect(log.url) as connection:
            last = "SELECT entry::text FROM events ORDER BY position DESC LIMIT %s"
            file.writelines(text.encode() + b"\n" for (text,) in connection.execute(last, (SUMMED_EVENTS,)))
        file.flush()
        theirs(f"stored {file.name} {log_rows.BATCH_EVENTS}")
        yield in_turns(
            plan.rounds,
            lambda: SUMMED_EVENTS / run(projection_rows.as_of(log, delivery.PROJECTION, SUMMED_EVENTS)),
            lambda: theirs(f"summed {SUMMED_EVENTS} {PAGE_EVENTS}"),
        ).row(
            name="summing-peers",
            what=f"events a second summed to the delivery report, {SUMMED_EVENTS:,} of them",
            beside="eventsourcing, select_notifications, json.loads and a sum in one process",
            unit="/s",
            target=4,
        )


@contextmanager
def _eventsourcing(url: str) -> Iterator[Callable[[str], float]]:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE peers")
    host = parse_qs(urlsplit(url).query)["host"][0]
    command = [str(PYTHON), str(Path(__file__).with_name("peer_eventsourcing.py")), host, "peers"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        asking, answers = process.stdin, process.stdout
        assert asking is not None
        assert answers is not None

        def ask(line: str) -> float:
            print(line, file=asking, flush=True)
            return float(answers.readline())

        yield ask
        asking.close()
