"""Advertisers: who pays for campaigns, in arrears or out of funds that were deposited.

How a person there is reached is decided on as it reads; the log gets and keeps it encrypted (`infra/personal_data.py`).
"""

from typing import Annotated, Final, assert_never

from msgspec import UNSET, Meta, Struct, UnsetType, structs

from domain.decider import Context, Decider, T, absent, begun, changed, copied, differing_fields, existing
from domain.errors import CurrencyDiffers, FundsOutOfRange, LegalHoldStands, UnknownCurrency
from domain.events import (
    AdvertiserChanged,
    AdvertiserCreated,
    AdvertiserEvent,
    FundsDeposited,
    FundsMoved,
    FundsWithdrawn,
    LegalHoldLifted,
    LegalHoldPlaced,
    PersonalDataErased,
)
from domain.iso import CURRENCIES
from domain.terms import CONTACT, AdvertiserChanges, AdvertiserTerms
from domain.values import ONE_LINE, CurrencyCode, Email, Phone, PositiveMicros

Reason = Annotated[str, Meta(min_length=1, max_length=500, pattern=ONE_LINE)]


class CreateAdvertiser(AdvertiserTerms, frozen=True, kw_only=True):
    """Enter an advertiser."""

    email: Email | None = None
    phone: Phone | None = None


class ChangeAdvertiser(AdvertiserChanges, frozen=True, kw_only=True):
    """Set fields of an advertiser."""

    email: Email | None | UnsetType = UNSET
    phone: Phone | None | UnsetType = UNSET


class MoveFunds(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An amount of money, in the one currency of an advertiser's funds."""

    amount_micros: PositiveMicros
    currency: CurrencyCode


class DepositFunds(MoveFunds, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Take money of an advertiser in advance."""


class WithdrawFunds(MoveFunds, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pay money back that an advertiser has not spent."""


class PlaceLegalHold(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keep what is held about an advertiser's contact from being erased; the reason is kept as it is, for ever."""

    reason: Reason


class LiftLegalHold(Struct, frozen=True, kw_only=True):
    """Let it be erased again."""


class ErasePersonalData(Struct, frozen=True, kw_only=True):
    """Make what is held about an advertiser's contact unreadable, for everybody and for ever."""


AdvertiserCommand = (
    CreateAdvertiser
    | ChangeAdvertiser
    | DepositFunds
    | WithdrawFunds
    | PlaceLegalHold
    | LiftLegalHold
    | ErasePersonalData
)


class Advertiser(Struct, frozen=True, kw_only=True):
    """An advertiser as it stands; `funds_micros` are its deposits less its withdrawals, None before the first.

    `erasable` says that its stream holds how a person is, or was, reached; `legal_hold` why that must not be erased.
    """

    terms: AdvertiserTerms
    currency: CurrencyCode | None = None
    funds_micros: int | None = None
    erasable: bool = False
    legal_hold: str | None = None


def decide(state: Advertiser | None, command: AdvertiserCommand, context: Context) -> tuple[AdvertiserEvent, ...]:
    """Return what follows from a command; raise NotFound, AlreadyExists or LegalHoldStands."""
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
        case PlaceLegalHold():
            stands = existing("advertiser", state, context).legal_hold == command.reason
            return () if stands else (LegalHoldPlaced(reason=command.reason),)
        case LiftLegalHold():
            return () if existing("advertiser", state, context).legal_hold is None else (LegalHoldLifted(),)
        case ErasePersonalData():
            return _erased(existing("advertiser", state, context))
        case _:
            assert_never(command)


def _erased(advertiser: Advertiser) -> tuple[AdvertiserEvent, ...]:
    if advertiser.legal_hold is not None:
        raise LegalHoldStands(f"A legal hold stands, so nothing is erased: {advertiser.legal_hold}")
    return (PersonalDataErased(),) if advertiser.erasable else ()


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
            return Advertiser(terms=copied(AdvertiserTerms, event), erasable=_names_a_contact(event))
        case AdvertiserChanged():
            known = begun(state)
            erasable = known.erasable or _names_a_contact(event)
            return structs.replace(known, terms=changed(known.terms, event), erasable=erasable)
        case FundsDeposited() | FundsWithdrawn():
            funds = funds_after(begun(state).funds_micros, event)
            return structs.replace(begun(state), currency=event.currency, funds_micros=funds)
        case LegalHoldPlaced():
            return structs.replace(begun(state), legal_hold=event.reason)
        case LegalHoldLifted():
            return structs.replace(begun(state), legal_hold=None)
        case PersonalDataErased():
            return structs.replace(begun(state), terms=without_contact(begun(state).terms), erasable=False)
        case _:
            assert_never(event)


def without_contact(terms: T) -> T:
    """Return the terms of an advertiser, or a row that is built on them, without what is about a person."""
    return structs.replace(terms, **dict.fromkeys(CONTACT))


def _names_a_contact(event: AdvertiserCreated | AdvertiserChanged) -> bool:
    return any(isinstance(getattr(event, field), str) for field in CONTACT)


def funds_after(funds_micros: int | None, event: FundsMoved) -> int:
    """Return what is deposited in all after a deposit or a withdrawal."""
    micros = event.amount_micros if isinstance(event, FundsDeposited) else -event.amount_micros
    return (funds_micros or 0) + micros


ADVERTISER: Final = Decider("advertiser", decide, evolve)
