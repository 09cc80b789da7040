"""Mail, sent by a real service through a real mail server, while the service is killed as well."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import httpx
import psycopg
import pytest
from PIL import Image

from infra import installation
from infra.database import connect
from projections import campaigns, news, rebuild
from tests.api.pages import Page, eventually, fresh, new_page
from tests.api.test_webhooks import GATES, killed_at, sending
from tests.faults.test_points import gated
from tests.mailbox import REFUSED, Post, text_of, token_in
from tests.running import ADMIN_EMAIL, Service, killed
from tests.world import World

PASSWORD: Final = "a sentence that nobody guesses"
BROWSER: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.fixture(scope="module")
def post() -> Iterator[Post]:
    """A mail server in a process of its own."""
    with TemporaryDirectory() as folder:
        opened = Post(Path(folder))
        opened.open()
        try:
            yield opened
        finally:
            opened.close()


@pytest.fixture(scope="module")
def service(cluster_url: str, post: Post) -> Iterator[Service]:
    """A service that sends its mail there, and tries for a while."""
    settings = {
        "LEDGER_SMTP_URL": post.url,
        "LEDGER_MAIL_FROM": "Ledger <ledger@example.com>",
        "LEDGER_MESSAGE_RETRY_SECONDS": ",".join(["0.1"] * 500),
    }
    with sending(cluster_url, settings) as started:
        yield started


@pytest.fixture
def page(world: World) -> Page:
    """A slot of its own."""
    return new_page(world)


def person(world: World, role: str, email: str = "") -> tuple[str, httpx.Client]:
    """Add somebody; return their address, and a client of theirs."""
    email = email or f"{fresh()}@example.com"
    world.post("users", email=email, password=PASSWORD, role=role)
    client = world.service.signed_in(email, PASSWORD)
    world.clients.append(client)
    return email, client


def dismissed(world: World, email: str) -> None:
    """Let somebody in no more."""
    (user_id,) = [each["id"] for each in world.get("users", limit=500)["items"] if each["email"] == email]
    assert world.admin.patch(f"/api/v1/users/{user_id}", json={"active": False}).status_code == 200


def activated(world: World, **fields: object) -> str:
    """Activate a campaign, and return its name, which no other has."""
    name = f"Campaign {fresh()}"
    campaign_id = world.campaign(name=name, **fields)
    world.creative(campaign_id)
    world.post(f"campaigns/{campaign_id}/activate", expect=200)
    return name


def settled(world: World, post: Post) -> None:
    """Wait until all that there was to tell before was told."""
    name = activated(world)
    eventually(lambda: post.letters(ADMIN_EMAIL, f"{name} is active"))


def only(letters: Callable[[], list[EmailMessage]]) -> EmailMessage:
    """Wait for a letter, and return it."""
    eventually(letters)
    (letter,) = letters()
    return letter


def test_an_activated_campaign(world: World, post: Post) -> None:
    """Who runs campaigns hears that one is active, in text and HTML; who does not, does not."""
    manager, _ = person(world, "manager")
    viewer, _ = person(world, "viewer")
    name = activated(world, end_date="2999-01-01")
    letter = only(lambda: post.letters(manager, "is active"))
    only(lambda: post.letters(ADMIN_EMAIL, f"{name} is active"))
    assert letter["Subject"] == f"{name} is active"
    assert letter["From"] == "Ledger <ledger@example.com>"
    assert letter["Message-ID"].endswith("@example.com>")
    for kind in ("plain", "html"):
        assert name in text_of(letter, kind)
        assert "from 2020-01-01 to 2999-01-01 (UTC)." in text_of(letter, kind)
        assert "/api/v1/auth/me/notifications" in text_of(letter, kind)
    settled(world, post)
    assert post.letters(viewer) == []


def test_a_review(world: World, post: Post) -> None:
    """A creative that was approved, and then denied for a reason, which is text in the text and escaped in HTML."""
    campaign_id, name = world.campaign(), f"Creative {fresh()} & sons"
    creative_id = world.creative(campaign_id, name=name)
    only(lambda: post.letters(ADMIN_EMAIL, f"{name} was approved"))
    world.post(f"creatives/{creative_id}/deny", expect=200, reason="It is <b>too loud</b>.")
    letter = only(lambda: post.letters(ADMIN_EMAIL, f"{name} was denied"))
    assert "It is <b>too loud</b>." in text_of(letter, "plain")
    assert "It is &lt;b&gt;too loud&lt;/b&gt;." in text_of(letter, "html")


def test_people_choose(world: World, post: Post) -> None:
    """What one gets is that of one's role, until one chooses; a choice outlives the role."""
    manager, manages = person(world, "manager")
    viewer, views = person(world, "viewer")
    path = "/api/v1/auth/me/notifications"
    assert set(manages.get(path).json().values()) == {True}
    assert [reason for reason, wanted in views.get(path).json().items() if wanted] == ["new_sign_in"]
    assert manages.patch(path, json={"campaign_activated": False}).json()["campaign_activated"] is False
    assert views.patch(path, json={"campaign_activated": True}).json()["campaign_activated"] is True
    assert views.get(path).json() == dict.fromkeys(manages.get(path).json(), False) | {
        "campaign_activated": True,
        "new_sign_in": True,
    }
    assert manages.patch(path, json={"campaign_vanished": True}).status_code == 400
    name = activated(world)
    only(lambda: post.letters(viewer, name))
    settled(world, post)
    assert post.letters(manager, "is active") == []


def test_a_budget(world: World, page: Page, post: Post) -> None:
    """A budget is told of when 80 % are spent, and when all is; once for each budget that it ever had."""
    name = f"Campaign {fresh()}"
    campaign_id, _ = page.campaign(name=name, budget_micros=50_000)  # ten impressions of 5,000 micros
    finance, _ = person(world, "finance")

    def shown(times: int) -> None:
        for _ in range(times):
            seen = httpx.get(page.served()["impression_url"], headers={"User-Agent": BROWSER})
            assert seen.status_code == 204

    shown(8)
    letter = only(lambda: post.letters(finance, f"{name} has spent 80 %"))
    assert "0.04 EUR of 0.05 EUR" in text_of(letter, "plain")
    shown(2)
    letter = only(lambda: post.letters(finance, f"The budget of {name} is spent"))
    assert "0.05 EUR of 0.05 EUR" in text_of(letter, "html")
    changed = world.admin.patch(f"/api/v1/campaigns/{campaign_id}", json={"budget_micros": 60_000})
    assert changed.status_code == 200
    eventually(lambda: len(post.letters(finance, f"{name} has spent 80 %")) == 2)
    assert len(post.letters(finance)) == 3


def test_an_end_that_is_near(world: World, post: Post) -> None:
    """Three days before its end date an active campaign is told of, and again when the date was moved to another."""
    today = datetime.now(UTC).date()
    near, moved, far = (str(today + timedelta(days=days)) for days in (2, 1, 9))
    name, distant = f"Campaign {fresh()}", activated(world, end_date=far)
    campaign_id = world.campaign(name=name, end_date=near)
    world.post(f"campaigns/{campaign_id}/activate", expect=200)
    letter = only(lambda: post.letters(ADMIN_EMAIL, f"{name} ends on"))
    assert letter["Subject"] == f"{name} ends on {near}"
    assert world.admin.patch(f"/api/v1/campaigns/{campaign_id}", json={"end_date": moved}).status_code == 200
    eventually(lambda: post.letters(ADMIN_EMAIL, f"{name} ends on {moved}"))
    assert len(post.letters(ADMIN_EMAIL, f"{name} ends on")) == 2
    assert post.letters(ADMIN_EMAIL, f"{distant} ends on") == []


def test_the_weekly_report(world: World, page: Page, post: Post) -> None:
    """On Monday morning the week before is reported, with its numbers and a chart of its days; and once."""
    name = f"Campaign {fresh()}"
    page.campaign(name=name)
    for _ in range(3):
        assert httpx.get(page.served()["impression_url"], headers={"User-Agent": BROWSER}).status_code == 204
    world.caught_up()
    now = datetime.now(UTC)
    monday = datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=7 - now.weekday())

    async def look(*moments: datetime) -> None:
        async with await connect(url) as connection:
            ledger_id = await installation.first_ledger(connection)
            for moment in moments:
                await news.look(connection, ledger_id, moment)

    finance, _ = person(world, "finance")
    with world.service.database() as url:
        asyncio.run(look(monday + timedelta(hours=5)))
        settled(world, post)
        assert post.letters(finance, "The week to") == []
        asyncio.run(look(*(monday + timedelta(hours=hours) for hours in (6, 7, 30))))
    letter = only(lambda: post.letters(finance, f"The week to {(monday - timedelta(days=1)).date()}"))
    for kind in ("plain", "html"):
        assert name in text_of(letter, kind)
    assert f"{name}\n    3 impressions, 0 clicks, 0.015 EUR" in text_of(letter, "plain")
    (chart,) = [part for part in letter.walk() if part.get_content_type() == "image/png"]
    assert f"cid:{chart['Content-ID'].strip('<>')}" in text_of(letter, "html")
    assert Image.open(BytesIO(chart.get_content())).size == (1_120, 400)


def test_a_server_that_is_away(world: World, post: Post) -> None:
    """What cannot be handed over is tried again, and arrives once; who left meanwhile is not written to."""
    email, _ = person(world, "manager")
    leaver, _ = person(world, "manager")
    tried = "SELECT count(*) FROM outbox WHERE content #>> '{campaign,name}' = %s AND attempts > 1"
    post.close()
    try:
        name = activated(world)
        with world.service.database() as url, psycopg.connect(url, autocommit=True) as connection:
            eventually(lambda: connection.execute(tried, (name,)).fetchone() != (0,))
        dismissed(world, leaver)
    finally:
        post.open()
    only(lambda: post.letters(email, name))
    settled(world, post)
    assert len(post.letters(email, name)) == 1
    assert post.letters(leaver) == []


def test_a_reader_who_is_refused(world: World, post: Post) -> None:
    """What a server will never take is parked at once, and keeps nobody else from their mail."""
    person(world, "manager", REFUSED)
    name = activated(world)
    only(lambda: post.letters(ADMIN_EMAIL, name))
    with world.service.database() as url, psycopg.connect(url, autocommit=True) as connection:
        parked = "SELECT attempts, error FROM outbox WHERE parked_at IS NOT NULL"
        eventually(lambda: connection.execute(parked).fetchall())
        for attempts, error in connection.execute(parked).fetchall():
            assert (attempts, "550" in error) == (1, True)
    dismissed(world, REFUSED)


def test_making_read_models_anew_sends_nothing(world: World, post: Post) -> None:
    """What is sent hangs on the log, on its own position and on names: a rebuild sends nothing."""
    email, _ = person(world, "manager")
    name = activated(world)
    only(lambda: post.letters(email, name))
    with world.service.database() as url:
        asyncio.run(rebuild.rebuild(url, campaigns.PROJECTION, lambda _: None))
    settled(world, post)
    assert len(post.letters(email, name)) == 1


def test_killed_between_event_and_letter(service: Service, world: World, post: Post) -> None:
    """A worker that dies before its letter is in the outbox has moved no position: the next one sends it, once."""
    email, _ = person(world, "manager")
    names: list[str] = []
    killed_at(service, "INSERT", lambda: names.append(activated(world)), lambda: post.letters(email) == [])
    eventually(lambda: post.letters(email, names[0]))
    settled(world, post)
    assert len(post.letters(email, names[0])) == 1


def test_killed_between_letter_and_acknowledgement(service: Service, world: World, post: Post) -> None:
    """A worker that dies between a letter and its note sends it again: byte for byte, so that the reader has one."""
    email, _ = person(world, "manager")
    names: list[str] = []
    killed_at(service, "UPDATE", lambda: names.append(activated(world)), lambda: len(post.raw()) > 0)
    eventually(lambda: post.letters(email, names[0]))
    settled(world, post)
    sent = post.raw()
    assert len(sent) == len(set(sent)) + 1, "the worker was not killed between a letter and its note"
    ids = [message_from_bytes(letter)["Message-ID"] for letter in set(sent)]
    assert len(ids) == len(set(ids))


def test_killed_between_a_token_and_its_letter(service: Service, world: World, post: Post) -> None:
    """Who dies before a token is there has put no letter either; asked again, there is one, and its token is good."""
    email, _ = person(world, "viewer")
    body = {"email": email}
    with service.database() as url, ThreadPoolExecutor(1) as thread:
        with gated(url, *GATES["INSERT"]) as is_waiting:
            asking = thread.submit(httpx.post, f"{service.url}/api/v1/auth/forgotten", json=body, timeout=20)
            eventually(is_waiting)
            (worker,) = service.web_workers()
            killed([worker])
            with psycopg.connect(url, autocommit=True) as owner:
                owner.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                    "AND wait_event_type = 'Lock' AND wait_event = 'advisory'"
                )
        assert isinstance(asking.exception(), httpx.TransportError)
        with psycopg.connect(url, autocommit=True) as owner:
            assert owner.execute("SELECT id FROM account_tokens WHERE email = %s", (email,)).fetchall() == []

    def asked() -> bool:
        with suppress(httpx.TransportError):
            return httpx.post(f"{service.url}/api/v1/auth/forgotten", json=body).status_code == 202
        return False

    eventually(asked)
    token = token_in(only(lambda: post.letters(email, "Choose another password")))
    chosen = {"token": token, "password": "quite another sentence of mine"}
    assert httpx.post(f"{service.url}/api/v1/auth/reset", json=chosen).status_code == 204


def test_killed_between_a_letter_with_a_token_and_its_note(service: Service, world: World, post: Post) -> None:
    """The letter that is sent again has the same token and is the same, byte for byte, so that the reader has one."""
    email, viewer = person(world, "viewer")

    def asked() -> None:
        viewer.post("/api/v1/auth/verification").raise_for_status()

    killed_at(service, "DELETE", asked, lambda: len(post.letters(email)) == 1)
    eventually(lambda: len(post.letters(email)) == 2)
    first, second = post.letters(email)
    assert first.as_bytes() == second.as_bytes()
    assert httpx.post(f"{service.url}/api/v1/auth/verify", json={"token": token_in(first)}).status_code == 204
    assert viewer.get("/api/v1/auth/me").json()["email_verified"] is True
    with service.database() as url, psycopg.connect(url, autocommit=True) as owner:
        eventually(lambda: owner.execute("SELECT FROM outbox WHERE subscriber = 'accounts'").fetchall() == [])
    assert len(post.letters(email)) == 2


def test_a_name(world: World, post: Post) -> None:
    """A subject and a text may be in any script."""
    name = f"Herbststiefel für Zoë 靴 {fresh()}"
    campaign_id = world.campaign(name=name)
    world.creative(campaign_id)
    world.post(f"campaigns/{campaign_id}/activate", expect=200)
    letter = only(lambda: post.letters(ADMIN_EMAIL, name))
    assert name in text_of(letter, "plain")
