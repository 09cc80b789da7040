"""What a command has to be answered with, and what it has to append, given what the book says.

Written from the rules of the life cycles as they are documented, not from the code that carries them out.
"""

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from tests.soak.book import LIMITS, Book, Thing

CHANGEABLE: Final = ("draft", "active", "paused")
CAMPAIGN_STEPS: Final[Mapping[str, tuple[tuple[str, ...], str]]] = {
    "activate": (("draft", "paused"), "campaign_activated"),
    "pause": (("active",), "campaign_paused"),
    "complete": (("active", "paused"), "campaign_completed"),
    "archive": (("draft", "paused", "completed", "expired"), "campaign_archived"),
}
_LIVING: Final = ("draft", "active", "paused")
_REVIEWS: Final = ("unsubmitted", "pending", "approved", "denied")
CREATIVE_STEPS: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...], str]]] = {
    "submit": (_LIVING, ("unsubmitted", "denied"), "creative_submitted"),
    "approve": (_LIVING, ("pending", "denied"), "creative_approved"),
    "deny": (_LIVING, ("pending", "approved"), "creative_denied"),
    "activate": (("draft", "paused"), _REVIEWS, "creative_activated"),
    "pause": (("active",), _REVIEWS, "creative_paused"),
    "archive": (_LIVING, _REVIEWS, "creative_archived"),
}


class Verdict(NamedTuple):
    """An answer: its status, the code of a refusal, and the types of the events that it stands for."""

    status: int
    code: str | None
    types: tuple[str, ...]


def done(*types: str) -> Verdict:
    """Return the answer to a change."""
    return Verdict(200, None, types)


def made(kind: str) -> Verdict:
    """Return the answer to something new."""
    return Verdict(201, None, (f"{kind}_created",))


def refused(status: int, code: str) -> Verdict:
    """Return a refusal."""
    return Verdict(status, code, ())


STALE: Final = refused(412, "precondition_failed")
REUSED: Final = refused(422, "idempotency_key_reused")
BELOW_SPENT: Final = refused(422, "budget_below_spent")
_WRONG_STATE: Final = refused(409, "wrong_state")


def of_change(kind: str, thing: Thing, body: Mapping[str, Any]) -> tuple[Verdict, ...]:
    """Return what setting fields may be answered with that stand under no rule of their own."""
    return (done(f"{kind}_changed"),) if _differing(thing, body) else (done(),)


def of_new_campaign(advertiser: Thing, body: Mapping[str, Any]) -> tuple[Verdict, ...]:
    """Return what drafting a campaign may be answered with."""
    if advertiser.fields["status"] != "active":
        return (_WRONG_STATE,)
    return (_broken_rule(body) or made("campaign"),)


def of_campaign_change(book: Book, campaign_id: str, body: Mapping[str, Any], now: datetime) -> tuple[Verdict, ...]:
    """Return what changing a campaign may be answered with: how much is leased of a budget, nobody can say."""
    campaign = book.of("campaign", campaign_id)
    if campaign.status not in CHANGEABLE:
        return (_WRONG_STATE,)
    fields = _differing(campaign, body)
    if campaign.status != "draft" and {"pricing", "timezone", "currency"} & fields.keys():
        return (refused(409, "field_fixed"),)
    if not fields:
        return (done(),)
    broken = _broken_rule({**campaign.fields, **fields})
    if broken is not None:
        return (broken,)
    used = dict(book.sums[campaign_id].used())
    if book.day_of(campaign_id, now) > book.sums[campaign_id].day:
        used |= dict.fromkeys(("daily_budget_micros", "daily_impression_budget"), 0)
    lowered = {name: limit for name in LIMITS if (limit := fields.get(name)) is not None}
    if any(limit < used[name] for name, limit in lowered.items()):
        return (BELOW_SPENT,)
    may_be_leased = any(entry.type == "campaign_activated" for entry in campaign.entries)
    return (done("campaign_changed"), BELOW_SPENT) if lowered and may_be_leased else (done("campaign_changed"),)


def of_campaign_step(campaign: Thing, step: str, now: datetime) -> tuple[Verdict, ...]:
    """Return what a step in the life of a campaign may be answered with."""
    leaves, event = CAMPAIGN_STEPS[step]
    if campaign.status not in leaves:
        return (_WRONG_STATE,)
    if step == "activate" and is_over(campaign, now):
        return (refused(422, "dates_out_of_order"),)
    return (done(event),)


def of_new_creative(campaign: Thing) -> tuple[Verdict, ...]:
    """Return what drafting a creative may be answered with."""
    return (_WRONG_STATE,) if campaign.status in {"expired", "inactive"} else (made("creative"),)


def of_creative_change(creative: Thing, body: Mapping[str, Any]) -> tuple[Verdict, ...]:
    """Return what changing a creative may be answered with: what was reviewed asks for another review."""
    if creative.status == "inactive":
        return (_WRONG_STATE,)
    if not _differing(creative, body):
        return (done(),)
    reviewed = "alt_text" in _differing(creative, body) and creative.review in {"approved", "denied"}
    return (done("creative_changed", "creative_submitted") if reviewed else done("creative_changed"),)


def of_creative_step(creative: Thing, step: str) -> tuple[Verdict, ...]:
    """Return what a step in the life of a creative may be answered with."""
    statuses, reviews, event = CREATIVE_STEPS[step]
    if creative.status not in statuses or creative.review not in reviews:
        return (_WRONG_STATE,)
    if step == "activate" and creative.review != "approved":
        return (refused(409, "not_approved"),)
    return (done(event),)


def is_over(campaign: Thing, now: datetime) -> bool:
    """Tell whether a campaign's end or expiry date has passed."""
    return any(
        now >= _midnight_after(campaign, day)
        for name in ("end_date", "expiry_date")
        if (day := campaign.fields.get(name))
    )


def is_flying(campaign: Thing, now: datetime) -> bool:
    """Tell whether a moment is within a campaign's dates."""
    start = date.fromisoformat(campaign.fields["start_date"]) - timedelta(days=1)
    return now >= _midnight_after(campaign, start.isoformat()) and not is_over(campaign, now)


def _midnight_after(campaign: Thing, day: str) -> datetime:
    following = date.fromisoformat(day) + timedelta(days=1)
    return datetime.combine(following, time.min, tzinfo=ZoneInfo(campaign.fields["timezone"]))


def _differing(thing: Thing, body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if thing.fields.get(name) != value}


def _broken_rule(terms: Mapping[str, Any]) -> Verdict | None:
    start, end = terms["start_date"], terms.get("end_date")
    if end is not None and end < start:
        return refused(422, "dates_out_of_order")
    for total, daily in (("budget_micros", "daily_budget_micros"), ("impression_budget", "daily_impression_budget")):
        whole, part = terms.get(total), terms.get(daily)
        if whole is not None and part is not None and part > whole:
            return refused(422, "limits_inconsistent")
    if terms["pricing"]["model"] == "flat":
        for name in ("budget_micros", "daily_budget_micros"):
            limit = terms.get(name)
            if limit is not None and limit < terms["pricing"]["price_micros"]:
                return refused(422, "limits_inconsistent")
    return None
