"""The snapshot: what it knows beside what can be shown, such as caps and who has to be asked before a promise."""

from uuid import UUID

from msgspec import structs

from domain.advertiser import Advertiser
from domain.choosing import index, of_subjects
from domain.frequency import Cap
from domain.slot import Slot
from domain.terms import AdvertiserTerms
from domain.values import CapWindow
from tests.domain.catalogues import (
    ADVERTISER_ID,
    CAMPAIGN,
    CAMPAIGN_ID,
    CREATIVE,
    CREATIVE_ID,
    OTHER_SLOT_ID,
    SLOT,
    SLOT_ID,
    catalogue_of,
    shown,
)


def test_a_snapshot_knows_what_is_capped() -> None:
    """The caps of campaigns and creatives are known by what they are caps of, and what has reached one is found."""
    day = CapWindow(value=1, unit="day")
    catalogue = catalogue_of(
        structs.replace(CAMPAIGN, max_view_count=3, max_view_duration=day), structs.replace(CREATIVE, max_views=9)
    )
    snapshot = catalogue.snapshot()
    assert snapshot.caps == {CAMPAIGN_ID: Cap(views=3, seconds=86_400), CREATIVE_ID: Cap(views=9, seconds=0)}
    assert catalogue_of().snapshot().caps == {}
    for subject in (CAMPAIGN_ID, CREATIVE_ID):
        assert of_subjects(snapshot, SLOT_ID, {subject}) == 1
    assert of_subjects(snapshot, SLOT_ID, {ADVERTISER_ID}) == 0
    assert of_subjects(snapshot, OTHER_SLOT_ID, {CAMPAIGN_ID}) == 0


def test_the_campaigns_of_an_advertiser_with_funds_are_limited() -> None:
    """What has to be paid out of funds is leased, though the campaign itself has no limit."""
    catalogue = catalogue_of()
    for funds, limited in ((None, frozenset()), (0, frozenset({CAMPAIGN_ID}))):
        advertiser = Advertiser(terms=AdvertiserTerms(name="Shoes"), funds_micros=funds)
        snapshot = index(
            position=7,
            campaigns=catalogue.campaigns,
            creatives=catalogue.creatives,
            slots=catalogue.slots,
            advertisers={ADVERTISER_ID: advertiser},
        )
        assert snapshot.limited == limited


def test_slots_that_take_the_same_share_a_lineup() -> None:
    """What fits is found once for all slots that take the same; one that is for another audience has its own."""
    for rating, shared in (("mature", True), ("over_12", False)):
        other = structs.replace(SLOT, name="Sports", max_rating=rating)
        catalogue = structs.replace(catalogue_of(), slots={SLOT_ID: Slot(terms=SLOT), OTHER_SLOT_ID: Slot(terms=other)})
        lineups = catalogue.snapshot().lineups
        assert (lineups[SLOT_ID] is lineups[OTHER_SLOT_ID]) == shared
        assert lineups[OTHER_SLOT_ID].candidates == lineups[SLOT_ID].candidates


def test_pictures_accompany_a_campaigns_films() -> None:
    """Pictures and documents are companions of video and audio of their own campaign, and of no other."""
    film, picture, text, foreign = (UUID(int=number) for number in range(4))
    other = UUID(int=999)
    terms = {
        film: structs.replace(CREATIVE, media_type="video"),
        picture: CREATIVE,
        text: structs.replace(CREATIVE, media_type="text"),
        foreign: structs.replace(CREATIVE, campaign_id=other),
    }
    catalogue = catalogue_of()
    campaigns = catalogue.campaigns | {other: catalogue.campaigns[CAMPAIGN_ID]}
    for kept, companions in ((terms, {CAMPAIGN_ID: [picture]}), ({film: terms[film]}, {}), ({picture: CREATIVE}, {})):
        creatives = {creative_id: shown(creative) for creative_id, creative in kept.items()}
        snapshot = structs.replace(catalogue, campaigns=campaigns, creatives=creatives).snapshot()
        found = {campaign_id: [each.creative_id for each in of] for campaign_id, of in snapshot.companions.items()}
        assert found == companions
