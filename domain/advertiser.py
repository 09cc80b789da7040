"""Advertisers: who pays for campaigns."""

from typing import Final, assert_never

from msgspec import Struct

from domain.decider import Context, Decider, absent, begun, changed, copied, differing_fields, existing
from domain.events import AdvertiserChanged, AdvertiserChanges, AdvertiserCreated, AdvertiserEvent, AdvertiserTerms


class CreateAdvertiser(AdvertiserTerms, frozen=True, kw_only=True):
    """Enter an advertiser."""


class ChangeAdvertiser(AdvertiserChanges, frozen=True, kw_only=True):
    """Set fields of an advertiser."""


AdvertiserCommand = CreateAdvertiser | ChangeAdvertiser


class Advertiser(Struct, frozen=True, kw_only=True):
    """An advertiser as it stands."""

    terms: AdvertiserTerms


def decide(state: Advertiser | None, command: AdvertiserCommand, context: Context) -> tuple[AdvertiserEvent, ...]:
    """Return what follows from a command; raise NotFound or AlreadyExists."""
    match command:
        case CreateAdvertiser():
            absent("advertiser", state, context)
            return (copied(AdvertiserCreated, command),)
        case ChangeAdvertiser():
            fields = differing_fields(existing("advertiser", state, context).terms, command)
            return (AdvertiserChanged(**fields),) if fields else ()
        case _:
            assert_never(command)


def evolve(state: Advertiser | None, event: AdvertiserEvent) -> Advertiser:
    """Return the advertiser after an event."""
    match event:
        case AdvertiserCreated():
            return Advertiser(terms=copied(AdvertiserTerms, event))
        case AdvertiserChanged():
            return Advertiser(terms=changed(begun(state).terms, event))
        case _:
            assert_never(event)


ADVERTISER: Final = Decider("advertiser", decide, evolve)
