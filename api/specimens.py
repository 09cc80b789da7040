"""A specimen of each body, request or answer, for the OpenAPI document: instances, so that they cannot be wrong."""

from datetime import UTC, date, datetime
from typing import Final
from uuid import UUID

from msgspec import Struct

from api.account import Deactivation, PasswordChange, ProfileChange
from api.addresses import EmailChange
from api.answers import Ad, DecisionResponse, PlacementDecision
from api.api_keys import IssuedApiKey, NewApiKey
from api.beacons import BeaconBatch, BeaconResult, BeaconResults
from api.bid_request import Bid, BidDevice, BidGeo, BidRequest, BidResponse, Imp, Playable, Programme, SeatBid
from api.campaigns import NewCampaign
from api.invitations import Acceptance, NewInvitation
from api.openid import Exchange, SecondFactorAsked
from api.organisations import NewOrganisation, OrganisationChange
from api.people import NewUser, UserChange
from api.recovery import Forgotten, Reset, Verification
from api.second_factor import Confirmation, Proof, Removal, SecondFactorPolicy
from api.sign_in import Credentials, RefreshToken, Switch, Tokens
from api.sign_up import Registration, RegistrationProof
from api.slots import IssuedKey
from api.webhooks import CreatedWebhook, NewWebhook, ReplayFrom
from domain.ad_request import AdRequest, Content, Device, Geo, Placement, Site, Viewer
from domain.advertiser import ChangeAdvertiser, CreateAdvertiser, DepositFunds, PlaceLegalHold, WithdrawFunds
from domain.campaign import ChangeCampaign
from domain.creative import ChangeCreative, CreateCreative, DenyCreative
from domain.policy import SetBudgetPolicy
from domain.slot import ChangeSlot, CreateSlot
from domain.terms import BudgetLimit
from domain.values import CapWindow, ContentRating, DisplayTime, Pricing, Target, TimeSlot
from infra.batch import Receipt
from infra.notifications import ChangeNotifications

_ADVERTISER: Final = UUID("0199a1b2-0000-7000-8000-000000000001")
_CAMPAIGN: Final = UUID("0199a1b2-0000-7000-8000-000000000002")
_CREATIVE: Final = UUID("0199a1b2-0000-7000-8000-000000000003")
_SLOT: Final = UUID("0199a1b2-0000-7000-8000-000000000004")
_KEY: Final = UUID("0199a1b2-0000-7000-8000-000000000005")
_DECISION: Final = UUID("0199a1b2-0000-7000-8000-000000000006")
_TOKEN: Final = "the-token-that-was-mailed"  # noqa: S105  nobody's token
_ORGANISATION: Final = UUID("0199a1b2-0000-7000-8000-000000000008")
_WEBHOOK: Final = UUID("0199a1b2-0000-7000-8000-000000000007")

SPECIMENS: Final[tuple[Struct, ...]] = (
    Credentials(email="admin@example.com", password="correct horse battery staple"),  # noqa: S106  nobody's password
    RefreshToken(refresh_token="the-token-that-came-with-the-last-answer"),  # noqa: S106  nobody's password
    Tokens(
        access_token="eyJhbGciOiJFZERTQSIs...",  # noqa: S106  nobody's password
        refresh_token="the-token-for-the-next-time",  # noqa: S106  nobody's password
        expires_in=900,
    ),
    Exchange(code="the-code-in-the-query", second_factor="492039"),
    SecondFactorAsked(code="the-code-to-be-exchanged"),
    Switch(
        refresh_token="the-token-that-came-with-the-last-answer",  # noqa: S106  nobody's password
        organisation_id=_ORGANISATION,
    ),
    Registration(email="vera@example.com"),
    RegistrationProof(token=_TOKEN, password="a long sentence nobody guesses"),  # noqa: S106  nobody's password
    NewOrganisation(name="Northwind", slug="northwind", timezone="Europe/Stockholm", currency="SEK"),
    OrganisationChange(logo_url="https://cdn.example/northwind.png"),
    NewUser(email="vera@example.com", password="a long sentence nobody guesses", role="viewer"),  # noqa: S106  nobody's password
    UserChange(role="manager"),
    ProfileChange(name="Vera Lindqvist", timezone="Europe/Stockholm"),
    PasswordChange(
        current_password="a long sentence nobody guesses",  # noqa: S106  nobody's password
        new_password="another sentence nobody guesses",  # noqa: S106  nobody's password
    ),
    EmailChange(email="vera@example.org", current_password="a long sentence nobody guesses"),  # noqa: S106  nobody's password
    Deactivation(password="a long sentence nobody guesses"),  # noqa: S106  nobody's password
    NewInvitation(email="wanda@example.com", role="finance", name="Wanda"),
    Acceptance(token=_TOKEN, password="a long sentence nobody guesses", name="Wanda Lindqvist"),  # noqa: S106  nobody's password
    Forgotten(email="vera@example.com"),
    Reset(token=_TOKEN, password="another sentence nobody guesses"),  # noqa: S106  nobody's password
    Verification(token=_TOKEN),
    Proof(current_password="a long sentence nobody guesses"),  # noqa: S106  nobody's password
    Confirmation(code="492039"),
    SecondFactorPolicy(demanded=True),
    Removal(current_password="a long sentence nobody guesses", code="287082"),  # noqa: S106  nobody's password
    NewApiKey(name="Nightly import", role="manager", expires_at=datetime(2027, 1, 1, tzinfo=UTC)),
    IssuedApiKey(id=_KEY, key="lak_shown-this-once"),
    CreateAdvertiser(
        name="Northwind Shoes", company_name="Northwind Ltd.", email="ads@northwind.example", phone="+44 20 7946 0000"
    ),
    ChangeAdvertiser(status="inactive"),
    DepositFunds(amount_micros=5_000_000_000, currency="GBP"),
    WithdrawFunds(amount_micros=1_000_000_000, currency="GBP"),
    PlaceLegalHold(reason="Commercial court, case 17/2026"),
    SetBudgetPolicy(limits=(BudgetLimit(currency="GBP", above_micros=10_000_000_000),)),
    NewCampaign(
        advertiser_id=_ADVERTISER,
        name="Autumn boots",
        start_date=date(2026, 9, 1),
        end_date=date(2026, 11, 30),
        timezone="Europe/London",
        priority=2,
        pricing=Pricing(model="cpm", price_micros=4_500_000),
        currency="GBP",
        budget_micros=2_000_000_000,
        daily_budget_micros=50_000_000,
        pacing="even",
        max_view_count=3,
        max_view_duration=CapWindow(value=1, unit="day"),
        targeting=(Target(country="GB", cities=("London", "Leeds")), Target(country="IE")),
        excluded_targeting=(Target(country="GB", postcodes=("EC1*", "SW1A 1AA")),),
        keywords=("boots",),
        categories=("IAB18",),
        page_categories=("IAB18", "IAB20"),
        blocked_categories=("IAB7-39",),
        languages=("en",),
        device_types=("phone", "tablet"),
        domains=("news.example",),
        excluded_domains=("sports.news.example",),
        key_values={"section": ("travel", "outdoors")},
        time_slots=(TimeSlot(start="18:00", end="01:00"),),
        weekdays=("friday", "saturday"),
        time_basis="viewer",
    ),
    ChangeCampaign(budget_micros=3_000_000_000, end_date=date(2026, 12, 24)),
    CreateCreative(
        campaign_id=_CAMPAIGN,
        name="Boots in the rain",
        ad_type="top_bar_ad",
        media_type="image",
        media_url="https://cdn.northwind.example/boots-300x250.png",
        width=300,
        height=250,
        alt_text="A pair of boots in the rain",
        click_url="https://northwind.example/boots",
        in_view_duration=DisplayTime(value=1, unit="second"),
        time_slots=(TimeSlot(start="07:00", end="23:30"),),
        weight=2,
        content_rating=ContentRating(rating_system="IAB", rating_label="1", no_prohibited_content=True),
    ),
    ChangeCreative(weight=5, alt_text="A pair of yellow boots in the rain"),
    DenyCreative(reason="The picture shows a competitor's logo."),
    CreateSlot(name="Front page, top", ad_type="top_bar_ad", width=300, height=250, floor_cpm_micros=1_000_000),
    ChangeSlot(hold_seconds=120, media_types=("image",)),
    IssuedKey(key_id=_KEY, key="lsk_shown-this-once"),
    NewWebhook(url="https://hooks.northwind.example/ledger", event_types=("campaign_activated", "creative_denied")),
    CreatedWebhook(id=_WEBHOOK, secret="whsec_shown-this-once"),  # noqa: S106  nobody's secret
    ReplayFrom(position=4_711),
    ChangeNotifications(weekly_report=True, campaign_activated=False),
    Receipt(id=_CAMPAIGN, version=1, position=4_711),
    AdRequest(
        id="page-view-1",
        placements=(Placement(id="top", slot_id=_SLOT),),
        geo=Geo(country="GB", city="London", zip="N1 9GU", utcoffset=60),
        viewer=Viewer(id="a name that you gave this viewer"),
        device=Device(language="en-GB", type="phone"),
        site=Site(domain="travel.news.example", keywords=("boots", "rain"), categories=("IAB20-3",)),
        content=Content(rating_system="PEGI", rating_label="12"),
        key_values={"section": ("travel",)},
    ),
    DecisionResponse(
        id="page-view-1",
        decisions=[
            PlacementDecision(
                placement_id="top",
                ads=[
                    Ad(
                        decision_id=_DECISION,
                        campaign_id=_CAMPAIGN,
                        creative_id=_CREATIVE,
                        advertiser_id=_ADVERTISER,
                        media_type="image",
                        media_url="https://cdn.northwind.example/boots-300x250.png",
                        media_content=None,
                        width=300,
                        height=250,
                        alt_text="A pair of boots in the rain",
                        impression_url="https://ledger.example/ads/v1/i/the-impression-token",
                        click_url="https://ledger.example/ads/v1/c/the-click-token",
                        view_url="https://ledger.example/ads/v1/v/the-view-token",
                        hold_expires_at=datetime(2026, 9, 1, 12, 1, tzinfo=UTC),
                        expires_at=datetime(2026, 9, 2, 12, 0, tzinfo=UTC),
                    )
                ],
                no_bid_reason=None,
            )
        ],
    ),
    BidRequest(
        id="auction-1",
        imp=(Imp(id="1", tagid=str(_SLOT), audio=Playable(mimes=("audio/mpeg",), poddur=60, rqddurs=(15, 30))),),
        app=Programme(bundle="com.example.radio", cat=("IAB1-6",)),
        device=BidDevice(geo=BidGeo(country="GBR", city="London"), devicetype=4),
        cur=("GBP",),
    ),
    BidResponse(
        id="auction-1",
        seatbid=[
            SeatBid(
                seat=_ADVERTISER,
                bid=[
                    Bid(
                        id=_DECISION,
                        impid="1",
                        price=4.5,
                        adm='<VAST version="4.2" xmlns="http://www.iab.com/VAST">...</VAST>',
                        burl="https://ledger.example/ads/v1/b/the-notice-token",
                        adomain=["northwind.example"],
                        crid=_CREATIVE,
                        cid=_CAMPAIGN,
                        cat=["IAB18"],
                        dur=30,
                        mtype=3,
                        exp=60,
                    )
                ],
            )
        ],
        cur="GBP",
    ),
    BeaconBatch(tokens=["the-impression-token", "the-click-token"]),
    BeaconResults(
        results=[BeaconResult(result="recorded"), BeaconResult(result="refused", code="token_forged")],
    ),
)
