"""An ad slot over HTTP and the player, against a service that is busy, refuses, or has lost its own answer."""

import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from time import monotonic
from typing import Any, ClassVar, Final

import pytest
from httpx_retries import Retry

import api.play
from api import cli, play_cli
from api.ad_slot import Unanswered, ask, connected
from api.play import CouldNotPlay, Summary
from tests.api.ipinyou import row

Answer = tuple[int, dict[str, str], Any]
"""Status, headers, and what the body holds."""


class Scripted(BaseHTTPRequestHandler):
    """A server that answers as a script says: for each path the answers to come, of which the last one stays."""

    script: ClassVar[dict[str, list[Answer]]] = {}
    asked: ClassVar[list[tuple[str, float, Any]]] = []
    protocol_version = "HTTP/1.1"
    wbufsize = 65_536

    def do_GET(self) -> None:
        """Answer."""
        self.do_POST()

    def do_POST(self) -> None:
        """Answer."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.asked.append((self.path, monotonic(), json.loads(body or b"null")))
        answers = self.script[self.path]
        status, headers, answer = answers.pop(0) if len(answers) > 1 else answers[0]
        content = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def scripted(**script: list[Answer]) -> Iterator[str]:
    """A server with one slot that answers, under /ads/v1, as a script says; its address."""
    slots: Answer = (200, {}, [{"id": "s", "name": "s", "width": 300, "height": 250}])
    Scripted.script = {f"/ads/v1/{name}": answers for name, answers in {"slots": [slots], **script}.items()}
    Scripted.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Scripted)
    server.daemon_threads = True
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


AD: Final = {"impression_url": "https://ads.example/i/impression", "click_url": "https://ads.example/c/click"}
DECIDED: Final[Answer] = (200, {}, {"decisions": [{"ads": [AD], "no_bid_reason": None}]})
BUSY: Final[Answer] = (503, {"Retry-After": "1"}, {"code": "unavailable"})


def settled(result: str, **fields: str) -> Answer:
    """Return the answer to one beacon."""
    return 200, {}, {"results": [{"result": result, **fields}]}


async def play_rows(folder: Path, url: str, *rows: bytes) -> Summary:
    """Play rows on one connection."""
    (folder / "log.tsv").write_bytes(b"".join(rows))
    return await api.play.play(
        folder / "log.tsv", None, url=url, slot_key="key", parallel=1, progress=lambda _end, _rows: None
    )


async def test_a_busy_service_is_waited_for(tmp_path: Path) -> None:
    """Whoever is told to come back after a second does so, and what an unseen attempt recorded counts as recorded."""
    with scripted(decisions=[BUSY, DECIDED], events=[settled("repeated")]) as url:
        summary = await play_rows(tmp_path, url, row("a"))
        asked = [(path, at) for path, at, _ in Scripted.asked]
    assert [path for path, _ in asked] == ["/ads/v1/slots", *["/ads/v1/decisions"] * 2, "/ads/v1/events"]
    assert asked[2][1] - asked[1][1] >= 1
    assert (summary.impressions, summary.repeated) == (1, 0)


async def test_a_service_that_stays_busy_is_not_waited_for_for_ever() -> None:
    """After a bounded number of attempts the play ends."""
    with scripted(decisions=[BUSY]) as url:
        async with connected(url, "key", connections=1) as clients:
            once_more = Retry(total=1, allowed_methods=("POST",))
            with pytest.raises(Unanswered, match="keeps asking to try again later"):
                await ask(clients[0], "POST", "/ads/v1/decisions", {}, retry=once_more)
    assert len(Scripted.asked) == 2


async def test_what_the_service_refuses_is_counted_by_its_code(tmp_path: Path) -> None:
    """A row whose request is refused has no creative, and none when it is repeated; of a refused batch each counts."""
    problem: Answer = (400, {}, {"code": "invalid_body"})
    with scripted(decisions=[problem, DECIDED], events=[(418, {}, "no problem")]) as url:
        summary = await play_rows(tmp_path, url, row("a"), row("a"), row("b"))
    assert summary.refused == {"invalid_body": 2, "status 418": 1}
    assert (summary.decisions, summary.impressions) == (2, 0)


async def test_what_is_recorded_and_not_billed_is_told(tmp_path: Path) -> None:
    """An impression beyond the budget is recorded, and the summary says why it is not billed."""
    with scripted(decisions=[DECIDED], events=[settled("recorded", code="over_budget")]) as url:
        summary = await play_rows(tmp_path, url, row("a"))
    assert (summary.impressions, summary.unbilled) == (1, {"over_budget": 1})


async def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many bid ids are kept: a row that comes again after more than these is taken for a new one."""
    monkeypatch.setattr(api.play, "BID_IDS_KEPT_MAX", 30)
    monkeypatch.setattr(api.play, "WINDOW_ROWS_MAX", 1)
    rows = [row(f"bid-{number}") for number in range(31)]
    with scripted(decisions=[DECIDED], events=[settled("recorded")]) as url:
        summary = await play_rows(tmp_path, url, *rows, rows[-1], rows[1], rows[0])
    assert (summary.decisions, summary.impressions, summary.repeated) == (32, 32, 2)


async def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A clicks file that is missing is named before anything is played."""
    with scripted(decisions=[DECIDED]) as url, pytest.raises(CouldNotPlay, match=r"no-clicks\.tsv cannot be read"):
        await api.play.play(
            tmp_path, tmp_path / "no-clicks.tsv", url=url, slot_key="key", parallel=1, progress=lambda *_: None
        )


def test_progress_without_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where no bar can be drawn, a line now and then says how far the log has been played."""
    (tmp_path / "log.tsv").write_bytes(row("a"))
    monkeypatch.setattr(play_cli, "PROGRESS_EVERY_SECONDS", 0)
    errors = io.StringIO()
    monkeypatch.setattr(sys, "stderr", errors)
    with scripted(decisions=[DECIDED], events=[settled("recorded")]) as url:
        monkeypatch.setattr(sys, "argv", ["ledger", "play", str(tmp_path / "log.tsv"), "--url", url, "--slot-key", "k"])
        with pytest.raises(SystemExit) as end:
            cli.main()
    assert end.value.code == 0
    assert errors.getvalue() == "1 rows of log.tsv played, 100%\n"
    assert capsys.readouterr().out.startswith("rows ")
