"""Advertisers: who pays for campaigns, in arrears or out of funds that were deposited."""

from typing import Final, assert_never

from msgspec import Struct, structs

from domain.decider import Context, Decider, absent, begun, changed, copied, differing_fields, existing
from domain.errors import CurrencyDiffers, FundsOutOfRange, UnknownCurrency
from domain.events import (
    AdvertiserChanged,
    AdvertiserCreated,
    AdvertiserEvent,
    FundsDeposited,
    FundsMoved,
    FundsWithdrawn,
)
from domain.iso import CURRENCIES
from domain.terms import AdvertiserChanges, AdvertiserTerms
from domain.values import CurrencyCode, PositiveMicros


class CreateAdvertiser(AdvertiserTerms, frozen=True, kw_only=True):
    """Enter an advertiser."""


class ChangeAdvertiser(AdvertiserChanges, frozen=True, kw_only=True):
    """Set fields of an advertiser."""


class MoveFunds(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An amount of money, in the one currency of an advertiser's funds."""

    amount_micros: PositiveMicros
    currency: CurrencyCode


class DepositFunds(MoveFunds, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Take money of an advertiser in advance."""


class WithdrawFunds(MoveFunds, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pay money back that an advertiser has not spent."""


AdvertiserCommand = CreateAdvertiser | ChangeAdvertiser | DepositFunds | WithdrawFunds


class Advertiser(Struct, frozen=True, kw_only=True):
    """An advertiser as it stands; `funds_micros` are its deposits less its withdrawals, None before the first."""

    terms: AdvertiserTerms
    currency: CurrencyCode | None = None
    funds_micros: int | None = None


def decide(state: Advertiser | None, command: AdvertiserCommand, context: Context) -> tuple[AdvertiserEvent, ...]:
    """Return what follows from a command; raise NotFound or AlreadyExists."""
    match command:
        case CreateAdvertiser():
            absent("advertiser", state, context)
            return (copied(AdvertiserCreated, command),)
        case ChangeAdvertiser():
            fields = differing_fields(existing("advertiser", state, context).terms, command)
            return (AdvertiserChanged(**fields),) if fields else ()
        case DepositFunds():
            _check_currency(existing("advertiser", state, context), command)
            return (copied(FundsDeposited, command),)
        case WithdrawFunds():
            _check_currency(existing("advertiser", state, context), command)
            return (copied(FundsWithdrawn, command),)
        case _:
            assert_never(command)


def _check_currency(advertiser: Advertiser, command: MoveFunds) -> None:
    if command.currency not in CURRENCIES:
        raise UnknownCurrency(f"ISO 4217 has no currency {command.currency}.", pointer="/currency")
    if advertiser.currency is None and isinstance(command, WithdrawFunds):
        raise FundsOutOfRange("Nothing was ever deposited.", pointer="/amount_micros")
    if advertiser.currency not in {None, command.currency}:
        raise CurrencyDiffers(f"The funds of this advertiser are in {advertiser.currency}.", pointer="/currency")


def evolve(state: Advertiser | None, event: AdvertiserEvent) -> Advertiser:
    """Return the advertiser after an event."""
    match event:
        case AdvertiserCreated():
            return Advertiser(terms=copied(AdvertiserTerms, event))
        case AdvertiserChanged():
            return structs.replace(begun(state), terms=changed(begun(state).terms, event))
        case FundsDeposited() | FundsWithdrawn():
            funds = funds_after(begun(state).funds_micros, event)
            return structs.replace(begun(state), currency=event.currency, funds_micros=funds)
        case _:
            assert_never(event)


def funds_after(funds_micros: int | None, event: FundsMoved) -> int:
    """Return what is deposited in all after a deposit or a withdrawal."""
    micros = event.amount_micros if isinstance(event, FundsDeposited) else -event.amount_micros
    return (funds_micros or 0) + micros


ADVERTISER: Final = Decider("advertiser", decide, evolve)
