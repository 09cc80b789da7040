"""A radio player, as the demo has one: it asks for a break, plays what it is told to, and reports how far it came."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final
from xml.etree import ElementTree as ET

import httpx

from api.ad_slot import ask, token_of
from api.vast import VAST_PATH
from api.vast_xml import NAMESPACE

BREAK_SECONDS: Final = 60
SPOT_SECONDS: Final = (10, 20, 30)

_NS: Final = {"v": NAMESPACE}
_REPORTED: Final = (
    (0.0, ".//v:Impression"),
    (0.0, ".//v:Tracking[@event='start']"),
    (0.25, ".//v:Tracking[@event='firstQuartile']"),
    (0.5, ".//v:Tracking[@event='midpoint']"),
    (0.75, ".//v:Tracking[@event='thirdQuartile']"),
    (1.0, ".//v:Tracking[@event='complete']"),
)
"""At which part of a spot which URL is requested."""


async def listen(
    client: httpx.AsyncClient, slot_id: str, at: datetime, *, patience: float
) -> list[tuple[str, datetime]]:
    """Play a break, of which so great a part is heard; return the tokens and times of what becomes of its spots."""
    wanted = f"poddur={BREAK_SECONDS}&rqddurs={','.join(map(str, SPOT_SECONDS))}"
    answer = (await ask(client, "GET", f"{VAST_PATH}?slot={slot_id}&{wanted}")).raise_for_status()
    until = at + timedelta(seconds=patience * BREAK_SECONDS)
    return [(token, moment) for token, moment in _beacons_of(answer.content, at) if moment <= until]


def _beacons_of(document: bytes, at: datetime) -> Iterator[tuple[str, datetime]]:
    root = ET.fromstring(document)  # noqa: S314  of the demo's own service
    for ad in root.findall("v:Ad", _NS):
        hours, minutes, seconds = map(int, ad.findtext(".//v:Duration", "", _NS).split(":"))
        duration = timedelta(hours=hours, minutes=minutes, seconds=seconds)
        for part, path in _REPORTED:
            yield token_of(ad.findtext(path, "", _NS)), at + part * duration
        at += duration
