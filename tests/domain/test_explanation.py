"""Explanations: what is recorded of a decision is enough to say, later, why it was what it was."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given as for_all
from hypothesis import settings
from msgspec import structs

from domain.ad_request import AdRequest, Blocked, Geo, Placement, Site
from domain.basis import Basis, Facts
from domain.choosing import Candidate, Snapshot, eligible
from domain.explanation import (
    BITS_OUT_MAX,
    KEPT_OUT_MAX,
    SITUATIONS,
    Catalogue,
    Explanation,
    NotExplainable,
    basis_of,
    explain,
    kept,
    second_of,
)
from domain.pacing import Pace
from domain.precedence import choose
from domain.rules import NO_CREATIVE, RULES, Case, first_stop
from tests.domain import catalogues as made
from tests.domain.catalogues import (
    CAMPAIGN,
    CAMPAIGN_ID,
    CREATIVE_ID,
    NIGHT_OF_THE_CLOCKS,
    PLACEMENT,
    REQUEST,
    SLOT_ID,
    catalogue_of,
    catalogues,
    moments,
    placements,
    requests,
    weighted,
)
from tests.domain.strategies import law
from tests.domain.test_choosing import draws


def known(catalogue: made.Catalogue) -> Catalogue:
    """Return a catalogue as explanations take it; a creative is always of a campaign that there is."""
    return Catalogue(
        campaigns=catalogue.campaigns,
        creatives={
            creative_id: creative
            for creative_id, creative in catalogue.creatives.items()
            if creative.terms.campaign_id in catalogue.campaigns
        },
        slots=catalogue.slots,
        advertisers={},
    )


def basis(
    snapshot: Snapshot,
    chosen: Candidate | None,
    request: AdRequest = REQUEST,
    slot_id: UUID = SLOT_ID,
    out: Mapping[str, int] = MappingProxyType({}),
) -> Basis:
    """Return what was known of a decision, as it travels in a token."""
    whole = basis_of(snapshot, request, snapshot.lineups[slot_id], chosen, out, late_seconds=0)
    return msgspec.msgpack.decode(msgspec.msgpack.encode(whole), type=Basis)


def explained(catalogue: made.Catalogue, chosen: UUID | None, **out: int) -> Explanation:
    """Return why the example request got something, when situations kept out the candidates of these bitsets."""
    snapshot = catalogue.snapshot()
    candidates = snapshot.lineups[SLOT_ID].candidates
    found = next((each for each in candidates if each.creative_id == chosen), None)
    return explain(known(catalogue), basis(snapshot, found, out=out), SLOT_ID, Geo(), NIGHT_OF_THE_CLOCKS, chosen)


def rules_of(told: Explanation) -> dict[int, str]:
    """Return what kept each creative out, by its number."""
    return {each.creative_id.int: each.rule for each in told.kept_out if each.creative_id is not None}


@settings(law, max_examples=300)
@for_all(catalogue=catalogues, request=requests, placement=placements, now=moments, draw=draws)
def test_the_first_rule_is_named(
    catalogue: made.Catalogue, request: AdRequest, placement: Placement, now: datetime, draw: int
) -> None:
    """From what was recorded alone, each creative has the rule that stops it when the whole request is looked at."""
    snapshot, slot_id = catalogue.snapshot(), placement.slot_id
    if slot_id not in snapshot.lineups:
        return
    bits = eligible(snapshot, request, placement)
    chosen = next(choose(snapshot, bits, placement, now, draw, minutes_ahead=request.geo.utcoffset), None)
    seen = known(catalogue)
    geo = Geo(country=request.geo.country, region=request.geo.region, city=request.geo.city)
    creative_id = None if chosen is None else chosen.creative_id
    told = explain(seen, basis(snapshot, chosen, request, slot_id), slot_id, geo, now, creative_id)

    assert (told.chosen and told.chosen.creative_id) == creative_id
    named = {each.creative_id: each.rule for each in told.kept_out if each.creative_id is not None}
    assert named.keys() == seen.creatives.keys() - {creative_id}
    for kept_out, rule in named.items():
        campaign = catalogue.campaigns[seen.creatives[kept_out].terms.campaign_id]
        stop = first_stop(
            Case(
                creative_id=kept_out,
                creative=catalogue.creatives[kept_out],
                campaign=campaign,
                request=request,
                slot=catalogue.slots[slot_id].terms,
                now=now,
            )
        )
        outranked = chosen is not None and campaign.terms.priority > chosen.campaign.priority
        assert rule == (stop.name if stop else "outranked" if outranked else "not_drawn")
    without = {each.campaign_id for each in told.kept_out if each.rule == NO_CREATIVE.name}
    assert without == catalogue.campaigns.keys() - {each.terms.campaign_id for each in seen.creatives.values()}


def test_situations_are_named_in_their_order() -> None:
    """What several situations keep out has the first of them, and what is of a later priority is outranked."""
    catalogue = weighted(1, 1, 1, 1, 1, priorities=(2, 2, 2, 2, 4))
    assert rules_of(explained(catalogue, UUID(int=0))) == {**dict.fromkeys((1, 2, 3), "not_drawn"), 4: "outranked"}
    told = explained(catalogue, UUID(int=0), on_page=0b10010, frequency_capped=0b1110, no_budget=0b1000)
    assert rules_of(told) == {1: "on_page", 2: "frequency_capped", 3: "frequency_capped", 4: "outranked"}
    assert rules_of(explained(catalogue, None, no_budget=0b11111)) == dict.fromkeys(range(5), "no_budget")
    assert rules_of(explained(catalogue, UUID(int=4))) == dict.fromkeys(range(4), "paced")
    assert [each.because for each in told.kept_out if each.rule == "on_page"] == [SITUATIONS["on_page"]]


def test_names_are_told_apart() -> None:
    """No rule has the name of another, or of a situation."""
    names = [NO_CREATIVE.name, *(rule.name for rule in RULES), *SITUATIONS]
    assert len(names) == len(set(names))


def test_what_was_shown_is_explained_by_its_rank() -> None:
    """What was shown has its priority, its weights, and how urgent its pace made it."""
    catalogue = catalogue_of(structs.replace(CAMPAIGN, weight=7, priority=2))
    told = explained(catalogue, CREATIVE_ID).chosen
    assert told is not None
    assert (told.campaign_id, told.priority, told.campaign_weight, told.urgency) == (CAMPAIGN_ID, 2, 7, 1)
    assert told.because == "It fitted, and was drawn by priority 2 and weight 7."
    pace = Pace(odds=2**32, urgency=4, allowance=9)
    snapshot = structs.replace(catalogue.snapshot(), paces={CAMPAIGN_ID: pace})
    (candidate,) = snapshot.lineups[SLOT_ID].candidates
    urgent = basis(snapshot, candidate)
    told = explain(known(catalogue), urgent, SLOT_ID, Geo(), NIGHT_OF_THE_CLOCKS, CREATIVE_ID).chosen
    assert told is not None
    assert told.because.endswith("and weight 7, 4 times as urgent as one that is on time.")
    house = explained(catalogue_of(structs.replace(CAMPAIGN, house=True)), CREATIVE_ID).chosen
    assert house is not None
    assert house.because.startswith("It fitted, and was drawn as a house campaign")


def test_an_explanation_is_bounded() -> None:
    """Of very many that were kept out, those that came furthest are told, and how many others there are."""
    told = explained(weighted(*[1] * (KEPT_OUT_MAX + 3)), UUID(int=0))
    assert (len(told.kept_out), told.untold) == (KEPT_OUT_MAX, 2)


def test_only_what_anybody_goes_by_is_recorded() -> None:
    """Of a request nothing is recorded that no campaign asks for, and of long lists only what matters."""
    said: dict[str, Any] = {
        "geo": Geo(country="CN", region="216", city="Shanghai", zip="200000", utcoffset=480),
        "site": Site(domain="news.example", keywords=("a",) * 100, categories=("IAB1",) * 100),
        "key_values": {"seat": ("a",)},
        "blocked": Blocked(creatives=tuple(UUID(int=number) for number in range(1_000, 2_000))),
    }
    request = structs.replace(REQUEST, **said)
    snapshot = catalogue_of().snapshot()
    assert basis(snapshot, None, request) == Basis(position=7)
    choosy = {"keywords": ("B",), "blocked_categories": ("IAB2",), "key_values": {"seat": ("b",)}}
    snapshot = catalogue_of(structs.replace(CAMPAIGN, **choosy)).snapshot()
    asked = structs.replace(
        request,
        site=Site(keywords=("a", "b"), categories=("IAB1", "IAB2-3")),
        key_values={"seat": ("a", "b"), "row": ("b",)},
        blocked=Blocked(creatives=(CREATIVE_ID, UUID(int=5)), advertisers=(UUID(int=5),), categories=("x",)),
    )
    assert basis(snapshot, None, asked).facts == Facts(
        keywords=("b",), categories=("IAB2-3",), key_values={"seat": ("b",)}, blocked_creatives=(CREATIVE_ID,)
    )


def test_what_is_too_long_is_cut_and_not_explained() -> None:
    """A basis that would make too long a token is left away, and that is said."""
    many = weighted(*[1] * (BITS_OUT_MAX + 2))
    snapshot = many.snapshot()
    short = basis(snapshot, None, out={"no_budget": (1 << BITS_OUT_MAX) - 1})
    assert kept(short) == short
    assert kept(basis(snapshot, None)) == Basis(position=7)
    facts = Facts(key_values={"seat": ("a" * 100,) * 4})
    for long in (basis(snapshot, None, out={"no_budget": (1 << BITS_OUT_MAX + 1) - 1}), Basis(position=7, facts=facts)):
        assert kept(long) == Basis(position=7, cut=True)
    with pytest.raises(NotExplainable):
        explain(known(many), kept(long), SLOT_ID, Geo(), NIGHT_OF_THE_CLOCKS, None)


def test_what_contradicts_the_log_is_not_explained() -> None:
    """What the catalogue does not have, or a rule would have stopped, is not explained away."""
    catalogue = catalogue_of(structs.replace(CAMPAIGN, end_date=NIGHT_OF_THE_CLOCKS.date()))
    plain = Basis(position=7)
    explain(known(catalogue), plain, SLOT_ID, Geo(), NIGHT_OF_THE_CLOCKS, CREATIVE_ID)
    with pytest.raises(NotExplainable, match="could not be shown"):
        explain(known(catalogue), plain, SLOT_ID, Geo(), NIGHT_OF_THE_CLOCKS, UUID(int=5))
    with pytest.raises(NotExplainable, match="The flight is over"):
        explain(known(catalogue), plain, SLOT_ID, Geo(), NIGHT_OF_THE_CLOCKS + timedelta(days=1), CREATIVE_ID)


def test_an_id_says_when_it_was_made() -> None:
    """The second in which a decision's id was made is in it."""
    assert second_of(UUID(int=1_700_000_000_999 << 80 | 7 << 76 | 5)) == 1_700_000_000


def test_the_example_is_explained_with_all_its_fields() -> None:
    """An explanation is an answer: it encodes as JSON, with the moment and the position that it is of."""
    told = msgspec.json.decode(msgspec.json.encode(explained(weighted(1, 1), UUID(int=1))))
    assert (told["slot_id"], told["position"]) == (str(PLACEMENT.slot_id), 7)
    assert told["kept_out"][0]["rule"] == "not_drawn"
