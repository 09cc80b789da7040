"""What a VAST 4.2 document has to look like, as the specification says it: elements, order, attributes and values.

An element that this ledger never writes has no entry here, and is a finding as well. Who has fetched the published
schema, `vast_4.2.xsd` of the IAB Tech Lab's repository `vast`, and names the file in `LEDGER_TEST_VAST_SCHEMA`, has
every document held against it, too.
"""

import os
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple
from xml.etree import ElementTree as ET

import xmlschema

SCHEMA_FILE: Final = os.environ.get("LEDGER_TEST_VAST_SCHEMA")
SCHEMA: Final = xmlschema.XMLSchema(SCHEMA_FILE) if SCHEMA_FILE else None
NAMESPACE: Final = "http://www.iab.com/VAST"
NS: Final = {"v": NAMESPACE}

URL: Final = r"https?://\S+"
TEXT: Final = r"(?s).+"
NUMBER: Final = r"\d+"


class Shape(NamedTuple):
    """What an element has: its children as a pattern of their names, or its text; attributes it must or may have."""

    children: str = ""
    text: str = r"\s*"
    must: Mapping[str, str] = MappingProxyType({})
    may: Mapping[str, str] = MappingProxyType({})


SHAPES: Final = {
    "VAST": Shape("(Ad )+|(Error )+", must={"version": r"4\.2"}),
    "Ad": Shape("InLine ", may={"id": TEXT, "sequence": "[1-9][0-9]*", "adType": "video|audio|hybrid"}),
    "InLine": Shape(
        "AdSystem (Error )*(Impression )+(ViewableImpression )?AdServingId AdTitle "
        "(Advertiser )?(Category )*Creatives (Description )?(Expires )?"
    ),
    "AdSystem": Shape(text=TEXT, may={"version": TEXT}),
    "Error": Shape(text=URL),
    "Impression": Shape(text=URL, may={"id": TEXT}),
    "ViewableImpression": Shape("(Viewable )*", may={"id": TEXT}),
    "Viewable": Shape(text=URL),
    "AdServingId": Shape(text=TEXT),
    "AdTitle": Shape(text=TEXT),
    "Creatives": Shape("(Creative )+"),
    "Creative": Shape(
        "(CompanionAds )?(Linear )?(UniversalAdId )+", may={"id": TEXT, "sequence": NUMBER, "adId": TEXT}
    ),
    "UniversalAdId": Shape(text=TEXT, must={"idRegistry": TEXT}),
    "Linear": Shape("(TrackingEvents )?Duration MediaFiles (VideoClicks )?", may={"skipoffset": r"\d\d:\d\d:\d\d"}),
    "TrackingEvents": Shape("(Tracking )*"),
    "Tracking": Shape(text=URL, must={"event": "start|firstQuartile|midpoint|thirdQuartile|complete"}),
    "Duration": Shape(text=r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d"),
    "MediaFiles": Shape("(MediaFile )+"),
    "MediaFile": Shape(
        text=URL,
        must={"delivery": "progressive|streaming", "type": "[a-z]+/.+", "width": NUMBER, "height": NUMBER},
        may={"bitrate": NUMBER, "id": TEXT, "codec": TEXT},
    ),
    "VideoClicks": Shape("(ClickTracking )*(ClickThrough )?"),
    "ClickTracking": Shape(text=URL, may={"id": TEXT}),
    "ClickThrough": Shape(text=URL, may={"id": TEXT}),
    "CompanionAds": Shape("(Companion )*", may={"required": "all|any|none"}),
    "Companion": Shape(
        "(HTMLResource )*(IFrameResource )*(StaticResource )*(AltText )?(CompanionClickThrough )?",
        must={"width": NUMBER, "height": NUMBER},
        may={"id": TEXT},
    ),
    "HTMLResource": Shape(text=TEXT),
    "StaticResource": Shape(text=URL, must={"creativeType": "image/.+"}),
    "AltText": Shape(text=TEXT),
    "CompanionClickThrough": Shape(text=URL),
    "Expires": Shape(text=NUMBER),
}


def misshapen(element: ET.Element, path: str = "") -> Iterator[str]:
    """Yield what of an element, and of all below it, is not as the specification wants it."""
    name = element.tag.removeprefix(f"{{{NAMESPACE}}}")
    path = f"{path}/{name}"
    shape = SHAPES.get(name)
    if shape is None:
        yield f"{path}: unknown"
        return
    children = "".join(f"{child.tag.removeprefix(f'{{{NAMESPACE}}}')} " for child in element)
    if not re.fullmatch(shape.children, children):
        yield f"{path}: has {children or 'nothing'}in it"
    if not re.fullmatch(shape.text, element.text or ""):
        yield f"{path}: says {element.text!r}"
    for attribute in shape.must.keys() - element.attrib.keys():
        yield f"{path}: has no {attribute}"
    for attribute, value in element.attrib.items():
        if not re.fullmatch({**shape.must, **shape.may}.get(attribute, "(?!)"), value):
            yield f"{path}: has {attribute}={value!r}"
    for child in element:
        yield from misshapen(child, path)


def parsed(document: bytes | str) -> ET.Element:
    """Return a document as an XML library reads it."""
    return ET.fromstring(document)  # noqa: S314  of our own service


def valid(document: bytes | str) -> ET.Element:
    """Return a document as an XML library reads it, once nothing is found that is not as it should be."""
    root = parsed(document)
    assert list(misshapen(root)) == []
    if SCHEMA is not None:
        SCHEMA.validate(root)
    return root


def text(element: ET.Element, path: str) -> str:
    """Return the text of the one element at a path."""
    (found,) = element.findall(path, NS)
    return found.text or ""


def seconds_of(document: ET.Element) -> list[int]:
    """Return how long each ad plays, in the order in which they are numbered."""
    ads = sorted(document.findall("v:Ad", NS), key=lambda ad: int(ad.get("sequence", "1")))
    clocks = [text(ad, ".//v:Linear/v:Duration").split(":") for ad in ads]
    return [int(hours) * 3_600 + int(minutes) * 60 + int(seconds) for hours, minutes, seconds in clocks]
