"""Logs in the format of the iPinYou contest: rows made for a test, and an independent count of what a log says."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

COLUMNS = 24
CHINA_HOURS_AHEAD = timedelta(hours=8)

SIZES = (
    *((300, 250), (960, 90), (728, 90), (1000, 90), (336, 280)),
    *((950, 90), (120, 600), (160, 600), (300, 300)),
)


class Count(NamedTuple):
    """Impressions by region, size and hour (UTC), repeated rows, and clicks with and without an impression."""

    regions: Counter[str]
    sizes: Counter[tuple[int, int]]
    hours: Counter[datetime]
    repeated: int
    clicked: int
    unclicked: int


def row(bid_id: str, *, log_type: str = "1", **columns: str) -> bytes:
    """Return a line of a log; a column is named by its number, as `c7`, and bytes that are no UTF-8 by surrogates."""
    cells = [f"column {number}" for number in range(1, COLUMNS + 1)]
    cells[0:5] = [bid_id, "20131102120000123", log_type, f"viewer-{bid_id}", "Mozilla/4.0 (compatible; MSIE 7.0)"]
    cells[6:8] = ["216", "217"]
    cells[13:15] = ["300", "250"]
    for name, text in columns.items():
        cells[int(name.removeprefix("c")) - 1] = text
    return "\t".join(cells).encode("utf-8", errors="surrogateescape") + b"\n"


def count(impressions: Path, clicks: Path) -> Count:
    """Count what a log of well-formed rows says."""
    seen: set[str] = set()
    counted = Count(Counter(), Counter(), Counter(), 0, 0, 0)
    for cells in _rows(impressions):
        if cells[0] not in seen:
            seen.add(cells[0])
            counted.regions[cells[6]] += 1
            counted.sizes[int(cells[13]), int(cells[14])] += 1
            local = datetime.strptime(cells[1][:10], "%Y%m%d%H").replace(tzinfo=UTC)
            counted.hours[local - CHINA_HOURS_AHEAD] += 1
    clicked = [cells[0] in seen for cells in _rows(clicks)]
    return counted._replace(
        repeated=len(_rows(impressions)) - len(seen), clicked=sum(clicked), unclicked=clicked.count(False)
    )


def _rows(path: Path) -> list[list[str]]:
    text = path.read_bytes().decode("utf-8", errors="replace")
    return [line.split("\t") for line in text.split("\n") if line]
