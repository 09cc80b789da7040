"""PyPI's eventsourcing at work, run in an environment of its own: appends as it is told, and says how fast it was.

Arguments: the folder of PostgreSQL's socket, the database. Each line read, `batches <events> <of>` or
`single <events> <clients>`, is answered with a line: events a second.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from uuid import uuid4

# They are installed in build/peers-venv only.
from eventsourcing.persistence import StoredEvent  # type: ignore[import-not-found]  # as said above
from eventsourcing.postgres import (  # type: ignore[import-not-found]  # as said above
    PostgresApplicationRecorder,
    PostgresDatastore,
)

CLIENTS_MAX = 16
STATE = b"x" * 420  # about the bytes of one of our impressions


def main() -> None:
    """Append what the lines of standard input ask for."""
    host, database = sys.argv[1:]
    with PostgresDatastore(database, host, 5432, "postgres", "", pool_size=CLIENTS_MAX) as datastore:
        recorder = PostgresApplicationRecorder(datastore)
        recorder.create_table()
        _single(recorder, CLIENTS_MAX, CLIENTS_MAX)  # opens the connections
        for line in sys.stdin:
            what, count, by = line.split()
            measure = {"batches": _batches, "single": _single}[what]
            print(measure(recorder, int(count), int(by)), flush=True)


def _batches(recorder: PostgresApplicationRecorder, count: int, of: int) -> float:
    batches = [[_event() for _ in range(of)] for _ in range(count // of)]
    started = perf_counter()
    for batch in batches:
        recorder.insert_events(batch)
    return count // of * of / (perf_counter() - started)


def _single(recorder: PostgresApplicationRecorder, count: int, clients: int) -> float:
    shares = [[_event() for _ in range(count // clients)] for _ in range(clients)]

    def client(share: list[StoredEvent]) -> None:
        for event in share:
            recorder.insert_events([event])

    with ThreadPoolExecutor(clients) as threads:
        started = perf_counter()
        list(threads.map(client, shares))
        return count // clients * clients / (perf_counter() - started)


def _event() -> StoredEvent:
    return StoredEvent(originator_id=uuid4(), originator_version=1, topic="ledger:ImpressionRecorded", state=STATE)


if __name__ == "__main__":
    main()
