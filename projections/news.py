"""News: what happened that people get mail about, put into the outbox once for each reason and reader.

What commands did is read from the log, from where it was read last. What came to be with time or with traffic, such as
a budget nearly spent, is looked for; once found, its name stands in the outbox, so that it is never found again.
Of what was so already in a ledger that is older than its mail, nobody is told.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec
import structlog

from domain.campaign import Campaign
from domain.creative import Creative
from domain.events import CampaignActivated, CreativeApproved, CreativeDenied, Event
from infra import notifications, outbox
from infra.database import Connection
from infra.event_log import Recorded, decode_entry, read_streams, read_texts
from infra.execute import state_of
from infra.notifications import Reason
from infra.ownership import advertiser_of
from projections import campaigns, delivery
from projections.delivery import DeliveryQuery
from projections.rows import load, subject_of

SUBSCRIBER: Final = "mail"
BEGUN: Final = "begun"
ENTRIES_AT_ONCE: Final = 500
ENDING_DAYS: Final = 3
REPORTED_CAMPAIGNS_MAX: Final = 20
REPORTED_LINES_MAX: Final = 10_000
DAYS_PER_WEEK: Final = 7
REPORT_AT: Final = time(6, tzinfo=UTC)
"""On Mondays the week before is reported."""

REASONS: Final[Mapping[type[Event], Reason]] = {
    CampaignActivated: "campaign_activated",
    CreativeApproved: "creative_approved",
    CreativeDenied: "creative_denied",
}

_BUDGETS: Final = """
    SELECT * FROM (
        SELECT campaigns.id, campaigns.name, budgets.currency, budgets.budget_micros, budgets.spent_micros,
            budgets.impression_budget, budgets.impressions,
            CASE
                WHEN budgets.spent_micros + greatest(impression_micros, click_micros, 1) > budgets.budget_micros
                    OR budgets.impressions >= budgets.impression_budget THEN 'budget_spent'
                ELSE 'budget_at_80_percent'
            END AS reason,
            format('%%s/%%s/%%s', campaigns.id, budgets.budget_micros, budgets.impression_budget) AS key
        FROM budgets JOIN campaigns ON campaigns.ledger_id = budgets.ledger_id AND campaigns.id = budget_id
        WHERE budgets.ledger_id = %(ledger_id)s AND campaigns.status = 'active' AND (
            (budgets.budget_micros > 0 AND budgets.spent_micros * 5 >= budgets.budget_micros * 4)
            OR budgets.impressions * 5 >= budgets.impression_budget * 4
        )
    ) AS spent WHERE NOT EXISTS (
        SELECT FROM outbox
        WHERE ledger_id = %(ledger_id)s AND subscriber = 'mail' AND outbox.name = reason || '/' || key
    )
"""

_ENDING: Final = """
    SELECT id, name, end_date, timezone, format('%%s/%%s', id, end_date) AS key FROM campaigns
    WHERE ledger_id = %(ledger_id)s AND status = 'active'
        AND end_date BETWEEN %(today)s AND %(today)s::date + %(days)s::int AND NOT EXISTS (
            SELECT FROM outbox
            WHERE ledger_id = %(ledger_id)s AND subscriber = 'mail'
                AND outbox.name = format('campaign_ending/%%s/%%s', campaigns.id, end_date)
        )
"""

log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)


async def follow(connection: Connection, ledger_id: UUID) -> bool:
    """Put what commands did since into the outbox; return whether there is more."""
    reach = await outbox.reach_of(connection, ledger_id, SUBSCRIBER)
    if reach is not None and reach.position >= reach.command_position:
        return False  # found without a lock, which would be written
    async with connection.transaction():
        await outbox.begin(connection, ledger_id, SUBSCRIBER, 0)
        reach = await outbox.lock(connection, ledger_id, SUBSCRIBER)
        if reach is None or reach.position >= reach.command_position:
            return False
        if reach.waiting - reach.parked >= outbox.WAITING_MAX:  # letters wait for nothing that is parked
            return False
        texts = await read_texts(
            connection, ledger_id, reach.position, until=reach.head, catalogue_only=True, limit=ENTRIES_AT_ONCE
        )
        for text in texts:
            try:
                recorded = Recorded(position=text.position, entry=decode_entry(text.entry))
            except msgspec.DecodeError as error:
                log.warning("entry not read for news", position=text.position, error=str(error))
                continue
            reason = REASONS.get(type(recorded.entry.event))
            if reason is not None:
                await _tell_step(connection, ledger_id, reason, recorded)
        end = texts[-1].position if len(texts) == ENTRIES_AT_ONCE else reach.head
        await outbox.move(connection, ledger_id, SUBSCRIBER, end)
    return len(texts) == ENTRIES_AT_ONCE


async def look(connection: Connection, ledger_id: UUID, now: datetime) -> None:
    """Put into the outbox what came to be by now: budgets nearly spent or spent, ends that are near, the week's report.

    At first, in a ledger that was there before, only their names.
    """
    async with connection.transaction():
        await outbox.begin(connection, ledger_id, SUBSCRIBER, 0)
        reach = await outbox.lock(connection, ledger_id, SUBSCRIBER)
        first = await outbox.put(connection, ledger_id, SUBSCRIBER, BEGUN, sent=True)
        silently = first and reach is not None and reach.position > 0
        for row in await (await connection.execute(_BUDGETS, {"ledger_id": ledger_id})).fetchall():
            reason: Reason = "budget_spent" if row["reason"] == "budget_spent" else "budget_at_80_percent"
            await _tell_once(connection, ledger_id, reason, row["key"], {"campaign": row}, silently=silently)
        asked = {"ledger_id": ledger_id, "today": now.date(), "days": ENDING_DAYS}
        for row in await (await connection.execute(_ENDING, asked)).fetchall():
            content = {"campaign": row}
            await _tell_once(connection, ledger_id, "campaign_ending", row["key"], content, silently=silently)
        await _report(connection, ledger_id, now, silently=silently)


async def _tell_step(connection: Connection, ledger_id: UUID, reason: Reason, recorded: Recorded) -> None:
    """Tell of a step in the words that held when it was taken."""
    stream = recorded.entry.stream
    entries = (await read_streams(connection, ledger_id, [stream]))[stream]
    thing = state_of(stream, [each for each in entries if each.position <= recorded.position])
    subject = subject_of(recorded)
    content: dict[str, Any]
    if isinstance(thing, Campaign):
        terms = thing.terms
        named = {name: getattr(terms, name) for name in ("name", "start_date", "end_date", "timezone")}
        content = {"campaign": {"id": subject, **named}}
    elif isinstance(thing, Creative):
        content = {"creative": {"id": subject, "name": thing.terms.name, "denial_reason": thing.denial_reason}}
    else:
        return
    await _tell(connection, ledger_id, reason, str(recorded.position), content, recorded.position)


async def _report(connection: Connection, ledger_id: UUID, now: datetime, *, silently: bool) -> None:
    """Tell what the last whole week, from Monday to Sunday in UTC, has brought; of a week without anything, nothing."""
    monday = datetime.combine(now.date() - timedelta(days=now.weekday()), time.min, tzinfo=UTC)
    if now < datetime.combine(monday.date(), REPORT_AT):
        return
    since = monday - timedelta(days=DAYS_PER_WEEK)
    key = f"{since.date()}"
    if not await outbox.put(connection, ledger_id, SUBSCRIBER, f"weekly_report/{key}", sent=True) or silently:
        return
    content = await week(connection, ledger_id, since)
    if content is not None:
        await _tell(connection, ledger_id, "weekly_report", key, content)


async def week(connection: Connection, ledger_id: UUID, since: datetime) -> dict[str, Any] | None:
    """Return the numbers of the week that begins at a moment, the largest campaigns first; None without any."""
    until = since + timedelta(days=DAYS_PER_WEEK)
    by_campaign, by_day = [
        await delivery.read_report(
            connection,
            ledger_id,
            DeliveryQuery(group_by=(dimension,), since=since, until=until),
            limit=REPORTED_LINES_MAX,
            offset=0,
        )
        for dimension in ("campaign", "day")
    ]
    if not by_campaign:
        return None
    by_campaign.sort(key=lambda line: -line.impressions)
    ids = [line.campaign_id for line in by_campaign[:REPORTED_CAMPAIGNS_MAX] if line.campaign_id is not None]
    rows = await load(connection, campaigns.campaigns, campaigns.CampaignRow, ledger_id, ids)
    days = dict.fromkeys((str((since + timedelta(days=number)).date()) for number in range(DAYS_PER_WEEK)), 0)
    for line in by_day:
        if line.day is not None:
            days[str(line.day.date())] += line.impressions
    return {
        "first_day": str(since.date()),
        "last_day": str((until - timedelta(days=1)).date()),
        "impressions": sum(days.values()),
        "days": [{"day": day, "impressions": impressions} for day, impressions in days.items()],
        "campaigns": [
            {
                "name": rows[line.campaign_id].name if line.campaign_id in rows else str(line.campaign_id),
                "impressions": line.impressions,
                "clicks": line.clicks,
                "spent_micros": line.spent_micros,
                "currency": line.currency,
            }
            for line in by_campaign[:REPORTED_CAMPAIGNS_MAX]
        ],
        "more": max(0, len(by_campaign) - REPORTED_CAMPAIGNS_MAX),
    }


async def _tell_once(
    connection: Connection, ledger_id: UUID, reason: Reason, key: str, content: dict[str, Any], *, silently: bool
) -> None:
    if await outbox.put(connection, ledger_id, SUBSCRIBER, f"{reason}/{key}", sent=True) and not silently:
        await _tell(connection, ledger_id, reason, key, content)


async def _tell(
    connection: Connection, ledger_id: UUID, reason: Reason, key: str, content: dict[str, Any], position: int = 0
) -> None:
    """Put a message for everybody who wants to hear of this and may."""
    about = next(((thing, content[thing]["id"]) for thing in ("campaign", "creative") if thing in content), None)
    owner = about and await advertiser_of(connection, ledger_id, *about)
    readers = await notifications.readers(connection, ledger_id, reason, advertiser_id=owner)
    letters = {f"{reason}/{key}/{reader}": {"reason": reason, "user_id": reader, **content} for reader in readers}
    await outbox.put_all(connection, ledger_id, SUBSCRIBER, letters, position=position)
