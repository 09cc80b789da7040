"""Conversions: what clicks led to, as the pages say that they lead to.

Whoever has the URL of an advertiser reports one, for the decision that was clicked. It is recorded once: under the name
that the advertiser gives it, such as an order's, whichever clicks it is reported for; without a name, once for the
click. What comes too late after its click, or follows from one that does not count, is recorded with the reason, and
attributed to nothing.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlencode, urlsplit, urlunsplit
from uuid import UUID, uuid5

from msgspec import Struct

from domain.events import ClickRecorded, ConversionRecorded, Entry
from domain.frequency import window_seconds
from domain.validity import RULES, Invalid, is_invalid
from domain.values import CapWindow

THING: Final = "conversion"
"""Streams of conversions are named after it; the index of the catalogue leaves them out."""

_LEADING_NOWHERE: Final = "test"
"""The reason of a click that is valid, and has no viewer behind it."""


class Reported(Struct, frozen=True, kw_only=True):
    """What is reported: of which decision, under which name, what it is worth, and why it is invalid, if it is."""

    advertiser_id: UUID
    decision_id: UUID
    name: str | None = None
    value_micros: int = 0
    invalid: Invalid | None = None


class Click(Struct, frozen=True, kw_only=True):
    """A click, and when it was recorded."""

    event: ClickRecorded
    recorded_at: datetime


def subject_of(reported: Reported) -> UUID:
    """Return under which id something is a conversion at most once: a name-based UUID (RFC 9562, 5.5)."""
    if reported.name:
        return uuid5(reported.advertiser_id, reported.name)
    return uuid5(reported.decision_id, "")


def click_of(entries: Iterable[Entry], advertiser_id: UUID) -> Click | None:
    """Return the click on something of an advertiser's among the entries of a decision, rather one that counts."""
    clicks = [
        Click(event=entry.event, recorded_at=entry.recorded_at)
        for entry in entries
        if isinstance(entry.event, ClickRecorded) and entry.event.advertiser_id == advertiser_id
    ]
    return min(clicks, key=lambda click: is_invalid(click.event.reason), default=None)


def convert(
    reported: Reported, click: Click, known: Iterable[ConversionRecorded], *, window: CapWindow, now: datetime
) -> ConversionRecorded | None:
    """Return what the log gains by a report, None for a repeated one; `known` are those of the same subject.

    As with other deliveries, an invalid one takes nothing from a valid one after it.
    """
    seen = {is_invalid(event.reason) for event in known}
    reason = reported.invalid or _why_not(click, window, now)
    if False in seen or (is_invalid(reason) and True in seen):
        return None
    clicked = click.event
    return ConversionRecorded(
        campaign_id=clicked.campaign_id,
        creative_id=clicked.creative_id,
        advertiser_id=clicked.advertiser_id,
        slot_id=clicked.slot_id,
        country=clicked.country,
        region=clicked.region,
        city=clicked.city,
        currency=clicked.currency,
        price_micros=0,
        billed=reason is None,
        reason=reason,
        rules=RULES,
        decision_id=reported.decision_id,
        value_micros=reported.value_micros,
    )


def _why_not(click: Click, window: CapWindow, now: datetime) -> str | None:
    if is_invalid(click.event.reason) or click.event.reason == _LEADING_NOWHERE:
        return click.event.reason
    return "late" if now > click.recorded_at + timedelta(seconds=window_seconds(window)) else None


def landing(url: str, parameter: str | None, decision_id: UUID) -> str:
    """Return where a click leads, with the decision under the name that the advertiser wants to be told it by."""
    if parameter is None:
        return url
    parts = urlsplit(url)
    said = urlencode({parameter: str(decision_id)})
    return urlunsplit(parts._replace(query=f"{parts.query}&{said}" if parts.query else said))
