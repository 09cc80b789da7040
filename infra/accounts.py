"""The accounts that follow from a log, as text that beancount reads: every billed delivery is a transaction.

What a campaign spends is taken from its advertiser's funds (`Liabilities:Funds:<advertiser>:<campaign>`), and earned by
the slot that showed it (`Income:Slots:<slot>`). Every posting carries the position of its entry. At the end stands what
each campaign has spent, so that beancount adds it all up again.
"""

from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from typing import Any, Final

HEADER: Final = 'option "title" "{origin}"\n'
OPENED_ON: Final = "1970-01-01"
MICROS_PER_UNIT: Final = 1_000_000


class Book:
    """The accounts as they are written; it keeps only which ones are open, and the date."""

    def __init__(self, origin: str) -> None:
        """Begin the accounts of a log."""
        self.header = HEADER.format(origin=origin)
        self.transactions = 0
        self._open: set[str] = set()
        self._day = OPENED_ON

    def text_of(self, position: int, said: Mapping[str, Any]) -> str:
        """Return the text that an entry adds, which says as JSON what it says; nothing for one that costs nothing."""
        event = said["event"]
        if not (event.get("billed") and event["price_micros"]):
            return ""
        self.transactions += 1
        self._day = max(self._day, said["recorded_at"][:10])
        price, currency = _units(event["price_micros"]), event["currency"]
        funds, earnings = funds_of(event), f"Income:Slots:{event['slot_id'].upper()}"
        text = "".join(map(self._opening, (funds, earnings)))
        return (
            f'{text}\n{self._day} * "{event["type"]}" "{said["stream"]}"\n'
            f"  {funds}  {price} {currency}\n    position: {position}\n"
            f"  {earnings}  -{price} {currency}\n    position: {position}\n"
        )

    def balances(self, campaigns: Iterable[Mapping[str, Any]]) -> str:
        """Return the text that says, after the last transaction, what each campaign has spent."""
        after = date.fromisoformat(self._day) + timedelta(days=1)
        lines = [
            f"{after} balance {funds_of(campaign)}  {_units(campaign['spent_micros'])} {campaign['currency']}\n"
            for campaign in campaigns
            if funds_of(campaign) in self._open
        ]
        return "".join(["\n", *sorted(lines)])

    def _opening(self, account: str) -> str:
        if account in self._open:
            return ""
        self._open.add(account)
        return f"{OPENED_ON} open {account}\n"


def funds_of(thing: Mapping[str, Any]) -> str:
    """Return the account of what a campaign takes from its advertiser's funds."""
    return f"Liabilities:Funds:{thing['advertiser_id'].upper()}:{thing['campaign_id'].upper()}"


def _units(micros: int) -> str:
    return f"{micros // MICROS_PER_UNIT}.{micros % MICROS_PER_UNIT:06d}"
