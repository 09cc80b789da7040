"""Whose things are: advertisers own campaigns, and those the creatives made for them, for as long as they exist."""

from collections.abc import Iterable
from uuid import UUID

from domain.advertiser import ADVERTISER
from domain.campaign import CAMPAIGN, Campaign
from domain.creative import CREATIVE, Creative
from domain.decider import stream_of
from domain.errors import UnknownReference
from infra.database import Connection
from infra.event_log import read_streams
from infra.execute import state_of


async def advertiser_of(connection: Connection, ledger_id: UUID, thing: str, thing_id: UUID) -> UUID | None:
    """Return the advertiser that a thing belongs to; None when there is no such thing, or it is no advertiser's.

    Read from the log, so that what was just made has an owner.
    """
    if thing == ADVERTISER.thing:
        return thing_id
    if thing not in {CAMPAIGN.thing, CREATIVE.thing}:
        return None
    stream = stream_of(thing, thing_id)
    state = state_of(stream, (await read_streams(connection, ledger_id, [stream]))[stream])
    if isinstance(state, Creative):
        return await advertiser_of(connection, ledger_id, CAMPAIGN.thing, state.terms.campaign_id)
    return state.terms.advertiser_id if isinstance(state, Campaign) else None


async def check_known(connection: Connection, ledger_id: UUID, advertiser_ids: Iterable[UUID]) -> None:
    """Raise UnknownReference for the first advertiser that a ledger does not have."""
    streams = {stream_of(ADVERTISER.thing, each): each for each in advertiser_ids}
    found = await read_streams(connection, ledger_id, tuple(streams))
    for stream, advertiser_id in streams.items():
        if not found[stream]:
            raise UnknownReference(ADVERTISER.thing, advertiser_id, pointer="/advertiser_ids")
