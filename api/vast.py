"""The door of video and audio players, which ask for an ad, or a pod of them, by an address alone, and get VAST."""

import re
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from litestar import Controller, Request, Response, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import QueryParameter
from litestar.response.base import ASGIResponse

from api import problems
from api.access import bearer
from api.beacons import ErrorCode
from api.decisions import SLOT_KEY, decide
from api.open_ledgers import OpenLedger
from api.pages import Wish
from api.playing import is_playable, played
from api.problems import Malformed
from api.services import Services, services_of
from api.vast_xml import ERROR_CODE_MACRO, document
from domain.ad_request import AdRequest
from domain.errors import NotFound, UnknownReference
from domain.pods import ADS_PER_POD_MAX, POD_SECONDS_MAX, Pod, fits
from domain.values import Audience
from infra import metrics

VAST_PATH: Final = "/ads/v1/vast"
NOTHING_PATH: Final = "/ads/v1/vast/nothing"
VAST_XML: Final = "application/xml"
PLACEMENT: Final = "break"
AGENT_CHARACTERS_MAX: Final = 1_000

_NEVER_KEPT: Final = {"Cache-Control": "no-store"}
_SECONDS: Final = "^[1-9][0-9]{0,3}(,[1-9][0-9]{0,3})*$"


def _text(description: str, *, characters_max: int = 100, example: str | None = None) -> Any:  # noqa: ANN401  parameters
    examples = None if example is None else [Example(value=example)]
    return QueryParameter(max_length=characters_max, description=description, examples=examples)


def _seconds(description: str) -> Any:  # noqa: ANN401  parameters
    return QueryParameter(ge=1, le=POD_SECONDS_MAX, description=description)


Text = str | None
SlotId = Annotated[UUID, QueryParameter(description="The slot that asks.")]
Key = Annotated[Text, _text("A slot key, from players that cannot send it as a bearer token.")]
Durations = Annotated[
    Text,
    QueryParameter(
        name="rqddurs",
        max_length=200,
        description="The only durations that ads may have, in seconds, separated by commas: for live streams.",
        schema_extra={"pattern": _SECONDS},
        examples=[Example(value="15,30")],
    ),
]
PodSeconds = Annotated[int | None, _seconds("How many seconds there are to fill with several ads.")]
AdsMax = Annotated[
    int | None, QueryParameter(ge=1, le=ADS_PER_POD_MAX, description="How many ads there may be: 1, or any of a pod.")
]
SecondsMin = Annotated[int | None, _seconds("How long each ad is at least, in seconds.")]
SecondsMax = Annotated[int | None, _seconds("How long each ad is at most, in seconds.")]
Country = Annotated[Text, _text("ISO 3166-1 alpha-2; alpha-3 is accepted.", example="DE")]
Region = Annotated[Text, _text("ISO 3166-2, or the publisher's own.")]
City = Annotated[Text, _text("A name.")]
Postcode = Annotated[Text, QueryParameter(name="zip", max_length=100, description="A postcode.")]
Ahead = Annotated[
    int | None, QueryParameter(ge=-840, le=840, description="Minutes by which local time is ahead of UTC.")
]
ViewerId = Annotated[Text, _text("The caller's name for who listens or looks; kept only as a keyed pseudonym.")]
Language = Annotated[Text, _text("Of the device (BCP 47).")]
DeviceType = Annotated[Text, _text("As in decisions.", example="connected_tv")]
Domain = Annotated[Text, _text("Of the page or programme.")]
Page = Annotated[
    Text, QueryParameter(name="page", max_length=2_000, description="The address of the page or programme.")
]
Keywords = Annotated[Text, _text("Of the page or programme, separated by commas.", characters_max=2_000)]
Categories = Annotated[Text, _text("Of the page or programme, separated by commas.", characters_max=2_000)]
MaxRating = Annotated[Audience | None, QueryParameter(description="The narrowest audience that an ad may be for.")]
BlockedAdvertisers = Annotated[Text, _text("Ids, separated by commas.", characters_max=2_000)]
BlockedCreatives = Annotated[Text, _text("Ids, separated by commas.", characters_max=2_000)]
BlockedCategories = Annotated[Text, _text("Separated by commas.", characters_max=2_000)]
Gpc = Annotated[bool | None, QueryParameter(description="Global Privacy Control.")]
Dnt = Annotated[bool | None, QueryParameter(description="Do Not Track.")]
Coppa = Annotated[bool | None, QueryParameter(description="Whether a child listens or looks.")]
Test = Annotated[bool | None, QueryParameter(description="Whether nothing of this is to be billed.")]

_ANSWERS: Final = {
    200: ResponseSpec(
        str,
        media_type=VAST_XML,
        generate_examples=False,
        description="VAST 4.2: an ad, or several in sequence; with none, where to report that.",
    )
}


class VastController(Controller):
    """Asking for what is played."""

    tags = ("ad slots",)

    @get("/vast", operation_id="vast", security=SLOT_KEY, responses=_ANSWERS | problems.PLAYING)
    async def vast(
        self,
        request: Request[Any, Any, Any],
        slot: SlotId,
        key: Key = None,
        durations: Durations = None,
        poddur: PodSeconds = None,
        maxseq: AdsMax = None,
        minduration: SecondsMin = None,
        maxduration: SecondsMax = None,
        country: Country = None,
        region: Region = None,
        city: City = None,
        postcode: Postcode = None,
        utcoffset: Ahead = None,
        viewer: ViewerId = None,
        language: Language = None,
        device: DeviceType = None,
        domain: Domain = None,
        page_url: Page = None,
        keywords: Keywords = None,
        categories: Categories = None,
        max_rating: MaxRating = None,
        blocked_advertisers: BlockedAdvertisers = None,
        blocked_creatives: BlockedCreatives = None,
        blocked_categories: BlockedCategories = None,
        gpc: Gpc = None,
        dnt: Dnt = None,
        coppa: Coppa = None,
        test: Test = None,
    ) -> ASGIResponse:
        """Answer with VAST 4.2: one ad of a video or audio slot, or a pod of them.

        With `poddur`, ads fill exactly that many seconds if any of what is offered does, else as much as it can; with
        `rqddurs`, each has exactly one of those durations.
        """
        asked = {
            "id": "vast",
            "placements": [{"id": PLACEMENT, "slot_id": slot}],
            "geo": _said(country=country, region=region, city=city, zip=postcode, utcoffset=utcoffset),
            "viewer": _said(id=viewer),
            "device": _said(ua=_agent(request), language=language, type=device),
            "site": _said(domain=domain, page=page_url) | _lists(keywords=keywords, categories=categories),
            "content": _said(max_rating=max_rating),
            "blocked": _lists(
                advertisers=blocked_advertisers, creatives=blocked_creatives, categories=blocked_categories
            ),
            "privacy": {
                "gpc": bool(gpc) or _signals(request, "Sec-GPC"),
                "dnt": bool(dnt) or _signals(request, "DNT"),
                "coppa": bool(coppa),
            },
            "test": bool(test),
        }
        pod = _pod(durations, poddur, maxseq, minduration, maxduration)
        services = services_of(request)
        return answer(
            services,
            services.ledgers.of_slot_key(key or bearer(request)),
            msgspec.convert(asked, AdRequest),
            pod,
            str(request.base_url).rstrip("/"),
        )

    @get("/vast/nothing", operation_id="report_nothing_played", status_code=204, responses=problems.REPORTING_NOTHING)
    async def nothing(self, code: ErrorCode = None) -> Response[None]:  # noqa: ARG002  it was counted as a request
        """Take note that a player got no ad, which was counted when it asked."""
        metrics.beacon_counter("error", "nothing_to_play").inc()
        return Response(None, status_code=204, headers=_NEVER_KEPT)


def answer(services: Services, ledger: OpenLedger, request: AdRequest, pod: Pod, base_url: str) -> ASGIResponse:
    """Choose what is played in a break, and return it as VAST; raise Unauthenticated, or NotFound for the slot."""
    slot_id = request.placements[0].slot_id
    is_pod = pod.seconds is not None or pod.ads_max > 1
    wish = Wish(lambda each: is_playable(each) and fits(pod, each.creative.duration_seconds), pod if is_pod else None)
    try:
        decided = decide(services, ledger, request, base_url, {PLACEMENT: wish})
    except UnknownReference:
        raise NotFound("slot", slot_id) from None
    ads = [played(ledger, ad, request) for ad in decided.decisions[0].ads]
    nothing = f"{services.settings.public_url or base_url}{NOTHING_PATH}?code={ERROR_CODE_MACRO}"
    return ASGIResponse(body=document(ads, error_url=nothing), media_type=VAST_XML, headers=_NEVER_KEPT)


def _pod(
    durations: str | None, seconds: int | None, ads_max: int | None, seconds_min: int | None, seconds_max: int | None
) -> Pod:
    if durations is not None and (seconds_min, seconds_max) != (None, None):
        raise Malformed("rqddurs are exact: there is no minduration or maxduration beside them.")
    if durations is not None and not re.fullmatch(_SECONDS, durations):
        raise Malformed("rqddurs are seconds, separated by commas, such as 15,30.")
    return Pod(
        seconds=seconds,
        ads_max=ads_max or (1 if seconds is None else ADS_PER_POD_MAX),
        durations=tuple(int(each) for each in durations.split(",")) if durations else (),
        seconds_min=seconds_min or 1,
        seconds_max=seconds_max or POD_SECONDS_MAX,
    )


def _said(**fields: str | int | None) -> dict[str, str | int]:
    """Return the fields that something is said of; a parameter without a value says nothing."""
    return {name: value for name, value in fields.items() if value is not None and value != ""}


def _lists(**fields: str | None) -> dict[str, list[str]]:
    return {name: [each.strip() for each in text.split(",") if each.strip()] for name, text in fields.items() if text}


def _signals(request: Request[Any, Any, Any], header: str) -> bool:
    return bool(request.headers.get(header) == "1")


def _agent(request: Request[Any, Any, Any]) -> str | None:
    agent = request.headers.get("User-Agent", "")[:AGENT_CHARACTERS_MAX]
    return agent if agent.isprintable() else None
