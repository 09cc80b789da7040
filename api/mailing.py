"""Mailing: sends people what they want to hear of, one letter after the other, each until it was taken or parked."""

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import Any, Final
from uuid import UUID

import structlog
from jinja2 import TemplateError
from msgspec import Struct

from infra import account_letters, clock, election, installation, letters, notifications, outbox
from infra.database import Connection, connect
from infra.event_log import CHANNEL
from infra.keys import Keys
from infra.mail import SEND_SECONDS_MAX, Mail, MailFailed, MailRefused
from infra.outbox import Message
from infra.users import INSTALLATION
from projections import news

POLL_SECONDS: Final = 1.0
LOOK_EVERY_SECONDS: Final = 5.0
PAUSE_SECONDS: Final = 0.25
"""So often it is looked at most, however fast the log grows."""

log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)


class Mailing(Struct, frozen=True, kw_only=True):
    """How letters leave, whom they are from, where they lead, and how long to wait after each failure.

    `keys` write the tokens in them; `console_url` is where people enter these, and empty where nobody said.
    """

    mail: Mail
    keys: Keys
    sender: str
    public_url: str
    console_url: str
    waits_seconds: Sequence[float]


async def run(url: str, mailing: Mailing) -> None:
    """Send the mail of every ledger until cancelled."""

    async def work() -> None:
        # The one that sends keeps a transaction open while a server takes its time.
        async with (
            await connect(url) as listening,
            await connect(url, idle_in_transaction_seconds=2 * SEND_SECONDS_MAX) as connection,
        ):
            await listening.execute(f"LISTEN {CHANNEL}")
            looked_at = -LOOK_EVERY_SECONDS
            while True:
                is_time = monotonic() - looked_at >= LOOK_EVERY_SECONDS
                while await send_one(connection, INSTALLATION, mailing):
                    pass
                for ledger_id in await installation.ledgers(connection):
                    # However much there is to tell, who waits for a letter about their account gets it first.
                    while await send_one(connection, ledger_id, mailing) or await news.follow(connection, ledger_id):
                        pass
                    if is_time:
                        await news.look(connection, ledger_id, clock.now())
                looked_at = monotonic() if is_time else looked_at
                async for _ in listening.notifies(timeout=POLL_SECONDS, stop_after=1):
                    pass  # as many as have come by now
                await asyncio.sleep(PAUSE_SECONDS)

    await election.lead(url, "mail", work)


async def send_one(connection: Connection, ledger_id: UUID, mailing: Mailing) -> bool:
    """Send a letter that is due, of those about accounts first; return whether there was one.

    That it was sent is written before it leaves, and committed as soon as it was taken: nothing but these two moments
    lie between them, so that hardly anything can keep a letter that was taken from being noted.
    """
    message = None
    try:
        async with connection.transaction():
            message = await outbox.claim(connection, ledger_id, account_letters.SUBSCRIBER)
            message = message or await outbox.claim(connection, ledger_id, news.SUBSCRIBER)
            if message is None:
                return False
            to, known = await _noted(connection, message, mailing)
            if to is not None:
                places = {"public_url": mailing.public_url, "console_url": mailing.console_url}
                await mailing.mail.send(letters.compose(message, to, mailing.sender, places | known))
    except (MailFailed, MailRefused, TemplateError, KeyError, ValueError) as error:
        if message is None:
            raise
        waits = mailing.waits_seconds if isinstance(error, MailFailed) else ()
        parked = await outbox.failed(connection, message, str(error), waits)
        log.warning("letter not sent", letter=message.name, parked=parked, reason=str(error))
    return True


async def _noted(connection: Connection, message: Message, mailing: Mailing) -> tuple[str | None, dict[str, Any]]:
    """Note that a message was sent; return to whom it goes, if it still does, and what its letter has to be told."""
    if message.subscriber == account_letters.SUBSCRIBER:
        await outbox.forget(connection, message)
        return await account_letters.prepared(connection, mailing.keys, message) or (None, {})
    user_id = UUID((message.content or {})["user_id"])
    reader = await notifications.reader(connection, message.ledger_id, user_id)
    await outbox.sent(connection, message, "" if reader else "the reader has left")
    return (reader.email, {}) if reader else (None, {})
