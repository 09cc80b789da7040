"""The read model of requests: what tallies say, each once, however the log is cut into ranges."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.events import RequestsTallied, RequestTally
from infra.database import Pool
from projections.requests import PROJECTION, ad_requests, rows_of
from tests.domain.strategies import law, made
from tests.projections.histories import applied, cut, cuts, kept, recorded_at
from tests.writing import new_ledger, rows

_lines = made(
    RequestTally,
    {
        "slot_id": st.sampled_from([UUID(int=1), UUID(int=2)]),
        "country": st.sampled_from(["CN", "DE", None]),
        "fills": st.integers(0, 5),
        "no_fill": st.dictionaries(st.sampled_from(["no_budget", "paced"]), st.integers(1, 5)),
    },
)
_tallies = made(
    RequestsTallied,
    {
        "hour": st.integers(0, 30).map(lambda hour: datetime(2026, 3, 9 + hour // 24, hour % 24, tzinfo=UTC)),
        "lines": st.lists(_lines, max_size=4).map(tuple),
    },
)


@settings(law, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tallied=st.lists(_tallies, max_size=12), places=cuts, spaced=st.booleans())
async def test_rows_are_the_sums_of_tallies(
    pool: Pool, tallied: Sequence[RequestsTallied], places: list[int], spaced: bool
) -> None:
    """Live, however batches are cut, and folded one by one as an export is: the same counts, by all that they have."""
    recorded = [recorded_at(n, f"requests-{n}", 1, each) for n, each in enumerate(tallied, 1)]
    right = Counter[object]()
    for event in tallied:
        for line in event.lines:
            for reason, count in {"": line.fills, **line.no_fill}.items():
                right[event.hour, line.slot_id, line.country or "", reason] += count
    folded = Counter[object]()
    for row in (row for event in tallied for row in rows_of(event)):
        folded[row.hour, row.slot_id, row.country, row.reason] += row.requests
    async with pool.connection() as connection:
        ledger_id = await new_ledger(connection)
        await kept(connection, ledger_id, recorded, spaced=spaced)
        await applied(connection, PROJECTION, ledger_id, cut(recorded, places))
        found = await rows(connection, f"SELECT * FROM {ad_requests.name} WHERE ledger_id = %s", ledger_id)
    assert folded == +right
    assert {(row["hour"], row["slot_id"], row["country"], row["reason"]): row["requests"] for row in found} == +right
