"""What ad slots are answered: creatives to show, and where to report what became of them."""

from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from msgspec import Struct

from domain.explanation import Explanation
from domain.values import MediaType

NoBidReason = Literal["no_matching_creative", "no_budget", "paced", "frequency_capped"]

DECISIONS_PATH: Final = "/ads/v1/decisions"
IMPRESSION_PATH: Final = "/ads/v1/i/"
VIEW_PATH: Final = "/ads/v1/v/"
CLICK_PATH: Final = "/ads/v1/c/"
FRAME_PATH: Final = "/ads/v1/frame/"
MEDIA_PATH: Final = "/ads/v1/media/"
PLAYBACK_PATH: Final = "/ads/v1/t/"
NOTICE_PATH: Final = "/ads/v1/b/"


class Ad(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A creative to show, and the URLs that report what became of it; HTML has one of a document to frame, too."""

    decision_id: UUID
    campaign_id: UUID
    creative_id: UUID
    advertiser_id: UUID
    media_type: MediaType
    media_url: str | None
    media_content: str | None
    width: int | None
    height: int | None
    alt_text: str
    impression_url: str
    click_url: str
    view_url: str
    hold_expires_at: datetime
    expires_at: datetime
    frame_url: str | None = None
    warning_required: bool = False
    content_warnings: tuple[str, ...] = ()


class PlacementDecision(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one placement gets; why it gets less than it asked for, if so.

    Explanations are only there where they were asked for: one for each creative that it would get, or else for none.
    """

    placement_id: str
    ads: list[Ad]
    no_bid_reason: NoBidReason | None
    refresh_seconds: int | None = None
    closable: bool = False
    explanations: list[Explanation] = []


class DecisionResponse(Struct, frozen=True, kw_only=True):
    """The answer to an ad request, under the id that the caller gave it."""

    id: str
    decisions: list[PlacementDecision]
