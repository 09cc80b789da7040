"""The verifier on a live database: right when nobody meddled with it, also while read models are behind."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.database import Connection, connect
from infra.verifier import Report
from projections.catalogue import PROJECTIONS
from projections.runner import advance
from tests import evening
from tests.sealing import meddle
from tests.writing import owning


@pytest.fixture
async def connection(evening_url: str) -> AsyncIterator[Connection]:
    """A connection to the evening, projected and sealed."""
    async with await connect(evening_url) as opened:
        yield opened


async def test_a_live_ledger_is_right(connection: Connection) -> None:
    """Tree, entries, columns and every read model of a ledger that nobody meddled with are right."""
    report = await evening.inspected_live(connection)
    assert report.findings == []
    assert report.checked["entries"] == report.checked["columns"] > 700
    assert report.checked["consistency"] == 6
    assert report.checked["reports"] > 4
    assert report.checked["read models"] > 20


async def test_what_is_not_sealed_or_projected_yet_is_no_fault(connection: Connection) -> None:
    """The newest entries may be in no tree and in no read model yet; each is checked as far as it has come."""
    await evening.more(connection, 50)
    report = await evening.inspected_live(connection)
    assert report.findings == []
    assert report.checked["columns"] == report.checked["entries"] + 50
    await advance(connection, PROJECTIONS[-2], evening.LEDGER)
    assert (await evening.inspected_live(connection)).findings == []


async def test_checkpoints_that_were_kept_count(connection: Connection, evening_source: tuple[str, Path]) -> None:
    """A checkpoint that an auditor kept must be of this history, and no larger than it."""
    kept = (evening_source[1] / "checkpoint").read_text()
    assert (await evening.inspected_live(connection, kept)).findings == []
    forged = kept.replace("campaign-ledger", "kampagne")
    assert _checks(await evening.inspected_live(connection, forged)) == {"signatures"}


async def test_what_cannot_be_read_is_said(connection: Connection, evening_url: str) -> None:
    """Rows and entries that the program cannot read are findings, and parked events are, too."""
    async with owning(evening_url) as owner:
        await meddle(owner, "UPDATE campaigns SET pricing = '{}'")
        await meddle(owner, "UPDATE events SET entry = '[]' WHERE position = 3")
        park = "INSERT INTO parked_events SELECT ledger_id, 'history', 'k', 7, 'ValueError()', now() FROM ledgers"
        await meddle(owner, park)
    report = await evening.inspected_live(connection)
    details = " ".join(finding.detail for finding in report.findings)
    assert "a row of campaigns cannot be read" in details
    assert "it cannot be understood" in details
    assert "the projection history could not apply it" in details


async def test_a_lease_is_no_fault(connection: Connection) -> None:
    """What a worker holds is set aside of a budget, and may have begun a day on which nothing is delivered yet."""
    (campaign_id,) = await evening.begin_day(connection)
    assert (await evening.inspected_live(connection)).findings == []
    await connection.execute("UPDATE leases SET impressions = impressions - 1")
    details = " ".join(finding.detail for finding in (await evening.inspected_live(connection)).findings)
    assert f"budget {campaign_id}: the leased_impressions" in details


async def test_a_day_that_has_not_come_is_found(connection: Connection, evening_url: str) -> None:
    """A budget moved to a later day, where nothing counts as spent on it, is ahead of its ledger."""
    async with owning(evening_url) as owner:
        await meddle(owner, "UPDATE budgets SET day = day + 5, day_spent_micros = 0, day_impressions = 0")
    details = [finding.detail for finding in (await evening.inspected_live(connection)).findings]
    assert len([detail for detail in details if ": the day is" in detail]) == len(evening.CAMPAIGNS) + 1  # and funds


async def test_a_campaign_that_makes_no_sense_is_said(connection: Connection, evening_url: str) -> None:
    """A budget that the entries do not tell is a finding, and no reason to end there."""
    async with owning(evening_url) as owner:
        priced = "jsonb_set(entry::jsonb, '{event,pricing,model}', '\"barter\"')::json"
        await meddle(owner, f"UPDATE events SET entry = {priced} WHERE type = 'campaign_created'")
    details = " ".join(finding.detail for finding in (await evening.inspected_live(connection)).findings)
    assert "its budget cannot be told" in details


async def test_requests_that_nobody_made_are_found(connection: Connection, evening_url: str) -> None:
    """What slots asked for is counted again from the entries, and compared hour by hour and country by country."""
    async with owning(evening_url) as owner:
        await meddle(owner, "UPDATE ad_requests SET requests = requests + 1 WHERE country = 'CN' AND reason = ''")
        await meddle(owner, "UPDATE ad_requests SET country = 'FR' WHERE country = 'DE' AND reason <> ''")
    report = await evening.inspected_live(connection)
    details = " ".join(finding.detail for finding in report.findings)
    assert _checks(report) == {"reports"}
    assert "requests of" in details
    assert "other hours or places are said" in details


def _checks(report: Report) -> set[str]:
    return {finding.check for finding in report.findings}
