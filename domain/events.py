"""The catalogue of every event the log can hold.

Tags are written by hand and never renamed; a new field has a default; a changed meaning is a new tag and an upcaster.
"""

from datetime import datetime
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType

from domain.access import AccessEvent
from domain.basis import Basis
from domain.terms import (
    AdvertiserChanges,
    AdvertiserTerms,
    BudgetPolicy,
    BudgetRequest,
    CampaignChanges,
    CampaignTerms,
    CreativeChanges,
    CreativeTerms,
    OrganisationTerms,
    SlotChanges,
    SlotTerms,
)
from domain.values import CurrencyCode, Line, LongText, Micros, PositiveMicros


class AdvertiserCreated(AdvertiserTerms, frozen=True, kw_only=True, omit_defaults=True, tag="advertiser_created"):
    """An advertiser was entered."""


class AdvertiserChanged(AdvertiserChanges, frozen=True, kw_only=True, tag="advertiser_changed"):
    """Fields of an advertiser were set."""


class FundsDeposited(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="funds_deposited"):
    """An advertiser paid in advance; from its first deposit on, its campaigns spend no more than its funds."""

    amount_micros: PositiveMicros
    currency: CurrencyCode


class FundsWithdrawn(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="funds_withdrawn"):
    """An advertiser was paid back what it had not spent."""

    amount_micros: PositiveMicros
    currency: CurrencyCode


class LegalHoldPlaced(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="legal_hold_placed"):
    """Nothing that is held about an advertiser's contact may be erased, for a reason."""

    reason: Line


class LegalHoldLifted(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="legal_hold_lifted"):
    """What is held about an advertiser's contact may be erased again."""


class PersonalDataErased(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="personal_data_erased"):
    """The key was destroyed under which the log holds an advertiser's contact: nobody can read it any more."""


class CampaignCreated(CampaignTerms, frozen=True, kw_only=True, omit_defaults=True, tag="campaign_created"):
    """A campaign was drafted."""


class CampaignChanged(CampaignChanges, frozen=True, kw_only=True, tag="campaign_changed"):
    """Fields of a campaign were set."""


class CampaignActivated(Struct, frozen=True, kw_only=True, tag="campaign_activated"):
    """A campaign may be served, on its flight dates."""


class CampaignPaused(Struct, frozen=True, kw_only=True, tag="campaign_paused"):
    """A campaign is not served until it is activated again."""


class CampaignCompleted(Struct, frozen=True, kw_only=True, tag="campaign_completed"):
    """A campaign has come to its end."""


class CampaignExpired(Struct, frozen=True, kw_only=True, tag="campaign_expired"):
    """A campaign's expiry date has passed: nothing about it can change any more."""


class CampaignArchived(Struct, frozen=True, kw_only=True, tag="campaign_archived"):
    """A campaign was put away."""


class BudgetRequested(BudgetRequest, frozen=True, kw_only=True, tag="budget_requested"):
    """Somebody wants a campaign to spend more than one person may allow; it takes effect when another confirms it."""


class BudgetConfirmed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="budget_confirmed"):
    """A second person confirmed the budget that was asked for; what changes by it is the event after this one."""

    request_id: UUID


class BudgetRefused(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="budget_refused"):
    """The budget that was asked for does not come to be."""

    request_id: UUID


class BudgetPolicySet(BudgetPolicy, frozen=True, kw_only=True, tag="budget_policy_set"):
    """From now on budgets above these amounts need a second person, by currency, and no others."""


class CreativeCreated(CreativeTerms, frozen=True, kw_only=True, omit_defaults=True, tag="creative_created"):
    """A creative was drafted."""


class CreativeChanged(CreativeChanges, frozen=True, kw_only=True, tag="creative_changed"):
    """Fields of a creative were set."""


class CreativeSubmitted(Struct, frozen=True, kw_only=True, tag="creative_submitted"):
    """A creative waits for its review."""


class CreativeApproved(Struct, frozen=True, kw_only=True, tag="creative_approved"):
    """A reviewer let a creative pass."""


class CreativeDenied(Struct, frozen=True, kw_only=True, tag="creative_denied"):
    """A reviewer turned a creative down."""

    reason: LongText


class CreativeActivated(Struct, frozen=True, kw_only=True, tag="creative_activated"):
    """A creative may be served."""


class CreativePaused(Struct, frozen=True, kw_only=True, tag="creative_paused"):
    """A creative is not served until it is activated again."""


class CreativeArchived(Struct, frozen=True, kw_only=True, tag="creative_archived"):
    """A creative was put away."""


class SlotCreated(SlotTerms, frozen=True, kw_only=True, omit_defaults=True, tag="slot_created"):
    """A slot was set up."""


class SlotChanged(SlotChanges, frozen=True, kw_only=True, tag="slot_changed"):
    """Fields of a slot were set."""


class SlotKeyIssued(Struct, frozen=True, kw_only=True, tag="slot_key_issued"):
    """A key was made for a slot; only its SHA-256 (hexadecimal) is known from now on."""

    key_id: UUID
    key_sha256: str


class SlotKeyRevoked(Struct, frozen=True, kw_only=True, tag="slot_key_revoked"):
    """A slot's key is no longer valid."""

    key_id: UUID


class DeliveryRecorded(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What impressions, views and clicks have in common: what was shown where, and what it cost.

    `rules` is the version of those by which it counts or is invalid (see `validity`); without, it is from before them.
    """

    campaign_id: UUID
    creative_id: UUID
    advertiser_id: UUID
    slot_id: UUID
    country: str | None = None
    region: str | None = None
    city: str | None = None
    viewer: str | None = None
    currency: CurrencyCode
    price_micros: Micros
    billed: bool
    reason: str | None = None
    rules: int | UnsetType = UNSET


class ImpressionRecorded(DeliveryRecorded, frozen=True, kw_only=True, tag="impression_recorded"):
    """A creative began to render; `basis` is what its decision knew that does not follow from the log."""

    basis: Basis | UnsetType = UNSET


class ViewRecorded(DeliveryRecorded, frozen=True, kw_only=True, tag="view_recorded"):
    """An impression was viewable."""


class ClickRecorded(DeliveryRecorded, frozen=True, kw_only=True, tag="click_recorded"):
    """A creative was clicked."""


class StartRecorded(DeliveryRecorded, frozen=True, kw_only=True, tag="start_recorded"):
    """A video or audio creative began to play."""


class FirstQuartileRecorded(DeliveryRecorded, frozen=True, kw_only=True, tag="first_quartile_recorded"):
    """A quarter of a creative has played."""


class MidpointRecorded(DeliveryRecorded, frozen=True, kw_only=True, tag="midpoint_recorded"):
    """Half of a creative has played."""


class ThirdQuartileRecorded(DeliveryRecorded, frozen=True, kw_only=True, tag="third_quartile_recorded"):
    """Three quarters of a creative have played."""


class CompleteRecorded(DeliveryRecorded, frozen=True, kw_only=True, tag="complete_recorded"):
    """A creative has played to its end."""


class ErrorRecorded(DeliveryRecorded, frozen=True, kw_only=True, tag="error_recorded"):
    """A creative could not be played; `code` is VAST's (4.2, section 2.3.6.3), where the player said one."""

    code: int | None = None


class ConversionRecorded(DeliveryRecorded, frozen=True, kw_only=True, tag="conversion_recorded"):
    """A click led to what the advertiser wanted, which is worth so much to it; a reason says why it is not attributed.

    The value is in the campaign's currency. Nothing is paid for it.
    """

    decision_id: UUID
    value_micros: Micros = 0


class RequestTally(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What became of the creatives that a slot asked for in a country: how many it got, and why it got no more."""

    slot_id: UUID
    country: str | None = None
    fills: int = 0
    no_fill: dict[str, int] = {}


class RequestsTallied(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="requests_tallied"):
    """What one worker was asked for within an hour (its start, in UTC), since it last said so."""

    hour: datetime
    lines: tuple[RequestTally, ...]


class LogKeyReplaced(Struct, frozen=True, kw_only=True, tag="log_key_replaced"):
    """From now on the log is signed with another key; both are verifier keys of signed notes."""

    old_key: str
    new_key: str


class OrganisationFounded(OrganisationTerms, frozen=True, kw_only=True, omit_defaults=True, tag="organisation_founded"):
    """The ledger was begun, by whoever is the first admin of its organisation."""


class OrganisationChanged(OrganisationTerms, frozen=True, kw_only=True, omit_defaults=True, tag="organisation_changed"):
    """From now on this is what the organisation is called and looks like, and what its campaigns are in."""


class ProjectionCompared(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="projection_compared"):
    """A read model was compared, as of a position, with the same one made anew from the log."""

    projection: str
    version: int
    as_of: int
    rows: int
    differing_keys: int


FundsMoved = FundsDeposited | FundsWithdrawn
PersonalDataEvent = LegalHoldPlaced | LegalHoldLifted | PersonalDataErased
AdvertiserEvent = AdvertiserCreated | AdvertiserChanged | FundsMoved | PersonalDataEvent
CampaignStepTaken = CampaignActivated | CampaignPaused | CampaignCompleted | CampaignExpired | CampaignArchived
BudgetAsked = BudgetRequested | BudgetConfirmed | BudgetRefused
CampaignEvent = CampaignCreated | CampaignChanged | CampaignStepTaken | BudgetAsked
CreativeEvent = (
    CreativeCreated
    | CreativeChanged
    | CreativeSubmitted
    | CreativeApproved
    | CreativeDenied
    | CreativeActivated
    | CreativePaused
    | CreativeArchived
)
SlotEvent = SlotCreated | SlotChanged | SlotKeyIssued | SlotKeyRevoked
PlaybackEvent = (
    StartRecorded | FirstQuartileRecorded | MidpointRecorded | ThirdQuartileRecorded | CompleteRecorded | ErrorRecorded
)
OrganisationEvent = OrganisationFounded | OrganisationChanged
DeliveryEvent = ImpressionRecorded | ViewRecorded | ClickRecorded | PlaybackEvent
Event = (
    AdvertiserEvent
    | CampaignEvent
    | BudgetPolicySet
    | CreativeEvent
    | SlotEvent
    | DeliveryEvent
    | ConversionRecorded
    | RequestsTallied
    | AccessEvent
    | OrganisationEvent
    | LogKeyReplaced
    | ProjectionCompared
)


class Entry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One event as the log keeps it, for ever; its JSON text is what is hashed.

    `occurred_at` is claimed by whoever reports the event, `recorded_at` is the server's; both are in UTC.
    """

    stream: str
    version: int
    actor: str
    occurred_at: datetime
    recorded_at: datetime
    correlation_id: str | None = None
    causation_id: str | None = None
    idempotency_key: str | None = None
    event: Event
