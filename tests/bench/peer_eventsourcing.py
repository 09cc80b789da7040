"""PyPI's eventsourcing at work, run in an environment of its own: appends as it is told, and says how fast it was.

Arguments: the folder of PostgreSQL's socket, the database. Each line read, `batches <events> <of>`,
`single <events> <clients>`, or `stored <file> <of>` and then `summed <events> <of>`, is answered with a line: events a
second. The file has the text of an event on each line.
"""

import json
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from uuid import uuid4

# They are installed in build/peers-venv only.
from eventsourcing.persistence import StoredEvent  # type: ignore[import-not-found]  # as said above
from eventsourcing.postgres import (  # type: ignore[import-not-found]  # as said above
    PostgresApplicationRecorder,
    PostgresDatastore,
)

CLIENTS_MAX = 16
DIMENSIONS = (
    "campaign_id",
    "creative_id",
    "advertiser_id",
    "slot_id",
    "country",
    "region",
    "city",
    "currency",
    "reason",
)
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
            if what == "stored":
                print(_stored(recorder, count, int(by)), flush=True)
                continue
            measure = {"batches": _batches, "single": _single, "summed": _summed}[what]
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


def _stored(recorder: PostgresApplicationRecorder, path: str, of: int) -> float:
    events = [_event(line) for line in Path(path).read_bytes().splitlines()]
    started = perf_counter()
    for first in range(0, len(events), of):
        recorder.insert_events(events[first : first + of])
    return len(events) / (perf_counter() - started)


def _summed(recorder: PostgresApplicationRecorder, count: int, of: int) -> float:
    """Read the last events that were stored, and sum them as the delivery report does."""
    sums: Counter[tuple[object, ...]] = Counter()
    last = recorder.max_notification_id()
    position, started = last - count, perf_counter()
    while position < last:
        notifications = recorder.select_notifications(start=position + 1, limit=of)
        for notification in notifications:
            entry = json.loads(notification.state)
            event = entry["event"]
            key = (entry["occurred_at"][:13], *(event[name] for name in DIMENSIONS))
            sums[*key, "impressions"] += 1
            sums[*key, "spent_micros"] += event["price_micros"] if event["billed"] else 0
        position = notifications[-1].id
    return count / (perf_counter() - started)


def _event(state: bytes = STATE) -> StoredEvent:
    return StoredEvent(originator_id=uuid4(), originator_version=1, topic="ledger:ImpressionRecorded", state=state)


if __name__ == "__main__":
    main()
