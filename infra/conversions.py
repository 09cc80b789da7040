"""Recording conversions: read the click, decide, append; whoever comes second finds it recorded."""

from uuid import UUID

from domain import conversion
from domain.conversion import THING, Reported
from domain.decider import stream_of
from domain.errors import NotFound, VersionConflict
from domain.events import ConversionRecorded
from domain.values import CapWindow
from infra import clock
from infra.batch import Appending
from infra.event_log import read_streams
from infra.writer import Log


async def record(log: Log, ledger_id: UUID, reported: Reported, window: CapWindow) -> ConversionRecorded | None:
    """Record a conversion, and return its event; None for one that was recorded before.

    Raises NotFound when no click of the advertiser's is known of the decision, LogBusy or LogUnavailable.
    """
    clicked = stream_of("decision", reported.decision_id)
    subject = conversion.subject_of(reported)
    stream = stream_of(THING, subject)
    async with log.pool.connection() as connection:
        streams = await read_streams(connection, ledger_id, (clicked, stream))
    click = conversion.click_of((each.entry for each in streams[clicked]), reported.advertiser_id)
    if click is None:
        raise NotFound("click", reported.decision_id)
    known = [each.entry.event for each in streams[stream] if isinstance(each.entry.event, ConversionRecorded)]
    event = conversion.convert(reported, click, known, window=window, now=clock.now())
    if event is None:
        return None
    appending = Appending(
        ledger_id=ledger_id,
        subject=subject,
        stream=stream,
        expected_version=len(known),
        position=0,
        events=(event,),
        actor=f"advertiser:{reported.advertiser_id}",
    )
    try:
        await log.writer.append(appending)
    except VersionConflict:  # reported twice at once: now there is one, and at most one more can come
        return await record(log, ledger_id, reported, window)
    return event
