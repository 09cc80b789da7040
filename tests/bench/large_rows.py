"""A row about a large log: appending to it is not slower than appending to an empty one."""

from collections.abc import Iterator
from typing import Final

from tests.bench import catalogue, load, log_rows, projection_rows, servers
from tests.bench.rounds import Plan, Row, in_turns

LARGE_EVENTS: Final = 5_000_000


def large(plan: Plan) -> Iterator[Row]:
    """Events appended by the writer in batches of 500 when five million are there already, beside none."""
    with projection_rows.delivered(LARGE_EVENTS) as full, servers.database() as url:
        empty = load.run(log_rows.begun(url, catalogue.mixed(1_000)))
        count = int(log_rows.EVENTS_A_SECOND * plan.seconds) // log_rows.BATCH_EVENTS * log_rows.BATCH_EVENTS
        yield in_turns(
            plan.rounds,
            lambda: load.run(log_rows.append(full, count)),
            lambda: load.run(log_rows.append(empty, count)),
        ).row(
            name="large",
            what=f"events appended by the writer with {LARGE_EVENTS:,} in the log",
            beside="with an empty log, on a PostgreSQL of its own",
            unit="/s",
            target=0.9,
        )
