"""Rows measured through HTTP: decisions, beacons, batches of beacons, commands."""

from collections.abc import Iterator
from contextlib import closing
from itertools import cycle
from statistics import median

import msgspec

from tests.bench import catalogue, raw, servers
from tests.bench.load import get, pace, post, saturate
from tests.bench.rounds import Plan, Row, in_turns

CONNECTIONS_OF_DECISIONS = 64
CONNECTIONS_OF_BEACONS = 256
CONNECTIONS_OF_BATCHES = 8
BEACONS_A_SECOND_MAX = 20_000
TOKENS_A_REQUEST = 500
COMMAND_CLIENTS = 16


def decisions(plan: Plan) -> Iterator[Row]:
    """Decisions a second beside the bare handler, and their latency at half of that rate."""
    with servers.ledger(catalogue.mixed(1_000)) as ours, servers.bare() as bare:
        asked = ours.decisions()

        def rate(port: int) -> float:
            return saturate(port, cycle(asked), connections=CONNECTIONS_OF_DECISIONS, seconds=plan.seconds)

        pair = in_turns(plan.rounds, lambda: rate(ours.port), lambda: rate(bare))
        yield pair.row(
            name="decisions",
            what="decisions, 1,000 campaigns with 3 creatives each, 1 worker",
            beside="bare Litestar POST, same bodies",
            unit="/s",
            target=0.5,
        )
        half = median(pair.ours) / 2
        found = [
            pace(ours.port, cycle(asked), connections=CONNECTIONS_OF_DECISIONS, seconds=plan.seconds, rate=half)
            for _ in range(plan.rounds)
        ]
        yield _latency("decision", [each.p50 for each in found], [each.p99 for each in found], half, target=10)


def impressions(plan: Plan) -> Iterator[Row]:
    """Durable impressions a second beside the bare handler, and their latency at half of that rate."""
    with servers.ledger(catalogue.mixed(1_000)) as ours, servers.bare() as bare:

        def ours_rate() -> float:
            beacons = ours.impressions(int(BEACONS_A_SECOND_MAX * plan.seconds))
            rate = saturate(ours.port, beacons, connections=CONNECTIONS_OF_BEACONS, seconds=plan.seconds)
            ours.catch_up()
            return rate

        same = ours.impressions(1_000)
        pair = in_turns(
            plan.rounds,
            ours_rate,
            lambda: saturate(bare, cycle(same), connections=CONNECTIONS_OF_BEACONS, seconds=plan.seconds),
        )
        yield pair.row(
            name="impressions",
            what="durable impressions, 1 beacon a request, 256 connections, 1 worker",
            beside="bare Litestar GET answering 204",
            unit="/s",
            target=0.35,
        )
        half = median(pair.ours) / 2
        p50s, p99s = [], []
        for _ in range(plan.rounds):
            beacons = ours.impressions(int(half * plan.seconds) + 1)
            found = pace(ours.port, beacons, connections=CONNECTIONS_OF_BEACONS, seconds=plan.seconds, rate=half)
            p50s.append(found.p50)
            p99s.append(found.p99)
            ours.catch_up()
        yield _latency("impression", p50s, p99s, half, target=40)


def batches(plan: Plan) -> Iterator[Row]:
    """Events a second through POST /ads/v1/events beside a raw INSERT of the same rows."""
    with servers.ledger(catalogue.mixed(1_000)) as ours, raw.table(ours.url) as table:

        def ours_rate() -> float:
            bodies = _batches(ours, int(4_000 * plan.seconds) // TOKENS_A_REQUEST * 10)
            rate = saturate(ours.port, bodies, connections=CONNECTIONS_OF_BATCHES, seconds=plan.seconds)
            ours.catch_up()
            return rate * TOKENS_A_REQUEST

        def theirs() -> float:
            return table.insert(ours.tickets(int(20_000 * plan.seconds)), batch=TOKENS_A_REQUEST)

        yield in_turns(plan.rounds, ours_rate, theirs).row(
            name="batches",
            what="events through POST /ads/v1/events, 500 tokens a request",
            beside="raw INSERT of 500 rows a statement, same table",
            unit="/s",
            target=0.5,
        )


def lag(plan: Plan) -> Iterator[Row]:
    """How far the read models fall behind while events arrive as fast as they can."""
    with servers.ledger(catalogue.mixed(1_000)) as ours:
        behind, waits, rates = [], [], []
        for _ in range(plan.rounds):
            bodies = _batches(ours, int(4_000 * plan.seconds) // TOKENS_A_REQUEST * 10)
            rates.append(saturate(ours.port, bodies, connections=CONNECTIONS_OF_BATCHES, seconds=plan.seconds))
            behind.append(float(ours.lag()))
            waits.append(ours.catch_up())
        yield Row(
            name="lag",
            what="seconds until the read models have caught up after a burst of events",
            unit="s",
            figure=median(waits),
            note=f"{median(behind):,.0f} events behind after {plan.seconds:g} s at "
            f"{median(rates) * TOKENS_A_REQUEST:,.0f} events/s",
        )


def growth(plan: Plan) -> Iterator[Row]:
    """What a decision costs through HTTP with 10,000 campaigns beside 100, and the memory of a worker with 10,000."""
    with (
        servers.ledger(catalogue.with_equal_matches(10_000)) as large,
        servers.ledger(catalogue.with_equal_matches(100)) as small,
    ):

        def milliseconds(of: servers.Ledger) -> float:
            asked = cycle(of.decisions(country="DE"))
            return 1_000 / saturate(of.port, asked, connections=CONNECTIONS_OF_DECISIONS, seconds=plan.seconds)

        yield in_turns(plan.rounds, lambda: milliseconds(large), lambda: milliseconds(small)).row(
            name="growth-http",
            what="time of a decision through HTTP with 10,000 campaigns",
            beside="with 100 campaigns, as many of them match",
            unit="ms",
            target=1.3,
            limit="at most",
        )
        yield Row(
            name="memory",
            what="resident memory of a worker with 10,000 campaigns, after the decisions above",
            unit="MB",
            figure=large.worker().memory_info().rss / 1_000_000,
            target=300,
            limit="at most",
        )


def commands(plan: Plan) -> Iterator[Row]:
    """Single commands through HTTP, beside a request that only reads who is signed in."""
    with servers.ledger(catalogue.mixed(10)) as ours, closing(ours.service.signed_in()) as admin:
        bearer = str(admin.headers["Authorization"]).removeprefix("Bearer ")
        body = msgspec.json.encode({"name": "Advertiser", "company_name": "Company", "email": "a@example.com"})
        create = post("/api/v1/advertisers", body, bearer=bearer)
        look = get("/api/v1/auth/me").replace(b"\r\n\r\n", f"\r\nAuthorization: Bearer {bearer}\r\n\r\n".encode())

        def rate(request: bytes) -> float:
            return saturate(ours.port, cycle([request]), connections=COMMAND_CLIENTS, seconds=plan.seconds)

        pair = in_turns(plan.rounds, lambda: rate(create), lambda: rate(look))
        yield pair.row(
            name="commands-http",
            what="commands through HTTP (POST /api/v1/advertisers), 16 clients",
            beside="GET /api/v1/auth/me, which appends nothing",
            unit="/s",
        )


def _batches(ours: servers.Ledger, count: int) -> list[bytes]:
    tokens = ours.tokens(count * TOKENS_A_REQUEST)
    return [
        post("/ads/v1/events", msgspec.json.encode({"tokens": tokens[first : first + TOKENS_A_REQUEST]}))
        for first in range(0, len(tokens), TOKENS_A_REQUEST)
    ]


def _latency(thing: str, p50s: list[float], p99s: list[float], rate: float, *, target: float) -> Row:
    return Row(
        name=f"{thing}-latency",
        what=f"p99 of a {thing} at half of the maximum rate, by an open-loop schedule".replace("a i", "an i"),
        unit="ms",
        figure=median(p99s),
        target=target,
        limit="at most",
        note=f"at {rate:,.0f}/s; p50 {median(p50s):.2f} ms; p99 {min(p99s):.1f} to {max(p99s):.1f}",
    )
