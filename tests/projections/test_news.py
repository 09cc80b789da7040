"""News: what is told, to whom, and once, whoever looks and however often."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from msgspec import structs

from domain.events import CampaignActivated, CampaignChanged
from infra import clock, notifications, outbox, users
from infra.database import Connection, Pool, connect
from infra.notifications import ChangeNotifications
from infra.users import Role
from projections import campaigns, delivery, news
from projections.runner import catch_up
from tests.writing import appending, beacon, committed, drafted, promised, recording, rows

PASSWORD: Final = "a sentence that nobody guesses"


async def person(connection: Connection, ledger_id: UUID, role: Role, *advertisers: UUID) -> UUID:
    """Add somebody, and return their id."""
    email = f"{clock.fresh_name()}@example.com"
    added = await users.create(
        connection, ledger_id, email=email, password=PASSWORD, role=role, advertiser_ids=advertisers
    )
    return added.id


async def activated(connection: Connection, ledger_id: UUID, **fields: object) -> UUID:
    """Write a campaign that is active, and return its id."""
    campaign_id = clock.fresh_id()
    events = (drafted(**fields), CampaignActivated())
    await committed(connection, ledger_id, appending(ledger_id, campaign_id, *events))
    await catch_up(connection, campaigns.PROJECTION)
    return campaign_id


async def told(connection: Connection, ledger_id: UUID) -> list[str]:
    """Return the reasons of all that is to be sent."""
    query = "SELECT content ->> 'reason' AS reason FROM outbox WHERE ledger_id = %s AND content IS NOT NULL ORDER BY 1"
    return [row["reason"] for row in await rows(connection, query, ledger_id)]


async def test_whoever_reads_the_log_tells_it_once(pool: Pool, database_url: str, ledger_id: UUID) -> None:
    """Several who read the log at once, and again, put one message a reason and reader into the outbox."""
    async with pool.connection() as connection:
        for role in ("admin", "manager", "viewer"):
            await person(connection, ledger_id, role)
        for _ in range(3):
            await activated(connection, ledger_id)

        async def follow() -> None:
            async with await connect(database_url) as another:
                while await news.follow(another, ledger_id):
                    pass

        await asyncio.gather(*(follow() for _ in range(4)))
        await follow()
        assert await told(connection, ledger_id) == ["campaign_activated"] * 6


async def test_an_advertiser_hears_of_its_own(pool: Pool, ledger_id: UUID) -> None:
    """Whoever sees the campaigns of some advertisers alone hears of these, if they want to, and of no others."""
    own = clock.fresh_id()
    async with pool.connection() as connection:
        user_id = await person(connection, ledger_id, "advertiser", own)
        wanted = ChangeNotifications(campaign_activated=True, weekly_report=True)
        await notifications.choose(connection, ledger_id, user_id, wanted)
        for advertiser_id in (own, clock.fresh_id()):
            await activated(connection, ledger_id, advertiser_id=advertiser_id)
        while await news.follow(connection, ledger_id):
            pass
        assert await told(connection, ledger_id) == ["campaign_activated"]
        assert await notifications.readers(connection, ledger_id, "weekly_report") == []


async def test_a_step_is_told_in_its_own_words(pool: Pool, ledger_id: UUID) -> None:
    """A campaign that was renamed since is called in a letter what it was called then."""
    async with pool.connection() as connection:
        await person(connection, ledger_id, "admin")
        campaign_id = await activated(connection, ledger_id, name="Then")
        renamed = appending(ledger_id, campaign_id, CampaignChanged(name="Now"), after=2)
        await committed(connection, ledger_id, renamed)
        await news.follow(connection, ledger_id)
        (message,) = await outbox.due(connection, ledger_id, news.SUBSCRIBER, limit=9)
    assert message.content is not None
    assert message.content["campaign"]["name"] == "Then"


async def test_a_ledger_that_is_older_than_its_mail(pool: Pool, ledger_id: UUID) -> None:
    """Of what is so already nobody is told; of what comes to be so later, everybody is."""
    today = datetime.now(UTC).date()
    async with pool.connection() as connection:
        await person(connection, ledger_id, "admin")
        campaign_id = await activated(connection, ledger_id, end_date=today + timedelta(days=1))
        # As the migration leaves it.
        await outbox.begin(connection, ledger_id, news.SUBSCRIBER)
        await news.follow(connection, ledger_id)
        await news.look(connection, ledger_id, clock.now())
        await news.look(connection, ledger_id, clock.now())
        assert await told(connection, ledger_id) == []
        moved = CampaignChanged(end_date=today + timedelta(days=2))
        await committed(connection, ledger_id, appending(ledger_id, campaign_id, moved, after=2))
        await catch_up(connection, campaigns.PROJECTION)
        await news.look(connection, ledger_id, clock.now())
        assert await told(connection, ledger_id) == ["campaign_ending"]


async def test_what_comes_later_is_no_news_of_before(pool: Pool, ledger_id: UUID) -> None:
    """Who joins after something was told is not told it."""
    async with pool.connection() as connection:
        campaign_id = await activated(connection, ledger_id, impression_budget=5)
        await committed(
            connection,
            ledger_id,
            recording(ledger_id, *(beacon("impression", promised(campaign_id)) for _ in range(4))),
        )
        await news.look(connection, ledger_id, clock.now())
        await person(connection, ledger_id, "finance")
        await news.look(connection, ledger_id, clock.now())
        assert await told(connection, ledger_id) == []
        await committed(connection, ledger_id, recording(ledger_id, beacon("impression", promised(campaign_id))))
        await news.look(connection, ledger_id, clock.now())
        assert await told(connection, ledger_id) == ["budget_spent"]


async def test_a_week_is_reported_once_and_only_with_something_in_it(pool: Pool, ledger_id: UUID) -> None:
    """On Monday at six the week before is reported; a week in which nothing was delivered is not."""
    monday = datetime(2026, 3, 9, tzinfo=UTC)
    async with pool.connection() as connection:
        await person(connection, ledger_id, "finance")
        campaign_id = await activated(connection, ledger_id)
        sunday = monday - timedelta(seconds=1)
        shown = structs.replace(beacon("impression", promised(campaign_id)), occurred_at=sunday)
        await committed(connection, ledger_id, recording(ledger_id, shown), now=sunday)
        await catch_up(connection, delivery.PROJECTION)
        for hours in (5, 6, 7, 167, 168 + 6):
            await news.look(connection, ledger_id, monday + timedelta(hours=hours))
        (message,) = await outbox.due(connection, ledger_id, news.SUBSCRIBER, limit=9)
    assert message.content is not None
    assert (message.content["first_day"], message.content["last_day"]) == ("2026-03-02", "2026-03-08")
    assert [day["impressions"] for day in message.content["days"]] == [0] * 6 + [1]


async def test_what_is_parked_keeps_nobody_from_their_mail(pool: Pool, ledger_id: UUID) -> None:
    """However many letters could not be sent for good, what happens is told; while too many wait, the log does."""
    async with pool.connection() as connection:
        await person(connection, ledger_id, "admin")
        await outbox.begin(connection, ledger_id, news.SUBSCRIBER)
        for number in range(outbox.WAITING_MAX):
            await outbox.put(connection, ledger_id, news.SUBSCRIBER, f"{number}")
        await activated(connection, ledger_id)
        assert not await news.follow(connection, ledger_id)
        assert await told(connection, ledger_id) == []
        await connection.execute("UPDATE outbox SET parked_at = now()")
        await news.follow(connection, ledger_id)
        assert await told(connection, ledger_id) == ["campaign_activated"]
