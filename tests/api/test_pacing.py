"""Pacing and tallies over HTTP: who is ahead is paced, who is behind is served, and what was asked for is reported."""

import csv
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import monotonic, sleep
from typing import Any, Final

from tests.world import World

WAIT_SECONDS_MAX: Final = 30
"""As long as an interval of tallies, and more."""

SIZE: Final = {"width": 431, "height": 200}


def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    deadline = monotonic() + WAIT_SECONDS_MAX
    while not condition():
        assert monotonic() < deadline, "it did not come to pass"
        sleep(0.05)


def test_a_campaign_is_spread_and_what_it_leaves_is_told(world: World) -> None:
    """One impression ahead it rests, and is served again when more is due; the report has each request and reason."""
    slot_id, ads = world.slot(**SIZE)
    said: Counter[str] = Counter()

    def ask(**fields: Any) -> str:
        """Ask for a creative, and return why there was none, or nothing."""
        body = {"id": "r", "placements": [{"id": "p", "slot_id": slot_id}], "geo": {"country": "CHN"}, **fields}
        answer = ads.post("/ads/v1/decisions", json=body)
        if answer.status_code != 200:  # the slot is not known yet
            return f"{answer.status_code}"
        reason = answer.json()["decisions"][0].get("no_bid_reason") or ""
        said[reason] += not fields.get("test")
        return reason

    today = datetime.now(UTC).date()
    flight = {"start_date": f"{today}", "end_date": f"{today + timedelta(days=30)}"}
    campaign_id, _ = world.active_campaign(pacing="even", impression_budget=1_000, **flight, **SIZE)
    until(lambda: ask() == "")
    until(lambda: ask() == "paced")
    world.admin.patch(f"/api/v1/campaigns/{campaign_id}", json={"impression_budget": 10**11}).raise_for_status()
    until(lambda: ask() == "")
    ask(test=True)
    assert said["paced"] >= 1 < said[""] + said["no_budget"]

    def report(**params: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = world.get("reports/delivery", slot_id=slot_id, **params)["items"]
        return found

    until(lambda: sum(line["requests"] for line in report(group_by="slot")) == said.total())
    (line,) = report(group_by="slot,country,day")
    assert (line["slot_id"], line["country"], line["currency"], line["impressions"]) == (slot_id, "CN", None, 0)
    assert (line["requests"], line["fills"]) == (said.total(), said[""])
    assert line["fill_rate"] == said[""] / said.total()
    assert line["no_fill"] == {reason: count for reason, count in said.items() if reason and count}
    assert "requests" not in str(report(group_by="campaign"))
    head = max(each["position"] for each in world.admin.get("/audit/v1/projections").json())
    assert report(group_by="slot,country,day", as_of=head) == [line]
    assert report(group_by="slot", as_of=0) == []
    table = world.admin.get(
        "/api/v1/reports/delivery", params={"slot_id": slot_id, "group_by": "slot", "format": "csv"}
    ).text
    (row,) = csv.DictReader(table.splitlines())
    assert (row["requests"], row["fills"]) == (f"{said.total()}", f"{said['']}")
    assert f"paced={said['paced']}" in row["no_fill"].split()
