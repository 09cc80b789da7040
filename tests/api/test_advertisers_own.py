"""What advertisers see of a ledger and do in it: their own campaigns and creatives, and nothing of anybody else's."""

import csv
import io
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final, NamedTuple
from uuid import uuid4

import httpx
import pytest

from tests.api.pages import eventually
from tests.api.test_sign_in import ALLOWED
from tests.running import Service
from tests.world import World

PASSWORD: Final = "a sentence that nobody guesses"
SIZE: Final = {"width": 311, "height": 97}

LISTS: Final = {
    "list_advertisers": "advertisers",
    "list_campaigns": "campaigns",
    "list_creatives": "creatives",
    "report_budgets": "reports/budgets",
    "report_delivery": "reports/delivery?group_by=advertiser,campaign,creative",
}
OF_ONE: Final = {
    "get_advertiser": "advertisers/{advertiser}",
    "get_funds": "advertisers/{advertiser}/funds",
    "get_campaign": "campaigns/{campaign}",
    "get_campaign_history": "campaigns/{campaign}/history",
    "get_creative": "creatives/{creative}",
}
OF_EVERYBODY: Final = frozenset(
    {"me", "get_notifications", "list_sessions", "get_second_factor", "list_countries", "list_subdivisions"}
    | {"list_time_zones", "list_currencies", "list_content_ratings", "list_iab_categories"}
    | {"get_organisation", "list_organisations", "list_links"}
)
"""What is read of one's own account and organisations, and what is no secret."""


class Things(NamedTuple):
    """What belongs to an advertiser."""

    advertiser: str
    campaign: str
    creative: str
    name: str


class Scene(NamedTuple):
    """An advertiser's client, what is theirs, and what is not; something was shown of both."""

    client: httpx.Client
    person: str
    own: Things
    other: Things
    slot: str


def things(world: World) -> Things:
    """Set up an advertiser with funds and a campaign that is served."""
    name = f"Advertiser {uuid4()}"
    advertiser_id = world.advertiser(name=name, email="contact@northwind.example")
    world.post(f"advertisers/{advertiser_id}/deposit", expect=200, amount_micros=10_000_000, currency="EUR")
    return Things(advertiser_id, *world.active_campaign(advertiser_id=advertiser_id, **SIZE), name)


def added(world: World, *advertisers: str) -> tuple[str, httpx.Client]:
    """Add a person in the role, and return their id and a client of theirs."""
    email = f"{uuid4().hex}@example.com"
    person = world.post("users", email=email, password=PASSWORD, role="advertiser", advertiser_ids=advertisers)
    assert person["advertiser_ids"] == list(advertisers)
    return person["id"], world.service.signed_in(email, PASSWORD)


@pytest.fixture(scope="module")
def scene(service: Service, admin: httpx.Client) -> Iterator[Scene]:
    """One impression of each of two advertisers' campaigns, one of which is somebody's own."""
    world = World(service, admin)
    own, other = things(world), things(world)
    slot_id, ads = world.slot(**SIZE)
    world.served(ads, slot_id, test=True)  # the key is known from now on
    eventually(lambda: len(world.decide(ads, slot_id, count=2)) == 2)
    for shown in world.decide(ads, slot_id, count=2):
        assert ads.get(shown["impression_url"]).is_success
    world.caught_up()
    person, client = added(world, own.advertiser)
    yield Scene(client, person, own, other, slot_id)
    for each in (client, *world.clients):
        each.close()


def test_every_read_says_what_advertisers_see_of_it() -> None:
    """What the role may read, and not anybody, is a list that is tested here, one thing that is, or no secret."""
    open_to_them = {name for name, roles in ALLOWED.items() if "advertiser" in roles and "nobody" not in roles}
    reads = {name for name in open_to_them if name.startswith(("get_", "list_", "report_", "read_", "explain_", "me"))}
    assert reads == {*LISTS, *OF_ONE, *OF_EVERYBODY}


@pytest.mark.parametrize("when", ["now", "as of"])
@pytest.mark.parametrize("operation", LISTS)
def test_lists_have_what_is_their_own(scene: Scene, world: World, operation: str, when: str) -> None:
    """A list has what belongs to the person's advertisers, now and as of a moment, whatever else is asked for."""
    url = httpx.URL(f"/api/v1/{LISTS[operation]}")
    params = {**url.params, "limit": "500"}
    if when == "as of":
        params["as_of"] = scene.client.get("/api/v1/reports/budgets").json()["position"]
    seen = str(scene.client.get(url.path, params=params).json()["items"])
    assert any(each in seen for each in scene.own)
    assert not any(each in seen for each in scene.other)
    everything = str(world.admin.get(url.path, params=params | named(operation, scene.other)).json()["items"])
    assert any(each in everything for each in scene.other)
    assert scene.client.get(url.path, params=params | named(operation, scene.other)).json()["items"] == []


def named(operation: str, of: Things) -> dict[str, str]:
    """Return the filter with which a list has only what is an advertiser's."""
    match operation:
        case "list_advertisers":
            return {"name": of.name}
        case "list_creatives":
            return {"campaign_id": of.campaign}
        case _:
            return {"advertiser_id": of.advertiser}


@pytest.mark.parametrize("operation", OF_ONE)
def test_one_thing_is_there_if_it_is_their_own(scene: Scene, operation: str) -> None:
    """What belongs to another is not found, as if there were none; what is one's own is, now and as of a moment."""
    head = scene.client.get("/api/v1/reports/budgets").json()["position"]
    moments: tuple[dict[str, str], ...] = ({}, {"as_of": str(head)})
    for params in moments:
        own = scene.client.get(f"/api/v1/{OF_ONE[operation].format(**scene.own._asdict())}", params=params)
        assert own.status_code == 200, own.text
        other = scene.client.get(f"/api/v1/{OF_ONE[operation].format(**scene.other._asdict())}", params=params)
        nobody = dict.fromkeys(Things._fields, str(uuid4()))
        none = scene.client.get(f"/api/v1/{OF_ONE[operation].format(**nobody)}", params=params)
        assert (other.status_code, none.status_code) == (404, 404)
        assert len(other.json()["detail"]) == len(none.json()["detail"])


def test_how_they_are_reached_is_theirs_to_read(scene: Scene) -> None:
    """An advertiser reads the contact of its own, which others than they and those who deal with them do not."""
    shown = scene.client.get(f"/api/v1/advertisers/{scene.own.advertiser}").json()
    assert shown["email"] == "contact@northwind.example"


def test_the_report_of_delivery_tells_nothing_of_slots(scene: Scene) -> None:
    """What was shown where, and what was asked for, is not for advertisers, neither as JSON nor as CSV."""
    path = "/api/v1/reports/delivery"
    for params in ({"group_by": "slot"}, {"group_by": "day,slot", "format": "csv"}, {"slot_id": scene.slot}):
        refused = scene.client.get(path, params=params)
        assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed")
    (line,) = scene.client.get(path, params={"group_by": "day"}).json()["items"]
    assert line["impressions"] == 1
    assert not {"requests", "fills", "no_fill"} & set(line)
    rows = list(csv.DictReader(io.StringIO(scene.client.get(path, params={"format": "csv"}).text)))
    assert [(row["campaign_id"], row["impressions"]) for row in rows] == [(scene.own.campaign, "1")]


def test_they_draft_for_their_own(scene: Scene) -> None:
    """An advertiser drafts campaigns and creatives of its own; for another there seems to be nothing to draft for."""
    terms: dict[str, Any] = {"name": "Draft", "start_date": "2020-01-01", "currency": "EUR"}
    terms |= {"pricing": {"model": "cpm", "price_micros": 5_000_000}}
    foreign = scene.client.post("/api/v1/campaigns", json=terms | {"advertiser_id": scene.other.advertiser})
    assert (foreign.status_code, foreign.json()["code"]) == (422, "unknown_reference")
    made = scene.client.post("/api/v1/campaigns", json=terms | {"advertiser_id": scene.own.advertiser})
    path = f"/api/v1/campaigns/{made.json()['id']}"
    assert scene.client.patch(path, json={"budget_micros": 5_000_000}).status_code == 200
    assert scene.client.post(f"{path}/activate").status_code == 403
    terms = {"name": "Draft", "ad_type": "top_bar_ad", "media_type": "text", "media_content": "Boots"}
    terms |= {"click_url": "https://shop.example/", "campaign_id": scene.other.campaign}
    foreign = scene.client.post("/api/v1/creatives", json=terms)
    assert (foreign.status_code, foreign.json()["code"]) == (422, "unknown_reference")
    made = scene.client.post("/api/v1/creatives", json=terms | {"campaign_id": scene.own.campaign})
    path = f"/api/v1/creatives/{made.json()['id']}"
    assert scene.client.patch(path, json={"media_content": "Shoes"}).status_code == 200
    assert scene.client.post(f"{path}/submit").status_code == 200
    for step in ("approve", "activate", "archive"):
        assert scene.client.post(f"{path}/{step}").status_code == 403


def test_they_change_neither_what_runs_nor_what_is_anothers(scene: Scene) -> None:
    """What is no draft any more is out of an advertiser's hands, and what is another's is not found."""
    for kind, own, other in (
        ("campaigns", scene.own.campaign, scene.other.campaign),
        ("creatives", scene.own.creative, scene.other.creative),
    ):
        refused = scene.client.patch(f"/api/v1/{kind}/{own}", json={"name": "Renamed"})
        assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed")
        assert scene.client.patch(f"/api/v1/{kind}/{other}", json={"name": "Renamed"}).status_code == 404
    assert scene.client.post(f"/api/v1/creatives/{scene.other.creative}/submit").status_code == 404
    image = scene.client.post(f"/api/v1/creatives/{scene.other.creative}/media", content=b"")
    assert image.status_code == 404


def test_whose_things_they_see_can_change(scene: Scene, world: World) -> None:
    """A token that was given before says no more than whose things its owner sees by now, and so does a key."""
    person, client = added(world, scene.own.advertiser)
    with closing(client):
        own, other = (f"/api/v1/campaigns/{each.campaign}" for each in (scene.own, scene.other))
        path = f"/api/v1/users/{person}"
        swapped = world.admin.patch(path, json={"advertiser_ids": [scene.other.advertiser]})
        assert swapped.json()["advertiser_ids"] == [scene.other.advertiser]
        assert (client.get(own).status_code, client.get(other).status_code) == (404, 200)
        assert world.admin.patch(path, json={"role": "viewer"}).json()["advertiser_ids"] == []
        assert (client.get(own).status_code, client.get(other).status_code) == (200, 200)
        key = world.post("api-keys", name="Own", role="advertiser", advertiser_ids=[scene.own.advertiser])["key"]
        client.headers["Authorization"] = f"Bearer {key}"
        assert (client.get(own).status_code, client.get(other).status_code) == (200, 404)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"role": "advertiser"}, "advertisers_unfit"),
        ({"role": "advertiser", "advertiser_ids": [str(uuid4())]}, "unknown_reference"),
        ({"role": "viewer", "advertiser_ids": ["own"]}, "advertisers_unfit"),
    ],
)
def test_whose_things_somebody_sees_is_said_of_advertisers(
    scene: Scene, world: World, fields: dict[str, Any], code: str
) -> None:
    """The role goes with advertisers that there are, and no other role with any; of a new person and of a known one."""
    if fields.get("advertiser_ids") == ["own"]:
        fields = fields | {"advertiser_ids": [scene.own.advertiser]}
    person: dict[str, Any] = {"email": f"{uuid4().hex}@example.com", "password": PASSWORD}
    problem = world.post("users", expect=422, **person, **fields)
    assert (problem["code"], problem["errors"][0]["pointer"]) == (code, "/advertiser_ids")
    known = world.post("users", **person, role="viewer")["id"]
    refused = world.admin.patch(f"/api/v1/users/{known}", json=fields)
    assert (refused.status_code, refused.json()["code"]) == (422, code)
    assert world.get(f"users/{known}")["role"] == "viewer"
