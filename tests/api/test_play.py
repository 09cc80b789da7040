"""Playing a recorded log: what a report shows afterwards is what an independent count over the file gives."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from time import monotonic, sleep
from typing import Any

import httpx
import pytest

from api import cli
from api.play import BadRow, parse
from tests.api import ipinyou
from tests.api.ipinyou import SIZES, Count, row
from tests.running import Service, free_port
from tests.world import World

RECORDED = Path(__file__).parent.parent.parent.parent / "shared" / "data" / "ipinyou"
SEALED_SECONDS_MAX = 20
DAY = datetime(2013, 11, 2, tzinfo=UTC)
"""When the rows were played that a test makes: not on the day of the recorded ones."""


@pytest.fixture(scope="module")
def service(own_service: Service) -> Service:
    """A service whose log is this module's alone."""
    return own_service


@pytest.fixture(scope="module")
def stage(service: Service, admin: httpx.Client) -> Iterator[dict[str, Any]]:
    """A slot and a creative of every size of the recorded log, without a budget, and a slot with nothing to show."""
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


@pytest.fixture(scope="module")
def recorded(stage: dict[str, Any]) -> dict[str, Any]:
    """The summary of playing the recorded evening, where it is at hand."""
    if not RECORDED.exists():
        pytest.skip("the recorded log lies beside the project, not in it")
    status, summary = played(stage, RECORDED / "impressions.tsv", "--clicks", str(RECORDED / "clicks.tsv"))
    assert status == 0
    return summary


def test_a_recorded_evening_is_reported_as_it_was(stage: dict[str, Any], recorded: dict[str, Any]) -> None:
    """10,000 rows of real traffic: each impression counts once, in its hour, region and size, and no click is lost."""
    counted, summary = ipinyou.count(RECORDED / "impressions.tsv", RECORDED / "clicks.tsv"), recorded
    assert (counted.regions.total(), counted.repeated, counted.clicked, counted.unclicked) == (9_960, 40, 3, 439)
    assert summary["rows"] == 10_000
    assert summary["click_rows"] == 442
    assert summary["decisions"] == summary["impressions"] == 9_960
    assert (summary["repeated"], summary["clicks"], summary["repeated_clicks"]) == (40, 3, 0)
    assert summary["clicks_without_impression"] == 439
    assert not any(summary[name] for name in ("malformed", "refused", "no_bids", "without_slot", "unbilled"))
    assert_reported(stage, counted, datetime(2013, 10, 21, tzinfo=UTC))


def test_a_recorded_evening_is_verified_offline(
    stage: dict[str, Any], recorded: dict[str, Any], tmp_path: Path
) -> None:
    """The real evening is exported, and verified with neither database nor network; beancount adds up its accounts."""
    service: Service = stage["world"].service
    standing = stage["world"].admin.get("/audit/v1/projections").json()
    head, sealed = max(each["position"] + each["lag"] for each in standing), 0
    deadline = monotonic() + SEALED_SECONDS_MAX
    while sealed < head:
        assert monotonic() < deadline, sealed
        sealed = int(httpx.get(f"{service.url}/audit/v1/log/checkpoint").text.splitlines()[1])
        sleep(0.1)
    audit, folder = [sys.executable, "-m", "api.cli", "audit"], str(tmp_path / "evening")
    with service.database() as url:
        online = service.environment | {"LEDGER_DATABASE_URL": url}
        subprocess.run([*audit, "export", folder], env=online, capture_output=True, check=True)
    offline = {name: value for name, value in service.environment.items() if not name.startswith("LEDGER_")}
    done = subprocess.run(
        [*audit, "verify", folder, "--bean-check", "--json"], env=offline, capture_output=True, check=False
    )
    verdict = json.loads(done.stdout)
    assert (done.returncode, verdict["findings"]) == (0, [])
    assert verdict["checked"]["bean-check"] == 1
    assert verdict["checked"]["money"] >= recorded["impressions"] + recorded["clicks"]
    accounts = (tmp_path / "evening" / "accounts.beancount").read_text()
    assert accounts.count('* "impression_recorded"') >= recorded["impressions"]


def made(folder: Path) -> tuple[Path, Path]:
    """Write a small log and its clicks, of well-formed rows: some repeated at once, some much later, some odd."""
    random = Random(2821)
    rows = []
    for number in range(450):
        width, height = random.choice(SIZES)
        time = f"20131102{random.randrange(9, 22):02}{random.randrange(60):02}15250"
        region = str(random.choice((0, 2, 216, 238)))
        columns = {"c2": time, "c7": region, "c14": str(width), "c15": str(height)}
        rows += [row(f"bid-{number}", **columns)] * (2 if number % 45 == 0 else 1)
    rows += rows[:10]
    rows += [
        row("of nobody", c4="null", c7="", c8=""),
        row("with broken bytes", c5="Mozilla \udcff\udcfe", c7="21\udce6"),
        row("with control characters", c5="\0\a\x1b[31m", c10="\x85"),
        row("with a very long name" * 20, c5="Mozilla" * 1_000),
        row("as Windows writes").replace(b"\n", b"\r\n"),
        row("without an end").removesuffix(b"\n"),
    ]
    clicks = [row(f"bid-{number}", log_type="2", c2="20131102215959999") for number in (3, 9, 27, 81, 243)]
    clicks += [row(f"elsewhere-{number}", log_type="2") for number in range(4)]
    (folder / "log.tsv").write_bytes(b"".join(rows))
    (folder / "clicks.tsv").write_bytes(b"".join(clicks))
    return folder / "log.tsv", folder / "clicks.tsv"


def test_a_log_with_flaws_is_reported_as_it_was(stage: dict[str, Any], tmp_path: Path) -> None:
    """Rows that are malformed, without a slot, unserved or refused are counted as that; all others count once."""
    log, clicks = made(tmp_path)
    counted = ipinyou.count(log, clicks)
    assert (counted.regions.total(), counted.repeated, counted.clicked, counted.unclicked) == (456, 20, 5, 4)
    flaws = [
        *(b"three\tcolumns\there\n", b"\n", b"\xff\xfe\0\n", b"x" * 200_000 + b"\n", row("a click", log_type="2")),
        *(row("on no day", c2="20131301120000123"), row(""), row("wide", c14="wide"), row("vast", c15="9" * 5_000)),
        *(row("a", c14="999"), row("b", c14="999"), row("c", c14="5", c15="5")),
        *(row("nothing to show", c14="468", c15="60"),) * 2,
        row("not yet", c2="20990101000000000"),
    ]
    (tmp_path / "flawed.tsv").write_bytes(b"".join(flaws) + log.read_bytes())
    late = [row("bid-9", log_type="2"), row("nothing to show", log_type="2"), row("an impression")]
    (tmp_path / "late.tsv").write_bytes(clicks.read_bytes() + b"".join(late))
    status, summary = played(stage, tmp_path / "flawed.tsv", "--clicks", str(tmp_path / "late.tsv"), "--parallel", "4")
    assert status == 1
    assert summary.pop("seconds") > 0
    assert summary.pop("rows_per_second") > 0
    assert summary == {
        "rows": 491,
        "click_rows": 12,
        "decisions": 458,
        "impressions": 456,
        "repeated": 20,
        "clicks": 5,
        "repeated_clicks": 1,
        "clicks_without_impression": 5,
        "unbilled": {},
        "no_bids": {"no_matching_creative": 2},
        "without_slot": {"999x250": 2, "5x5": 1},
        "refused": {"time_in_future": 1},
        "malformed": 10,
        "malformed_lines": [
            "late.tsv:12: log type '1', not '2'",
            "flawed.tsv:1: 3 columns, not 24",
            "flawed.tsv:2: 1 columns, not 24",
            "flawed.tsv:3: 1 columns, not 24",
            "flawed.tsv:4: 1 columns, not 24",
        ],
    }
    assert_reported(stage, counted, DAY)


def test_people_see_progress_and_a_summary(stage: dict[str, Any], tmp_path: Path) -> None:
    """On a terminal a bar shows how far the log has been played; the summary has a line for each count."""
    (tmp_path / "log.tsv").write_bytes(row("seen", c2="20131103120000000"))
    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "api.cli", "play", str(tmp_path / "log.tsv")]
    command += ["--url", stage["world"].service.url, "--slot-key", stage["key"]]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=end, text=True, check=False)
    os.close(end)
    bar = os.read(terminal, 10_000).decode()
    os.close(terminal)
    assert done.returncode == 0
    assert "Playing log.tsv" in bar
    assert "100%" in bar
    lines = dict(line.rsplit(maxsplit=1) for line in done.stdout.splitlines()[:-1])
    assert (lines["rows"], lines["impressions recorded"], lines["malformed rows"]) == ("1", "1", "0")
    assert "rows/s" in done.stdout


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("x.tsv --slot-key {key} --url {url}", "x.tsv cannot be read: No such file or directory."),
        (". --slot-key {key} --url {url}", ". cannot be read: Is a directory."),
        ("x.tsv --slot-key lsk_unknown --url {url}", "The key is refused by {url}."),
        ("x.tsv --slot-key ключ --url {url}", "The key is not one that a server could have issued."),
        ("x.tsv --slot-key {key} --url {url}/health", "{url}/health/ does not answer as a campaign ledger does."),
        ("x.tsv --slot-key {key} --url {nobody}", "No answer from {nobody}: All connection attempts failed."),
        ("x.tsv --slot-key {key} --url ftp://x", "No answer from ftp://x: Request URL has an unsupported"),
        ("x.tsv --slot-key {key} --url http://x:y", "http://x:y is not an address: "),
    ],
)
def test_what_cannot_be_played_is_said_in_a_sentence(
    stage: dict[str, Any],
    options: str,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A missing file, an unreachable service, another kind of server or a refused key end with 2, and a sentence."""
    known = {"key": stage["key"], "url": stage["world"].service.url, "nobody": f"http://127.0.0.1:{free_port()}"}
    monkeypatch.setattr(sys, "argv", ["ledger", "play", *options.format(**known).split()])
    with pytest.raises(SystemExit) as end:
        cli.main()
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert error.startswith(f"ledger: {reason.format(**known)}")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (row("a", c2="2013110212000012"), "time '2013110212000012', not yyyymmddHHMMSSmmm"),
        (row("a", c2="2013110212000012x"), "time '2013110212000012x', not yyyymmddHHMMSSmmm"),
        (row("a", c2="00000000000000000"), "time '00000000000000000', not yyyymmddHHMMSSmmm"),
        (row("a", c2="00010101000000000"), "time '00010101000000000', not yyyymmddHHMMSSmmm"),
        (row("a", c3="3"), "log type '3', not '1'"),
        (row("\0"), "no bid id"),
        (row("a", c14="-1"), "a slot of '-1' by '250'"),
        (row("a", c14="٣٠٠"), "a slot of '٣٠٠' by '250'"),
        (row("a") + b"\t", "25 columns, not 24"),
    ],
)
def test_a_malformed_row_is_explained(line: bytes, reason: str) -> None:
    """What is wrong with a row is said, and never taken for something else."""
    with pytest.raises(BadRow) as refused:
        parse(line, "1")
    assert str(refused.value) == reason


def test_times_are_those_of_china() -> None:
    """A row's time is China Standard Time, eight hours ahead of UTC, to the millisecond."""
    assert parse(row("a", c2="20131022000000007"), "1").occurred_at == datetime(2013, 10, 21, 16, 0, 0, 7_000, UTC)
