"""Playing a recorded log: what a report shows afterwards is what an independent count over the file gives."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from threading import Thread
from typing import Any

import httpx
import pytest
from httpx_retries import Retry

from api.ad_slot import Unanswered, ask, code_of, connected
from api.play import BadRow, parse, play
from tests.api import ipinyou
from tests.api.ipinyou import SIZES, Count, row
from tests.service import Service, free_port
from tests.world import World

ROOT = Path(__file__).parent.parent.parent
RECORDED = ROOT.parent / "shared" / "data" / "ipinyou"

Lines = list[bytes]


@pytest.fixture(scope="module")
def stage(service: Service, admin: httpx.Client) -> Iterator[dict[str, Any]]:
    """A slot and a creative of every size of the recorded log, an unlimited budget, and one slot with nothing to show."""
    world = World(service, admin)
    campaign_id = world.campaign()
    slots = {}
    for width, height in SIZES:
        world.creative(campaign_id, width=width, height=height)
        slots[width, height], _ = world.slot(name=f"{width}x{height}", width=width, height=height)
    world.post(f"campaigns/{campaign_id}/activate", expect=200)
    world.slot(name="empty", width=468, height=60)
    world.slot(name="zzz another of the same size", width=300, height=250)
    slot_id, ads = world.slot(name="the one whose key is used", width=1, height=1)
    world.served(world.clients[0], slots[300, 250])
    assert slot_id
    yield {"world": world, "slots": slots, "key": ads.headers["Authorization"].removeprefix("Bearer ")}
    for client in world.clients:
        client.close()


def played(stage: dict[str, Any], log: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """Play a log in a process of its own, and return its status and its summary."""
    url = stage["world"].service.url
    command = [sys.executable, "-m", "api.cli", "play", str(log), "--url", url, "--slot-key", stage["key"], "--json"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def delivered(stage: dict[str, Any], group_by: str, day: datetime) -> dict[str, tuple[int, int]]:
    """Return impressions and clicks by something, on one day (UTC), from the report on deliveries."""
    stage["world"].caught_up()
    found = stage["world"].get(
        "reports/delivery",
        **{"group_by": group_by, "limit": 500, "from": day.isoformat(), "to": (day + timedelta(days=1)).isoformat()},
    )
    key = "slot_id" if group_by == "slot" else group_by
    return {line[key]: (line["impressions"], line["clicks"]) for line in found["items"]}


def assert_reported(stage: dict[str, Any], counted: Count, day: datetime) -> None:
    """Compare the report on a day with a count."""
    regions = delivered(stage, "region", day)
    assert {region: impressions for region, (impressions, _) in regions.items()} == counted.regions
    assert sum(clicks for _, clicks in regions.values()) == counted.clicked
    sizes = {slot_id: size for size, slot_id in stage["slots"].items()}
    by_size = {sizes[slot_id]: impressions for slot_id, (impressions, _) in delivered(stage, "slot", day).items()}
    assert by_size == counted.sizes
    by_hour = {
        datetime.fromisoformat(hour): impressions for hour, (impressions, _) in delivered(stage, "hour", day).items()
    }
    assert by_hour == counted.hours


@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded log lies beside the project, not in it")
def test_a_recorded_evening_is_reported_as_it_was(stage: dict[str, Any]) -> None:
    """10,000 rows of real traffic: each impression is counted once, in its hour, region and size, and no click is lost."""
    log, clicks = RECORDED / "impressions.tsv", RECORDED / "clicks.tsv"
    counted = ipinyou.count(log, clicks)
    assert (counted.regions.total(), counted.repeated, counted.clicked, counted.unclicked) == (9_960, 40, 3, 439)
    status, summary = played(stage, log, "--clicks", str(clicks))
    assert status == 0
    assert summary["rows"] == 10_000
    assert summary["click_rows"] == 442
    assert summary["decisions"] == summary["impressions"] == 9_960
    assert (summary["repeated"], summary["clicks"], summary["repeated_clicks"]) == (40, 3, 0)
    assert summary["clicks_without_impression"] == 439
    assert not any(summary[name] for name in ("malformed", "refused", "no_bids", "without_slot", "unbilled"))
    assert_reported(stage, counted, datetime(2013, 10, 21, tzinfo=UTC))
