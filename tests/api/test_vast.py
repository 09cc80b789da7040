"""What players get: VAST that they can read, pods that leave no dead air, and trackers that count."""

import json
import os
import subprocess
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

import httpx
import pytest

from tests.api.pages import Page, audited, eventually, fresh, recorded, spent
from tests.api.vast_shape import NAMESPACE, NS, seconds_of, text, valid
from tests.running import Service
from tests.world import World

QUARTILES: Final = ("start", "firstQuartile", "midpoint", "thirdQuartile", "complete")
CLICKS: Final = ("ClickTracking", "ClickThrough", "CompanionClickThrough")
KINDS: Final = ("start", "first_quartile", "midpoint", "third_quartile", "complete")

_heights: Final = count(3_000)


@pytest.fixture(scope="module")
def player(service: Service) -> Any:
    """A player, which sends nothing but addresses."""
    with service.client(headers={"User-Agent": "Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0 Safari/537.36"}) as client:
        yield client


def asked(player: httpx.Client, page: Page, expect: int = 200, **params: Any) -> ET.Element:
    """Ask for what a slot plays, and return the document."""
    key = page.ads.headers["Authorization"].removeprefix("Bearer ")
    answer = player.get("/ads/v1/vast", params={"slot": page.slot_id, "key": key, **params})
    assert answer.status_code == expect, answer.text
    assert answer.headers["Content-Type"].startswith("application/xml")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    return valid(answer.content)


def radio(world: World, **fields: Any) -> Page:
    """Set up an audio slot of its own format: the height tells it from those of other tests."""
    size = {"height": next(_heights)}
    slot_id, ads = world.slot(**{"width": None, "media_types": ["audio"], **size, **fields})
    return Page(world, slot_id, ads, {"width": None, **size})  # type: ignore[dict-item]  # sound has no width


def spot(page: Page, campaign_id: str, seconds: int, **fields: Any) -> str:
    """Add a spot of so many seconds to a campaign."""
    terms = {
        "media_type": "audio",
        "media_url": f"https://cdn.example/{fresh()}.mp3?a=1&b=2",
        "mime_type": "audio/mpeg",
        "bit_rate_kbps": 128,
        "duration_seconds": seconds,
        "click_url": "https://shop.example/spot",
        **fields,
    }
    return page.creative(campaign_id, **terms)


def campaign_with(page: Page, *seconds: int, **fields: Any) -> str:
    """Set up an active campaign with a spot of each of these lengths."""
    campaign_id = page.world.campaign(**fields)
    for each in seconds:
        spot(page, campaign_id, each)
    page.world.post(f"campaigns/{campaign_id}/activate", expect=200)
    return campaign_id


def test_a_radio_players_hour(world: World, player: httpx.Client) -> None:
    """Every break of an hour is filled to the second; all that is reported is counted, and once."""
    page = radio(world)
    campaign_id = campaign_with(
        page, 30, 30, 20, 20, 15, 15, 10, pricing={"model": "cpm", "price_micros": 4_000_000}, budget_micros=10_000_000
    )
    world.creative(campaign_id, width=300, height=253)
    page.known()
    eventually(lambda: seconds_of(asked(player, page, poddur=30, rqddurs="30")))
    played: Counter[str] = Counter()
    for number, seconds in enumerate((60, 90, 45, 60, 75, 30)):
        document = asked(player, page, poddur=seconds, rqddurs="10,15,20,30", viewer=f"radio-{fresh()}")
        durations = seconds_of(document)
        assert sum(durations) == seconds
        assert set(durations) <= {10, 15, 20, 30}
        for ad in document.findall("v:Ad", NS):
            assert ad.get("adType") == "audio"
            follow(player, ad, up_to=len(QUARTILES) - number % 2, played=played)
    line = delivered(page, campaign_id)
    assert played.keys() == {"Impression", "Error", *QUARTILES, *CLICKS}
    assert line["impressions"] == line["billed_impressions"] == played["Impression"]
    assert {line["clicks"]} == {played[click] for click in CLICKS}
    assert line["progress"] == {kind: played[event] for kind, event in zip(KINDS, QUARTILES, strict=True)} | {
        "error": played["Error"]
    }
    assert line["completion_rate"] == pytest.approx(played["complete"] / played["start"])
    assert line["spent_micros"] == played["Impression"] * 4_000
    assert spent(world, campaign_id)["spent_micros"] == line["spent_micros"]
    audited(world)


def follow(player: httpx.Client, ad: ET.Element, *, up_to: int, played: Counter[str]) -> None:
    """Request every URL of ours in an ad that played so far, each twice, as players do that lose an answer."""
    stopped = up_to < len(QUARTILES)
    for element in ad.iter():
        event = element.get("event", element.tag.removeprefix(f"{{{NAMESPACE}}}"))
        url = (element.text or "").replace("[ERRORCODE]", "405")
        if "/ads/v1/" not in url or event in QUARTILES[up_to:] or (event == "Error" and not stopped):
            continue
        for _ in range(2):
            answer = player.get(url)
            leads_on = event.endswith("ClickThrough")
            assert answer.status_code == (302 if leads_on else 204), event
            assert answer.headers.get("Location") == ("https://shop.example/spot" if leads_on else None)
        played[event] += 1


def delivered(page: Page, campaign_id: str) -> dict[str, Any]:
    """Return a campaign's line of the delivery report, which is the same as of the end of the log."""
    page.world.caught_up()
    asked = {"group_by": "campaign", "campaign_id": campaign_id}
    report = page.world.get("reports/delivery", **asked)
    assert page.world.get("reports/delivery", **asked, as_of=report["position"])["items"] == report["items"]
    line: dict[str, Any] = report["items"][0]
    return line


def test_an_ad_says_all_that_a_player_needs(world: World, player: httpx.Client) -> None:
    """Media file, duration, trackers, companions of the same campaign; whatever a name has in it, it can be read."""
    size = {"width": next(_heights), "height": 720}
    slot_id, ads = world.slot(media_types=["video"], **size)
    page = Page(world, slot_id, ads, size)
    campaign_id = world.campaign()
    name = "Boots & <b>\"rain\"</b> ]]> 'ü' \ufffe!"
    creative_id = spot(
        page,
        campaign_id,
        75,
        name=name,
        media_type="video",
        mime_type="video/mp4",
        media_url="https://cdn.example/b.mp4?x=1&y=<",
    )
    picture_id = world.creative(campaign_id, width=300, height=251, alt_text="Boots")
    rich = "<a href='x'>&amp;]]></a>"
    html_id = world.creative(campaign_id, width=300, height=252, media_type="html", media_url=None, media_content=rich)
    world.post(f"campaigns/{campaign_id}/activate", expect=200)
    page.known()
    ad = asked(player, page, test="true").find("v:Ad", NS)
    assert ad is not None
    assert (ad.get("id"), ad.get("adType"), ad.get("sequence")) == (creative_id, "video", None)
    assert text(ad, ".//v:AdTitle") == name.replace("\ufffe", "")
    assert text(ad, ".//v:Linear/v:Duration") == "00:01:15"
    (media,) = ad.findall(".//v:MediaFile", NS)
    assert media.text == "https://cdn.example/b.mp4?x=1&y=<"
    expected = {"delivery": "progressive", "type": "video/mp4", "bitrate": "128"}
    assert media.attrib == expected | {name: str(value) for name, value in size.items()}
    companions = {each.get("id"): each for each in ad.findall(".//v:Companion", NS)}
    assert companions.keys() == {picture_id, html_id}
    assert text(companions[picture_id], "v:StaticResource") == "https://cdn.example/banner.png"
    assert text(companions[html_id], "v:HTMLResource") == rich
    error = text(ad, ".//v:InLine/v:Error")
    assert player.get(error).status_code == 204  # with the macro as it stands
    (entry,) = recorded(world, text(ad, ".//v:AdServingId"))
    assert (entry["event"]["type"], entry["event"]["code"], entry["event"]["reason"]) == (
        "error_recorded",
        None,
        "test",
    )


def test_what_does_not_fit_exactly_is_filled_as_far_as_it_can_be(world: World, player: httpx.Client) -> None:
    """Durations are exact, the longest fill is taken, and what a pod does not use is given back at once."""
    page = radio(world)
    campaign_with(page, 20, 20, 15, impression_budget=3)
    page.known()
    eventually(lambda: seconds_of(asked(player, page, poddur=35)))
    assert sorted(seconds_of(asked(player, page, poddur=50, test="true"))) == [20, 20]
    assert sorted(seconds_of(asked(player, page, poddur=50, rqddurs="20", test="true"))) == [20, 20]
    assert seconds_of(asked(player, page, poddur=50, maxseq=1, test="true")) == [20]
    assert seconds_of(asked(player, page, poddur=50, minduration=16, maxduration=30, test="true")) == [20, 20]
    assert seconds_of(asked(player, page, rqddurs="15", test="true")) == [15]
    assert seconds_of(asked(player, page, rqddurs="30", test="true")) == []
    # Of three impressions two are held; looking for a pod of 15 s holds the third, and gives all else back.
    assert seconds_of(asked(player, page, poddur=15)) == [15]


def test_competitors_are_in_no_pod_together(world: World, player: httpx.Client) -> None:
    """A pod has one of two competitors, and no spot twice; what it cannot fill so stays empty."""
    page = radio(world)
    for _ in range(2):
        campaign_with(page, 20, competitive_exclusion=["cars"])
    campaign_with(page, 15)
    page.known()
    for _ in range(3):
        assert sorted(seconds_of(asked(player, page, poddur=60, test="true"))) == [15, 20]


def test_nothing_to_play_is_said_so(world: World, player: httpx.Client) -> None:
    """With nothing that fits, the document has no ad but says where to report that, which is taken note of."""
    page = radio(world)
    page.known()
    document = asked(player, page)
    assert [each.tag for each in document] == [f"{{{NAMESPACE}}}Error"]
    where = document[0].text or ""
    assert player.get(where.replace("[ERRORCODE]", "303")).status_code == 204


def test_refusals_are_problems(world: World, player: httpx.Client) -> None:
    """Without a key, of a slot that is unknown, or of two minds about durations, there is no document but a problem."""
    page = radio(world)
    page.known()
    key = page.ads.headers["Authorization"].removeprefix("Bearer ")
    here: dict[str, str | int] = {"slot": page.slot_id, "key": key}
    for status, params in (
        (401, {"slot": page.slot_id, "country": "DE"}),
        (401, here | {"key": "lsk_forged"}),
        (404, here | {"slot": "01990000-0000-7000-8000-000000000001"}),
        (400, here | {"slot": "top"}),
        (400, here | {"rqddurs": "15", "maxduration": 20}),
        (400, here | {"rqddurs": "a"}),
        (400, here | {"poddur": 0}),
        (400, here | {"country": "Germany"}),
    ):
        answer = player.get("/ads/v1/vast", params=params)
        assert answer.status_code == status, answer.text
        assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert page.ads.get("/ads/v1/vast", params={"slot": page.slot_id}).status_code == 200


def test_tokens_are_for_their_own_doors(world: World, player: httpx.Client) -> None:
    """A player's token records nothing at the door of impressions, nor an impression's at that of players."""
    page = radio(world)
    campaign_with(page, 20)
    page.known()
    ad = asked(player, page, test="true").find("v:Ad", NS)
    assert ad is not None
    start, impression = (urlsplit(text(ad, path)).path for path in (".//v:Tracking[@event='start']", ".//v:Impression"))
    for path in (start.replace("/t/", "/i/"), start.replace("/t/", "/c/"), impression.replace("/i/", "/t/")):
        assert player.get(path).status_code == 403
    assert player.head(start).status_code == 204
    assert recorded(world, text(ad, ".//v:AdServingId")) == []
    results = player.post("/ads/v1/events", json={"tokens": [start.rpartition("/")[2]] * 2}).json()["results"]
    assert [each["result"] for each in results] == ["recorded", "repeated"]


def test_what_the_readme_tells_players_and_exchanges_works(world: World) -> None:
    """Each command of the README, pasted into a shell, fills a minute of radio."""
    page = radio(world)
    campaign_with(page, 10, 20, 30, pricing={"model": "cpm", "price_micros": 4_000_000})
    page.known()
    blocks = (Path(__file__).parents[2] / "README.md").read_text().split("```sh\n")
    (block,) = [each.partition("```")[0] for each in blocks if "/ads/v1/vast" in each]
    vast, bid = block.split("\ncurl")
    key = page.ads.headers["Authorization"].removeprefix("Bearer ")
    named = {"URL": world.service.url, "SLOT_ID": page.slot_id, "SLOT_KEY": key, "PATH": os.environ["PATH"]}

    def pasted(command: str) -> str:
        done = subprocess.run(["/bin/bash", "-ec", command], env=named, capture_output=True, text=True, check=True)
        return done.stdout

    assert sum(seconds_of(valid(pasted(vast)))) == 60
    (seat,) = json.loads(pasted(f"curl{bid}"))["seatbid"]
    assert sum(each["dur"] for each in seat["bid"]) == 60


def test_what_a_break_has_no_place_for_is_named(world: World, player: httpx.Client) -> None:
    """A spot that is too long for the break was kept out by its format, and the explanation says so."""
    page = radio(world)
    campaign_id = world.campaign()
    short, long = (spot(page, campaign_id, seconds) for seconds in (10, 30))
    world.post(f"campaigns/{campaign_id}/activate", expect=200)
    page.known()
    eventually(lambda: seconds_of(asked(player, page, poddur=10, rqddurs="10")))
    (ad,) = asked(player, page, poddur=10, rqddurs="10").findall("v:Ad", NS)
    world.caught_up()
    position = world.get("reports/delivery", campaign_id=campaign_id)["position"]
    player.get(text(ad, ".//v:Impression")).raise_for_status()
    events = world.admin.get("/audit/v1/events", params={"after": position, "type": "impression_recorded"}).json()
    (stream,) = [
        each["stream"] for each in (json.loads(item["entry"]) for item in events["items"]) if short in str(each)
    ]
    explained = world.get(f"decisions/{stream.removeprefix('decision-')}/explanation")
    assert explained["chosen"]["creative_id"] == short
    assert {each["creative_id"]: each["rule"] for each in explained["kept_out"]}[long] == "format"
