"""Reference data: what the codes mean that commands take, found by name and read a page at a time."""

from typing import Any, Final

import pytest

from domain import iso
from tests.world import World

LISTS: Final = ("countries", "subdivisions", "time-zones", "currencies", "content-ratings", "iab-categories")


def listed(world: World, codes: str, **params: Any) -> list[dict[str, Any]]:
    """Return all of a list, read page by page."""
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = world.get(f"reference/{codes}", limit=200, **params, **cursor)
        found += page["items"]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


def test_every_code_that_commands_take_is_listed(world: World) -> None:
    """Countries, currencies, time zones and labels are those that a campaign or creative may name, each once."""
    assert {each["code"] for each in listed(world, "countries")} == iso.COUNTRIES
    assert {each["code"] for each in listed(world, "currencies")} == iso.CURRENCIES
    zones = [each["code"] for each in listed(world, "time-zones")]
    assert len(zones) == len(set(zones)) > 400
    world.campaign(timezone=zones[-1])
    (label,) = listed(world, "content-ratings", search="pg-13")
    assert (label["system"], label["label"], label["audience"]) == ("MPAA", "PG-13", "over_12")
    assert {each["system"] for each in listed(world, "content-ratings", system="PEGI")} == {"PEGI"}


@pytest.mark.parametrize(
    ("codes", "params", "expected"),
    [
        ("countries", {"search": "CÔTE d"}, {"CI"}),
        ("countries", {"search": "deu"}, {"DE"}),
        ("subdivisions", {"country": "DEU", "search": "wurtt"}, {"DE-BW"}),
        ("subdivisions", {"country": "VA"}, set()),
        ("time-zones", {"search": "shanghai"}, {"Asia/Shanghai"}),
        ("currencies", {"search": "swiss FR"}, {"CHF"}),
        ("iab-categories", {"search": "iab9-30"}, {"IAB9-30"}),
        ("iab-categories", {"search": "video gaming", "taxonomy": "3.1"}, {"680"}),
        ("countries", {"search": "Atlantis"}, set()),
    ],
)
def test_codes_are_found(world: World, codes: str, params: dict[str, str], expected: set[str]) -> None:
    """A part of a name or of a code is enough, in whatever case and with or without accents."""
    assert {each["code"] for each in listed(world, codes, **params)} == expected


@pytest.mark.parametrize("codes", LISTS)
def test_a_list_is_read_once(world: World, codes: str) -> None:
    """Whoever has a page need not read it again; what is no cursor of a list is refused."""
    first = world.admin.get(f"/api/v1/reference/{codes}", params={"limit": 3})
    assert len(first.json()["items"]) == 3
    known = {"If-None-Match": first.headers["ETag"]}
    again = world.admin.get(f"/api/v1/reference/{codes}", params={"limit": 3}, headers=known)
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
    assert "max-age" in again.headers["Cache-Control"]
    other = world.admin.get(f"/api/v1/reference/{codes}", params={"limit": 4}, headers=known)
    assert (other.status_code, len(other.json()["items"])) == (200, 4)
    refused = world.admin.get(f"/api/v1/reference/{codes}", params={"cursor": "-1"})
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_cursor")


def test_the_parents_of_codes_are_listed(world: World) -> None:
    """What a subdivision or category is a part of is in the same list."""
    for codes in ("subdivisions", "iab-categories"):
        found = listed(world, codes)
        known = {each["code"] for each in found}
        assert {each["parent"] for each in found} - known == {None}
    unknown = world.admin.get("/api/v1/reference/subdivisions", params={"country": "XX"})
    assert (unknown.status_code, unknown.json()["code"]) == (422, "unknown_country")
