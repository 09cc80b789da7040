"""The accounts that follow from a log, as text that beancount reads; whatever moves money is a transaction.

What an advertiser deposits is owed to it (`Liabilities:Funds:<advertiser>`), until it is paid back or its campaigns
spend it (`Liabilities:Funds:<advertiser>:<campaign>`). Before its first deposit it owes what they spend
(`Assets:Receivable:<advertiser>:<campaign>`). Either way it is earned by the slot that showed it
(`Income:Slots:<slot>`). Every posting carries the position of its entry. At the end stands what is left of the funds,
and what each campaign has spent, so that beancount adds it all up again.
"""

from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from typing import Any, Final

HEADER: Final = 'option "title" "{origin}"\n'
OPENED_ON: Final = "1970-01-01"
MICROS_PER_UNIT: Final = 1_000_000
DEPOSITS: Final = "Assets:Deposits"


class Book:
    """The accounts as they are written; it keeps which ones are open, what is left of the funds, and the date."""

    def __init__(self, origin: str) -> None:
        """Begin the accounts of a log."""
        self.header = HEADER.format(origin=origin)
        self.transactions = 0
        self._open: set[str] = set()
        self._day = OPENED_ON
        self._left: dict[str, tuple[int, str]] = {}
        self._drawn: dict[str, int] = {}

    def text_of(self, position: int, said: Mapping[str, Any]) -> str:
        """Return the text that an entry adds, which says as JSON what it says; nothing for one that moves no money."""
        event = said["event"]
        if event["type"] in {"funds_deposited", "funds_withdrawn"}:
            micros = event["amount_micros"] * (1 if event["type"] == "funds_deposited" else -1)
            funds = f"Liabilities:Funds:{said['stream'].removeprefix('advertiser-').upper()}"
            self._left[funds] = self._left.get(funds, (0, ""))[0] + micros, event["currency"]
            return self._transaction(position, said, (DEPOSITS, funds), micros)
        if not (event.get("billed") and event["price_micros"]):
            return ""
        spent, micros = _owed(event), event["price_micros"]
        funds = f"Liabilities:Funds:{event['advertiser_id'].upper()}"
        if funds in self._left:
            spent = _drawn(event)
            self._left[funds] = self._left[funds][0] - micros, self._left[funds][1]
            self._drawn[spent] = self._drawn.get(spent, 0) + micros
        return self._transaction(position, said, (spent, f"Income:Slots:{event['slot_id'].upper()}"), micros)

    def balances(self, campaigns: Iterable[Mapping[str, Any]]) -> str:
        """Return the text that says, after the last transaction, what is left of funds and what campaigns spent."""
        after = date.fromisoformat(self._day) + timedelta(days=1)
        sums = [(funds, -left, currency) for funds, (left, currency) in self._left.items()]
        for campaign in campaigns:
            drawn = self._drawn.get(_drawn(campaign), 0)
            sums.append((_drawn(campaign), drawn, campaign["currency"]))
            sums.append((_owed(campaign), campaign["spent_micros"] - drawn, campaign["currency"]))
        lines = [
            f"{after} balance {account}  {_units(micros)} {currency}\n"
            for account, micros, currency in sums
            if account in self._open
        ]
        return "".join(["\n", *sorted(lines)])

    def _transaction(self, position: int, said: Mapping[str, Any], accounts: tuple[str, str], micros: int) -> str:
        """Return the text that moves an amount from the second account to the first."""
        self.transactions += 1
        self._day = max(self._day, date.fromisoformat(said["recorded_at"][:10]).isoformat())
        event = said["event"]
        text = [self._opening(account) for account in accounts]
        text.append(f'\n{self._day} * "{event["type"]}" "{said["stream"]}"\n')
        for account, amount in zip(accounts, (micros, -micros), strict=True):
            text.append(f"  {account}  {_units(amount)} {event['currency']}\n    position: {position}\n")
        return "".join(text)

    def _opening(self, account: str) -> str:
        if account in self._open:
            return ""
        self._open.add(account)
        return f"{OPENED_ON} open {account}\n"


def _drawn(thing: Mapping[str, Any]) -> str:
    """Return the account of what a campaign takes from its advertiser's funds."""
    return f"Liabilities:Funds:{thing['advertiser_id'].upper()}:{thing['campaign_id'].upper()}"


def _owed(thing: Mapping[str, Any]) -> str:
    """Return the account of what an advertiser that has no funds owes for a campaign."""
    return f"Assets:Receivable:{thing['advertiser_id'].upper()}:{thing['campaign_id'].upper()}"


def _units(micros: int) -> str:
    units, rest = divmod(abs(micros), MICROS_PER_UNIT)
    return f"{'-' if micros < 0 else ''}{units}.{rest:06d}"
