"""Ad requests: the smallest and the largest that pass, and what is refused."""

import json
from typing import Any, Final

import msgspec
import pytest

from domain.ad_request import AdRequest, Placement, Privacy, may_identify
from tests.domain.shape import passes

SLOT_ID: Final = "01990000-0000-7000-8000-000000000004"
PLACEMENT: Final = {"id": "p1", "slot_id": SLOT_ID}
LEAST: Final = {"id": "r1", "placements": [PLACEMENT]}
FULL: Final = {
    "id": "any string of the caller's",
    "placements": [{"id": "p1", "slot_id": SLOT_ID, "count": 10}],
    "geo": {"country": "CN", "region": "216", "city": "217", "zip": None, "utcoffset": 480},
    "viewer": {"id": "f00d"},
    "device": {"ua": "Mozilla/5.0", "language": "zh", "type": "phone"},
    "site": {"domain": "news.example", "page": "https://news.example/1", "keywords": ["a"], "categories": ["IAB1"]},
    "content": {"max_rating": "over_12", "rating_system": "PEGI", "rating_label": "12"},
    "blocked": {"advertisers": [SLOT_ID], "creatives": [SLOT_ID], "categories": ["IAB25"]},
    "privacy": {"gpc": False, "dnt": False, "coppa": False},
    "key_values": {"section": ["travel", "outdoors"]},
    "test": False,
    "explain": False,
}


def test_the_whole_vocabulary_passes() -> None:
    """A request may use every field, and comes out as it went in."""
    request = msgspec.json.decode(json.dumps(FULL), type=AdRequest, strict=True)
    assert json.loads(msgspec.json.encode(request)) == FULL


def test_a_request_needs_an_id_and_a_placement() -> None:
    """All else has defaults that ask for nothing special."""
    request = msgspec.json.decode(json.dumps(LEAST), type=AdRequest, strict=True)
    assert request.placements == (Placement(id="p1", slot_id=request.placements[0].slot_id, count=1),)
    assert may_identify(request)
    assert not passes(AdRequest, json.dumps({"id": "r1"}))
    assert not passes(AdRequest, json.dumps({"placements": [PLACEMENT]}))


def test_lists_pass_up_to_their_bounds() -> None:
    """A request takes at most 20 placements and 1,000 blocked ids."""
    assert passes(AdRequest, json.dumps(LEAST | {"placements": [PLACEMENT] * 20}))
    assert passes(AdRequest, json.dumps(LEAST | {"blocked": {"creatives": [SLOT_ID] * 1_000}}))
    assert not passes(AdRequest, json.dumps(LEAST | {"placements": [PLACEMENT] * 21}))
    assert not passes(AdRequest, json.dumps(LEAST | {"placements": []}))
    assert not passes(AdRequest, json.dumps(LEAST | {"blocked": {"creatives": [SLOT_ID] * 1_001}}))


@pytest.mark.parametrize(
    "misfit",
    [
        {"id": 1},
        {"id": "a\n"},
        {"id": "a" * 501},
        {"more": 1},
        {"placements": None},
        {"placements": [PLACEMENT | {"count": 0}]},
        {"placements": [PLACEMENT | {"count": 11}]},
        {"placements": [PLACEMENT | {"count": "1"}]},
        {"placements": [PLACEMENT | {"count": 1.0}]},
        {"placements": [PLACEMENT | {"slot_id": "p1"}]},
        {"placements": [PLACEMENT | {"more": 1}]},
        {"geo": None},
        {"geo": {"country": "cn"}},
        {"geo": {"country": "CN\n"}},
        {"geo": {"country": ""}},
        {"geo": {"region": ""}},
        {"geo": {"city": "\x00"}},
        {"geo": {"zip": 10115}},
        {"geo": {"lat": 1}},
        {"viewer": {"id": ""}},
        {"viewer": {"id": "a" * 101}},
        {"viewer": {"ip": "::1"}},
        {"device": {"ua": "a" * 1_001}},
        {"device": {"ua": "a\x00"}},
        {"device": {"language": ""}},
        {"site": {"page": "a" * 2_001}},
        {"site": {"page": "a\n"}},
        {"site": {"keywords": ["a"] * 101}},
        {"site": {"categories": "IAB1"}},
        {"content": {"max_rating": "everyone"}},
        {"content": {"rating_system": "FSK"}},
        {"geo": {"utcoffset": 841}},
        {"device": {"type": 4}},
        {"key_values": {"section": "travel"}},
        {"key_values": {"section": []}},
        {"key_values": {str(number): ["a"] for number in range(16)}},
        {"blocked": {"advertisers": ["a"]}},
        {"blocked": {"categories": [""]}},
        {"privacy": {"gpc": 1}},
        {"privacy": {"coppa": "true"}},
        {"privacy": {"tcf": ""}},
        {"test": 0},
        {"explain": "yes"},
    ],
)
def test_requests_out_of_shape_are_refused(misfit: dict[str, Any]) -> None:
    """Wrong types, unknown fields and what is out of bounds are refused at every level."""
    assert not passes(AdRequest, json.dumps(LEAST | misfit))


@pytest.mark.parametrize("signal", [Privacy(gpc=True), Privacy(dnt=True), Privacy(coppa=True)])
def test_any_privacy_signal_forbids_identification(signal: Privacy) -> None:
    """One signal is enough for the viewer's id not to be used."""
    request = msgspec.json.decode(json.dumps(LEAST), type=AdRequest, strict=True)
    assert not may_identify(msgspec.structs.replace(request, privacy=signal))
