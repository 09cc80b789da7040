"""Forgetting what viewers have seen of what is capped, once no cap can ask for it any more.

A campaign's cap looks back as far as its window, a creative's for ever: until it, or its campaign, can never be shown
again. Tokens that were signed before live on for a while, so nothing is forgotten at once. A window that is lengthened
later does not find what was forgotten under the shorter one.
"""

from datetime import datetime, timedelta
from typing import Final, get_args

from domain.frequency import window_seconds
from domain.values import CapUnit, CapWindow
from infra.database import Connection

TOKENS_LIVE_AT_MOST: Final = timedelta(days=7)
AT_ONCE_MAX: Final = 10_000

_UNITS: Final = ", ".join(f"('{unit}', {window_seconds(CapWindow(value=1, unit=unit))})" for unit in get_args(CapUnit))

# Whoever is being shown something at this moment is passed over: neither side waits for the other.
_FORGET: Final = f"""
    WITH forgotten AS (
        SELECT viewings.ledger_id, viewings.subject, viewings.viewer
        FROM viewings
        LEFT JOIN campaigns AS capped ON capped.ledger_id = viewings.ledger_id AND capped.id = viewings.subject
        LEFT JOIN creatives ON creatives.ledger_id = viewings.ledger_id AND creatives.id = viewings.subject
        LEFT JOIN campaigns AS around ON around.ledger_id = viewings.ledger_id AND around.id = creatives.campaign_id
        LEFT JOIN (VALUES {_UNITS}) AS units (unit, seconds) ON units.unit = capped.max_view_duration ->> 'unit'
        WHERE (
            (capped.status IN ('expired', 'inactive') AND capped.updated_at < %(before)s)
            OR (around.status IN ('expired', 'inactive') AND around.updated_at < %(before)s)
            OR (creatives.status = 'inactive' AND creatives.updated_at < %(before)s)
            OR (
                capped.id IS NOT NULL AND viewings.times[cardinality(viewings.times)]
                    < extract(epoch FROM %(before)s::timestamptz)
                        - coalesce((capped.max_view_duration ->> 'value')::bigint * units.seconds, 0)
            )
        )
        LIMIT %(at_once)s
        FOR UPDATE OF viewings SKIP LOCKED
    )
    DELETE FROM viewings USING forgotten
    WHERE (viewings.ledger_id, viewings.subject, viewings.viewer)
        = (forgotten.ledger_id, forgotten.subject, forgotten.viewer)
"""


async def forget_viewings(connection: Connection, now: datetime, *, at_once: int = AT_ONCE_MAX) -> int:
    """Forget what no cap can ask for any more; return how many viewings that were."""
    asked = {"before": now - TOKENS_LIVE_AT_MOST, "at_once": at_once}
    forgotten = 0
    while True:
        done = (await connection.execute(_FORGET.encode(), asked)).rowcount
        forgotten += done
        if done < at_once:
            return forgotten
