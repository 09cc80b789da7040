"""The `play` command: a recorded log, played as ad requests and beacons against a running service, over HTTP.

The log has the format of the iPinYou bidding contest: 24 columns separated by tabs, no header. It is played in windows:
the rows of one are decided by several connections at once and then reported in their order, well before a hold expires.
Of what was played only the impression tokens are kept, by bid id, because a row may be repeated.
"""

import asyncio
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Final, NamedTuple

import httpx
from msgspec import Struct

from api.ad_slot import IMPATIENT, Unanswered, ask, code_of, connected, report, token_of

COLUMNS: Final = 24
IMPRESSION_TYPE: Final = "1"
CLICK_TYPE: Final = "2"
TIME_DIGITS: Final = 17
LINE_BYTES_MAX: Final = 65_536
MALFORMED_SHOWN_MAX: Final = 5

WINDOW_ROWS_PER_CONNECTION: Final = 25
WINDOW_ROWS_MAX: Final = 500
"""So few that a slow service decides them all within the minute for which a slot usually holds what was decided."""

BID_IDS_KEPT_MAX: Final = 1_000_000
"""About 600 MB. A row repeated after more bid ids than this is taken for a new one."""

ID_CHARACTERS_MAX: Final = 100
USER_AGENT_CHARACTERS_MAX: Final = 1_000

_SIZE: Final = re.compile(r"[0-9]{1,5}x[0-9]{1,5}")


class CouldNotPlay(Exception):
    """A file of the log cannot be read."""


class BadRow(Exception):
    """A line is not a row of such a log."""


class Row(NamedTuple):
    """What a row of the log says."""

    bid_id: str
    occurred_at: datetime
    viewer: str | None
    user_agent: str | None
    region: str | None
    city: str | None
    domain: str | None
    size: tuple[int, int]


class Summary(Struct, frozen=True, kw_only=True):
    """What became of a log; the maps count by reason or, for rows without a slot, by size."""

    rows: int
    click_rows: int
    decisions: int
    impressions: int
    repeated: int
    clicks: int
    repeated_clicks: int
    clicks_without_impression: int
    unbilled: dict[str, int]
    no_bids: dict[str, int]
    without_slot: dict[str, int]
    refused: dict[str, int]
    malformed: int
    malformed_lines: list[str]
    seconds: float
    rows_per_second: float


class _Beacon(NamedTuple):
    token: str
    occurred_at: datetime
    counts_as: str


async def play(
    log: Path,
    clicks: Path | None,
    *,
    url: str,
    slot_key: str,
    parallel: int,
    progress: Callable[[int, int], None],
) -> Summary:
    """Play a log and return what became of it; raise CouldNotPlay or Unanswered.

    `progress` is told, after each window, how many bytes and how many rows of the log are done.
    """
    started = perf_counter()
    async with connected(url, slot_key, connections=parallel) as clients:
        player = _Player(clients, await _slots(clients[0]))
        if clicks is not None:
            player.read_clicks(clicks)
        for window, end in _windows(player.rows(log), min(WINDOW_ROWS_MAX, parallel * WINDOW_ROWS_PER_CONNECTION)):
            await player.play(window)
            progress(end, player.counts["rows"])
    return player.summary(perf_counter() - started)


class _Player:
    """Plays windows of rows, and counts what becomes of them."""

    def __init__(self, clients: Sequence[httpx.AsyncClient], slots: dict[tuple[int, int], str]) -> None:
        self.counts: Counter[str] = Counter()
        self._clients = clients
        self._slots = slots
        self._clicks: dict[str, list[datetime]] = {}
        self._tokens: OrderedDict[str, str] = OrderedDict()
        self._unserved: OrderedDict[str, tuple[Counter[str], str]] = OrderedDict()
        self._unbilled: Counter[str] = Counter()
        self._no_bids: Counter[str] = Counter()
        self._without_slot: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._malformed_lines: list[str] = []

    def rows(self, path: Path, log_type: str = IMPRESSION_TYPE) -> Iterator[tuple[Row, int]]:
        """Yield the rows of a file, each with the offset at which it ends; count what is none."""
        for number, line, end in _lines(path):
            self.counts["rows" if log_type == IMPRESSION_TYPE else "click_rows"] += 1
            try:
                yield parse(line, log_type), end
            except BadRow as error:
                self.counts["malformed"] += 1
                if len(self._malformed_lines) < MALFORMED_SHOWN_MAX:
                    self._malformed_lines.append(f"{path.name}:{number}: {error}")

    def read_clicks(self, path: Path) -> None:
        """Keep the clicks of a file until their impressions come."""
        for row, _ in self.rows(path, CLICK_TYPE):
            self._clicks.setdefault(row.bid_id, []).append(row.occurred_at)

    async def play(self, window: Sequence[Row]) -> None:
        """Have the new rows of a window decided, then report all of it in order."""
        rows = [row for row in window if self._has_slot(row)]
        new = {row.bid_id: row for row in rows if row.bid_id not in self._tokens and row.bid_id not in self._unserved}
        waiting = iter(new.values())
        decided: dict[str, tuple[str, str]] = {}
        await asyncio.gather(*(self._decide(client, waiting, decided) for client in self._clients))
        beacons: list[_Beacon] = []
        for row in rows:
            served = decided.pop(row.bid_id, None)
            if served is not None:
                impression, click = served
                self._tokens[row.bid_id] = impression
                beacons.append(_Beacon(impression, row.occurred_at, "impressions"))
                clicks = self._clicks.pop(row.bid_id, [])
                beacons += [_Beacon(click, at, "repeated_clicks" if n else "clicks") for n, at in enumerate(clicks)]
            elif row.bid_id in self._tokens:
                beacons.append(_Beacon(self._tokens[row.bid_id], row.occurred_at, "repeated"))
            else:
                counter, reason = self._unserved[row.bid_id]
                counter[reason] += 1
        results = await report(self._clients[0], [(beacon.token, beacon.occurred_at) for beacon in beacons])
        for beacon, result in zip(beacons, results, strict=True):
            self._count(beacon, result)
        for kept in (self._tokens, self._unserved):
            while len(kept) > BID_IDS_KEPT_MAX:
                kept.popitem(last=False)

    def summary(self, seconds: float) -> Summary:
        """Return what was counted."""
        counts = self.counts
        return Summary(
            rows=counts["rows"],
            click_rows=counts["click_rows"],
            decisions=counts["decisions"],
            impressions=counts["impressions"],
            repeated=counts["repeated"],
            clicks=counts["clicks"],
            repeated_clicks=counts["repeated_clicks"],
            clicks_without_impression=sum(map(len, self._clicks.values())),
            unbilled=dict(self._unbilled),
            no_bids=dict(self._no_bids),
            without_slot=dict(self._without_slot),
            refused=dict(self._refused),
            malformed=counts["malformed"],
            malformed_lines=self._malformed_lines,
            seconds=round(seconds, 3),
            rows_per_second=round(counts["rows"] / seconds, 1),
        )

    def _has_slot(self, row: Row) -> bool:
        if row.size in self._slots:
            return True
        self._without_slot["{}x{}".format(*row.size)] += 1
        return False

    async def _decide(
        self, client: httpx.AsyncClient, waiting: Iterator[Row], decided: dict[str, tuple[str, str]]
    ) -> None:
        for row in waiting:
            answer = await ask(client, "POST", "/ads/v1/decisions", _request(row, self._slots[row.size]))
            self.counts["decisions"] += 1
            if answer.status_code != httpx.codes.OK:
                self._unserved[row.bid_id] = (self._refused, code_of(answer))
                continue
            placement = answer.json()["decisions"][0]
            if placement["ads"]:
                ad = placement["ads"][0]
                decided[row.bid_id] = (token_of(ad["impression_url"]), token_of(ad["click_url"]))
            else:
                self._unserved[row.bid_id] = (self._no_bids, placement["no_bid_reason"])

    def _count(self, beacon: _Beacon, result: dict[str, str]) -> None:
        if result["result"] == "refused":
            self._refused[result["code"]] += 1
            return
        # A first report that is answered with "repeated" was recorded by an attempt whose answer was lost.
        self.counts[beacon.counts_as] += 1
        if "code" in result:
            self._unbilled[result["code"]] += 1


def parse(line: bytes, log_type: str) -> Row:
    """Return what a line of a log says, as far as the service takes it; raise BadRow."""
    columns = line.decode("utf-8", errors="replace").rstrip("\r\n").split("\t")
    if len(columns) != COLUMNS:
        raise BadRow(f"{len(columns)} columns, not {COLUMNS}")
    if columns[2] != log_type:
        raise BadRow(f"log type {columns[2]!r:.40}, not {log_type!r}")
    bid_id, viewer = _text(columns[0]), _text(columns[3])
    if bid_id is None:
        raise BadRow("no bid id")
    width, height = columns[13], columns[14]
    if not _SIZE.fullmatch(f"{width}x{height}"):
        raise BadRow(f"a slot of {width!r:.40} by {height!r:.40}")
    return Row(
        bid_id=bid_id,
        occurred_at=_moment(columns[1]),
        viewer=None if viewer == "null" else viewer,
        user_agent=_text(columns[4], USER_AGENT_CHARACTERS_MAX),
        region=_text(columns[6]),
        city=_text(columns[7]),
        domain=_text(columns[9]),
        size=(int(width), int(height)),
    )


def _moment(text: str) -> datetime:
    """Return, in UTC, a time of the log: yyyymmddHHMMSSmmm in China Standard Time."""
    if len(text) == TIME_DIGITS and text.isascii() and text.isdigit():
        try:
            return datetime.fromisoformat(f"{text[:8]}T{text[8:14]}.{text[14:]}+08:00").astimezone(UTC)
        except (ValueError, OverflowError):
            pass
    raise BadRow(f"time {text!r:.40}, not yyyymmddHHMMSSmmm")


def _text(column: str, characters_max: int = ID_CHARACTERS_MAX) -> str | None:
    printable = column if column.isprintable() else "".join(filter(str.isprintable, column))
    return printable[:characters_max] or None


def _request(row: Row, slot_id: str) -> dict[str, object]:
    return {
        "id": row.bid_id,
        "placements": [{"id": "1", "slot_id": slot_id}],
        "geo": {"country": "CN", "region": row.region, "city": row.city},
        "viewer": {"id": row.viewer},
        "device": {"ua": row.user_agent},
        "site": {"domain": row.domain},
    }


async def _slots(client: httpx.AsyncClient) -> dict[tuple[int, int], str]:
    """Return the id of the slot of each size; of several the first by name."""
    answer = await ask(client, "GET", "/ads/v1/slots", retry=IMPATIENT)
    try:
        slots = sorted(answer.raise_for_status().json(), key=lambda slot: (slot["name"], slot["id"]), reverse=True)
        return {(slot["width"], slot["height"]): slot["id"] for slot in slots}
    except (httpx.HTTPStatusError, ValueError, KeyError, TypeError) as error:
        raise Unanswered(f"{client.base_url} does not answer as a campaign ledger does.") from error


def _lines(path: Path) -> Iterator[tuple[int, bytes, int]]:
    """Yield number, bytes and end of each line; one that is too long comes without its bytes. Raise CouldNotPlay."""
    number = 0
    try:
        with path.open("rb") as file:
            while line := file.readline(LINE_BYTES_MAX):
                number += 1
                while not line.endswith(b"\n") and (rest := file.readline(LINE_BYTES_MAX)):
                    line = rest[-1:]
                yield number, line, file.tell()
    except OSError as error:
        raise CouldNotPlay(f"{path} cannot be read: {error.strerror}.") from error


def _windows(rows: Iterable[tuple[Row, int]], size: int) -> Iterator[tuple[list[Row], int]]:
    window: list[Row] = []
    end = 0
    for row, end in rows:
        window.append(row)
        if len(window) == size:
            yield window, end
            window = []
    if window:
        yield window, end
