"""Advertisers: entered once, changed in any field."""

from domain.advertiser import ADVERTISER, Advertiser, ChangeAdvertiser, CreateAdvertiser
from domain.errors import AlreadyExists, NotFound
from domain.events import AdvertiserChanged, AdvertiserCreated, AdvertiserTerms
from tests.domain.given import given

CREATED = AdvertiserCreated(name="Shoes", email="ads@shoes.example")


def test_an_advertiser_is_entered() -> None:
    """Entering an advertiser records what was said of it, with defaults for what was not."""
    state = given(ADVERTISER).when(CreateAdvertiser(name="Shoes", email="ads@shoes.example")).then(CREATED)
    assert state == Advertiser(terms=AdvertiserTerms(name="Shoes", email="ads@shoes.example", status="active"))


def test_an_advertiser_is_entered_once() -> None:
    """A stream that has begun does not begin again."""
    given(ADVERTISER, CREATED).when(CreateAdvertiser(name="Shoes")).then_refused(AlreadyExists)


def test_a_change_sets_the_fields_it_names() -> None:
    """A change records the fields that differ, and leaves the others alone."""
    change = ChangeAdvertiser(name="Shoes", email=None, status="inactive")
    state = given(ADVERTISER, CREATED).when(change).then(AdvertiserChanged(email=None, status="inactive"))
    assert state == Advertiser(terms=AdvertiserTerms(name="Shoes", email=None, status="inactive"))


def test_a_change_of_nothing_is_no_event() -> None:
    """A change to what is the case already records nothing."""
    given(ADVERTISER, CREATED).when(ChangeAdvertiser(name="Shoes")).then()
    given(ADVERTISER, CREATED).when(ChangeAdvertiser()).then()


def test_what_is_not_there_cannot_change() -> None:
    """An advertiser that was never entered is not found."""
    given(ADVERTISER).when(ChangeAdvertiser(name="Shoes")).then_refused(NotFound)
