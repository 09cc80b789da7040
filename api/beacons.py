"""The door of ad slots: what became of a creative. An answer means that it is durable."""

import re
from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from litestar import Controller, Request, Response, get, head, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import PathParameter, QueryParameter, RequestBody
from litestar.response.base import ASGIResponse
from litestar.types import HTTPScope
from msgspec import Meta, Struct, structs

from api import problems
from api.access import bearer
from api.decisions import SLOT_KEY
from api.open_ledgers import OpenLedger
from api.senders import Sender, delivered, exchange, sender_of, why_no_conversion
from api.services import Services, services_of
from domain.budget import DeliveryKind
from domain.conversion import Reported, landing
from domain.delivery import PLAYBACK, Delivery, Settled, Ticket
from domain.errors import DateOutOfRange, NotFound, TimeClaimRefused
from domain.values import DATE_MIN, MICROS_MAX
from infra import clock, conversions, metrics
from infra.batch import Recording
from infra.beacon_tokens import TOKEN_CHARACTERS_MAX, BeaconTokens, TokenForged
from infra.database import look_at

TOKENS_MAX: Final = 1_000
CLOCK_DIFFERENCE_MAX: Final = timedelta(minutes=5)
"""How far ahead of ours the clock of a device may be that says when something occurred."""

CONVERSION_PATH: Final = "/ads/v1/x/"

CLAIM_MIN: Final = datetime.combine(DATE_MIN, time(), UTC)
"""What is said to have occurred before this has no place in a report."""

PIXEL: Final = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")
"""A transparent GIF of one pixel."""

Token = Annotated[str, PathParameter(max_length=TOKEN_CHARACTERS_MAX, description="As the decision gave it.")]

# Whatever is kept on the way would be a beacon that never arrives.
_NEVER_KEPT: Final = {"Cache-Control": "no-store"}
_EMPTY_ANSWER: Final = ASGIResponse(status_code=204, headers=_NEVER_KEPT)
_PIXEL_ANSWER: Final = ASGIResponse(body=PIXEL, media_type="image/gif", headers=_NEVER_KEPT)
"""Made once: making a response costs a beacon 12 of 100 microseconds."""

_ANSWERS: Final = {
    200: ResponseSpec(
        bytes, media_type="image/gif", description="Durable; who accepts images gets one.", generate_examples=False
    ),
    204: ResponseSpec(None, description="It is durable."),
}

ErrorCode = Annotated[
    str | None,
    QueryParameter(max_length=100, description="VAST's error code, if the player has put it in place of the macro."),
]
ConversionName = Annotated[
    str | None,
    QueryParameter(
        name="id", max_length=200, description="The advertiser's name for it, such as an order's; only a hash is kept."
    ),
]
Clicked = Annotated[UUID, QueryParameter(description="The decision that was clicked, as the page was told it.")]
Worth = Annotated[
    int,
    QueryParameter(ge=0, le=MICROS_MAX, description="What it is worth, in millionths of the campaign's currency."),
]

_REPORTED_BY_PLAYERS: Final = frozenset({*PLAYBACK, "click"})


class ClaimedToken(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token with the time at which, as the caller says, it happened: for devices that report later."""

    token: Annotated[str, Meta(max_length=TOKEN_CHARACTERS_MAX)]
    occurred_at: Annotated[datetime, Meta(tz=True)]


class BeaconBatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Many beacons at once; a claimed time is believed only of a caller with a slot key, and never for billing."""

    tokens: Annotated[
        list[Annotated[str, Meta(max_length=TOKEN_CHARACTERS_MAX)] | ClaimedToken],
        Meta(min_length=1, max_length=TOKENS_MAX),
    ]


class BeaconResult(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one beacon; `code` says why it was refused, or recorded without being billed."""

    result: Literal["recorded", "repeated", "refused"]
    code: str | None = None


class BeaconResults(Struct, frozen=True, kw_only=True):
    """One result for each token, in the same order."""

    results: list[BeaconResult]


class BeaconController(Controller):
    """Reporting impressions, views, playback, clicks, and what those led to."""

    tags = ("ad slots",)

    @get("/i/{token:str}", operation_id="record_impression", responses=_ANSWERS | problems.BEACON)
    async def impression(self, token: Token, request: Request[Any, Any, Any]) -> ASGIResponse:
        """Record an impression; whoever accepts images gets one of one pixel."""
        return await record(services_of(request), request.scope, "impression", token)

    @get("/v/{token:str}", operation_id="record_view", responses=_ANSWERS | problems.BEACON)
    async def view(self, token: Token, request: Request[Any, Any, Any]) -> ASGIResponse:
        """Record that an impression was viewable."""
        return await record(services_of(request), request.scope, "view", token)

    @get("/c/{token:str}", operation_id="record_click", status_code=302, responses=problems.CLICK)
    async def click(self, token: Token, request: Request[Any, Any, Any]) -> Response[bytes]:
        """Record a click and lead on to the creative's target, which comes from the catalogue, never from the URL."""
        services = services_of(request)
        ledger, ticket = await _record_one(services, request.scope, "click", token)
        target = ledger.serving.click_url(ticket.creative_id)
        if target is None:
            raise NotFound("creative", ticket.creative_id)
        advertiser = ledger.serving.advertiser(ticket.advertiser_id)
        if advertiser is not None:
            target = landing(target, advertiser.click_id_parameter, ticket.decision_id)
        return Response(b"", status_code=302, headers={**_NEVER_KEPT, "Location": target})

    @get("/t/{token:str}", operation_id="record_playback", responses=_ANSWERS | problems.BEACON)
    async def playback(self, token: Token, request: Request[Any, Any, Any], code: ErrorCode = None) -> ASGIResponse:
        """Record what a player reports: how far it has played, a click that it leads on itself, or that it failed."""
        services = services_of(request)
        _, (kind, _) = services.ledgers.verified(token, BeaconTokens.verify)
        if kind not in _REPORTED_BY_PLAYERS:
            raise TokenForged
        return await record(services, request.scope, kind, token, error_code=_error_code(code))

    @get("/b/{token:str}", operation_id="record_notice", responses=_ANSWERS | problems.BEACON)
    async def notice(self, token: Token, request: Request[Any, Any, Any]) -> ASGIResponse:
        """Record the impression of a bid, as the exchange reports that bills it: a server, for whoever saw the ad."""
        services = services_of(request)
        ledger, ticket = services.ledgers.verified(token, BeaconTokens.verify_notice)
        await _record(
            services, ledger, [delivered(services, ledger, exchange(ledger), "impression", ticket, clock.now())]
        )
        return _answer(request.scope)

    @get("/x/{token:str}", operation_id="record_conversion", responses=_ANSWERS | problems.CLICK)
    async def conversion(
        self,
        token: Token,
        request: Request[Any, Any, Any],
        decision_id: Clicked,
        name: ConversionName = None,
        value_micros: Worth = 0,
    ) -> ASGIResponse:
        """Record what a click led to, once for each name or, without one, for each click."""
        services = services_of(request)
        ledger, advertiser_id = services.ledgers.verified(token, BeaconTokens.verify_advertiser)
        advertiser = ledger.serving.advertiser(advertiser_id)
        if advertiser is None:
            raise NotFound("advertiser", advertiser_id)
        reported = Reported(
            advertiser_id=advertiser_id,
            decision_id=decision_id,
            name=name,
            value_micros=value_micros,
            invalid=why_no_conversion(sender_of(services, request.scope)),
        )
        look_at(ledger.id)
        event = await conversions.record(services.log, ledger.id, reported, advertiser.attribution_window)
        metrics.beacon_counter("conversion", "repeated" if event is None else event.reason or "attributed").inc()
        return _answer(request.scope)

    @head(
        [f"/{door}/{{token:str}}" for door in "ivctbx"],
        operation_id="look_at_beacon",
        include_in_schema=False,
    )
    async def look(self, token: Token) -> Response[None]:  # noqa: ARG002  a look at a beacon is none
        """Record nothing."""
        return Response(None, status_code=204, headers=_NEVER_KEPT)

    @post(
        "/events",
        operation_id="record_events",
        status_code=200,
        security=({}, *SLOT_KEY),
        responses=problems.REPORTING,
    )
    async def events(self, data: RequestBody[BeaconBatch], request: Request[Any, Any, Any]) -> BeaconResults:
        """Record up to 1,000 beacons at once."""
        services = services_of(request)
        now, sender = clock.now(), sender_of(services, request.scope)
        if any(isinstance(token, ClaimedToken) for token in data.tokens):
            services.ledgers.of_slot_key(bearer(request))
        results: list[BeaconResult | None] = []
        of_ledger: dict[OpenLedger, list[tuple[int, Delivery]]] = {}
        for number, token in enumerate(data.tokens):
            read = _read(services, sender, token, now)
            results.append(read if isinstance(read, BeaconResult) else None)
            if not isinstance(read, BeaconResult):
                of_ledger.setdefault(read[0], []).append((number, read[1]))
        for ledger, deliveries in of_ledger.items():
            settled = await _record(services, ledger, [delivery for _, delivery in deliveries])
            for (number, _), each in zip(deliveries, settled, strict=True):
                results[number] = _result(each)
        return BeaconResults(results=[result for result in results if result is not None])


async def record(
    services: Services, scope: HTTPScope, kind: DeliveryKind, token: str, *, error_code: int | None = None
) -> ASGIResponse:
    """Record an impression, a view or playback; return an answer without content, or an image for who accepts one."""
    await _record_one(services, scope, kind, token, error_code)
    return _answer(scope)


def _answer(scope: HTTPScope) -> ASGIResponse:
    wants_image = any(name == b"accept" and b"image/" in value for name, value in scope["headers"])
    return _PIXEL_ANSWER if wants_image else _EMPTY_ANSWER


async def _record_one(
    services: Services, scope: HTTPScope, kind: DeliveryKind, token: str, error_code: int | None = None
) -> tuple[OpenLedger, Ticket]:
    ledger, (of_kind, ticket) = services.ledgers.verified(token, BeaconTokens.verify)
    if of_kind != kind:
        raise TokenForged
    delivery = delivered(services, ledger, sender_of(services, scope), kind, ticket, clock.now())
    if error_code is not None:
        delivery = structs.replace(delivery, error_code=error_code)
    await _record(services, ledger, [delivery])
    return ledger, ticket


def _error_code(said: str | None) -> int | None:
    """Return VAST's error code, or None for a macro that was left as it is."""
    return int(said) if said is not None and re.fullmatch("[0-9]{1,3}", said) else None


async def _record(services: Services, ledger: OpenLedger, deliveries: list[Delivery]) -> tuple[Settled | None, ...]:
    recording = Recording(ledger_id=ledger.id, deliveries=tuple(deliveries))
    outcomes = await services.log.writer.record(recording)
    for delivery, settled in zip(deliveries, outcomes, strict=True):
        outcome = "repeated" if settled is None else settled.event.reason or "billed"
        metrics.beacon_counter(delivery.kind, outcome).inc()
    return outcomes


def _read(
    services: Services, sender: Sender, token: str | ClaimedToken, now: datetime
) -> tuple[OpenLedger, Delivery] | BeaconResult:
    text, occurred_at = (token, now) if isinstance(token, str) else (token.token, token.occurred_at)
    try:
        ledger, (kind, ticket) = services.ledgers.verified(text, BeaconTokens.verify)
    except TokenForged:
        metrics.beacon_counter("unknown", "forged").inc()
        return BeaconResult(result="refused", code="token_forged")
    if isinstance(token, ClaimedToken) and sender.vouched_by is not ledger:
        return BeaconResult(result="refused", code=TimeClaimRefused.code)
    if occurred_at > now + CLOCK_DIFFERENCE_MAX:
        return BeaconResult(result="refused", code=TimeClaimRefused.code)
    if occurred_at < CLAIM_MIN:
        return BeaconResult(result="refused", code=DateOutOfRange.code)
    return ledger, delivered(services, ledger, sender, kind, ticket, occurred_at.astimezone(UTC))


def _result(settled: Settled | None) -> BeaconResult:
    return (
        BeaconResult(result="repeated")
        if settled is None
        else BeaconResult(result="recorded", code=settled.event.reason)
    )
