"""What players get beside an ad: the creative's terms, its companions, and the tokens that report how far it played."""

from typing import Final

from api.answers import CLICK_PATH, PLAYBACK_PATH, Ad
from api.services import Services
from api.vast_xml import ERROR_CODE_MACRO, Played
from domain.choosing import Candidate
from domain.delivery import Ticket
from domain.rating import audience_of
from domain.values import AUDIENCES, Audience
from infra import clock

COMPANIONS_MAX: Final = 6
PLAYED: Final = frozenset({"video", "audio"})
"""The media types that are played."""


def is_playable(candidate: Candidate) -> bool:
    """Tell whether a creative says all that a player needs; those from before it had to may not."""
    creative = candidate.creative
    return creative.media_type in PLAYED and None not in (creative.mime_type, creative.duration_seconds)


def played(services: Services, ad: Ad, *, widest: Audience) -> Played:
    """Return an ad as a player needs it, with companions for no narrower an audience than the widest."""
    base_url, _, token = ad.click_url.rpartition(CLICK_PATH)  # no token is shorter
    _, ticket = services.beacon_tokens.verify(token)
    urls = {
        kind: f"{base_url}{PLAYBACK_PATH}{signed}"
        for kind, signed in services.beacon_tokens.sign_playback(ticket).items()
    }
    urls["error"] += f"?code={ERROR_CODE_MACRO}"
    creative = services.serving.creative(ad.creative_id)
    assert creative is not None  # noqa: S101  it was just chosen
    return Played(
        decision_id=ad.decision_id,
        creative_id=ad.creative_id,
        creative=creative.terms,
        impression_url=ad.impression_url,
        view_url=ad.view_url,
        click_url=ad.click_url,
        click_tracking_url=f"{base_url}{PLAYBACK_PATH}{token}",
        playback_urls=urls,
        valid_seconds=max(0, ticket.expires_at - int(clock.now().timestamp())),
        companions=_companions(services, ticket, widest),
    )


def _companions(services: Services, ticket: Ticket, widest: Audience) -> tuple[Candidate, ...]:
    second = int(clock.now().timestamp())
    limit = AUDIENCES.index(widest)
    fitting = (
        each
        for each in services.serving.snapshot.companions.get(ticket.campaign_id, ())
        if each.starts_at <= second < each.ends_at
        and AUDIENCES.index(audience_of(each.creative.content_rating)) <= limit
    )
    return tuple(each for each, _ in zip(fitting, range(COMPANIONS_MAX), strict=False))
