"""Rows about read models: made anew, replayed as of a moment, and kept up while events arrive as fast as they can."""

import asyncio
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Final

import psutil
import psycopg
from msgspec import UNSET, structs

from domain.basis import Basis
from domain.events import Entry, ImpressionRecorded
from domain.validity import RULES
from infra.database import Connection, connect
from infra.event_log import encode_entry
from projections import budgets, delivery
from projections.catalogue import PROJECTIONS
from projections.rebuild import rebuild
from projections.replay import replayed
from projections.runner import AnyProjection, catch_up, run
from tests.bench import catalogue, load, log_rows, raw, servers
from tests.bench.log_rows import Appended
from tests.bench.rounds import Plan, Row

REBUILT_EVENTS: Final = 2_000_000
REPLAYED_EVENTS: Final = 1_000_000
KEPT_EVENTS: Final = 100_000
SAMPLES: Final = 21_000
"""How many decisions differ in campaign, creative, slot or place; each of them is delivered many times."""

RUNNER: Final = "bench_runner"
ROOT: Final = Path(__file__).parents[2]
LOOK_EVERY_SECONDS: Final = 0.005
PROJECTIONS_COUNTED: Final[tuple[AnyProjection, ...]] = (delivery.PROJECTION, budgets.PROJECTION)

# The same bytes that the writer writes; only ids, times and what decisions went by are new. An hour of traffic, one
# after the other.
_DELIVER: Final = """
    INSERT INTO events (ledger_id, position, stream_id, version, type, recorded_at, entry)
    SELECT %(ledger_id)s, %(after)s + number, 'decision-' || id, 1, type, at, (
        '{"stream":"decision-' || id || '","version":1,' || actor
        || '"occurred_at":"' || to_char(at - interval '5 ms', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        || '","recorded_at":"' || to_char(at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || '",'
        || replace(event, '"position":1}', '"position":' || number || '}')
    )::json
    FROM (
        SELECT step, uuidv7() AS id, now() + step * interval '1 hour' / %(count)s AS at, type, actor, event
        FROM generate_series(1, %(count)s) AS step JOIN sample ON sample.number = step %% %(samples)s
        ORDER BY step
    ) AS delivered (number, id, at, type, actor, event)
"""


@contextmanager
def delivered(count: int) -> Iterator[Appended]:
    """A ledger of its own with a catalogue and that many deliveries: impressions, and a click after each fiftieth."""
    with servers.database() as url:
        log = load.run(log_rows.begun(url, catalogue.mixed(1_000)))
        tickets = catalogue.tickets(log.catalogue, SAMPLES)
        # Only the owner of the table may write what no decision was made about.
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TEMP TABLE sample (number int, type text, actor text, event text)")
            with connection.cursor().copy("COPY sample FROM STDIN") as copy:
                for number, ticket in enumerate(tickets):
                    copy.write_row((number, *_sample(number, raw.entry_of(ticket))))
            after = connection.execute("SELECT position FROM ledger_heads").fetchone()
            assert after is not None
            values = {"ledger_id": log.ledger_id, "after": after[0], "count": count, "samples": SAMPLES}
            connection.execute(_DELIVER, values)
            connection.execute("UPDATE ledger_heads SET position = position + %s", (count,))
            connection.execute("CHECKPOINT")
        yield log


def rebuilds(plan: Plan) -> Iterator[Row]:
    """How fast read models are made anew, compared and swapped in, and how long one takes to be made as of a moment."""
    with delivered(REBUILT_EVENTS) as log:
        load.run(_emptied(log.url))
        for projection in PROJECTIONS_COUNTED:
            rates = [load.run(_rebuilt(log.url, projection)) for _ in range(plan.rounds)]
            yield Row(
                name=f"rebuild-{projection.name}",
                what=f"events a second when the read model {projection.name} is made anew from {REBUILT_EVENTS:,}",
                unit="/s",
                figure=median(rates),
                target=500_000 if projection is delivery.PROJECTION else None,
                note=f"to where it can be compared; {min(rates):,.0f} to {max(rates):,.0f}",
            )
        for projection in PROJECTIONS_COUNTED:
            seconds = [load.run(as_of(log, projection, REPLAYED_EVENTS)) for _ in range(plan.rounds)]
            yield Row(
                name=f"as-of-{projection.name}",
                what=f"the read model {projection.name} as of position {REPLAYED_EVENTS:,}",
                unit="s",
                figure=median(seconds),
                target=5,
                limit="at most",
                note=f"{min(seconds):.1f} to {max(seconds):.1f}",
            )


def keeping_up(plan: Plan) -> Iterator[Row]:
    """How late the read models are while the writer appends as fast as it can, and what keeping them costs."""
    with servers.database() as url:
        log = load.run(log_rows.begun(url, catalogue.mixed(1_000)))
        lags: list[float] = []
        rates, costs = [], []
        for _ in range(plan.rounds):
            rate, late, seconds = load.run(_kept_up(log, max(KEPT_EVENTS, int(26_000 * plan.seconds))))
            rates.append(rate)
            costs.append(seconds)
            lags += late
        yield Row(
            name="projection-lag",
            what="p99 of how late the read models of deliveries are while events are appended at full rate",
            unit="ms",
            figure=quantiles(lags, n=100)[98] * 1_000,
            target=500,
            limit="at most",
            note=f"at {median(rates):,.0f} events/s in batches of {log_rows.BATCH_EVENTS}, p50"
            f" {median(lags) * 1_000:,.0f} ms",
        )
        yield Row(
            name="projection-cpu",
            what="CPU time of an event in all read models, live: the runner and its connections to PostgreSQL",
            unit="us",
            figure=median(costs) * 1_000_000,
            note=f"{min(costs) * 1_000_000:.1f} to {max(costs) * 1_000_000:.1f}",
        )


def _sample(number: int, entry: Entry) -> tuple[str, str, str]:
    assert isinstance(entry.event, ImpressionRecorded)
    kind, basis = ("click_recorded", UNSET) if number % 50 == 0 else ("impression_recorded", Basis(position=1))
    event = structs.replace(entry.event, rules=RULES, basis=basis)
    text = encode_entry(structs.replace(entry, event=event)).decode()
    _, actor = text.split('"version":1,', 1)
    actor, rest = actor.split('"occurred_at":', 1)
    told = '"event":' + rest.split('"event":', 1)[1]
    return kind, actor, told.replace("impression_recorded", kind, 1)


async def _emptied(url: str) -> None:
    """Bring all read models to where the log stands, as those that a rebuild is compared with."""
    async with await connect(url) as connection:
        for projection in PROJECTIONS_COUNTED:
            await catch_up(connection, projection)


async def _rebuilt(url: str, projection: AnyProjection) -> float:
    started, filled = perf_counter(), 0.0

    def told(progress: object) -> None:
        nonlocal filled
        if not filled and getattr(progress, "done", 0) == getattr(progress, "entries", 1):
            filled = perf_counter()

    found = await rebuild(url, projection, told)
    assert not found.differing_keys, "made anew, a read model differs from the one that was kept"
    return REBUILT_EVENTS / (filled - started)


async def as_of(log: Appended, projection: AnyProjection, position: int) -> float:
    """Make a read model as of a position; return how many seconds that took."""
    started = perf_counter()
    async with replayed(log.url, projection, log.ledger_id, position):
        return perf_counter() - started


async def _kept_up(log: Appended, count: int) -> tuple[float, list[float], float]:
    """Append while a runner in a process of its own keeps up; return the rate, the lags, and CPU seconds an event."""
    late: list[float] = []
    async with await connect(log.url) as connection:
        with _running(log.url) as runner:
            await _elected(connection)
            await _caught_up(connection, log)
            before = _cpu_seconds(log.url, runner)
            watching = asyncio.create_task(_watch(connection, log, late))
            rate = await log_rows.append(log, count)
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            await _caught_up(connection, log)
            return rate, late, (_cpu_seconds(log.url, runner) - before) / count


@contextmanager
def _running(url: str) -> Iterator[psutil.Process]:
    """A process that keeps all read models and does nothing else."""
    with subprocess.Popen([sys.executable, "-m", __name__, f"{url}&application_name={RUNNER}"], cwd=ROOT) as process:
        try:
            yield psutil.Process(process.pid)
        finally:
            process.terminate()


async def _elected(connection: Connection) -> None:
    """Wait until the runner keeps every read model."""
    elected = "SELECT count(*) AS jobs FROM pg_locks WHERE locktype = 'advisory' AND granted"
    while True:
        (row,) = await (await connection.execute(elected)).fetchall()
        if row["jobs"] >= len(PROJECTIONS):
            return
        await asyncio.sleep(LOOK_EVERY_SECONDS)


async def _watch(connection: Connection, log: Appended, late: list[float]) -> None:
    """Note, again and again, how long the oldest delivery that is in the log has been missing in a read model."""
    seen: deque[tuple[float, int]] = deque()
    while True:
        head, reached = await _positions(connection, log)
        now = perf_counter()
        seen.append((now, head))
        while seen and seen[0][1] <= reached:
            seen.popleft()
        late.append(now - seen[0][0] if seen else 0.0)
        await asyncio.sleep(LOOK_EVERY_SECONDS)


async def _positions(connection: Connection, log: Appended) -> tuple[int, int]:
    cursor = await connection.execute(
        """
        SELECT head.position AS head, coalesce(min(reached.position), 0) AS reached, count(reached) AS known
        FROM ledger_heads AS head
        LEFT JOIN checkpoints AS reached ON reached.ledger_id = head.ledger_id AND reached.projection = ANY(%s)
        WHERE head.ledger_id = %s GROUP BY head.position
        """,
        ([each.name for each in PROJECTIONS_COUNTED], log.ledger_id),
    )
    row = await cursor.fetchone()
    assert row is not None
    return row["head"], row["reached"] if row["known"] == len(PROJECTIONS_COUNTED) else 0


async def _caught_up(connection: Connection, log: Appended) -> None:
    while True:
        head, reached = await _positions(connection, log)
        if head == reached:
            return
        await asyncio.sleep(LOOK_EVERY_SECONDS)


def _cpu_seconds(url: str, runner: psutil.Process) -> float:
    """Return what a runner and its connections have taken so far."""
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT pid FROM pg_stat_activity WHERE application_name = %s", (RUNNER,)).fetchall()
    processes = [runner, *(psutil.Process(pid) for (pid,) in found)]
    return float(sum(sum(process.cpu_times()[:2]) for process in processes))


if __name__ == "__main__":
    load.run(run(sys.argv[1], PROJECTIONS))
