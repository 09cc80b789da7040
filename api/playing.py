"""What players get beside an ad: the creative's terms, its companions, and the tokens that report how far it played."""

import html
import mimetypes
from typing import Final

from msgspec import structs

from api.answers import CLICK_PATH, MEDIA_PATH, PLAYBACK_PATH, Ad
from api.open_ledgers import OpenLedger
from api.showing import CLICK_MACRO
from api.vast_xml import ERROR_CODE_MACRO, Companion, Played
from domain.ad_request import AdRequest
from domain.choosing import Candidate
from domain.delivery import Ticket
from domain.rating import audience_of
from domain.terms import CreativeTerms
from domain.values import AUDIENCES
from infra import clock, images

COMPANIONS_MAX: Final = 6
PLAYED: Final = frozenset({"video", "audio"})
"""The media types that are played."""


def is_playable(candidate: Candidate) -> bool:
    """Tell whether a creative says all that a player needs; those from before it had to may not."""
    creative = candidate.creative
    return creative.media_type in PLAYED and None not in (creative.mime_type, creative.duration_seconds)


def played(ledger: OpenLedger, ad: Ad, request: AdRequest) -> Played:
    """Return an ad as a player needs it, with companions that the request allows."""
    base_url, _, token = ad.click_url.rpartition(CLICK_PATH)  # no token is shorter
    _, ticket = ledger.beacon_tokens.verify(token)
    urls = {
        kind: f"{base_url}{PLAYBACK_PATH}{signed}"
        for kind, signed in ledger.beacon_tokens.sign_playback(ticket).items()
    }
    urls["error"] += f"?code={ERROR_CODE_MACRO}"
    creative = ledger.serving.creative(ad.creative_id)
    assert creative is not None  # noqa: S101  it was just chosen
    beside = (_companion(each, base_url=base_url, click_url=ad.click_url) for each in _fitting(ledger, ticket, request))
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
        companions=tuple(each for each in beside if each is not None)[:COMPANIONS_MAX],
    )


def _fitting(ledger: OpenLedger, ticket: Ticket, request: AdRequest) -> list[Candidate]:
    snapshot, second = ledger.serving.snapshot, int(clock.now().timestamp())
    said = AUDIENCES[0] if request.privacy.coppa else request.content.max_rating
    limits = (said, snapshot.slots[ticket.slot_id].max_rating)
    widest = min(AUDIENCES.index(limit) for limit in limits if limit is not None)
    return [
        each
        for each in snapshot.companions.get(ticket.campaign_id, ())
        if each.starts_at <= second < each.ends_at
        and AUDIENCES.index(audience_of(each.creative.content_rating)) <= widest
        and each.creative_id not in request.blocked.creatives
    ]


def _companion(candidate: Candidate, *, base_url: str, click_url: str) -> Companion | None:
    """Return a creative as it stands beside another; None for an image of which nobody can tell the kind."""
    terms = candidate.creative
    if terms.width is None or terms.height is None:
        return None
    shown = Companion(
        creative_id=candidate.creative_id, width=terms.width, height=terms.height, alt_text=terms.alt_text
    )
    if terms.media_type == "html":
        markup = (terms.media_content or "").replace(CLICK_MACRO, html.escape(click_url))
        return structs.replace(shown, markup=markup)
    image = _image(terms, base_url)
    return None if image is None else structs.replace(shown, image_url=image[0], image_type=image[1])


def _image(terms: CreativeTerms, base_url: str) -> tuple[str, str] | None:
    """Return an image's URL and type, as the creative says or as the URL ends."""
    if terms.media_file is not None:
        return f"{base_url}{MEDIA_PATH}{terms.media_file}", images.TYPES[terms.media_file.rpartition(".")[2]]
    if terms.media_url is None:
        return None
    said = terms.mime_type or mimetypes.guess_type(terms.media_url.partition("?")[0])[0] or ""
    return (terms.media_url, said) if said.startswith("image/") else None
