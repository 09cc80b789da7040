"""The door of exchanges: bids in the words of OpenRTB 2.6, and reasons where there are none."""

import html
import re
from typing import Any, Final

import httpx
import pytest

from tests.api.pages import Page, eventually, fresh, new_page, recorded, spent
from tests.api.test_vast import campaign_with, radio
from tests.api.vast_shape import NS, text, valid
from tests.running import Service
from tests.world import World

CPM: Final = {"model": "cpm", "price_micros": 2_500_000}


@pytest.fixture(scope="module")
def web(service: Service) -> Any:
    """An exchange's server when it reports, or a browser: neither has a key."""
    with service.client(headers={"User-Agent": "Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0 Safari/537.36"}) as client:
        yield client


@pytest.fixture
def page(world: World) -> Page:
    """A slot with a banner to bid, at 2.50 EUR."""
    made = new_page(world)
    made.campaign(pricing=CPM, categories=["IAB18-2", "shoes"])
    made.known()
    return made


def showing(world: World, **fields: Any) -> Page:
    """Set up a slot with one creative to bid, of its own kind."""
    made = new_page(world)
    campaign_id = world.campaign(pricing=CPM)
    made.creative(campaign_id, **fields)
    world.post(f"campaigns/{campaign_id}/activate", expect=200)
    made.known()
    return made


def banner(page: Page, **fields: Any) -> dict[str, Any]:
    """Return an impression of a slot that takes banners."""
    sizes = [{"w": 1, "h": 1}, {"w": page.size["width"], "h": page.size["height"]}]
    return {"id": "1", "tagid": page.slot_id, "banner": {"format": sizes}, **fields}


def offered(page: Page, *imps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Send a bid request, and return what is answered."""
    body = {"id": "auction-1", "imp": imps, "cur": ["EUR"], **fields}
    answer = page.ads.post("/ads/v1/openrtb", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-openrtb-version"] == "2.6"
    found: dict[str, Any] = answer.json()
    assert found["id"] == "auction-1"
    assert ("nbr" in found) is ("seatbid" not in found)
    return found


def bids(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all bids of an answer."""
    return [bid for seat in answer.get("seatbid", []) for bid in seat["bid"]]


def test_a_banner_is_bid(page: Page, web: httpx.Client) -> None:
    """A bid says who bids how much for what; the notice and the banner's own tracker together count once."""
    answer = offered(
        page,
        banner(page, bidfloor=2.5, bidfloorcur="EUR", secure=1, pmp={"private_auction": 0}, ext={"gpid": "/a"}),
        at=1,
        tmax=120,
        site={"domain": "news.example", "page": "https://news.example/", "cat": ["IAB12"], "publisher": {"id": "7"}},
        device={"ua": "Mozilla/5.0", "ip": "192.0.2.1", "devicetype": 2, "geo": {"country": "DEU", "type": 2}},
        user={"id": fresh(), "data": []},
        regs={"coppa": 0, "gpp": "DBAA"},
        source={"tid": "x", "schain": {"ver": "1.0"}},
    )
    (bid,) = bids(answer)
    assert answer["cur"] == "EUR"
    assert answer["seatbid"][0]["seat"]
    assert (bid["impid"], bid["price"], bid["mtype"]) == ("1", 2.5, 1)
    assert (bid["w"], bid["h"]) == (page.size["width"], page.size["height"])
    assert (bid["adomain"], bid["cat"]) == (["shop.example"], ["IAB18-2"])
    assert bid["burl"] not in bid["adm"]
    assert "/ads/v1/c/" in bid["adm"]
    assert "nurl" not in bid
    (shown,) = re.findall(r'<img src="([^"]+/ads/v1/i/[^"]+)" width="1"', bid["adm"])
    for url in (bid["burl"], html.unescape(shown), bid["burl"]):
        assert web.get(url).status_code == 204
    (entry,) = recorded(page.world, bid["id"])
    assert entry["event"]["type"] == "impression_recorded"
    assert (entry["event"]["campaign_id"], entry["event"]["creative_id"]) == (bid["cid"], bid["crid"])
    assert (entry["event"]["country"], entry["event"]["price_micros"]) == ("DE", 2_500)
    assert spent(page.world, bid["cid"])["spent_micros"] == 2_500


def test_a_notice_comes_from_a_server(world: World, service: Service) -> None:
    """What an exchange bills is billed, though it is no browser; its token is good at no other door."""
    page = new_page(world, traffic="browser")
    page.campaign(pricing=CPM)
    page.known()
    (bid,) = bids(offered(page, banner(page)))
    with service.client(headers={"User-Agent": "Go-http-client/1.1"}) as exchange:
        assert exchange.get(bid["burl"].replace("/b/", "/i/")).status_code == 403
        assert exchange.head(bid["burl"]).status_code == 204
        assert recorded(world, bid["id"]) == []
        assert exchange.get(bid["burl"]).status_code == 204
    (entry,) = recorded(world, bid["id"])
    assert (entry["event"]["billed"], entry["event"]["reason"]) == (True, None)
    assert entry["event"]["basis"]


def test_a_pod_of_audio_is_bid(world: World, web: httpx.Client) -> None:
    """Each ad of a dynamic pod is a bid for the same impression, with VAST; together they are as long as was asked."""
    page = radio(world)
    campaign_with(page, 30, 20, 15, 10, pricing=CPM)
    page.known()
    sound = {"mimes": ["audio/mpeg"], "poddur": 60, "maxseq": 4, "podid": "break-1", "rqddurs": [10, 20, 30]}
    imp = {"id": "7", "audio": sound, "ext": {"ledger": {"slot_id": page.slot_id}}}
    found = bids(offered(page, imp, app={"bundle": "radio.example"}))
    assert sum(bid["dur"] for bid in found) == 60
    assert {(bid["impid"], bid["mtype"], bid["price"]) for bid in found} == {("7", 3, 2.5)}
    for bid in found:
        ad = valid(bid["adm"]).find("v:Ad", NS)
        assert ad is not None
        assert (ad.get("adType"), text(ad, ".//v:AdServingId")) == ("audio", bid["id"])
        assert web.get(bid["burl"]).status_code == 204
        assert web.get(text(ad, ".//v:Impression")).status_code == 204
        assert web.get(text(ad, ".//v:Tracking[@event='complete']")).status_code == 204
        kinds = [entry["event"]["type"] for entry in recorded(world, bid["id"])]
        assert kinds == ["impression_recorded", "complete_recorded"]
    for fields in ({"mimes": ["audio/ogg"]}, {"mincpmpersec": 0.3}):
        assert offered(page, imp | {"audio": sound | fields, "bidfloorcur": "EUR"})["nbr"] == 500


def test_a_video_is_bid(world: World) -> None:
    """One video that the player can play, as long as was asked, in VAST."""
    page = new_page(world, media_types=["video"])
    campaign_id = world.campaign(pricing=CPM)
    for seconds in (6, 15, 30):
        page.creative(
            campaign_id, media_type="video", mime_type="video/mp4", bit_rate_kbps=800, duration_seconds=seconds
        )
    world.post(f"campaigns/{campaign_id}/activate", expect=200)
    page.known()
    clip = {"mimes": ["video/webm", "video/mp4"], "minduration": 10, "maxduration": 20, "w": 640, "h": 360, "plcmt": 1}
    imp = {"id": "1", "tagid": page.slot_id, "video": clip}
    (bid,) = bids(offered(page, imp, dooh={"id": "x"}, test=1))
    assert (bid["dur"], bid["mtype"]) == (15, 2)
    (media,) = valid(bid["adm"]).findall(".//v:MediaFile", NS)
    assert (media.get("type"), media.get("width")) == ("video/mp4", str(page.size["width"]))


def test_a_document_is_bid_in_its_frame(world: World, web: httpx.Client) -> None:
    """HTML creatives stay in a sandboxed frame, as on every page; a text links to its target."""
    page = showing(world, media_type="html", media_url=None, media_content="<a href='${CLICK_URL}'>Boots</a>")
    (bid,) = bids(offered(page, banner(page)))
    frame = re.findall(r'<iframe src="([^"]+)".* sandbox="([^"]+)"', bid["adm"])
    assert [sandbox for _, sandbox in frame] == ["allow-scripts allow-popups allow-popups-to-escape-sandbox"]
    document = web.get(html.unescape(frame[0][0]))
    assert document.status_code == 200
    assert "Boots" in document.text
    assert "Boots" not in bid["adm"]
    other = showing(world, media_type="text", media_url=None, media_content="Boots & <b>more</b>")
    (bid,) = bids(offered(other, banner(other)))
    assert re.search(r'<a href="[^"]+/ads/v1/c/[^"]+"[^>]*>Boots &amp; &lt;b&gt;more&lt;/b&gt;</a>', bid["adm"])


def test_what_a_request_says_of_people_is_kept_to(world: World) -> None:
    """Nobody is known who opted out, or where a consent is wanted and missing; children get what is for everybody."""
    page = new_page(world)
    page.campaign(pricing=CPM, max_view_count=1, max_view_duration={"value": 1, "unit": "day"})
    page.known()
    imp, known = banner(page), {"ifa": fresh()}
    assert bids(offered(page, imp, device=known))
    assert offered(page, imp, device=known)["nbr"] == 9
    for fields in (
        {"device": known | {"dnt": 1}},
        {"device": known, "regs": {"us_privacy": "1YYN"}},
        {"device": known, "regs": {"ext": {"gpc": "1"}}},
        {"device": known, "regs": {"gdpr": 1}},
    ):
        assert bids(offered(page, imp, **fields)), fields
    for fields in (
        {"device": known, "regs": {"us_privacy": "1YNN"}},
        {"device": known, "regs": {"gdpr": 1}, "user": {"consent": "CPXxRfAPXxRfAAfKABENB"}},
    ):
        assert offered(page, imp, **fields)["nbr"] == 9, fields
    adult = showing(world, content_rating={"rating_system": "MPAA", "rating_label": "R"})
    assert bids(offered(adult, banner(adult)))
    assert offered(adult, banner(adult), regs={"coppa": 1})["nbr"] == 500
    assert offered(adult, banner(adult), site={"content": {"qagmediarating": 1}})["nbr"] == 500
    assert bids(offered(adult, banner(adult), site={"content": {"qagmediarating": 3}}))


def test_why_there_is_no_bid(page: Page) -> None:
    """No bid is an answer with the standard's reason: what cannot be, what is blocked, and what is not paid enough."""
    imp = banner(page)
    for nbr, imps, fields in (
        (2, [banner(page, tagid="somewhere")], {}),
        (2, [imp, imp], {}),
        (2, [{"id": "1", "tagid": page.slot_id}], {}),
        (2, [imp], {"site": {}, "app": {}}),
        (2, [imp | {"video": {"mimes": [], "rqddurs": [15], "maxduration": 20}}], {}),
        (15, [imp], {"tmax": 1}),
        (500, [imp | {"banner": {"w": 1, "h": 1}}], {}),
        (500, [imp | {"bidfloor": 2.51, "bidfloorcur": "EUR"}], {}),
        (500, [imp | {"bidfloor": 0.01}], {}),
        (500, [imp], {"cur": ["USD", "EUR"]}),
        (500, [imp], {"badv": ["example", "SHOP.example"]}),
        (500, [imp], {"bcat": ["IAB18-2"]}),
        (500, [imp], {"wseat": ["somebody"]}),
        (500, [imp | {"pmp": {"private_auction": 1, "deals": [{"id": "d"}]}}], {}),
        (500, [{"id": "1", "tagid": page.slot_id, "native": {"request": "{}", "ver": "1.2"}}], {}),
    ):
        assert offered(page, *imps, **fields) == {"id": "auction-1", "nbr": nbr}, (imps, fields)
    (bid,) = bids(offered(page, banner(page, tagid="somewhere", id="0"), imp))
    assert bid["impid"] == "1"
    seat = offered(page, imp)["seatbid"][0]["seat"]
    assert offered(page, imp, bseat=[seat])["nbr"] == 500


def test_who_has_seen_enough_is_not_bid_for(world: World, web: httpx.Client) -> None:
    """A viewer's cap is a reason of its own; whoever does not want to be known has none."""
    page = new_page(world)
    page.campaign(pricing=CPM, max_view_count=1, max_view_duration={"value": 1, "unit": "day"})
    page.known()
    user = {"id": fresh()}
    (bid,) = bids(offered(page, banner(page), user=user))
    web.get(bid["burl"])
    eventually(lambda: offered(page, banner(page), user=user).get("nbr") == 9)
    assert bids(offered(page, banner(page), user=user, device={"lmt": 1}))


def test_what_is_no_bid_request_is_refused(page: Page) -> None:
    """Malformed bodies and fields of another type are problems, as at every door; so is a stranger."""
    imp = banner(page)
    malformed: list[Any] = [
        {},
        {"id": "1", "imp": []},
        {"id": 1, "imp": [imp]},
        {"id": "1", "imp": [imp], "test": True},
        {"id": "1", "imp": [imp | {"bidfloor": "1"}]},
        {"id": "1", "imp": [imp | {"video": {}}]},
        [],
    ]
    for body in malformed:
        answer = page.ads.post("/ads/v1/openrtb", json=body)
        assert answer.status_code == 400, body
        assert answer.headers["Content-Type"].startswith("application/problem+json")
    request = {"id": "1", "imp": [imp]}
    assert page.ads.post("/ads/v1/openrtb", json=request, headers={"Authorization": "Bearer no"}).status_code == 401
