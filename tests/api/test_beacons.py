"""Reporting impressions, views and clicks: counted once, billed by the rules, and only what was promised here."""

import base64
import string
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import msgspec
import psycopg
import pytest
from msgspec import structs

from api.beacons import PIXEL, TOKENS_MAX
from domain.delivery import Ticket
from infra.beacon_tokens import BeaconTokens
from infra.ledger_keys import LedgerKeys, derived
from tests.api.pages import Page, eventually, fresh, midday, new_page, recorded, spent
from tests.running import Service
from tests.world import World

URLS: Final = {"i": "impression_url", "v": "view_url", "c": "click_url"}
BASE64URL: Final = string.ascii_letters + string.digits + "-_"


@pytest.fixture(scope="module")
def web(service: Service) -> Iterator[httpx.Client]:
    """A viewer's browser, which has no key."""
    with service.client() as client:
        yield client


@pytest.fixture
def page(world: World) -> Page:
    """A page with a creative to show."""
    made = new_page(world)
    made.campaign()
    made.known()
    return made


def shown(page: Page) -> dict[str, Any]:
    """Return a creative that the page was given."""
    ad: dict[str, Any] = page.ask(1)[0]["ads"][0]
    return ad


def token_of(url: str) -> str:
    """Return the token of a beacon's URL."""
    return url.rpartition("/")[2]


def types_of(page: Page, ad: dict[str, Any]) -> list[str]:
    """Return what the log has of a decision, checked to be dense."""
    entries = recorded(page.world, ad["decision_id"])
    assert [entry["version"] for entry in entries] == list(range(1, len(entries) + 1))
    return [entry["event"]["type"].removesuffix("_recorded") for entry in entries]


def events(client: httpx.Client, *tokens: Any) -> list[dict[str, str]]:
    """Report many beacons at once, and return what became of each."""
    answer = client.post("/ads/v1/events", json={"tokens": tokens})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, str]] = answer.json()["results"]
    return found


def test_what_happens_to_an_ad_is_recorded(page: Page, web: httpx.Client) -> None:
    """Impression and view are answered with nothing, a click with the way to the creative's target; all are kept."""
    ad = shown(page)
    answers = [web.get(ad[URLS[letter]]) for letter in "ivc"]
    assert [answer.status_code for answer in answers] == [204, 204, 302]
    assert [answer.content for answer in answers] == [b""] * 3
    assert answers[2].headers["Location"] == "https://shop.example/"
    assert {answer.headers["Cache-Control"] for answer in answers} == {"no-store"}
    assert types_of(page, ad) == ["impression", "view", "click"]


def test_whoever_accepts_images_gets_one(page: Page, web: httpx.Client) -> None:
    """An impression or view that is asked for as an image is answered with one of one pixel, and recorded alike."""
    ad = shown(page)
    for letter in "iv":
        answer = web.get(ad[URLS[letter]], headers={"Accept": "image/avif,image/webp,*/*;q=0.8"})
        assert (answer.status_code, answer.headers["Content-Type"], answer.content) == (200, "image/gif", PIXEL)
        assert answer.headers["Cache-Control"] == "no-store"
    assert types_of(page, ad) == ["impression", "view"]


def test_looking_is_not_showing(page: Page, web: httpx.Client) -> None:
    """HEAD records nothing; prefetch and preview are answered, and recorded once as invalid; a click leads on."""
    ad = shown(page)
    for letter, name in URLS.items():
        assert web.head(ad[name]).status_code == 204
        for header, value in (
            ("Sec-Purpose", "prefetch;prerender"),
            ("Purpose", "prefetch"),
            ("X-Purpose", "preview"),
            ("X-Moz", "prefetch"),
        ):
            assert web.get(ad[name], headers={header: value}).status_code == (302 if letter == "c" else 204)
    assert types_of(page, ad) == ["impression", "view", "click"]
    entries = recorded(page.world, ad["decision_id"])
    assert {entry["event"]["reason"] for entry in entries} == {"invalid:prefetch"}


def test_repeating_adds_nothing(page: Page, web: httpx.Client) -> None:
    """However often a beacon is sent, by whatever door, it is answered as the first time and kept once."""
    ad = shown(page)
    for letter, status in (("c", 302), ("i", 204), ("v", 204)):
        assert [web.get(ad[URLS[letter]]).status_code for _ in range(3)] == [status] * 3
    assert events(web, *(token_of(ad[name]) for name in URLS.values())) == [{"result": "repeated"}] * 3
    assert types_of(page, ad) == ["click", "impression", "view"]  # a click that comes first is kept as it came


def altered(token: str) -> Iterator[str]:
    """Yield tokens that are almost this one."""
    for place in (0, 1, 2, len(token) // 3, len(token) // 2, len(token) - 20, len(token) - 1):
        other = BASE64URL[(BASE64URL.index(token[place]) + 1) % 64]
        yield token[:place] + other + token[place + 1 :]
    yield from (token[:-1], token[:-4], token[: len(token) // 2], token[:1], token + "A", token + "=", token.upper())
    yield from ("x", "i" + "A" * 100, "%00", "ivc", token + "%0A", "i" + fresh())


def test_forged_tokens_are_refused(page: Page, web: httpx.Client) -> None:
    """A token that was altered, cut, extended or made up is refused at every door, and nothing is written."""
    ad = shown(page)
    for letter, name in URLS.items():
        forged = list(altered(token_of(ad[name])))
        answers = [web.get(f"/ads/v1/{letter}/{token}") for token in forged]
        assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(403, "token_forged")] * len(
            forged
        )
        assert all("Location" not in answer.headers for answer in answers)
        assert events(web, *forged) == [{"result": "refused", "code": "token_forged"}] * len(forged)
    assert types_of(page, ad) == []


def test_a_token_is_for_one_kind(page: Page, web: httpx.Client) -> None:
    """A token reports what it was signed for and nothing else: at another path, or relabelled, it is refused."""
    ad = shown(page)
    for signed_for, name in URLS.items():
        token = token_of(ad[name])
        for letter in set(URLS) - {signed_for}:
            for tried in (token, letter + token[1:]):
                answer = web.get(f"/ads/v1/{letter}/{tried}")
                assert (answer.status_code, answer.json()["code"]) == (403, "token_forged")
    assert types_of(page, ad) == []


def signer(service: Service, ledger_id: UUID) -> BeaconTokens:
    """Return what signs for a ledger with the secret of the service, as only a thief of it could."""
    digits = service.environment["LEDGER_SECRET_KEY"]
    key = derived(base64.urlsafe_b64decode(digits), "beacon", ledger_id)
    return BeaconTokens(LedgerKeys(ledger_id=ledger_id, beacon=(key,), viewer=b"", draw=b""))


def ledger_of(service: Service) -> UUID:
    """Return the ledger that a service began with."""
    with psycopg.connect(service.environment["LEDGER_DATABASE_URL"]) as connection:
        (ledger_id,) = connection.execute("SELECT ledger_id FROM ledgers ORDER BY created_at").fetchone() or (uuid4(),)
    assert isinstance(ledger_id, UUID)
    return ledger_id


def ticket_of(service: Service, token: str) -> Ticket:
    """Return what a token of the service carries."""
    return signer(service, ledger_of(service)).verify(token)[1]


def test_a_foreign_ledgers_token_is_refused(page: Page, web: httpx.Client, service: Service) -> None:
    """A token of another ledger is refused, be it signed with the same secret and about the same decision."""
    ad = shown(page)
    ticket = ticket_of(service, token_of(ad["impression_url"]))
    foreign = signer(service, uuid4()).sign("impression", ticket)
    own = signer(service, ledger_of(service)).sign("impression", ticket)
    assert web.get(f"/ads/v1/i/{foreign}").status_code == 403
    assert events(web, foreign) == [{"result": "refused", "code": "token_forged"}]
    assert types_of(page, ad) == []
    assert web.get(f"/ads/v1/i/{own}").status_code == 204


def test_what_comes_late_is_recorded_and_not_billed(world: World, web: httpx.Client) -> None:
    """After its token has expired an impression or click is kept as late, and a late click still reaches its target."""
    page = new_page(world, token_seconds=1, hold_seconds=1)
    campaign_id, _ = page.campaign(pricing={"model": "cpc", "price_micros": 7})
    page.known()
    ad = shown(page)
    expires_at = datetime.fromisoformat(ad["expires_at"])
    eventually(lambda: datetime.now(UTC) > expires_at + timedelta(seconds=0.1))
    assert web.get(ad["impression_url"]).status_code == 204
    assert web.get(ad["click_url"]).headers["Location"] == "https://shop.example/"
    assert events(web, token_of(ad["view_url"])) == [{"result": "recorded", "code": "late"}]
    found = [entry["event"] for entry in recorded(world, ad["decision_id"])]
    assert [(event["billed"], event["reason"], event["price_micros"]) for event in found] == [
        (False, "late", 0),
        (False, "late", 7),
        (False, "late", 0),
    ]
    line = spent(world, campaign_id)
    assert [
        line[name] for name in ("impressions", "billed_impressions", "clicks", "billed_clicks", "spent_micros")
    ] == [
        1,
        0,
        1,
        0,
        0,
    ]


def test_a_long_expired_token_is_still_read(page: Page, web: httpx.Client, service: Service) -> None:
    """A token that expired years ago is authentic all the same."""
    ad = shown(page)
    ticket = structs.replace(ticket_of(service, token_of(ad["click_url"])), expires_at=1, hold_expires_at=1)
    old = signer(service, ledger_of(service)).sign("click", ticket)
    assert web.get(f"/ads/v1/c/{old}").status_code == 302
    assert [entry["event"]["reason"] for entry in recorded(page.world, ad["decision_id"])] == ["late"]


def test_the_target_of_a_click_comes_from_the_catalogue(page: Page, web: httpx.Client) -> None:
    """A click leads where the creative leads now, whatever the URL says besides, and also when it is shown no more."""
    campaign_id, creative_id = new_page(page.world).campaign()
    del campaign_id
    ad = shown(page)
    page.world.admin.patch(
        f"/api/v1/creatives/{ad['creative_id']}", json={"click_url": "https://new.example/a?b=c#d"}
    ).raise_for_status()
    page.world.post(f"creatives/{ad['creative_id']}/archive", expect=200)
    page.known()
    for spoiled in ("", "?url=https://evil.example/", f"?creative_id={creative_id}"):
        answer = web.get(f"{ad['click_url']}{spoiled}", headers={"Referer": "https://evil.example/"})
        assert (answer.status_code, answer.headers["Location"]) == (302, "https://new.example/a?b=c#d")


def test_many_beacons_are_answered_one_by_one(page: Page, web: httpx.Client) -> None:
    """Up to 1,000 beacons at once get a result each, in their order: recorded, repeated or refused."""
    ads = [shown(page) for _ in range(20)]
    tokens = [token_of(ad[name]) for ad in ads for name in URLS.values()]
    mixed = [*tokens, *tokens[:10], *altered(tokens[0])]
    mixed += [f"i{fresh()}" for _ in range(TOKENS_MAX - len(mixed))]
    results = [result["result"] for result in events(web, *mixed)]
    assert results == ["recorded"] * 60 + ["repeated"] * 10 + ["refused"] * (TOKENS_MAX - 70)
    assert [types_of(page, ad) for ad in ads] == [["impression", "view", "click"]] * 20
    assert events(web, *reversed(tokens)) == [{"result": "repeated"}] * 60


def test_a_batch_is_bounded(page: Page, web: httpx.Client) -> None:
    """None, or more than 1,000 beacons at once, are refused as a whole, with the place."""
    ad = shown(page)
    token = token_of(ad["impression_url"])
    for tokens in ([], [token] * (TOKENS_MAX + 1)):
        answer = web.post("/ads/v1/events", json={"tokens": tokens})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_body")
        assert answer.json()["errors"][0]["pointer"] == "/tokens"
    assert types_of(page, ad) == []


def claimed(ad: dict[str, Any], at: datetime | str, letter: str = "i") -> dict[str, str]:
    """Return a beacon with the time at which, as is claimed, it happened."""
    moment = at if isinstance(at, str) else at.isoformat()
    return {"token": token_of(ad[URLS[letter]]), "occurred_at": moment}


def test_a_claimed_time_needs_a_slot_key(page: Page, web: httpx.Client) -> None:
    """A time in the past is believed of an ad slot, and is not taken from just anybody."""
    ad, at = shown(page), datetime(2026, 3, 10, 8, 30, tzinfo=UTC)
    answer = web.post("/ads/v1/events", json={"tokens": [claimed(ad, at)]})
    assert (answer.status_code, types_of(page, ad)) == (401, [])
    assert events(page.ads, claimed(ad, at), token_of(ad["view_url"])) == [{"result": "recorded"}] * 2
    impression, view = recorded(page.world, ad["decision_id"])
    assert datetime.fromisoformat(impression["occurred_at"]) == at
    assert datetime.fromisoformat(view["occurred_at"]) > at
    assert impression["recorded_at"] == view["recorded_at"]


def test_a_claimed_time_is_never_in_the_future(page: Page) -> None:
    """A clock may be a little ahead; what is said to happen later than that is refused, and can be said again."""
    ad = shown(page)
    now = datetime.now(UTC)
    refused = {"result": "refused", "code": "time_in_future"}
    late: list[datetime | str] = [now + timedelta(minutes=6), "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00"]
    assert events(page.ads, *(claimed(ad, at) for at in late)) == [refused] * 3
    assert events(page.ads, claimed(ad, now + timedelta(minutes=4))) == [{"result": "recorded"}]


def test_a_claimed_time_is_kept_in_utc(page: Page) -> None:
    """A time with another offset is the same moment in the log, and counts in its hour of UTC."""
    ad = shown(page)
    at = datetime(2026, 3, 10, 10, 10, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    assert events(page.ads, claimed(ad, at)) == [{"result": "recorded"}]
    (entry,) = recorded(page.world, ad["decision_id"])
    assert entry["occurred_at"] == "2026-03-10T04:40:00Z"
    page.world.caught_up()
    report = page.world.get("reports/delivery", group_by="hour", campaign_id=ad["campaign_id"])["items"]
    assert [(line["hour"], line["impressions"]) for line in report] == [("2026-03-10T04:00:00Z", 1)]


def test_an_absurd_time_is_refused(page: Page) -> None:
    """What is said to have happened before there were clocks is refused; the others of its batch are not."""
    ad = shown(page)
    absurd = ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "1969-12-31T23:59:59Z"]
    refused = {"result": "refused", "code": "date_out_of_range"}
    found = events(page.ads, *(claimed(ad, at) for at in absurd), claimed(ad, "1970-01-01T00:00:00Z"))
    assert found == [refused] * 3 + [{"result": "recorded"}]


def test_clicks_are_paid_where_clicks_are_sold(world: World, web: httpx.Client) -> None:
    """At a price per click impressions cost nothing, and clicks are billed up to the budget and counted beyond it."""
    page = new_page(world)
    campaign_id, _ = page.campaign(pricing={"model": "cpc", "price_micros": 400}, budget_micros=1_000)
    page.served()
    ads = [shown(page) for _ in range(4)]
    assert events(web, *(token_of(ad["impression_url"]) for ad in ads)) == [{"result": "recorded"}] * 4
    clicks = events(web, *(token_of(ad["click_url"]) for ad in ads))
    assert clicks == [{"result": "recorded"}] * 2 + [{"result": "recorded", "code": "over_budget"}] * 2
    line = spent(world, campaign_id)
    assert [line[name] for name in ("billed_impressions", "clicks", "billed_clicks", "spent_micros")] == [4, 4, 2, 800]
    assert line["remaining_micros"] == 200
    eventually(lambda: page.ask(1)[0]["no_bid_reason"] == "no_budget")


def test_a_flat_price_is_paid_once(world: World, web: httpx.Client) -> None:
    """At a flat price the first impression costs all of it, and the others and the clicks nothing."""
    page = new_page(world)
    campaign_id, _ = page.campaign(pricing={"model": "flat", "price_micros": 9_999}, budget_micros=9_999)
    page.served()
    for _ in range(3):
        ad = shown(page)
        assert events(web, *(token_of(ad[name]) for name in URLS.values())) == [{"result": "recorded"}] * 3
    line = spent(world, campaign_id)
    assert [line[name] for name in ("impressions", "billed_impressions", "clicks", "spent_micros")] == [3, 3, 3, 9_999]


@pytest.mark.parametrize(
    "limits",
    [
        {"daily_impression_budget": 3},
        {"daily_budget_micros": 15_999},
        {"impression_budget": 3, "budget_micros": 20_000},
    ],
    ids=" and ".join,
)
def test_a_days_limits_are_kept(world: World, web: httpx.Client, limits: dict[str, int]) -> None:
    """When a day's impressions or money are spent nothing more is shown, and the report says what remains."""
    page = new_page(world)
    campaign_id, _ = page.campaign(timezone=midday(), **limits)
    ads = [page.served() for _ in range(3)]
    assert events(web, *(token_of(ad["impression_url"]) for ad in ads)) == [{"result": "recorded"}] * 3
    assert page.ask(1)[0]["no_bid_reason"] == "no_budget"
    line = spent(world, campaign_id)
    assert (line["today"]["billed_impressions"], line["today"]["spent_micros"]) == (3, 15_000)
    remaining = msgspec.convert(line["today"], dict[str, Any])
    if "daily_impression_budget" in limits:
        assert (remaining["remaining_impressions"], remaining["remaining_micros"]) == (0, None)
    elif "daily_budget_micros" in limits:
        assert (remaining["remaining_impressions"], remaining["remaining_micros"]) == (None, 999)


def test_what_was_promised_before_a_change_is_billed_as_promised(world: World, web: httpx.Client) -> None:
    """A budget that was lowered meanwhile is not exceeded: the beacon is kept, and billed only if there is room."""
    page = new_page(world)
    campaign_id, _ = page.campaign()
    page.known()
    ads = [shown(page) for _ in range(3)]
    world.admin.patch(f"/api/v1/campaigns/{campaign_id}", json={"impression_budget": 2}).raise_for_status()
    results = [events(web, token_of(ad["impression_url"]))[0] for ad in ads]
    assert {result["result"] for result in results} == {"recorded"}
    line = spent(world, campaign_id)
    assert line["impressions"] == 3
    assert line["billed_impressions"] + line["leased"] <= 2
