"""The bare handlers that the service is measured beside: Litestar and msgspec, the same bodies, and nothing else."""

from datetime import UTC, datetime
from uuid import UUID

from litestar import Litestar, Response, get, post

from api.answers import Ad, DecisionResponse, PlacementDecision
from domain.ad_request import AdRequest

_ID = UUID("01920000-0000-7000-8000-000000000001")
_AT = datetime(2026, 1, 1, tzinfo=UTC)
_URL = "http://127.0.0.1:8000/ads/v1/i/" + "x" * 240


@post("/ads/v1/decisions", status_code=200)
async def decide(data: AdRequest) -> DecisionResponse:
    """Decode an ad request, and encode an answer made of constants."""
    ad = Ad(
        decision_id=_ID,
        campaign_id=_ID,
        creative_id=_ID,
        advertiser_id=_ID,
        media_type="image",
        media_url="https://cdn.example/banner.png",
        media_content=None,
        width=300,
        height=250,
        alt_text="",
        impression_url=_URL,
        click_url=_URL,
        view_url=_URL,
        hold_expires_at=_AT,
        expires_at=_AT,
    )
    placed = PlacementDecision(placement_id=data.placements[0].id, ads=[ad], no_bid_reason=None)
    return DecisionResponse(id=data.id, decisions=[placed])


@get("/ads/v1/i/{token:str}")
async def impression(token: str) -> Response[bytes]:  # noqa: ARG001  what is measured is getting here
    """Answer 204."""
    return Response(b"", status_code=204)


def create_app() -> Litestar:
    """Return the bare application."""
    return Litestar([decide, impression], openapi_config=None, logging_config=None)
