"""The `demo` command: the service with a lived-in example, which a client of its own sets up and keeps alive.

Two accounts are opened as `ledger user create` does it; all else the client does as others do, over HTTP. It is a
thread of the process that supervises those of `serve`, so that no password leaves it. Every command carries an
idempotency key: what an interrupted start left out is made up for by the next one, and nothing is made twice.
"""

import asyncio
import secrets
import shlex
import sys
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager, suppress
from datetime import datetime, timedelta
from operator import itemgetter
from pathlib import Path
from random import Random
from threading import Thread
from time import monotonic
from typing import Any, Final

import click
import httpx
import msgspec

from api import example
from api.ad_slot import Unanswered, ask, connected, report, token_of
from api.example import Plan, Terms, Visit
from api.radio import BREAK_SECONDS, listen
from api.serve import address_of, serve
from domain.slot import VALID_KEYS_MAX
from infra import clock, event_log, installation, settings, users
from infra.database import Connection, connect
from infra.settings import Settings

ADMIN_EMAIL: Final = "admin@example.com"
CLIENT_EMAIL: Final = "demo@ledger.invalid"
"""The account of the demo itself; a ledger that has it is one that the demo made."""

START_SECONDS_MAX: Final = 60
STOP_SECONDS_MAX: Final = 5
POLL_SECONDS: Final = 0.05
VISITS_AT_ONCE: Final = 425
SEED: Final = 2821

NEXT: Final = """
The ledger answers at {url}
  sign in as     {email}
  password       {password}
  documentation  {url}/schema

To try next, in another terminal:

# Is all well?
curl -fsSw '\\n' {url}/health/ready
# Sign in. The token is good for 15 minutes.
TOKEN=$(curl -fsS {url}/api/v1/auth/login -H 'Content-Type: application/json' -d '{credentials}' \
| sed 's/.*"access_token":"\\([^"]*\\)".*/\\1/')
# What has each campaign spent, and what is left?
curl -fsSw '\\n' {url}/api/v1/reports/budgets -H "Authorization: Bearer $TOKEN"
# What was delivered, hour by hour?
curl -fsS '{url}/api/v1/reports/delivery?group_by=hour&format=csv' -H "Authorization: Bearer $TOKEN"
# Ask for a creative, as an ad slot does.
curl -fsSw '\\n' {url}/ads/v1/decisions -H 'Authorization: Bearer {slot_key}' -H 'Content-Type: application/json' \
-d '{request}'
# Ask for a minute of radio, as a player does: VAST, with spots that fill it to the second.
curl -fsSw '\\n' '{url}/ads/v1/vast?slot={radio_id}&key={radio_key}&poddur=60&rqddurs=10,20,30'
# How far have the read models come?
{ledger} projections list{data_dir}

Visitors keep coming. Ctrl-C ends it all; the next start goes on from here."""


class NotADemo(Exception):
    """This ledger is somebody's own, and the log forgets nothing: `ledger serve` serves it without adding to it."""


def demo(*, host: str, port: int, data_dir: Path | None) -> None:
    """Serve the example until told to stop; raise NotADemo for a ledger that the demo has not made."""
    address = address_of(host, port)
    found = settings.read(data_dir=data_dir)
    place = f"in {found.data_dir.resolve()}" if found.embedded else "on the configured database"
    click.echo(f"Starting a campaign ledger {place} ...", err=True)

    def beside(database_url: str) -> AbstractContextManager[None]:
        asyncio.run(_check(database_url, found.admin_email))
        passwords = asyncio.run(_passwords(database_url))
        return _meanwhile(be_client(_url(address, port), *passwords, found))

    # A line for each request would bury what is said here.
    log_level = "warning" if found.log_level == "info" else found.log_level
    serve(host=host, port=port, workers=1, data_dir=data_dir, background=True, log_level=log_level, beside=beside)


async def be_client(url: str, password: str, client_password: str, found: Settings) -> None:
    """Set up what is missing of the example, say what to try, and send visitors until stopped."""
    async with connected(url, await _signed_in(url, client_password), connections=1) as (admin,):
        done = await _is_done(admin)
        if not done:
            click.echo("Setting up advertisers, campaigns, creatives and slots ...", err=True)
            await _set_up(admin)
        async with AsyncExitStack() as stack:
            keys = [await _fresh_key(admin, slot["name"]) for slot in example.SLOTS]
            clients = [(await stack.enter_async_context(connected(url, key, connections=1)))[0] for key in keys]
            slots = await _slots(clients[-1])
            if not done:
                await _play_a_day(admin, clients, slots)
            click.echo(_next(url, password, keys, slots, found))
            await _live(clients[0], slots)


@contextmanager
def _meanwhile(work: Coroutine[None, None, None]) -> Iterator[None]:
    """Do something in a thread of its own, until the end."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(work)
    ending = False

    def run() -> None:
        try:
            loop.run_until_complete(task)
        except asyncio.CancelledError:
            pass
        except (Unanswered, httpx.HTTPStatusError) as error:
            if not ending:
                click.echo(f"The demo's own client gives up, and a new start would go on: {error}", err=True)
        finally:
            loop.close()

    thread = Thread(target=run, name="demo", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending = True
        with suppress(RuntimeError):  # it has come to its end already
            loop.call_soon_threadsafe(task.cancel)
        thread.join(STOP_SECONDS_MAX)


async def _check(database_url: str, admin_email: str | None) -> None:
    """Raise NotADemo unless the demo made this ledger, or it holds nothing but the admin that the settings name."""
    async with await connect(database_url) as connection:
        if await users.by_email(connection, CLIENT_EMAIL):
            return
        ledger_id = await installation.first_ledger(connection)
        head = await event_log.read_head(connection, ledger_id)
        people = {person.email for person in await users.page(connection, ledger_id, limit=2)}
    if head.position or people - {users.canonical(admin_email or "")}:
        raise NotADemo(NotADemo.__doc__)


async def _passwords(database_url: str) -> tuple[str, str]:
    """Give the admin and the demo's own account new passwords, and return them: they are kept nowhere."""
    async with await connect(database_url) as connection:
        return (
            await _with_new_password(connection, ADMIN_EMAIL, "admin"),
            await _with_new_password(connection, CLIENT_EMAIL, "admin"),
        )


async def _with_new_password(connection: Connection, email: str, role: users.Role) -> str:
    ledger_id = await installation.first_ledger(connection)
    password = secrets.token_urlsafe(12)
    found = await users.by_email(connection, email)
    if found is None:
        await users.create(connection, ledger_id, email=email, password=password, role=role)
    else:
        user, _ = found
        await users.change(connection, ledger_id, user.id, role=role, active=True)
        await users.set_password(connection, ledger_id, user.id, password)
    return password


async def _signed_in(url: str, password: str) -> str:
    """Return an access token of the demo's account as soon as the service answers."""
    credentials = {"email": CLIENT_EMAIL, "password": password}
    deadline = monotonic() + START_SECONDS_MAX
    async with httpx.AsyncClient(base_url=url) as client:
        while monotonic() < deadline:
            with suppress(httpx.TransportError):
                answer = await client.post("/api/v1/auth/login", json=credentials)
                return str(answer.raise_for_status().json()["access_token"])
            await asyncio.sleep(POLL_SECONDS)
    raise Unanswered(f"The service does not answer at {url}.")


async def _is_done(admin: httpx.AsyncClient) -> bool:
    found = (await _read(admin, f"campaigns?name={example.LAST}"))["items"]
    return bool(found) and found[0]["status"] not in {"draft", "active"}


async def _set_up(admin: httpx.AsyncClient) -> None:
    for slot in example.SLOTS:
        await _command(admin, "slots", slot)
    advertisers = {terms["name"]: await _command(admin, "advertisers", terms) for terms in example.ADVERTISERS}
    for plan in example.CAMPAIGNS:
        terms = {**plan.terms, "advertiser_id": advertisers[plan.advertiser]}
        campaign_id = await _command(admin, "campaigns", terms)
        # A campaign past its expiry date may be closed by now, and would refuse them.
        for creative in () if "expiry_date" in terms else example.creatives_of(plan.terms):
            creative_id = await _command(admin, "creatives", {**creative, "campaign_id": campaign_id})
            for step in ("submit", "approve", "activate"):
                await _command(admin, f"creatives/{creative_id}/{step}")
        await _review(admin, plan, campaign_id)
        for step in plan.before:
            await _command(admin, f"campaigns/{campaign_id}/{step}")


async def _review(admin: httpx.AsyncClient, plan: Plan, campaign_id: str) -> None:
    """Add one more creative to a campaign, as far as its review has come."""
    if plan.terms["name"] in example.REVIEWS:
        creative: Terms = next(example.creatives_of(plan.terms))
        fresh = {**creative, "name": f"{creative['name']}, second version", "campaign_id": campaign_id}
        creative_id = await _command(admin, "creatives", fresh)
        for step, body in example.REVIEWS[plan.terms["name"]]:
            await _command(admin, f"creatives/{creative_id}/{step}", body)


async def _fresh_key(admin: httpx.AsyncClient, name: str) -> str:
    """Return a new key of a slot: that of the last start stays valid, but nobody can tell it from its hash."""
    slot = (await _read(admin, f"slots?name={name}"))["items"][0]
    if len(slot["keys"]) >= VALID_KEYS_MAX:
        oldest = min(slot["keys"], key=lambda key: key["issued_at"])
        (await ask(admin, "DELETE", f"/api/v1/slots/{slot['id']}/keys/{oldest['key_id']}")).raise_for_status()
    answer = (await ask(admin, "POST", f"/api/v1/slots/{slot['id']}/keys")).raise_for_status()
    return str(answer.json()["key"])


async def _slots(client: httpx.AsyncClient) -> dict[str, str]:
    """Return the ids of the slots by name, as soon as the service knows the key and all of them."""
    deadline = monotonic() + START_SECONDS_MAX
    while monotonic() < deadline:
        with suppress(Unanswered):
            answer = (await ask(client, "GET", "/ads/v1/slots")).raise_for_status()
            slots = {slot["name"]: slot["id"] for slot in answer.json()}
            if len(slots) >= len(example.SLOTS):
                return slots
        await asyncio.sleep(POLL_SECONDS)
    raise Unanswered("The service does not serve the slots of the demo.")


async def _play_a_day(admin: httpx.AsyncClient, clients: Sequence[httpx.AsyncClient], slots: Mapping[str, str]) -> None:
    """Play the traffic of the last day, with what happens to campaigns in the middle and at the end of it."""
    visits = example.day(Random(SEED), clock.now())
    half = len(visits) // 2
    for part, then in ((visits[:half], "midway"), (visits[half:], "after")):
        for start in range(0, len(part), VISITS_AT_ONCE):
            at = part[start][0]
            click.echo(f"Playing the last day's traffic, from {at:%A %H:%M} UTC on ...", err=True)
            await _play(clients, slots, part[start : start + VISITS_AT_ONCE])
        for plan in example.CAMPAIGNS:
            for step in getattr(plan, then):
                campaign = (await _read(admin, f"campaigns?name={plan.terms['name']}"))["items"][0]
                await _command(admin, f"campaigns/{campaign['id']}/{step}")
    for at, patience in example.breaks(Random(SEED), clock.now()):
        await report(clients[0], await listen(clients[0], slots[example.RADIO], at, patience=patience))


async def _play(
    clients: Sequence[httpx.AsyncClient], slots: Mapping[str, str], visits: Sequence[tuple[datetime, Visit]]
) -> None:
    """Ask for the creatives of visits, several at once, and report what became of them in the order of time."""
    waiting = iter(visits)
    beacons: list[tuple[str, datetime]] = []

    async def ask_for_each(client: httpx.AsyncClient) -> None:
        for at, visit in waiting:
            beacons.extend(await _visit(client, slots, at, visit))

    await asyncio.gather(*map(ask_for_each, clients))
    await report(clients[0], sorted(beacons, key=itemgetter(1)))


async def _visit(
    client: httpx.AsyncClient, slots: Mapping[str, str], at: datetime, visit: Visit
) -> list[tuple[str, datetime]]:
    """Ask for the creatives of a visit, and return the tokens and times of what becomes of them."""
    place = visit.place
    body = {
        "id": f"{visit.viewer} {at:%H:%M:%S}",
        "placements": [{"id": name, "slot_id": slots[name]} for name in visit.slots],
        "geo": {"country": place.country, "region": place.region, "city": place.city},
        "viewer": {"id": visit.viewer},
    }
    answer = (await ask(client, "POST", "/ads/v1/decisions", body)).raise_for_status()
    return [
        (token_of(ad[url]), moment)
        for decision, luck in zip(answer.json()["decisions"], visit.luck, strict=True)
        for ad in decision["ads"]
        for url, moment in example.beacons_of(luck, at)
    ]


async def _live(client: httpx.AsyncClient, slots: Mapping[str, str]) -> None:
    """Send a few visitors a second for ever; one that the service has no answer for is lost."""
    random = Random()
    for visit in example.visits(random):
        await asyncio.sleep(random.expovariate(example.VISITS_PER_SECOND))
        with suppress(Unanswered, httpx.HTTPStatusError):
            # What follows an impression cannot have happened before it is reported.
            await _play([client], slots, [(clock.now() - example.CLICKED_AFTER, visit)])
            if random.random() < example.BREAKS_PER_VISIT:
                began = clock.now() - timedelta(seconds=BREAK_SECONDS)
                await report(client, await listen(client, slots[example.RADIO], began, patience=1.0))


async def _read(admin: httpx.AsyncClient, path: str) -> Any:  # noqa: ANN401  whatever the JSON holds
    return (await ask(admin, "GET", f"/api/v1/{path}")).raise_for_status().json()


async def _command(admin: httpx.AsyncClient, path: str, body: Terms | None = None) -> str:
    """Give a command, or find that it was given by an earlier start, and return the id of what it is about."""
    key = " ".join(("demo", path, *filter(None, [(body or {}).get("name")])))
    answer = await ask(admin, "POST", f"/api/v1/{path}", body or None, headers={"Idempotency-Key": key})
    return str(answer.raise_for_status().json()["id"])


def _next(url: str, password: str, keys: Sequence[str], slots: Mapping[str, str], found: Settings) -> str:
    slot_id = slots[example.SLOTS[0]["name"]]
    return NEXT.format(
        url=url,
        email=ADMIN_EMAIL,
        password=password,
        credentials=_json({"email": ADMIN_EMAIL, "password": password}),
        slot_key=keys[0],
        radio_id=slots[example.RADIO],
        radio_key=keys[-1],
        request=_json({"id": "try", "placements": [{"id": "p1", "slot_id": slot_id}]}),
        ledger=shlex.quote(str(Path(sys.executable).with_name("ledger"))),
        data_dir=f" --data-dir {shlex.quote(str(found.data_dir.resolve()))}" if found.embedded else "",
    )


def _json(body: Terms) -> str:
    return msgspec.json.encode(body).decode()


def _url(address: str, port: int) -> str:
    """Return where a client on this machine reaches what listens on an address."""
    near = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104  looked up, not listened on
    return f"http://[{near}]:{port}" if ":" in near else f"http://{near}:{port}"
