"""Errors as clients see them: problem details (RFC 9457), and the only place that knows HTTP's error numbers."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
import psycopg
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from msgspec import Struct
from psycopg_pool import PoolTimeout

from domain.errors import Kind, Refusal
from infra.access_tokens import TokenRefused
from infra.beacon_tokens import TokenForged
from infra.media import MediaUnavailable
from infra.openid import AnswerRefused, ProviderUnavailable
from infra.sessions import SessionRefused
from infra.sign_in import SecondFactorRequired, SignInRefused
from infra.throttle import Throttled
from infra.writer import LogBusy, LogUnavailable
from projections.status import ProjectionBehind

RETRY_AFTER_SECONDS: Final = 1
DETAIL_CHARACTERS_MAX: Final = 300
PROBLEM_JSON: Final = "application/problem+json"
NOT_READY_STATUS: Final = HTTPStatus.SERVICE_UNAVAILABLE.value

STATUS_OF_KIND: Final[Mapping[Kind, HTTPStatus]] = {
    "forbidden": HTTPStatus.FORBIDDEN,
    "missing": HTTPStatus.NOT_FOUND,
    "conflict": HTTPStatus.CONFLICT,
    "precondition": HTTPStatus.PRECONDITION_FAILED,
    "rule": HTTPStatus.UNPROCESSABLE_ENTITY,
}

# What the framework refuses before a handler is reached: by status, the code and what people are told.
_REFUSED_EARLY: Final[Mapping[HTTPStatus, tuple[str, str]]] = {
    HTTPStatus.BAD_REQUEST: ("malformed_request", "The request is not of the form that is described."),
    HTTPStatus.NOT_FOUND: ("not_found", "There is nothing at this path."),
    HTTPStatus.METHOD_NOT_ALLOWED: ("method_not_allowed", "This path does not take this method."),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ("body_too_large", "The body is larger than this service takes."),
}

HEADERS: Final[Mapping[HTTPStatus, Mapping[str, str]]] = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": "The scheme to authenticate with: `Bearer`."},
    HTTPStatus.TOO_MANY_REQUESTS: {"Retry-After": "After how many seconds to try again."},
    HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": "After how many seconds to try again."},
}
"""What answers of a status say in headers, for the OpenAPI document."""

_CLIENT_LEFT: Final = "client disconnected prematurely"
"""How Litestar says that nobody waits for the answer any more, which is no defect of ours."""

log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)


class ProblemPart(Struct, frozen=True, kw_only=True):
    """What is wrong with one place in the body, named by a JSON pointer (RFC 6901)."""

    pointer: str
    detail: str


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a request was not carried out; `code` is stable, `detail` is for people."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: tuple[ProblemPart, ...] = ()


class Unauthenticated(Exception):
    """The request carries no valid credentials for this."""


class Forbidden(Exception):
    """The credentials are valid, and do not allow this."""


class SecondFactorMissing(Forbidden):
    """Your organisation demands a second factor; turn one on first."""


class UnsupportedMediaType(Exception):
    """The body of this request has to be application/json."""


class NotAnImage(UnsupportedMediaType):
    """The body of this request has to be image/gif, image/jpeg, image/png or image/webp."""


class Malformed(Exception):
    """A header or a parameter of the request is not of its form."""


def problem(status: HTTPStatus, code: str, detail: str, *, pointer: str | None = None) -> Problem:
    """Return a problem, with what follows from its status and code."""
    return Problem(
        type=f"urn:campaign-ledger:problem:{code}",
        title=status.phrase,
        status=status.value,
        detail=detail,
        code=code,
        errors=() if pointer is None else (ProblemPart(pointer=pointer, detail=detail),),
    )


def respond(
    status: HTTPStatus, code: str, detail: str, *, pointer: str | None = None, headers: Mapping[str, str] | None = None
) -> Response[bytes]:
    """Return a problem as a response."""
    content = msgspec.json.encode(problem(status, code, detail, pointer=pointer))
    return Response(content, status_code=status.value, media_type=PROBLEM_JSON, headers=dict(headers or {}))


def on_refusal(_request: Request[Any, Any, Any], refusal: Refusal) -> Response[bytes]:
    """Answer what the domain refused."""
    return respond(STATUS_OF_KIND[refusal.kind], refusal.code, refusal.detail, pointer=refusal.pointer)


def on_bad_body(_request: Request[Any, Any, Any], error: msgspec.MsgspecError | UnicodeDecodeError) -> Response[bytes]:
    """Answer a body that cannot be decoded, or is not of the right shape."""
    if isinstance(error, msgspec.ValidationError):
        detail, _, path = str(error).partition(" - at `")
        pointer = _pointer(path.rstrip("`")) + _field_named_in(detail)
        return respond(HTTPStatus.BAD_REQUEST, "invalid_body", _for_people(detail), pointer=pointer)
    return respond(HTTPStatus.BAD_REQUEST, "malformed_body", "The body is not valid JSON in UTF-8.")


def on_unauthenticated(_request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Answer whoever has not proven who they are; why is not told."""
    headers = {"WWW-Authenticate": "Bearer"}
    code = "second_factor_required" if isinstance(error, SecondFactorRequired) else "unauthenticated"
    return respond(HTTPStatus.UNAUTHORIZED, code, str(type(error).__doc__), headers=headers)


def on_forbidden(_request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Answer whoever may not do this."""
    codes = {TokenForged: "token_forged", SecondFactorMissing: "second_factor_missing"}
    return respond(HTTPStatus.FORBIDDEN, codes.get(type(error), "forbidden"), str(type(error).__doc__))


def on_throttled(_request: Request[Any, Any, Any], error: Throttled) -> Response[bytes]:
    """Answer whoever has to wait."""
    headers = {"Retry-After": str(error.retry_after_seconds)}
    return respond(HTTPStatus.TOO_MANY_REQUESTS, "throttled", str(type(error).__doc__), headers=headers)


def on_unavailable(_request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Answer what cannot be done just now."""
    known = isinstance(error, LogBusy | LogUnavailable | MediaUnavailable | ProjectionBehind | ProviderUnavailable)
    detail = str(type(error).__doc__) if known else "The database cannot be reached; try again in a moment."
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return respond(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", detail, headers=headers)


def on_unsupported(_request: Request[Any, Any, Any], error: UnsupportedMediaType) -> Response[bytes]:
    """Answer a body of another media type."""
    return respond(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", str(type(error).__doc__))


def on_malformed(_request: Request[Any, Any, Any], error: Malformed) -> Response[bytes]:
    """Answer a header or parameter that is not of its form."""
    return respond(HTTPStatus.BAD_REQUEST, "malformed_request", str(error))


def on_http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Answer what the framework refused: unknown paths and methods, parameters and bodies out of bounds."""
    status = HTTPStatus(error.status_code)
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        if error.detail == _CLIENT_LEFT:
            return respond(HTTPStatus.BAD_REQUEST, "body_incomplete", "The body ended before it was whole.")
        return on_defect(request, error)
    code, detail = _REFUSED_EARLY.get(status, ("refused", f"{status.phrase}."))
    if status is HTTPStatus.BAD_REQUEST and isinstance(error.extra, list):
        parts = {str(part.get("key")): _for_people(str(part.get("message"))) for part in error.extra}
        if "data" in parts:  # as the handlers call the body: it was empty
            return respond(status, "malformed_body", "The request has no body.")
        detail = "; ".join(f"{_sent_as(request, name)}: {said}" for name, said in parts.items()) or detail
    headers = {name: value for name, value in (error.headers or {}).items() if name.lower() in {"allow", "retry-after"}}
    if status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        headers["Connection"] = "close"  # the rest of the body is not read
    return respond(status, code, detail, headers=headers)


def on_defect(_request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Answer a defect of the program: logged in full, told to nobody."""
    log.error("defect", exc_info=error)
    return respond(HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", "Something went wrong on our side.")


EXCEPTION_HANDLERS: Final[dict[type[Exception] | int, Any]] = {
    Refusal: on_refusal,
    msgspec.MsgspecError: on_bad_body,
    UnicodeDecodeError: on_bad_body,
    Unauthenticated: on_unauthenticated,
    TokenRefused: on_unauthenticated,
    SessionRefused: on_unauthenticated,
    SignInRefused: on_unauthenticated,
    AnswerRefused: on_unauthenticated,
    SecondFactorRequired: on_unauthenticated,
    Forbidden: on_forbidden,
    TokenForged: on_forbidden,
    Throttled: on_throttled,
    UnsupportedMediaType: on_unsupported,
    Malformed: on_malformed,
    LogBusy: on_unavailable,
    LogUnavailable: on_unavailable,
    ProviderUnavailable: on_unavailable,
    MediaUnavailable: on_unavailable,
    ProjectionBehind: on_unavailable,
    PoolTimeout: on_unavailable,
    psycopg.OperationalError: on_unavailable,
    psycopg.errors.ReadOnlySqlTransaction: on_unavailable,
    psycopg.errors.IdleInTransactionSessionTimeout: on_unavailable,
    HTTPException: on_http_exception,
    Exception: on_defect,
}


def answer_to(error: Exception) -> Response[bytes]:
    """Return the answer to what was raised where no route is known."""
    handler = next(EXCEPTION_HANDLERS[kind] for kind in type(error).__mro__ if kind in EXCEPTION_HANDLERS)
    answer: Response[bytes] = handler(None, error)
    return answer


# For the OpenAPI document: by status, a code and a sentence of an answer that has it.
_EXAMPLES: Final[Mapping[HTTPStatus, tuple[str, str]]] = {
    HTTPStatus.BAD_REQUEST: ("invalid_body", "Expected `int`, got `str`"),
    HTTPStatus.UNAUTHORIZED: ("unauthenticated", str(Unauthenticated.__doc__)),
    HTTPStatus.FORBIDDEN: ("forbidden", str(Forbidden.__doc__)),
    HTTPStatus.NOT_FOUND: ("not_found", "There is no campaign 0199a1b2-0000-7000-8000-000000000001 in this ledger."),
    HTTPStatus.CONFLICT: ("wrong_state", "A campaign that is completed cannot be asked to pause."),
    HTTPStatus.PRECONDITION_FAILED: (
        "precondition_failed",
        "If-Match asks for version 3, but the current version is 4.",
    ),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: _REFUSED_EARLY[HTTPStatus.REQUEST_ENTITY_TOO_LARGE],
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: ("unsupported_media_type", str(UnsupportedMediaType.__doc__)),
    HTTPStatus.UNPROCESSABLE_ENTITY: ("dates_out_of_order", "The end date lies before the start date."),
    HTTPStatus.TOO_MANY_REQUESTS: ("throttled", str(Throttled.__doc__)),
    HTTPStatus.SERVICE_UNAVAILABLE: ("unavailable", str(LogBusy.__doc__)),
}


def documented(*statuses: HTTPStatus) -> dict[int, ResponseSpec]:
    """Return the problems that an operation may answer with, for the OpenAPI document."""
    return {
        status.value: ResponseSpec(
            data_container=Problem,
            description=status.phrase,
            media_type=PROBLEM_JSON,
            generate_examples=False,
            examples=[Example(summary=code, value=msgspec.to_builtins(problem(status, code, detail)))],
        )
        for status, (code, detail) in _EXAMPLES.items()
        if status in statuses
    }


_ALWAYS: Final = (HTTPStatus.BAD_REQUEST, HTTPStatus.SERVICE_UNAVAILABLE)
_BODY: Final = (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
_ROLE: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_DECIDED: Final = (HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY)
_EXISTING: Final = (HTTPStatus.NOT_FOUND, HTTPStatus.PRECONDITION_FAILED)

PUBLIC: Final = documented(*_ALWAYS, HTTPStatus.NOT_FOUND)
READING: Final = documented(*_ALWAYS, *_ROLE)
READING_ONE: Final = documented(*_ALWAYS, *_ROLE, HTTPStatus.NOT_FOUND)
LISTING: Final = documented(*_ALWAYS, *_ROLE, HTTPStatus.UNPROCESSABLE_ENTITY)
LISTING_OF_ONE: Final = documented(*_ALWAYS, *_ROLE, HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY)
CREATING: Final = documented(*_ALWAYS, *_ROLE, *_BODY, *_DECIDED)
CHANGING: Final = documented(*_ALWAYS, *_ROLE, *_BODY, *_DECIDED, *_EXISTING)
STEPPING: Final = documented(*_ALWAYS, *_ROLE, *_DECIDED, *_EXISTING, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
ACCOUNT: Final = documented(*_ALWAYS, *_ROLE, *_BODY, *_DECIDED, HTTPStatus.NOT_FOUND)
GUESSING: Final = documented(*_ALWAYS, *_ROLE, *_BODY, *_DECIDED, HTTPStatus.TOO_MANY_REQUESTS)
INVITING: Final = documented(*_ALWAYS, *_ROLE, *_BODY, *_DECIDED, HTTPStatus.NOT_FOUND, HTTPStatus.TOO_MANY_REQUESTS)
JOINING: Final = documented(*_ALWAYS, *_ROLE, *_BODY, *_DECIDED)
FORGETTING: Final = documented(*_ALWAYS, *_BODY, HTTPStatus.TOO_MANY_REQUESTS)
REGISTERING: Final = documented(
    *_ALWAYS, *_BODY, HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.TOO_MANY_REQUESTS
)
PROVING: Final = documented(*_ALWAYS, *_BODY, *_DECIDED)
SIGNING_IN: Final = documented(*_ALWAYS, *_BODY, HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS)
COMING_BACK: Final = documented(*_ALWAYS, HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND)
EXCHANGING: Final = documented(
    *_ALWAYS, *_BODY, HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND, HTTPStatus.TOO_MANY_REQUESTS
)
PROLONGING: Final = documented(*_ALWAYS, *_BODY, HTTPStatus.UNAUTHORIZED)
_OF_ADS: Final = (*_ALWAYS, HTTPStatus.TOO_MANY_REQUESTS)
DECIDING: Final = documented(*_OF_ADS, *_BODY, *_ROLE, HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY)
RESETTING: Final = documented(*_ALWAYS, *_ROLE, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)
EXPLAINING: Final = documented(*_ALWAYS, *_ROLE, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)
LOADING: Final = documented(*_OF_ADS, HTTPStatus.NOT_FOUND)
REPORTING: Final = documented(*_OF_ADS, *_BODY, HTTPStatus.UNAUTHORIZED)
PLAYING: Final = documented(*_OF_ADS, HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND)
REPORTING_NOTHING: Final = documented(*_OF_ADS)
BIDDING: Final = documented(*_OF_ADS, *_BODY, HTTPStatus.UNAUTHORIZED)
BEACON: Final = documented(*_OF_ADS, HTTPStatus.FORBIDDEN)
CLICK: Final = documented(*_OF_ADS, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)


def _pointer(path: str) -> str:
    """Return the JSON pointer of a path as msgspec writes it, such as `$.targeting[0].country`."""
    parts = re.findall(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]", path)
    return "".join(f"/{name or number}" for name, number in parts)


def _field_named_in(detail: str) -> str:
    """Return the rest of the pointer, where msgspec points to an object and names the field in words."""
    named = re.search(r"(?:unknown|missing required) field `(.{1,100})`$", detail, re.DOTALL)
    return "" if named is None else "/" + named[1].replace("~", "~0").replace("/", "~1")


def _for_people(detail: str) -> str:
    """Return a sentence of msgspec without its regular expressions, and with a little of what it quotes."""
    said = re.sub(r" matching regex .*", " of the form that is described", detail, flags=re.DOTALL)
    return said if len(said) <= DETAIL_CHARACTERS_MAX else f"{said[:DETAIL_CHARACTERS_MAX]}..."


def _sent_as(request: Request[Any, Any, Any], name: str) -> str:
    """Return how a client calls a parameter of the handler."""
    field = request.route_handler.parsed_fn_signature.parameters.get(name)
    return str(getattr(field and field.kwarg_definition, "name", None) or name)
