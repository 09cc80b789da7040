"""Errors as clients see them: problem details (RFC 9457), and the only place that knows HTTP's error numbers."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
import psycopg
import structlog
from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException
from litestar.openapi.datastructures import ResponseSpec
from msgspec import Struct
from psycopg_pool import PoolTimeout

from domain.errors import Kind, Refusal
from infra.access_tokens import TokenRefused
from infra.beacon_tokens import TokenForged
from infra.sessions import SessionRefused
from infra.sign_in import SignInRefused
from infra.throttle import Throttled
from infra.writer import LogBusy, LogUnavailable
from projections.status import ProjectionBehind

RETRY_AFTER_SECONDS: Final = 1
PROBLEM_JSON: Final = "application/problem+json"
NOT_READY_STATUS: Final = HTTPStatus.SERVICE_UNAVAILABLE.value

STATUS_OF_KIND: Final[Mapping[Kind, HTTPStatus]] = {
    "missing": HTTPStatus.NOT_FOUND,
    "conflict": HTTPStatus.CONFLICT,
    "precondition": HTTPStatus.PRECONDITION_FAILED,
    "rule": HTTPStatus.UNPROCESSABLE_ENTITY,
}

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


class UnsupportedMediaType(Exception):
    """The body of this request has to be application/json."""


class Malformed(Exception):
    """A header or a parameter of the request is not of its form."""


def respond(
    status: HTTPStatus, code: str, detail: str, *, pointer: str | None = None, headers: Mapping[str, str] | None = None
) -> Response[bytes]:
    """Return a problem as a response."""
    problem = Problem(
        type=f"urn:campaign-ledger:problem:{code}",
        title=status.phrase,
        status=status.value,
        detail=detail,
        code=code,
        errors=() if pointer is None else (ProblemPart(pointer=pointer, detail=detail),),
    )
    return Response(
        msgspec.json.encode(problem), status_code=status.value, media_type=PROBLEM_JSON, headers=dict(headers or {})
    )


def on_refusal(_request: Request[Any, Any, Any], refusal: Refusal) -> Response[bytes]:
    """Answer what the domain refused."""
    return respond(STATUS_OF_KIND[refusal.kind], refusal.code, refusal.detail, pointer=refusal.pointer)


def on_bad_body(_request: Request[Any, Any, Any], error: msgspec.MsgspecError | UnicodeDecodeError) -> Response[bytes]:
    """Answer a body that cannot be decoded, or is not of the right shape."""
    if isinstance(error, msgspec.ValidationError):
        detail, _, path = str(error).partition(" - at `")
        return respond(HTTPStatus.BAD_REQUEST, "invalid_body", detail, pointer=_pointer(path.rstrip("`")))
    return respond(HTTPStatus.BAD_REQUEST, "malformed_body", "The body is not valid JSON in UTF-8.")


def on_unauthenticated(_request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Answer whoever has not proven who they are; why is not told."""
    headers = {"WWW-Authenticate": "Bearer"}
    return respond(HTTPStatus.UNAUTHORIZED, "unauthenticated", str(type(error).__doc__), headers=headers)


def on_forbidden(_request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Answer whoever may not do this."""
    code = "token_forged" if isinstance(error, TokenForged) else "forbidden"
    return respond(HTTPStatus.FORBIDDEN, code, str(type(error).__doc__))


def on_throttled(_request: Request[Any, Any, Any], error: Throttled) -> Response[bytes]:
    """Answer whoever has to wait."""
    headers = {"Retry-After": str(error.retry_after_seconds)}
    return respond(HTTPStatus.TOO_MANY_REQUESTS, "throttled", str(type(error).__doc__), headers=headers)


def on_unavailable(_request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Answer what cannot be done just now."""
    known = isinstance(error, LogBusy | LogUnavailable | ProjectionBehind)
    detail = str(type(error).__doc__) if known else "The database cannot be reached; try again in a moment."
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return respond(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", detail, headers=headers)


def on_unsupported(_request: Request[Any, Any, Any], error: UnsupportedMediaType) -> Response[bytes]:
    """Answer a body of another media type."""
    return respond(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", str(type(error).__doc__))


def on_malformed(_request: Request[Any, Any, Any], error: Malformed) -> Response[bytes]:
    """Answer a header or parameter that is not of its form."""
    return respond(HTTPStatus.BAD_REQUEST, "malformed_request", str(error))


def on_http_exception(_request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Answer what the framework refused: unknown paths and methods, parameters and bodies out of bounds."""
    status = HTTPStatus(error.status_code)
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        return on_defect(_request, error)
    detail = f"{status.description or status.phrase}."
    if status is HTTPStatus.BAD_REQUEST and isinstance(error.extra, list):
        detail = "; ".join(f"{part.get('key')}: {part.get('message')}" for part in error.extra) or detail
    headers = {name: value for name, value in (error.headers or {}).items() if name.lower() in {"allow", "retry-after"}}
    if status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        headers["Connection"] = "close"  # the rest of the body is not read
    return respond(status, status.phrase.lower().replace(" ", "_"), detail, headers=headers)


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
    Forbidden: on_forbidden,
    TokenForged: on_forbidden,
    Throttled: on_throttled,
    UnsupportedMediaType: on_unsupported,
    Malformed: on_malformed,
    LogBusy: on_unavailable,
    LogUnavailable: on_unavailable,
    ProjectionBehind: on_unavailable,
    PoolTimeout: on_unavailable,
    psycopg.OperationalError: on_unavailable,
    HTTPException: on_http_exception,
    Exception: on_defect,
}


def documented(*statuses: HTTPStatus) -> dict[int, ResponseSpec]:
    """Return the problems that an operation may answer with, for the OpenAPI document."""
    return {
        status.value: ResponseSpec(
            data_container=Problem, description=status.phrase, media_type=MediaType.JSON, generate_examples=False
        )
        for status in statuses
    }


_ALWAYS: Final = (HTTPStatus.BAD_REQUEST, HTTPStatus.SERVICE_UNAVAILABLE)
_BODY: Final = (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
_TOKEN: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_DECIDED: Final = (HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED, HTTPStatus.UNPROCESSABLE_ENTITY)

READING: Final = documented(*_ALWAYS, *_TOKEN)
READING_ONE: Final = documented(*_ALWAYS, *_TOKEN, HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY)
LISTING: Final = documented(*_ALWAYS, *_TOKEN, HTTPStatus.UNPROCESSABLE_ENTITY)
CREATING: Final = documented(*_ALWAYS, *_TOKEN, *_BODY, *_DECIDED)
CHANGING: Final = documented(*_ALWAYS, *_TOKEN, *_BODY, *_DECIDED, HTTPStatus.NOT_FOUND)
STEPPING: Final = documented(*_ALWAYS, *_TOKEN, *_DECIDED, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.NOT_FOUND)
SIGNING_IN: Final = documented(*_ALWAYS, *_BODY, HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS)
DECIDING: Final = documented(*_ALWAYS, *_TOKEN, *_BODY, HTTPStatus.UNPROCESSABLE_ENTITY)
BEACON: Final = documented(*_ALWAYS, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)


def _pointer(path: str) -> str:
    """Return the JSON pointer of a path as msgspec writes it, such as `$.targeting[0].country`."""
    parts = re.findall(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]", path)
    return "".join(f"/{name or number}" for name, number in parts)
