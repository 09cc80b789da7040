"""What is refused: each with a problem that says why and where, and with nothing written."""

import json
import re
from collections.abc import Iterator
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest

from tests.running import Service
from tests.world import World

BODY_BYTES_MAX: Final = 1_000_000
TITLES: Final = {
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    415: "Unsupported Media Type",
    422: "Unprocessable Entity",
}
TELLTALE: Final = re.compile(
    r"Traceback|File \"|\.py\b|psycopg|msgspec|litestar|\bSELECT\b|\bINSERT\b|/work|/tmp|/home", re.IGNORECASE
)

# A body as it is sent, what is answered, and where: each is refused by the door to advertisers.
BODIES: Final[list[tuple[bytes, int, str, str | None]]] = [
    (b"", 400, "malformed_body", None),
    (b"{", 400, "malformed_body", None),
    (b'{"name":"A"} x', 400, "malformed_body", None),
    (b'{"name":"A",}', 400, "malformed_body", None),
    (b"{'name':'A'}", 400, "malformed_body", None),
    (b'{"name":NaN}', 400, "malformed_body", None),
    (b'{"name":"\xff"}', 400, "malformed_body", None),
    (b'\xff\xfe{\x00"\x00', 400, "malformed_body", None),
    (b'{"name":"\\ud800"}', 400, "malformed_body", None),
    (b'{"name":"\\udc00\\ud800"}', 400, "malformed_body", None),
    (b'{"name":"a\nb"}', 400, "malformed_body", None),
    (b"null", 400, "invalid_body", ""),
    (b'"A"', 400, "invalid_body", ""),
    (b"[]", 400, "invalid_body", ""),
    (b"[" * 100_000, 400, "invalid_body", ""),
    (b"{}", 400, "invalid_body", "/name"),
    (b'{"name":"A","colour":"red"}', 400, "invalid_body", "/colour"),
    (b'{"name":"A","a/b~c":1}', 400, "invalid_body", "/a~1b~0c"),
    (b'{"name":"A","id":"0199a1b2-0000-7000-8000-000000000001"}', 400, "invalid_body", "/id"),
    (b'{"name":"A","nested":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "invalid_body", "/nested"),
    (b'{"name":1}', 400, "invalid_body", "/name"),
    (b'{"name":null}', 400, "invalid_body", "/name"),
    (b'{"name":""}', 400, "invalid_body", "/name"),
    (b'{"name":" A"}', 400, "invalid_body", "/name"),
    (b'{"name":"A\\n"}', 400, "invalid_body", "/name"),
    (b'{"name":"A\\u0000B"}', 400, "invalid_body", "/name"),
    (b'{"name":"A\\u001bB"}', 400, "invalid_body", "/name"),
    (b'{"name":"A\\u0085B"}', 400, "invalid_body", "/name"),
    (b'{"name":"' + b"A" * 201 + b'"}', 400, "invalid_body", "/name"),
    (b'{"name":"A","email":"nobody"}', 400, "invalid_body", "/email"),
    (b'{"name":"A","phone":"<b>"}', 400, "invalid_body", "/phone"),
    (b'{"name":"A","status":"gone"}', 400, "invalid_body", "/status"),
    (b'{"name":"A","status":true}', 400, "invalid_body", "/status"),
]

# Fields that spoil a campaign which would be drafted without them.
CAMPAIGNS: Final[list[tuple[dict[str, Any], int, str, str]]] = [
    ({"budget_micros": 1.5}, 400, "invalid_body", "/budget_micros"),
    ({"budget_micros": 5.0}, 400, "invalid_body", "/budget_micros"),
    ({"budget_micros": 1e300}, 400, "invalid_body", "/budget_micros"),
    ({"budget_micros": "5"}, 400, "invalid_body", "/budget_micros"),
    ({"budget_micros": True}, 400, "invalid_body", "/budget_micros"),
    ({"budget_micros": -1}, 400, "invalid_body", "/budget_micros"),
    ({"budget_micros": 9_000_000_000_000_001}, 400, "invalid_body", "/budget_micros"),
    ({"budget_micros": 2**63}, 400, "invalid_body", "/budget_micros"),
    ({"budget_micros": 2**64}, 400, "invalid_body", "/budget_micros"),
    ({"budget_micros": 10**400}, 400, "invalid_body", "/budget_micros"),
    ({"impression_budget": 0}, 400, "invalid_body", "/impression_budget"),
    ({"impression_budget": 10**13}, 400, "invalid_body", "/impression_budget"),
    ({"priority": 0}, 400, "invalid_body", "/priority"),
    ({"priority": 6}, 400, "invalid_body", "/priority"),
    ({"pricing": {"model": "cpm"}}, 400, "invalid_body", "/pricing/price_micros"),
    ({"pricing": {"model": "cpa", "price_micros": 1_000}}, 400, "invalid_body", "/pricing/model"),
    ({"pricing": {"model": "cpm", "price_micros": 0}}, 400, "invalid_body", "/pricing/price_micros"),
    ({"pricing": {"model": "cpm", "price_micros": 1_000, "fee": 1}}, 400, "invalid_body", "/pricing/fee"),
    ({"pricing": {"model": "cpm", "price_micros": 1_001}}, 422, "price_not_whole", "/pricing/price_micros"),
    ({"currency": "eur"}, 400, "invalid_body", "/currency"),
    ({"currency": "EURO"}, 400, "invalid_body", "/currency"),
    ({"currency": "ZZZ"}, 422, "unknown_currency", "/currency"),
    ({"timezone": "Europe/Atlantis"}, 422, "unknown_time_zone", "/timezone"),
    ({"timezone": "posixrules"}, 422, "unknown_time_zone", "/timezone"),
    ({"timezone": "../UTC"}, 400, "invalid_body", "/timezone"),
    ({"start_date": "2026-02-30"}, 400, "invalid_body", "/start_date"),
    ({"start_date": "2026-2-3"}, 400, "invalid_body", "/start_date"),
    ({"start_date": "2026-01-01T00:00:00Z"}, 400, "invalid_body", "/start_date"),
    ({"start_date": 20260101}, 400, "invalid_body", "/start_date"),
    ({"start_date": "9999-12-31"}, 422, "date_out_of_range", "/start_date"),
    ({"start_date": "2026-05-02", "end_date": "2026-05-01"}, 422, "dates_out_of_order", "/end_date"),
    ({"end_date": "2026-05-02", "expiry_date": "2026-05-01"}, 422, "dates_out_of_order", "/expiry_date"),
    ({"budget_micros": 1, "daily_budget_micros": 2}, 422, "limits_inconsistent", "/daily_budget_micros"),
    ({"impression_budget": 1, "daily_impression_budget": 2}, 422, "limits_inconsistent", "/daily_impression_budget"),
    ({"max_view_count": 1}, 422, "limits_inconsistent", "/max_view_count"),
    ({"max_view_duration": {"value": 0, "unit": "day"}}, 400, "invalid_body", "/max_view_duration/value"),
    ({"max_view_duration": {"value": 1, "unit": "year"}}, 400, "invalid_body", "/max_view_duration/unit"),
    ({"targeting": [{}, {"country": "ZZ"}]}, 422, "unknown_country", "/targeting/1/country"),
    ({"targeting": [{"country": "china"}]}, 400, "invalid_body", "/targeting/0/country"),
    ({"targeting": [{"cities": ["x"] * 201}]}, 400, "invalid_body", "/targeting/0/cities"),
    ({"targeting": [{"cities": ["a", "b\x00"]}]}, 400, "invalid_body", "/targeting/0/cities/1"),
    ({"targeting": [{}] * 501}, 400, "invalid_body", "/targeting"),
    (
        {"targeting": [{"cities": [str(n) for n in range(200)], "postcodes": [str(n) for n in range(6)]}]},
        422,
        "targeting_too_wide",
        "/targeting/0",
    ),
    ({"keywords": ["x"] * 101}, 400, "invalid_body", "/keywords"),
    ({"keywords": ["x" * 101]}, 400, "invalid_body", "/keywords/0"),
    ({"keywords": "boots"}, 400, "invalid_body", "/keywords"),
    ({"description": "x" * 5_001}, 400, "invalid_body", "/description"),
    ({"description": "a\x00b"}, 400, "invalid_body", "/description"),
    ({"advertiser_id": "abc"}, 400, "invalid_body", "/advertiser_id"),
    ({"advertiser_id": str(uuid4())}, 422, "unknown_reference", "/advertiser_id"),
    ({"status": "active"}, 400, "invalid_body", "/status"),
]

# Fields that make a creative one to be played.
SPOT: Final = {"media_type": "audio", "duration_seconds": 15, "mime_type": "audio/mpeg", "bit_rate_kbps": 128}

# Fields that spoil a creative.
CREATIVES: Final[list[tuple[dict[str, Any], int, str, str]]] = [
    *(
        ({"click_url": url}, 400, "invalid_body", "/click_url")
        for url in (
            "javascript:alert(1)",
            "JavaScript:alert(1)",
            "data:text/html,<script>alert(1)</script>",
            "ftp://shop.example/",
            "file:///etc/passwd",
            "//shop.example/",
            "/relative",
            "https://",
            "https:///path",
            "https://shop.example/a b",
            "https://user:password@shop.example/",
            "https://shop.example\\@evil.example/",
            "https://shop.example/\x00",
            "https://shop.example/\r\nSet-Cookie: a=b",
            " https://shop.example/",
            "https://shop.example/" + "x" * 2_000,
        )
    ),
    ({"media_url": "javascript:alert(1)"}, 400, "invalid_body", "/media_url"),
    ({"media_url": "data:image/png;base64,AAAA"}, 400, "invalid_body", "/media_url"),
    ({"media_type": "video", "media_url": None}, 422, "media_incomplete", "/media_url"),
    ({"media_content": "<b>too</b>"}, 422, "media_incomplete", "/media_url"),
    ({"width": None}, 422, "media_incomplete", "/width"),
    ({"media_type": "audio"}, 422, "media_incomplete", "/duration_seconds"),
    ({**SPOT, "mime_type": None}, 422, "media_incomplete", "/mime_type"),
    ({**SPOT, "mime_type": "video/mp4"}, 422, "media_incomplete", "/mime_type"),
    ({**SPOT, "bit_rate_kbps": None}, 422, "media_incomplete", "/bit_rate_kbps"),
    ({**SPOT, "bit_rate_kbps": 0}, 400, "invalid_body", "/bit_rate_kbps"),
    ({"media_type": "hologram"}, 400, "invalid_body", "/media_type"),
    ({"ad_type": "everywhere"}, 400, "invalid_body", "/ad_type"),
    ({"width": 0}, 400, "invalid_body", "/width"),
    ({"width": 10_001}, 400, "invalid_body", "/width"),
    ({"weight": 1_001}, 400, "invalid_body", "/weight"),
    ({"time_slots": [{"start": "24:00", "end": "06:00"}]}, 400, "invalid_body", "/time_slots/0/start"),
    ({"time_slots": [{"start": "06:00", "end": "07:00"}] * 25}, 400, "invalid_body", "/time_slots"),
    (
        {"content_rating": {"rating_system": "MPAA", "rating_label": "XXX"}},
        422,
        "unknown_rating",
        "/content_rating/rating_label",
    ),
    ({"start_date": "2026-05-02", "end_date": "2026-05-01"}, 422, "dates_out_of_order", "/end_date"),
    ({"campaign_id": str(uuid4())}, 422, "unknown_reference", "/campaign_id"),
    ({"review": "approved"}, 400, "invalid_body", "/review"),
]

SLOTS: Final[list[tuple[dict[str, Any], int, str, str]]] = [
    ({"media_types": []}, 400, "invalid_body", "/media_types"),
    ({"media_types": ["image"] * 6}, 400, "invalid_body", "/media_types"),
    ({"media_types": ["smell"]}, 400, "invalid_body", "/media_types/0"),
    ({"hold_seconds": 0}, 400, "invalid_body", "/hold_seconds"),
    ({"hold_seconds": 604_801}, 400, "invalid_body", "/hold_seconds"),
    ({"token_seconds": "60"}, 400, "invalid_body", "/token_seconds"),
    ({"floor_cpm_micros": -1}, 400, "invalid_body", "/floor_cpm_micros"),
    ({"max_rating": "everybody"}, 400, "invalid_body", "/max_rating"),
]

MEDIA_TYPES: Final = (
    "text/plain",
    "application/xml",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    "json",
)


@pytest.fixture(scope="module")
def service(own_service: Service) -> Service:
    """A service that nobody else signs in at or writes to."""
    return own_service


@pytest.fixture(scope="module")
def owners(service: Service, admin: httpx.Client) -> dict[str, str]:
    """An advertiser and a campaign that something refused would have belonged to."""
    world = World(service, admin)
    advertiser_id = world.advertiser()
    return {"advertiser_id": advertiser_id, "campaign_id": world.campaign(advertiser_id=advertiser_id)}


@pytest.fixture
def nothing_written(world: World, owners: dict[str, str]) -> Iterator[None]:
    """Hold a test to leaving the log as it is."""
    assert owners
    after = 0
    while items := world.admin.get("/audit/v1/events", params={"after": after, "limit": 500}).json()["items"]:
        after = items[-1]["position"]
    yield
    assert world.admin.get("/audit/v1/events", params={"after": after}).json()["items"] == []


def check(answer: httpx.Response, status: int, code: str, pointer: str | None = None) -> None:
    """Check that an answer is a problem as RFC 9457 has it, and tells nothing about the inside of the service."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["X-Request-Id"]
    problem = answer.json()
    assert (problem["status"], problem["code"]) == (status, code), problem
    assert problem["type"] == f"urn:campaign-ledger:problem:{code}"
    assert problem["title"] == TITLES.get(status, problem["title"])
    assert 0 < len(problem["detail"]) <= 320
    assert not TELLTALE.search(answer.text), answer.text
    found = [error["pointer"] for error in problem.get("errors", [])]
    assert found == ([] if pointer is None else [pointer]), problem


@pytest.mark.usefixtures("nothing_written")
@pytest.mark.parametrize(("body", "status", "code", "pointer"), BODIES)
def test_bodies(world: World, body: bytes, status: int, code: str, pointer: str | None) -> None:
    """A body that is no JSON, or not of the shape of an advertiser, is refused."""
    answer = world.admin.post("/api/v1/advertisers", content=body, headers={"Content-Type": "application/json"})
    check(answer, status, code, pointer)


@pytest.mark.usefixtures("nothing_written")
@pytest.mark.parametrize(("fields", "status", "code", "pointer"), CAMPAIGNS)
def test_campaigns(
    world: World, owners: dict[str, str], fields: dict[str, Any], status: int, code: str, pointer: str
) -> None:
    """A campaign is refused, created or changed, when a field of it is not what the domain knows."""
    sound = {
        "advertiser_id": owners["advertiser_id"],
        "name": "Campaign",
        "start_date": "2026-03-01",
        "pricing": {"model": "cpm", "price_micros": 5_000_000},
        "currency": "EUR",
    }
    check(send(world, "POST", "campaigns", sound | fields), status, code, pointer)
    if "advertiser_id" not in fields:
        check(send(world, "PATCH", f"campaigns/{owners['campaign_id']}", fields), status, code, pointer)


@pytest.mark.usefixtures("nothing_written")
@pytest.mark.parametrize(("fields", "status", "code", "pointer"), CREATIVES)
def test_creatives(
    world: World, owners: dict[str, str], fields: dict[str, Any], status: int, code: str, pointer: str
) -> None:
    """A creative is refused when it could not be shown, or leads to where nobody should be led."""
    sound = {
        "campaign_id": owners["campaign_id"],
        "name": "Creative",
        "ad_type": "top_bar_ad",
        "media_type": "image",
        "media_url": "https://cdn.example/banner.png",
        "width": 300,
        "height": 250,
        "click_url": "https://shop.example/",
    }
    check(send(world, "POST", "creatives", sound | fields), status, code, pointer)


@pytest.mark.usefixtures("nothing_written")
@pytest.mark.parametrize(("fields", "status", "code", "pointer"), SLOTS)
def test_slots(world: World, fields: dict[str, Any], status: int, code: str, pointer: str) -> None:
    """A slot is refused when a field of it is not what the domain knows."""
    check(send(world, "POST", "slots", {"name": "Slot", "ad_type": "top_bar_ad"} | fields), status, code, pointer)


@pytest.mark.usefixtures("nothing_written")
@pytest.mark.parametrize("media_type", MEDIA_TYPES)
def test_a_body_of_another_media_type(world: World, media_type: str) -> None:
    """A body that says to be something else than JSON is not read."""
    answer = world.admin.post("/api/v1/advertisers", content=b'{"name":"A"}', headers={"Content-Type": media_type})
    check(answer, 415, "unsupported_media_type")


@pytest.mark.usefixtures("nothing_written")
@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_large(service: Service, world: World, announced: bool) -> None:
    """A body of more than a megabyte is refused, announced or in chunks, and the next connection is served."""
    body = b'{"name":"' + b"A" * BODY_BYTES_MAX + b'"}'
    headers = {"Content-Type": "application/json", "Authorization": world.admin.headers["Authorization"]}
    content = body if announced else (body[start : start + 65_536] for start in range(0, len(body), 65_536))
    with service.client(headers=headers) as client:
        answer = client.post("/api/v1/advertisers", content=content)
        check(answer, 413, "body_too_large")
    assert httpx.get(f"{service.url}/health/live").status_code == 200


@pytest.mark.usefixtures("nothing_written")
def test_unknown_paths_and_methods(world: World) -> None:
    """There is nothing at other paths, and a path that does not take a method names those it takes."""
    for path in ("/", "/api/v1", "/api/v1/nothing", "/api/v1/campaigns/abc", "/api/v2/campaigns", "/ads/v1/i/", "/%00"):
        check(world.admin.get(path), 404, "not_found")
    for method, path, allowed in [
        ("PUT", "/api/v1/advertisers", {"GET", "POST"}),
        ("DELETE", f"/api/v1/campaigns/{uuid4()}", {"GET", "PATCH"}),
        ("POST", "/health/live", {"GET"}),
        ("BREW", "/api/v1/auth/login", {"POST"}),
    ]:
        answer = world.admin.request(method, path)
        check(answer, 405, "method_not_allowed")
        assert allowed <= {each.strip() for each in answer.headers["Allow"].split(",")}


def test_requests_have_an_id(service: Service) -> None:
    """A request is known by the id that the client gave it, if that is a plain name, and otherwise by a fresh one."""
    for given, kept in [
        ("abc-1.2_3", True),
        ("x" * 100, True),
        ("x" * 101, False),
        ("a b", False),
        ('"<script>', False),
    ]:
        for path in ("/health/live", "/api/v1/advertisers", "/nothing"):
            answer = httpx.get(f"{service.url}{path}", headers={"X-Request-Id": given})
            assert (answer.headers["X-Request-Id"] == given) == kept
    ids = {httpx.get(f"{service.url}/health/live").headers["X-Request-Id"] for _ in range(5)}
    assert len(ids) == 5


def send(world: World, method: str, path: str, body: dict[str, Any]) -> httpx.Response:
    """Send a body as the text that Python makes of it, whatever it holds."""
    headers = {"Content-Type": "application/json"}
    return world.admin.request(method, f"/api/v1/{path}", content=json.dumps(body), headers=headers)
