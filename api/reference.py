"""The door to reference data: the codes that commands take, for forms."""

import asyncio
from collections.abc import Callable, Sequence
from hashlib import sha256
from http import HTTPStatus
from typing import Annotated, Any, Final, TypeVar

import msgspec
from litestar import Controller, MediaType, Request, Response, get
from litestar.datastructures import ResponseHeader
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import QueryParameter

from api import problems
from api.access import may_see
from api.lists import WITHOUT_NUL, Cursor, Limit
from api.requests import refuse_null
from domain.errors import UnknownCountry
from domain.iso import alpha_2
from infra import reference
from infra.reference import Category, Code, Country, RatingLabel, Subdivision, Taxonomy
from projections.listing import LIMIT_DEFAULT, BadCursor, Page

CACHED_SECONDS: Final = 86_400
CURSOR_DIGITS_MAX: Final = 9

C = TypeVar("C", bound=Code)

Search = Annotated[
    str,
    QueryParameter(
        max_length=100,
        pattern=WITHOUT_NUL,
        description="Only those whose code or name contains this, whatever its case and accents.",
    ),
]
OfCountry = Annotated[
    str | None,
    QueryParameter(
        pattern="^[A-Z]{2,3}$",
        description="Only those of this country: ISO 3166-1 alpha-2 or alpha-3.",
        examples=[Example(value="DE")],
    ),
]
OfTaxonomy = Annotated[Taxonomy | None, QueryParameter(description="Only those of this version.")]
OfSystem = Annotated[
    str | None, QueryParameter(max_length=20, pattern=WITHOUT_NUL, description="Only labels of this rating system.")
]


_UNCHANGED: Final = HTTPStatus.NOT_MODIFIED.value
_RESPONSES: Final = problems.LISTING | {
    _UNCHANGED: ResponseSpec(data_container=None, description="What was read before still holds.")
}


class ReferenceController(Controller):
    """The codes that commands take."""

    path = "/reference"
    tags = ("reference",)
    guards = (may_see,)
    response_headers = (
        ResponseHeader(name="ETag", documentation_only=True, description="What `If-None-Match` takes."),
    )

    @get("/countries", operation_id="list_countries", responses=_RESPONSES)
    async def countries(
        self, request: Request[Any, Any, Any], search: Search = "", limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None
    ) -> Response[Page[Country]]:
        """List countries (ISO 3166-1)."""
        return await _page(request, reference.countries, search, limit, cursor)

    @get("/subdivisions", operation_id="list_subdivisions", responses=_RESPONSES)
    async def subdivisions(
        self,
        request: Request[Any, Any, Any],
        country: OfCountry = None,
        search: Search = "",
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
    ) -> Response[Page[Subdivision]]:
        """List the subdivisions of a country, or of all (ISO 3166-2)."""
        code = country and alpha_2(country)
        if country is not None and code is None:
            raise UnknownCountry(f"ISO 3166-1 has no country {country}.")
        return await _page(
            request, reference.subdivisions, search, limit, cursor, lambda each: code in {None, each.country}
        )

    @get("/time-zones", operation_id="list_time_zones", responses=_RESPONSES)
    async def time_zones(
        self, request: Request[Any, Any, Any], search: Search = "", limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None
    ) -> Response[Page[Code]]:
        """List time zones (IANA)."""
        return await _page(request, reference.time_zones, search, limit, cursor)

    @get("/currencies", operation_id="list_currencies", responses=_RESPONSES)
    async def currencies(
        self, request: Request[Any, Any, Any], search: Search = "", limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None
    ) -> Response[Page[Code]]:
        """List currencies (ISO 4217)."""
        return await _page(request, reference.currencies, search, limit, cursor)

    @get("/content-ratings", operation_id="list_content_ratings", responses=_RESPONSES)
    async def content_ratings(
        self,
        request: Request[Any, Any, Any],
        system: OfSystem = None,
        search: Search = "",
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
    ) -> Response[Page[RatingLabel]]:
        """List the labels of content rating systems."""
        return await _page(
            request, reference.content_ratings, search, limit, cursor, lambda each: system in {None, each.system}
        )

    @get("/iab-categories", operation_id="list_iab_categories", responses=_RESPONSES)
    async def iab_categories(
        self,
        request: Request[Any, Any, Any],
        taxonomy: OfTaxonomy = None,
        search: Search = "",
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
    ) -> Response[Page[Category]]:
        """List categories of the IAB Content Taxonomy, versions 1.0 (`IAB7-1`) and 3.1."""
        return await _page(
            request, reference.iab_categories, search, limit, cursor, lambda each: taxonomy in {None, each.taxonomy}
        )


async def _page(
    request: Request[Any, Any, Any],
    read: Callable[[], Sequence[C]],
    search: str,
    limit: int,
    cursor: str | None,
    chosen: Callable[[C], bool] = lambda _: True,
) -> Response[Page[C]]:
    """Return a page of codes, or that it is the one which the client has; raise BadCursor."""
    refuse_null(request)
    begin = _begin(cursor)
    codes = await asyncio.to_thread(read)  # the first time, it is read from files
    found = [each for each in (reference.matching(codes, search) if search else codes) if chosen(each)]
    following = str(begin + limit) if len(found) > begin + limit else None
    content = msgspec.json.encode(Page(items=found[begin : begin + limit], next_cursor=following))
    etag = f'"{sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": f"private, max-age={CACHED_SECONDS}"}
    known = [each.strip().removeprefix("W/") for each in request.headers.get("If-None-Match", "").split(",")]
    if etag in known or known == ["*"]:
        return Response(content=None, status_code=_UNCHANGED, headers=headers)  # type: ignore[arg-type]  # 304 has no body
    return Response(content, media_type=MediaType.JSON, headers=headers)  # type: ignore[arg-type]  # it is encoded


def _begin(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > CURSOR_DIGITS_MAX:
        raise BadCursor("The cursor is not one that this list handed out.", pointer="/cursor")
    return int(cursor)
