"""VAST documents: what a video or audio player is told to play and to report (IAB Tech Lab, VAST 4.2).

The schema wants its elements in this order; whatever it has a place for and this ledger does not know is left out.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final
from uuid import UUID
from xml.etree.ElementTree import Element, SubElement, tostring

from msgspec import Struct

from domain.budget import PlaybackKind
from domain.terms import CreativeTerms

NAMESPACE: Final = "http://www.iab.com/VAST"
VERSION: Final = "4.2"
ERROR_CODE_MACRO: Final = "[ERRORCODE]"
REGISTRY: Final = "campaign-ledger"
"""Who gives creatives the ids that they have here."""

EVENT_OF_PLAYBACK: Final[Mapping[PlaybackKind, str]] = {
    "start": "start",
    "first_quartile": "firstQuartile",
    "midpoint": "midpoint",
    "third_quartile": "thirdQuartile",
    "complete": "complete",
}

_NOT_IN_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 (section 2.2) has no way of writing."""


class Companion(Struct, frozen=True, kw_only=True):
    """What is shown beside an ad while it plays: markup, or an image of a type at a URL."""

    creative_id: UUID
    width: int
    height: int
    alt_text: str = ""
    markup: str | None = None
    image_url: str = ""
    image_type: str = ""


class Played(Struct, frozen=True, kw_only=True):
    """A creative to play, and the URLs that report what became of it."""

    decision_id: UUID
    creative_id: UUID
    creative: CreativeTerms
    impression_url: str
    view_url: str
    click_url: str
    click_tracking_url: str
    playback_urls: Mapping[PlaybackKind, str]
    valid_seconds: int
    companions: tuple[Companion, ...] = ()


def document(ads: Iterable[Played], *, error_url: str) -> bytes:
    """Return a document with these ads, a pod if there are several; with none, one that says where to report that."""
    root = Element("VAST", {"version": VERSION, "xmlns": NAMESPACE})
    several = list(ads)
    for number, ad in enumerate(several, start=1):
        _add_ad(root, ad, sequence=number if len(several) > 1 else None)
    if not several:
        _add(root, "Error", error_url)
    written: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return written


def _add_ad(root: Element, ad: Played, *, sequence: int | None) -> None:
    creative = ad.creative
    numbered = {} if sequence is None else {"sequence": str(sequence)}
    kind = {"adType": "audio" if creative.media_type == "audio" else "video"}
    inline = SubElement(SubElement(root, "Ad", {"id": str(ad.creative_id)} | numbered | kind), "InLine")
    _add(inline, "AdSystem", "Campaign ledger")
    _add(inline, "Error", ad.playback_urls["error"])
    _add(inline, "Impression", ad.impression_url)
    if creative.media_type == "video":
        _add(SubElement(inline, "ViewableImpression"), "Viewable", ad.view_url)
    _add(inline, "AdServingId", str(ad.decision_id))
    _add(inline, "AdTitle", creative.name)
    creatives = SubElement(inline, "Creatives")
    _add_linear(SubElement(creatives, "Creative", {"id": str(ad.creative_id), "sequence": "1"}), ad)
    _add_companions(creatives, ad)
    _add(inline, "Expires", str(ad.valid_seconds))


def _add_linear(parent: Element, ad: Played) -> None:
    creative = ad.creative
    linear = SubElement(parent, "Linear")
    tracking = SubElement(linear, "TrackingEvents")
    for kind, event in EVENT_OF_PLAYBACK.items():
        _add(tracking, "Tracking", ad.playback_urls[kind], event=event)
    _add(linear, "Duration", _clock(creative.duration_seconds or 0))
    mime_type = creative.mime_type or ""
    media = {
        # What is an application is a playlist.
        "delivery": "streaming" if mime_type.startswith("application/") else "progressive",
        "type": mime_type,
        "bitrate": str(creative.bit_rate_kbps or 0),
        "width": str(creative.width or 0),
        "height": str(creative.height or 0),
    }
    _add(SubElement(linear, "MediaFiles"), "MediaFile", creative.media_url or "", **media)
    clicks = SubElement(linear, "VideoClicks")
    _add(clicks, "ClickTracking", ad.click_tracking_url)
    _add(clicks, "ClickThrough", ad.click_url)
    _add(parent, "UniversalAdId", str(ad.creative_id), idRegistry=REGISTRY)


def _add_companions(creatives: Element, ad: Played) -> None:
    """Add the pictures that go with what is played; a click on one is a click on the ad."""
    if not ad.companions:
        return
    parent = SubElement(creatives, "Creative", {"sequence": "1"})
    companions = SubElement(parent, "CompanionAds", {"required": "none"})
    for each in ad.companions:
        size = {"width": str(each.width), "height": str(each.height)}
        companion = SubElement(companions, "Companion", {"id": str(each.creative_id)} | size)
        if each.markup is None:
            _add(companion, "StaticResource", each.image_url, creativeType=each.image_type)
        else:
            _add(companion, "HTMLResource", each.markup)
        if each.alt_text:
            _add(companion, "AltText", each.alt_text)
        _add(companion, "CompanionClickThrough", ad.click_url)
    _add(parent, "UniversalAdId", str(ad.creative_id), idRegistry=REGISTRY)


def _add(parent: Element, name: str, text: str, **attributes: str) -> None:
    SubElement(parent, name, attributes).text = _NOT_IN_XML.sub("", text)


def _clock(seconds: int) -> str:
    return f"{seconds // 3_600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
