"""Rows about people: signing in, prolonging a session, and what it adds to a read to check who asks."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import cycle
from time import perf_counter

import httpx
import psutil

from infra import passwords
from tests.bench import catalogue, servers
from tests.bench.load import get, run, saturate
from tests.bench.rounds import Plan, Row, in_turns
from tests.bench.unchecked import CHECKS_PATH
from tests.running import ADMIN_EMAIL, ADMIN_PASSWORD

READERS = 16
ADDED_MAX = 1.05
_LOGIN = "/api/v1/auth/login"
_CREDENTIALS = {"email": ADMIN_EMAIL, "password": ADMIN_PASSWORD}


def people(plan: Plan) -> Iterator[Row]:
    """A sign-in beside the hashing alone, a refresh beside a read, and a read with its checks beside one without."""
    with servers.ledger(catalogue.mixed(10)) as ours, closing(ours.service.signed_in()) as admin:
        password_hash = run(passwords.hashed(ADMIN_PASSWORD))
        pair = in_turns(
            plan.rounds,
            lambda: _milliseconds(plan.seconds, lambda: _asked(admin.post(_LOGIN, json=_CREDENTIALS))),
            lambda: _milliseconds(plan.seconds, lambda: asyncio.run(passwords.verify(ADMIN_PASSWORD, password_hash))),
        )
        yield pair.row(
            name="login",
            what="a sign-in with a password, which is recorded in the log",
            beside="Argon2id alone",
            unit="ms",
        )
        token = admin.post(_LOGIN, json=_CREDENTIALS).json()["refresh_token"]

        def refresh() -> None:
            nonlocal token
            answer = _asked(admin.post("/api/v1/auth/refresh", json={"refresh_token": token}))
            token = answer.json()["refresh_token"]

        pair = in_turns(
            plan.rounds,
            lambda: _milliseconds(plan.seconds, refresh),
            lambda: _milliseconds(plan.seconds, lambda: _asked(admin.get("/api/v1/auth/me"))),
        )
        yield pair.row(
            name="refresh", what="a session prolonged", beside="GET /api/v1/auth/me, which writes nothing", unit="ms"
        )
        yield _checks(plan, ours, str(admin.headers["Authorization"]))


def _checks(plan: Plan, ours: servers.Ledger, authorization: str) -> Row:
    read = get("/api/v1/campaigns?limit=10").replace(
        b"\r\n\r\n", f"\r\nAuthorization: {authorization}\r\n\r\n".encode()
    )

    def milliseconds(port: int, worker: psutil.Process, checks: str) -> float:
        httpx.get(f"http://127.0.0.1:{port}{CHECKS_PATH}{checks}").raise_for_status()
        before = float(sum(worker.cpu_times()[:2]))
        rate = saturate(port, cycle([read]), connections=READERS, seconds=plan.seconds)
        return (float(sum(worker.cpu_times()[:2])) - before) * 1_000 / (rate * plan.seconds)

    # One process, in turns with and without: of two, one may be slower for reasons of its own.
    with servers.unchecked(ours) as (port, worker):
        pair = in_turns(
            plan.rounds, lambda: milliseconds(port, worker, "on"), lambda: milliseconds(port, worker, "off")
        )
    return pair.row(
        name="checks",
        what="CPU of GET /api/v1/campaigns?limit=10 with its checks: token, what was taken back, role",
        beside="the same without them",
        unit="ms",
        target=ADDED_MAX,
        limit="at most",
    )


def _asked(answer: httpx.Response) -> httpx.Response:
    return answer.raise_for_status()


def _milliseconds(seconds: float, act: Callable[[], object]) -> float:
    """Return what an act takes, one after the other for so long."""
    started, acts = perf_counter(), 0
    while (passed := perf_counter() - started) < seconds:
        act()
        acts += 1
    return passed * 1_000 / acts
