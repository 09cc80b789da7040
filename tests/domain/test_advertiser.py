"""Advertisers: entered once, changed in any field, with funds in one currency."""

from typing import Final

from domain.advertiser import (
    ADVERTISER,
    Advertiser,
    ChangeAdvertiser,
    CreateAdvertiser,
    DepositFunds,
    ErasePersonalData,
    LiftLegalHold,
    PlaceLegalHold,
    WithdrawFunds,
)
from domain.errors import (
    AlreadyExists,
    CurrencyDiffers,
    FundsOutOfRange,
    LegalHoldStands,
    NotFound,
    UnknownCurrency,
)
from domain.events import (
    AdvertiserChanged,
    AdvertiserCreated,
    FundsDeposited,
    FundsWithdrawn,
    LegalHoldLifted,
    LegalHoldPlaced,
    PersonalDataErased,
)
from domain.terms import AdvertiserTerms
from tests.domain.given import given

CREATED = AdvertiserCreated(name="Shoes", email="ads@shoes.example")


def test_an_advertiser_is_entered() -> None:
    """Entering an advertiser records what was said of it, with defaults for what was not."""
    state = given(ADVERTISER).when(CreateAdvertiser(name="Shoes", email="ads@shoes.example")).then(CREATED)
    terms = AdvertiserTerms(name="Shoes", email="ads@shoes.example", status="active")
    assert state == Advertiser(terms=terms, erasable=True)


def test_an_advertiser_is_entered_once() -> None:
    """A stream that has begun does not begin again."""
    given(ADVERTISER, CREATED).when(CreateAdvertiser(name="Shoes")).then_refused(AlreadyExists)


def test_a_change_sets_the_fields_it_names() -> None:
    """A change records the fields that differ, and leaves the others alone."""
    change = ChangeAdvertiser(name="Shoes", email=None, status="inactive")
    state = given(ADVERTISER, CREATED).when(change).then(AdvertiserChanged(email=None, status="inactive"))
    assert state == Advertiser(terms=AdvertiserTerms(name="Shoes", email=None, status="inactive"), erasable=True)


def test_a_change_of_nothing_is_no_event() -> None:
    """A change to what is the case already records nothing."""
    given(ADVERTISER, CREATED).when(ChangeAdvertiser(name="Shoes")).then()
    given(ADVERTISER, CREATED).when(ChangeAdvertiser()).then()


def test_what_is_not_there_cannot_change() -> None:
    """An advertiser that was never entered is not found."""
    given(ADVERTISER).when(ChangeAdvertiser(name="Shoes")).then_refused(NotFound)


DEPOSITED: Final = FundsDeposited(amount_micros=5, currency="EUR")


def test_funds_are_deposited_and_withdrawn() -> None:
    """What was deposited less what was withdrawn is what the funds hold; what of it is spent the books know."""
    state = given(ADVERTISER, CREATED).when(DepositFunds(amount_micros=5, currency="EUR")).then(DEPOSITED)
    assert (state.currency, state.funds_micros) == ("EUR", 5)
    withdrawn = FundsWithdrawn(amount_micros=2, currency="EUR")
    state = given(ADVERTISER, CREATED, DEPOSITED).when(WithdrawFunds(amount_micros=2, currency="EUR")).then(withdrawn)
    assert (state.currency, state.funds_micros) == ("EUR", 3)


def test_funds_have_one_currency() -> None:
    """The first deposit decides in which currency an advertiser pays; there is nothing to withdraw before it."""
    given(ADVERTISER, CREATED, DEPOSITED).when(DepositFunds(amount_micros=1, currency="USD")).then_refused(
        CurrencyDiffers, pointer="/currency"
    )
    given(ADVERTISER, CREATED).when(DepositFunds(amount_micros=1, currency="XXY")).then_refused(
        UnknownCurrency, pointer="/currency"
    )
    given(ADVERTISER, CREATED).when(WithdrawFunds(amount_micros=1, currency="EUR")).then_refused(
        FundsOutOfRange, pointer="/amount_micros"
    )
    for command in (DepositFunds, WithdrawFunds):
        given(ADVERTISER).when(command(amount_micros=1, currency="EUR")).then_refused(NotFound)


HELD: Final = LegalHoldPlaced(reason="Case 17")


def test_a_contact_is_erased_once() -> None:
    """What was entered about a person is erased, also when it was changed or taken away since; then nothing is left."""
    state = given(ADVERTISER, CREATED).when(ErasePersonalData()).then(PersonalDataErased())
    assert (state.terms.email, state.terms.name) == (None, "Shoes")
    taken_away = AdvertiserChanged(email=None)
    given(ADVERTISER, CREATED, taken_away).when(ErasePersonalData()).then(PersonalDataErased())
    given(ADVERTISER, CREATED, PersonalDataErased()).when(ErasePersonalData()).then()
    given(ADVERTISER, AdvertiserCreated(name="Shoes")).when(ErasePersonalData()).then()
    again = AdvertiserChanged(phone="+49 30 1")
    given(ADVERTISER, CREATED, PersonalDataErased(), again).when(ErasePersonalData()).then(PersonalDataErased())
    given(ADVERTISER).when(ErasePersonalData()).then_refused(NotFound)


def test_nothing_is_erased_while_a_legal_hold_stands() -> None:
    """A hold refuses erasures until it is lifted; placing or lifting it again changes nothing, another reason does."""
    given(ADVERTISER, CREATED).when(PlaceLegalHold(reason="Case 17")).then(HELD)
    given(ADVERTISER, CREATED, HELD).when(PlaceLegalHold(reason="Case 17")).then()
    given(ADVERTISER, CREATED, HELD).when(PlaceLegalHold(reason="Case 18")).then(LegalHoldPlaced(reason="Case 18"))
    given(ADVERTISER, CREATED, HELD).when(ErasePersonalData()).then_refused(LegalHoldStands)
    given(ADVERTISER, CREATED, HELD).when(LiftLegalHold()).then(LegalHoldLifted())
    given(ADVERTISER, CREATED).when(LiftLegalHold()).then()
    given(ADVERTISER, CREATED, HELD, LegalHoldLifted()).when(ErasePersonalData()).then(PersonalDataErased())
