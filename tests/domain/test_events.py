"""Events: for ever the same bytes, and commands and facts of the right shape or none at all."""

import json
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from msgspec import UNSET, Struct, inspect, structs

from domain.advertiser import ChangeAdvertiser, CreateAdvertiser
from domain.campaign import ChangeCampaign, CreateCampaign
from domain.creative import ChangeCreative, CreateCreative, DenyCreative
from domain.events import Entry
from domain.slot import ChangeSlot, CreateSlot
from domain.terms import (
    AdvertiserChanges,
    AdvertiserTerms,
    CampaignChanges,
    CampaignTerms,
    CreativeChanges,
    CreativeTerms,
    SlotChanges,
    SlotTerms,
)
from tests.domain import strategies
from tests.domain.shape import passes
from tests.domain.stored import GOLDEN, GOLDEN_BEFORE
from tests.domain.strategies import EVENT_TYPES, law, made, tag_of

# For each command, the fields it cannot do without.
LEAST: Final[dict[type[Struct], dict[str, Any]]] = {
    CreateAdvertiser: {"name": "Shoes"},
    ChangeAdvertiser: {},
    CreateCampaign: {
        "advertiser_id": "01990000-0000-7000-8000-000000000001",
        "name": "Spring",
        "start_date": "2026-03-01",
        "pricing": {"model": "cpm", "price_micros": 1_000},
        "currency": "EUR",
    },
    ChangeCampaign: {},
    CreateCreative: {
        "campaign_id": "01990000-0000-7000-8000-000000000002",
        "name": "Banner",
        "ad_type": "top_bar_ad",
        "media_type": "image",
        "click_url": "https://shop.example",
    },
    ChangeCreative: {},
    DenyCreative: {"reason": "Too loud."},
    CreateSlot: {"name": "Front page", "ad_type": "top_bar_ad"},
    ChangeSlot: {},
}

_TEXT_MISFITS: Final[list[Any]] = [1, True, None, [], {}, "\x00", "a\x00", "\x1b", "\x7f", "\x9b"]
_NUMBER_MISFITS: Final[list[Any]] = ["1", 1.0, 1.5, True, -1, 2**53, 2**63, 2**64, 10**30, [], {}]
_DATE_MISFITS: Final[list[Any]] = [
    1,
    20260301,
    "",
    "2026-3-1",
    "2026-02-30",
    "01.03.2026",
    "2026-03-01T00:00:00Z",
    "0000-01-01",
]
_URL_MISFITS: Final[list[Any]] = [1, "", "shop", "javascript:alert(1)", "ftp://a/", "https://me:pw@a/", "https://a\n"]
_ID_MISFITS: Final[list[Any]] = [1, None, "", "1", "01990000-0000-7000-8000-00000000000g"]
_LINE_MISFITS: Final = [*_TEXT_MISFITS, "a\n", "a\r", "a\tb"]
_WORDS_MISFITS: Final[list[Any]] = ["a", None, {}, [1], [""], ["a\n"], ["a" * 101], ["a"] * 101]
_CHOICES_MISFITS: Final[list[Any]] = ["a", None, {}, [1], [None], [""]]
_TIME_SLOTS_MISFITS: Final[list[Any]] = [
    None, {}, [{}], [{"start": "08:00", "end": "8:30"}], [{"start": "08:00", "end": "24:00"}],
    [{"start": "08:00", "end": "09:00"}] * 25,
]  # fmt: skip
_TARGETS_MISFITS: Final[list[Any]] = [
    {}, None, [None], [{"country": "cn"}], [{"country": "CN\n"}], [{"land": "CN"}], [{"region": ""}],
    [{"cities": [""]}], [{"postcodes": ["a"] * 201}], [{}] * 501,
]  # fmt: skip

_MISFITS_OF_CHANGES: Final[dict[type[Struct], dict[str, list[Any]]]] = {
    ChangeAdvertiser: {
        "name": [*_LINE_MISFITS, "", " ", "a" * 201],
        "company_name": [*_LINE_MISFITS, "a" * 501],
        "email": [1, "", "a", "a@b", "a@b.example\n"],
        "phone": [1, "", "a", "1\n"],
        "status": [1, None, "", "Active", "deleted"],
        "attribution_window": [1, None, {}, {"value": 1}, {"value": 0, "unit": "day"}, {"value": 1, "unit": "year"}],
        "click_id_parameter": [1, "", "a b", "a=b", "a&b", "a" * 51, "a\n"],
    },
    ChangeCampaign: {
        "name": [*_LINE_MISFITS, "", " ", "a" * 201],
        "description": [*_TEXT_MISFITS, "a" * 5_001],
        "start_date": [*_DATE_MISFITS, None],
        "end_date": _DATE_MISFITS,
        "expiry_date": _DATE_MISFITS,
        "timezone": [1, None, "", "a b", "UTC\n", "a" * 65],
        "priority": [*_NUMBER_MISFITS, None, 0, 6],
        "pricing": [
            None, 1_000, {}, {"model": "cpm"}, {"price_micros": 1_000}, {"model": "cpm", "price_micros": 0},
            {"model": "cpm", "price_micros": "1000"}, {"model": "cpm", "price_micros": 1_000.0},
            {"model": "CPM", "price_micros": 1_000}, {"model": "cpm", "price_micros": 1_000, "more": 1},
        ],
        "currency": [1, None, "", "eur", "EURO", "EUR\n"],
        "budget_micros": _NUMBER_MISFITS,
        "daily_budget_micros": _NUMBER_MISFITS,
        "impression_budget": [*_NUMBER_MISFITS, 0],
        "daily_impression_budget": [*_NUMBER_MISFITS, 0],
        "pacing": [1, None, "", "fast"],
        "max_view_count": [*_NUMBER_MISFITS, 0],
        "max_view_duration": [1, {}, {"value": 1}, {"value": 0, "unit": "day"}, {"value": 1, "unit": "year"}],
        "targeting": _TARGETS_MISFITS,
        "excluded_targeting": _TARGETS_MISFITS,
        "keywords": _WORDS_MISFITS,
        "categories": _WORDS_MISFITS,
        "page_categories": _WORDS_MISFITS,
        "blocked_categories": _WORDS_MISFITS,
        "languages": [*_CHOICES_MISFITS, ["z"], ["de_AT"], ["de-"], ["de\n"], ["a" * 9]],
        "device_types": [*_CHOICES_MISFITS, ["Phone"], ["phone"] * 9],
        "domains": [*_CHOICES_MISFITS, ["News.example"], ["a..b"], [".a"], ["a-"], ["a\n"], ["a"] * 201],
        "excluded_domains": [*_CHOICES_MISFITS, ["https://a"], ["a/b"], ["*.a"], ["a."], ["a"] * 201],
        "key_values": [None, [], "a", {"a": []}, {"a": "b"}, {"": ["b"]}, {"a": [""]}, {"a": [1]}, {"a": ["b"] * 51}],
        "time_slots": _TIME_SLOTS_MISFITS,
        "weekdays": [*_CHOICES_MISFITS, ["Monday"], ["mon"], ["monday"] * 8],
        "time_basis": [1, None, "", "UTC", "publisher"],
        "weight": [*_NUMBER_MISFITS, None, 0, 1_001],
        "rotation": [1, None, "", "optimize"],
        "competitive_exclusion": _WORDS_MISFITS,
        "roadblock": [1, None, "true", []],
        "house": [0, None, "false", {}],
    },
    ChangeCreative: {
        "name": [*_LINE_MISFITS, "", " ", "a" * 201],
        "description": [*_TEXT_MISFITS, "a" * 5_001],
        "ad_type": [1, None, "", "banner"],
        "media_type": [1, None, "", "flash"],
        "media_url": _URL_MISFITS,
        "media_content": [1, "", "\x00", "a" * 30_001],
        "media_file": [1, "", "a.png", f"{'0' * 64}.svg", f"{'A' * 64}.png", f"/{'0' * 64}.png", f"{'0' * 64}.png\n"],
        "width": [*_NUMBER_MISFITS, 0, 10_001],
        "height": [*_NUMBER_MISFITS, 0, 10_001],
        "duration_seconds": [*_NUMBER_MISFITS, 0, 604_801],
        "mime_type": [1, "", "mp4", "video/", "Video/mp4", "video/mp4; codecs=avc1", "video/mp4\n"],
        "bit_rate_kbps": [*_NUMBER_MISFITS, 0, 1_000_001],
        "alt_text": [*_LINE_MISFITS, "a" * 501],
        "click_url": [*_URL_MISFITS, None],
        "start_date": _DATE_MISFITS,
        "end_date": _DATE_MISFITS,
        "expiry_date": _DATE_MISFITS,
        "impression_duration": [1, {}, {"value": 0, "unit": "second"}, {"value": 1, "unit": "day"}],
        "in_view_duration": [1, {}, {"value": 0, "unit": "second"}, {"value": 1, "unit": "day"}],
        "time_slots": _TIME_SLOTS_MISFITS,
        "weight": [*_NUMBER_MISFITS, None, 0, 1_001],
        "max_views": [*_NUMBER_MISFITS, 0],
        "content_rating": [None, {"rating_system": "FSK"}, {"rating_label": 12}, {"warning_required": 1}, {"x": 1}],
    },
    DenyCreative: {"reason": [*_TEXT_MISFITS, "a" * 5_001]},
    ChangeSlot: {
        "name": [*_LINE_MISFITS, "", " ", "a" * 201],
        "ad_type": [1, None, "", "banner"],
        "width": [*_NUMBER_MISFITS, 0, 10_001],
        "height": [*_NUMBER_MISFITS, 0, 10_001],
        "media_types": [None, [], "image", ["flash"], ["image"] * 6],
        "floor_cpm_micros": [*_NUMBER_MISFITS, None],
        "max_rating": [1, None, "", "everyone"],
        "hold_seconds": [*_NUMBER_MISFITS, None, 0, 604_801],
        "token_seconds": [*_NUMBER_MISFITS, None, 0, 604_801],
        "traffic": [1, None, "", "browsers"],
        "click_without_impression": [1, None, True, "", "valid"],
        "refresh_seconds": [*_NUMBER_MISFITS, 0, 29, 86_401],
        "closable": [0, None, "false", {}],
        "status": [1, None, "", "Active", "deleted"],
    },
}  # fmt: skip

# For each field of each command, values that must be refused.
MISFITS: Final = _MISFITS_OF_CHANGES | {
    CreateAdvertiser: _MISFITS_OF_CHANGES[ChangeAdvertiser],
    CreateCampaign: _MISFITS_OF_CHANGES[ChangeCampaign] | {"advertiser_id": _ID_MISFITS},
    CreateCreative: _MISFITS_OF_CHANGES[ChangeCreative] | {"campaign_id": _ID_MISFITS},
    CreateSlot: _MISFITS_OF_CHANGES[ChangeSlot],
}

PAIRS: Final = [
    (AdvertiserTerms, AdvertiserChanges, set()),
    (CampaignTerms, CampaignChanges, {"advertiser_id"}),
    (CreativeTerms, CreativeChanges, {"campaign_id"}),
    (SlotTerms, SlotChanges, set()),
]


def _types_of(kind: type[Struct]) -> dict[str, inspect.Type]:
    described = inspect.type_info(kind)
    assert isinstance(described, inspect.StructType)
    return {field.name: field.type for field in described.fields}


@pytest.mark.parametrize("event", EVENT_TYPES, ids=tag_of)
def test_every_event_type_has_a_stored_example(event: type[Struct]) -> None:
    """The log may hold any event type that was ever written, so one example of each is kept for ever."""
    assert (GOLDEN / f"{tag_of(event)}.json").exists()


@pytest.mark.parametrize("path", sorted(GOLDEN.iterdir()), ids=lambda path: path.name)
def test_stored_examples_are_read_and_written_alike(path: Path) -> None:
    """A stored entry decodes as the event its file is named after, and encodes to the very bytes that were hashed."""
    stored = path.read_bytes()
    entry = msgspec.json.decode(stored, type=Entry, strict=True)
    assert path.name == f"{tag_of(type(entry.event))}.json"
    assert msgspec.json.encode(entry) + b"\n" == stored


@pytest.mark.parametrize("path", sorted(GOLDEN_BEFORE.iterdir()), ids=lambda path: path.name)
def test_what_was_written_otherwise_is_read_alike(path: Path) -> None:
    """An entry in a form in which the log was written before is the same as in the form of today."""
    before, today = ((folder / path.name).read_bytes() for folder in (GOLDEN_BEFORE, GOLDEN))
    assert before != today
    assert msgspec.json.decode(before, type=Entry, strict=True) == msgspec.json.decode(today, type=Entry, strict=True)


def test_tags_are_written_by_hand_and_distinct() -> None:
    """Every event type has a tag of its own in snake_case."""
    tags = [tag_of(event) for event in EVENT_TYPES]
    assert len(set(tags)) == len(tags)
    assert [tag for tag in tags if tag != tag.lower() or not tag.replace("_", "").isalpha()] == []


@law
@for_all(entry=strategies.entries)
def test_an_entry_survives_the_log(entry: Entry) -> None:
    """Encoding an entry and decoding it gives the same entry, and encoding that the same bytes."""
    encoded = msgspec.json.encode(entry)
    decoded = msgspec.json.decode(encoded, type=Entry, strict=True)
    assert decoded == entry
    assert msgspec.json.encode(decoded) == encoded


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        (ChangeAdvertiser, strategies.ADVERTISER),
        (ChangeCampaign, strategies.CAMPAIGN),
        (ChangeCreative, strategies.CREATIVE),
        (ChangeSlot, strategies.SLOT),
    ],
)
@law
@for_all(data=st.data())
def test_a_change_encodes_only_what_it_sets(
    changes: type[Struct], fields: strategies.Fields, data: st.DataObject
) -> None:
    """A field that is not set is not written, one that is set to null is."""
    change = data.draw(made(changes, fields))
    encoded = msgspec.json.encode(change)
    assert json.loads(encoded).keys() == {name for name, value in structs.asdict(change).items() if value is not UNSET}
    assert msgspec.json.decode(encoded, type=changes, strict=True) == change


@pytest.mark.parametrize(("terms", "changes", "fixed"), PAIRS)
def test_a_change_may_set_what_a_thing_is_created_with(
    terms: type[Struct], changes: type[Struct], fixed: set[str]
) -> None:
    """Terms and changes have the same fields of the same types, less the thing they belong to."""
    assert _types_of(changes) == {name: kind for name, kind in _types_of(terms).items() if name not in fixed}


@pytest.mark.parametrize("command", LEAST)
def test_the_least_a_command_says_is_enough(command: type[Struct]) -> None:
    """A command has the right shape with its required fields alone, and not without any one of them."""
    least = LEAST[command]
    assert passes(command, json.dumps(least))
    for name in least:
        assert not passes(command, json.dumps({key: value for key, value in least.items() if key != name}))


@pytest.mark.parametrize("command", LEAST)
def test_commands_are_objects_of_known_fields(command: type[Struct]) -> None:
    """Anything but a JSON object is refused, and so is an object with a field the command does not have."""
    least = LEAST[command]
    assert not passes(command, json.dumps(least | {"unknown": 1}))
    assert not passes(command, json.dumps(least | {"type": "campaign_created"}))
    assert not any(
        passes(command, raw) for raw in ("", "{", "[]", "null", "1", '"x"', json.dumps(least) + "x", "\ufeff{}")
    )


@pytest.mark.parametrize(
    ("command", "field"), [(command, field) for command, fields in MISFITS.items() for field in fields]
)
def test_fields_out_of_shape_are_refused(command: type[Struct], field: str) -> None:
    """Wrong types, numbers out of bounds, control characters, and texts and lists that are too long are refused."""
    misfits = MISFITS[command][field]
    assert [value for value in misfits if passes(command, json.dumps(LEAST[command] | {field: value}))] == []


def test_every_field_of_every_command_is_tried() -> None:
    """No field of a command is left without values that it must refuse."""
    assert {command: set(fields) for command, fields in MISFITS.items()} == {
        command: set(command.__struct_fields__) for command in LEAST
    }


@pytest.mark.parametrize(
    "raw", [b'{"name":"\\ud800"}', b'{"name":"\xff"}', b'{"name":"a', b"{'name':'a'}", b"[" * 100_000]
)
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    """Lone surrogates, bytes that are no UTF-8, truncated and malformed JSON are refused."""
    assert not passes(ChangeAdvertiser, raw)
