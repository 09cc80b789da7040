"""The demo, as a newcomer meets it: started, tried out by pasting what it suggests, stopped, and started again."""

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any

import httpx
import psutil
import pytest

from tests.api.vast_shape import parsed, seconds_of
from tests.databases import IN_MEMORY
from tests.running import free_port

START_SECONDS_MAX = 120
STOP_SECONDS_MAX = 120
SEEDED = "Visitors keep coming"
ROOT = Path(__file__).parents[2]


class Demo:
    """A running `ledger demo`, and what it has said."""

    def __init__(self, data_dir: Path, port: int) -> None:
        """Start it."""
        self.data_dir = data_dir
        self.url = f"http://127.0.0.1:{port}"
        self._told = data_dir.parent / "told"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")}
        command = [sys.executable, "-m", "api.cli", "demo", "--port", str(port), "--data-dir", str(data_dir)]
        with self._told.open("wb") as told:
            self.process = subprocess.Popen(command, env=environment, stdout=told, stderr=told)

    @property
    def told(self) -> str:
        """What it has said so far."""
        return self._told.read_text()

    @property
    def password(self) -> str:
        """The password of the admin."""
        return str(re.findall(r"password +(\S+)", self.told)[0])

    def wait_for(self, words: str) -> "Demo":
        """Wait until it has said something."""
        deadline = monotonic() + START_SECONDS_MAX
        while words not in self.told:
            assert self.process.poll() is None, self.told
            assert monotonic() < deadline, self.told
            sleep(0.05)
        return self

    def processes(self) -> list[psutil.Process]:
        """Return all processes that belong to it, its PostgreSQL included."""
        top = psutil.Process(self.process.pid)
        postgres = [
            each
            for each in psutil.process_iter(["cmdline"])
            if str(self.data_dir / "postgres") in " ".join(each.info["cmdline"] or ())
        ]
        return [top, *top.children(recursive=True), *postgres]

    def stop(self, number: signal.Signals) -> None:
        """Ask it to end, as Ctrl-C or a supervisor does, and see that all of its processes do, without complaint."""
        processes = self.processes()
        self.process.send_signal(number)
        assert self.process.wait(STOP_SECONDS_MAX) == 0
        _, left = psutil.wait_procs(processes, timeout=5)
        assert left == []
        assert "Traceback" not in self.told
        assert "error" not in self.told

    @contextmanager
    def signed_in(self) -> Iterator[httpx.Client]:
        """A client of the admin whose password was told."""
        with httpx.Client(base_url=self.url, timeout=20) as client:
            credentials = {"email": "admin@example.com", "password": self.password}
            tokens = client.post("/api/v1/auth/login", json=credentials)
            client.headers["Authorization"] = f"Bearer {tokens.raise_for_status().json()['access_token']}"
            yield client


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    """A demo whose first start was interrupted in the middle of the example's traffic."""
    # Not below pytest's own folder, which another run closes to the account that PostgreSQL runs as.
    with TemporaryDirectory(dir=IN_MEMORY) as folder:
        Path(folder).chmod(0o755)
        port = free_port()
        Demo(Path(folder) / "data", port).wait_for("Playing the last day's traffic").stop(signal.SIGINT)
        started = Demo(Path(folder) / "data", port)
        try:
            yield started.wait_for(SEEDED)
        finally:
            started.process.terminate()
            started.process.wait(STOP_SECONDS_MAX)


@pytest.fixture(scope="module")
def admin(demo: Demo) -> Iterator[httpx.Client]:
    """A client of the admin whom the demo made."""
    with demo.signed_in() as client:
        yield client


def items(admin: httpx.Client, path: str, **params: Any) -> list[dict[str, Any]]:
    """Return what a list or a report holds."""
    answer = admin.get(f"/api/v1/{path}", params={"limit": 500, **params}).raise_for_status()
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def slot_id(admin: httpx.Client, name: str) -> str:
    """Return the id of a slot of the example."""
    (slot,) = items(admin, "slots", name=name)
    return str(slot["id"])


def test_everything_it_suggests_works(demo: Demo) -> None:
    """Each suggestion, pasted into a shell one after the other, does what it says; the documentation opens."""
    suggested = demo.told.partition("To try next")[2]
    lines = [line for line in suggested.partition("\n")[2].partition(SEEDED)[0].splitlines() if line]
    commands = [line for line in lines if not line.startswith("#")]
    assert len(commands) >= 5
    # A line between tells which of them has said what.
    pasted = ["/bin/bash", "-e", "-c", "\necho =====\n".join(commands)]
    done = subprocess.run(pasted, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    health, token, budgets, hours, decision, radio, projections = done.stdout.split("=====\n")
    assert '"status":"ready"' in health
    assert token == ""
    assert "Fjord line" in budgets
    assert hours.startswith("hour,currency,impressions")
    assert '"impression_url":' in decision
    assert sum(seconds_of(parsed(radio))) == 60
    assert re.search(r"^budgets +\d", projections, re.MULTILINE)
    page = re.findall(r"documentation +(\S+)", demo.told)[0]
    assert "swagger" in httpx.get(page).raise_for_status().text


def test_what_the_readme_tells_auditors_works(demo: Demo, tmp_path: Path) -> None:
    """Each command of the README's section for auditors does what it says when it is pasted, one after the other."""
    section = (ROOT / "README.md").read_text().partition("## For auditors")[2].partition("\n## ")[0]
    blocks = [block.partition("```")[0].splitlines() for block in section.replace("\\\n", "").split("```sh\n")[1:]]
    token = next(line for line in demo.told.splitlines() if line.startswith("TOKEN="))
    commands = [line.partition("  #")[0].strip() for block in (blocks[0], [token], *blocks[1:]) for line in block]
    assert len(commands) > 20
    script = "\necho =====\n".join(commands).replace("/tmp/", f"{tmp_path}/")  # noqa: S108  what the README says
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")}
    environment["LEDGER_DATA_DIR"] = str(demo.data_dir)
    environment["PATH"] += f":{Path(sys.executable).parent}"  # wherever these tests run
    done = subprocess.run(
        ["/bin/bash", "-e", "-c", script.replace("http://127.0.0.1:8000", demo.url)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr + done.stdout[-2_000:]
    told = list(zip(commands, done.stdout.split("=====\n"), strict=True))
    for pasted, words in (
        ("ledger audit verify", "read models"),
        ("ledger audit verify /tmp/evening", "bean-check"),
        ("ledger audit verify /tmp/first.tlog-proof", '"version":1'),
        ("ledger audit verify /tmp/invoice", "billed deliveries of campaign"),
        ("ledger audit replay budgets", "campaign_id,"),
        ("ledger audit replay delivery", '"position":1000'),
        ("ledger projections compare delivery", "They are the same."),
        ("ledger projections rebuild delivery", "delivery is swapped in"),
        ('curl -fsS "$URL/audit/v1/events?type', "campaign_paused"),
        ("curl -fsSN", "id: 4001"),
        ('curl -fsS "$URL/audit/v1/diff', '"delivered":[{'),
        ('curl -fsS "$URL/api/v1/reports/budgets', '"position":1000'),
        ('curl -fsS "$URL/audit/v1/log/checkpoint', "\n— "),
        ('curl -fsS "$URL/audit/v1/proofs/inclusion', "c2sp.org/tlog-proof@v1\n"),
        ('curl -fsS "$URL/audit/v1/proofs/consistency', '"old_size":1'),
    ):
        answers = [said for command, said in told if command.startswith(pasted)]
        assert any(words in said for said in answers), (pasted, answers)
    assert all("Everything is right." in said for command, said in told if command.startswith("ledger audit verify"))
    assert len((tmp_path / "log.ndjson").read_text().splitlines()) > 4_000


def test_the_example_shows_every_state(admin: httpx.Client) -> None:
    """There are three advertisers, campaigns in every state, creatives of every review, and slots with keys."""
    assert len(items(admin, "advertisers")) == 3
    campaigns = {each["name"]: each["status"] for each in items(admin, "campaigns")}
    # The clock expires the last one within half a minute.
    assert campaigns.pop("Summer pass") in {"draft", "expired"}
    assert Counter(campaigns.values()) == {"active": 6, "paused": 1, "completed": 1, "draft": 1}
    reviews = Counter(each["review"] for each in items(admin, "creatives"))
    assert reviews == {"approved": 32, "pending": 1, "denied": 1, "unsubmitted": 1}
    slots = items(admin, "slots")
    assert sorted(each["name"] for each in slots) == ["Archive column", "Article side", "Front page top", "Radio break"]
    assert all(each["keys"] for each in slots)


def test_a_day_of_traffic_is_in_the_log(admin: httpx.Client) -> None:
    """Impressions, views and clicks of 24 hours are reported, more by day than by night, from several countries."""
    countries = items(admin, "reports/delivery", group_by="country")
    assert len(countries) >= 6
    assert sum(each["impressions"] for each in countries) > 2_000
    assert sum(each["views"] for each in countries) > 1_000
    assert sum(each["clicks"] for each in countries) > 10
    by_hour = [each["impressions"] for each in items(admin, "reports/delivery", group_by="hour")]
    assert len(by_hour) >= 22
    assert max(by_hour) > 4 * min(by_hour)
    (radio,) = items(admin, "reports/delivery", group_by="slot", slot_id=slot_id(admin, "Radio break"))
    assert radio["progress"]["start"] == radio["impressions"] > 20
    assert 0.2 < radio["completion_rate"] < 1
    budgets = {each["name"]: each for each in items(admin, "reports/budgets")}
    nearly_spent = budgets["Fjord line"]
    assert nearly_spent["spent_micros"] > 0.8 * nearly_spent["budget_micros"]
    assert budgets["City bikes"]["billed_clicks"] > 0
    assert budgets["Night trains"]["spent_micros"] == 900_000_000


def test_visitors_keep_coming_and_the_read_models_keep_up(admin: httpx.Client) -> None:
    """The log goes on growing, and at some moment every read model has come to its end."""
    deadline = monotonic() + 30
    positions: set[int] = set()
    caught_up = False
    while len(positions) < 3 or not caught_up:
        assert monotonic() < deadline
        found = admin.get("/audit/v1/projections").raise_for_status().json()
        positions.add(max(each["position"] + each["lag"] for each in found))
        caught_up = caught_up or not any(each["lag"] or each["parked"] for each in found)
        sleep(0.1)


def test_it_stops_and_goes_on(demo: Demo, admin: httpx.Client) -> None:
    """Told to stop it leaves no process behind; the next start goes on with the same ledger, and a new password."""
    before = {each["id"] for each in items(admin, "campaigns")}
    old_password = demo.password
    demo.stop(signal.SIGTERM)
    again = Demo(demo.data_dir, int(demo.url.rpartition(":")[2])).wait_for(SEEDED)
    try:
        assert "Setting up" not in again.told
        assert "Playing" not in again.told
        assert again.password != old_password
        with again.signed_in() as client:
            assert {each["id"] for each in items(client, "campaigns")} == before
            assert len(items(client, "users")) == 2
            assert [len(each["keys"]) for each in items(client, "slots")] == [2, 2, 2, 2]
    finally:
        again.stop(signal.SIGINT)
