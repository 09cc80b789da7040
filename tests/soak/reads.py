"""What people read over HTTP, compared with the book."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from time import monotonic, sleep
from typing import Any, Final, TypeVar

from tests.soak.play import Play
from tests.soak.wrong import Wrong

T = TypeVar("T")

CATCH_UP_SECONDS_MAX: Final = 15.0
COUNTS: Final = ("impressions", "billed_impressions", "views", "clicks", "billed_clicks", "spent_micros")


def everything(play: Play, node: int) -> None:
    """Compare lists, histories, budgets and deliveries of a play's advertiser with the book."""
    lists(play, node)
    budgets(play, node)
    deliveries(play, node)
    if play.campaigns:
        history(play, node, play.campaigns[-1])


def lists(play: Play, node: int) -> None:
    """Compare the list of campaigns, read page by page, and each that is in it."""
    found: dict[str, Any] = {}
    params = {"advertiser_id": play.advertiser, "limit": "2", "sort": "created_at"}
    while True:
        page = _get(play, node, "campaigns", params)
        found |= {each["id"]: each for each in page["items"]}
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    play.nothing_happened()
    # Set back, a clock lets several be entered at one time, as far as the log goes.
    moments = [each["created_at"] for each in found.values()]
    if set(found) != set(play.campaigns) or moments != sorted(moments):
        raise Wrong("the list of campaigns", found, play.campaigns)
    for campaign_id, row in found.items():
        campaign = play.book.of("campaign", campaign_id)
        expected = {**campaign.fields, "status": campaign.status, "version": campaign.version}
        _same("a campaign", {name: row[name] for name in expected}, expected)


def history(play: Play, node: int, campaign_id: str) -> None:
    """Compare what happened to a campaign."""
    rows = _get(play, node, f"campaigns/{campaign_id}/history", {"limit": "500"})["items"]
    play.nothing_happened()
    entries = play.book.of("campaign", campaign_id).entries
    found = [(row["version"], row["position"], row["type"], row["actor"]) for row in rows]
    _same("a history", found, [(each.version, each.position, each.type, each.actor) for each in entries])


def budgets(play: Play, node: int) -> None:
    """Compare the report of budgets: what is held and leased may be anything within the limits."""
    report = _caught_up(play, node, "reports/budgets", {"advertiser_id": play.advertiser, "limit": "500"})
    _same("campaigns of the report", {each["campaign_id"] for each in report["items"]}, set(play.campaigns))
    for line in report["items"]:
        check_budget(play, line)
        for limit, used in (("budget_micros", "spent_micros"), ("impression_budget", "billed_impressions")):
            leased = line["leased"] if limit == "impression_budget" else 0
            if line[limit] is not None and line[used] + leased > line[limit]:
                raise Wrong(f"{limit} is exceeded by what is leased", line)
        if line["held"] < 0 or line["leased"] < 0:
            raise Wrong("less than nothing is held", line)


def check_budget(play: Play, line: Mapping[str, Any]) -> None:
    """Compare a line of the report of budgets."""
    sums = play.book.sums[line["campaign_id"]]
    _same("a budget", {name: line[name] for name in COUNTS}, {name: getattr(sums, name) for name in COUNTS})


def deliveries(play: Play, node: int) -> None:
    """Compare the report of deliveries by hour, creative, slot and country."""
    params = {"advertiser_id": play.advertiser, "group_by": "hour,creative,slot,country", "limit": "500"}
    report = _caught_up(play, node, "reports/delivery", params)
    expected: dict[tuple[str, ...], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for (hour, _, creative, advertiser, slot, country, *_), counts in play.book.lines.items():
        if advertiser == play.advertiser:
            line = expected[hour[:13], creative, slot, country]
            line[:] = [before + more for before, more in zip(line, counts, strict=True)]
    found = {
        (line["hour"][:13], line["creative_id"], line["slot_id"], line["country"]): [
            line[name] for name in ("gross_impressions", "gross_views", "gross_clicks", "spent_micros")
        ]
        for line in report["items"]
    }
    _same("deliveries", found, dict(expected))


def as_of(play: Play, node: int) -> Callable[[], None]:
    """Remember how things stand; what is returned compares it with what is read as of that moment, later on."""
    position = play.book.position
    budgets = {each: [getattr(play.book.sums[each], name) for name in COUNTS] for each in play.campaigns}

    def compare() -> None:
        params = {"as_of": str(position), "advertiser_id": play.advertiser, "limit": "500"}
        lines = _get(play, node, "reports/budgets", params)["items"]
        _same(f"as of {position}", {each["campaign_id"]: [each[name] for name in COUNTS] for each in lines}, budgets)

    return compare


def _caught_up(play: Play, node: int, path: str, params: Mapping[str, str]) -> dict[str, Any]:
    """Return a report that has seen all of the log."""
    deadline = monotonic() + CATCH_UP_SECONDS_MAX
    while True:
        found = _get(play, node, path, params)
        play.nothing_happened()
        if found["position"] >= play.book.position:
            return found
        if monotonic() > deadline:
            raise Wrong(f"{path} did not come to {play.book.position}", found["position"])
        sleep(0.02)


def _get(play: Play, node: int, path: str, params: Mapping[str, str]) -> dict[str, Any]:
    answer = play.stage.admin(node).get(f"/api/v1/{path}", params=dict(params))
    if answer.status_code != 200:
        raise Wrong(f"{path} {params}", answer.text)
    found: dict[str, Any] = answer.json()
    return found


def _same(what: str, found: T, expected: T) -> None:
    if found != expected:
        raise Wrong(f"{what}: not what the log says", found, expected)
