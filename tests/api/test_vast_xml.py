"""VAST documents by themselves: shaped as the specification wants them, whatever is in the creatives."""

from typing import Final
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from api.vast_xml import EVENT_OF_PLAYBACK, Companion, Played, document
from domain.delivery import PLAYBACK
from domain.pods import POD_SECONDS_MAX
from domain.terms import CreativeTerms
from tests.api.vast_shape import NS, misshapen, parsed, seconds_of, text, valid
from tests.domain.strategies import law

# What may stand in a name, a URL or markup is more than XML can write.
names: Final = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30)
urls: Final = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), max_size=30).map(
    "https://a.example/{}".format
)
types: Final = st.sampled_from(["video/mp4", "audio/mpeg", "application/x-mpegURL"])
companions: Final = st.builds(
    Companion,
    creative_id=st.uuids(),
    width=st.integers(1, 10_000),
    height=st.integers(1, 10_000),
    alt_text=st.just("") | names,
    markup=st.none() | names,
    image_url=urls,
    image_type=st.sampled_from(["image/png", "image/svg+xml"]),
)
ads: Final = st.builds(
    Played,
    decision_id=st.uuids(),
    creative_id=st.uuids(),
    creative=st.builds(
        CreativeTerms,
        campaign_id=st.uuids(),
        name=names,
        ad_type=st.just("top_bar_ad"),
        media_type=st.sampled_from(["video", "audio"]),
        media_url=urls,
        mime_type=types,
        bit_rate_kbps=st.integers(1, 1_000_000),
        duration_seconds=st.integers(1, POD_SECONDS_MAX),
        width=st.none() | st.integers(1, 10_000),
        height=st.none() | st.integers(1, 10_000),
        click_url=urls,
    ),
    impression_url=urls,
    view_url=urls,
    click_url=urls,
    click_tracking_url=urls,
    playback_urls=st.fixed_dictionaries(dict.fromkeys(PLAYBACK, urls)),
    valid_seconds=st.integers(0, 604_800),
    companions=st.lists(companions, max_size=3).map(tuple),
)

SPOT: Final = CreativeTerms(
    campaign_id=UUID(int=3),
    name="Spot",
    ad_type="top_bar_ad",
    media_type="audio",
    media_url="https://a.example/spot",
    mime_type="audio/mpeg",
    duration_seconds=15,
    click_url="https://a.example/",
)
PLAYED: Final = Played(
    decision_id=UUID(int=1),
    creative_id=UUID(int=2),
    creative=SPOT,
    impression_url="https://a.example/i",
    view_url="https://a.example/v",
    click_url="https://a.example/c",
    click_tracking_url="https://a.example/t",
    playback_urls=dict.fromkeys(PLAYBACK, "https://a.example/p"),
    valid_seconds=60,
)


@law
@given(st.lists(ads, max_size=4))
def test_every_document_is_as_the_specification_wants_it(several: list[Played]) -> None:
    """Elements stand in their order with what they must have; a pod is numbered; durations are exact."""
    root = valid(document(several, error_url="https://a.example/nothing"))
    assert [ad.get("sequence") for ad in root.findall("v:Ad", NS)] == (
        [None] if len(several) == 1 else [str(number) for number in range(1, len(several) + 1)]
    )
    assert seconds_of(root) == [ad.creative.duration_seconds for ad in several]


@law
@given(ads)
def test_what_is_written_can_be_read_again(ad: Played) -> None:
    """Every URL and text comes out of the document as it went in, but for what XML has no way of writing."""
    (found,) = parsed(document([ad], error_url="")).findall("v:Ad", NS)
    assert found.get("adType") == ad.creative.media_type
    assert text(found, ".//v:AdServingId") == str(ad.decision_id)
    assert text(found, ".//v:AdTitle") == writable(ad.creative.name)
    assert text(found, ".//v:Impression") == writable(ad.impression_url)
    assert text(found, ".//v:InLine/v:Error") == writable(ad.playback_urls["error"])
    for kind, event in EVENT_OF_PLAYBACK.items():
        assert text(found, f".//v:Tracking[@event='{event}']") == writable(ad.playback_urls[kind])
    assert text(found, ".//v:MediaFile") == writable(ad.creative.media_url or "")
    assert text(found, ".//v:ClickThrough") == writable(ad.click_url)
    assert text(found, ".//v:ClickTracking") == writable(ad.click_tracking_url)
    shown = found.findall(".//v:Companion", NS)
    assert [each.get("id") for each in shown] == [str(each.creative_id) for each in ad.companions]
    for each, companion in zip(shown, ad.companions, strict=True):
        resource = "v:StaticResource" if companion.markup is None else "v:HTMLResource"
        written = companion.image_url if companion.markup is None else companion.markup
        assert text(each, resource) == writable(written)
        assert text(each, "v:CompanionClickThrough") == writable(ad.click_url)


def writable(said: str) -> str:
    """Return a text without the code points that no XML 1.0 document can have in it."""
    return "".join(each for each in said if each not in "\ufffe\uffff")


@pytest.mark.parametrize(
    ("mime_type", "delivery"), [("audio/mpeg", "progressive"), ("application/vnd.apple.mpegurl", "streaming")]
)
def test_a_playlist_is_streamed(mime_type: str, delivery: str) -> None:
    """A file is downloaded as it plays; a playlist, which is an application, is streamed."""
    creative = structs.replace(SPOT, mime_type=mime_type, duration_seconds=3_600)
    root = parsed(document([structs.replace(PLAYED, creative=creative)], error_url=""))
    (media,) = root.findall(".//v:MediaFile", NS)
    assert (media.get("delivery"), media.get("width"), media.get("height")) == (delivery, "0", "0")
    assert text(root, ".//v:Duration") == "01:00:00"


@pytest.mark.parametrize(
    ("before", "after", "finding"),
    [
        ("<AdServingId>", "<AdTitle>twice</AdTitle><AdServingId>", "/VAST/Ad/InLine: has AdSystem"),
        ("<Duration>00:00:15", "<Duration>15", "/Duration: says '15'"),
        (' idRegistry="campaign-ledger"', "", "/UniversalAdId: has no idRegistry"),
        ('delivery="progressive"', 'delivery="any"', "/MediaFile: has delivery='any'"),
        ("<Expires>60</Expires>", "<Surprise/>", "/Surprise: unknown"),
        (' version="4.2"', ' version="3.0"', "/VAST: has version='3.0'"),
    ],
)
def test_what_is_misshapen_is_found(before: str, after: str, finding: str) -> None:
    """What the documents are held against finds what is out of order, missing, unknown, or has another value."""
    written = document([PLAYED], error_url="").decode()
    assert list(misshapen(parsed(written))) == []
    assert before in written
    assert any(finding in found for found in misshapen(parsed(written.replace(before, after))))
