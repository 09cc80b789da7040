"""How a request is read: strictly, and with what it says about itself."""

import hmac
from functools import lru_cache
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from litestar import Request
from litestar.openapi.spec import Example
from litestar.params import HeaderParameter
from msgspec import structs

from api.access import caller_of, rights_of
from api.observe import request_id
from api.problems import Malformed, UnsupportedMediaType
from api.services import services_of
from infra.batch import Idempotency
from infra.execute import Asked

IDEMPOTENCY_KEY_CHARACTERS_MAX: Final = 200
VERSION_DIGITS_MAX: Final = 9

# What the two look like is checked here, and only told to the OpenAPI document.
IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        description="A name for this request: sent again, it is answered as the first time and does nothing more.",
        schema_extra={"max_length": IDEMPOTENCY_KEY_CHARACTERS_MAX, "pattern": "^[ -~]+$"},
    ),
]
IfMatch = Annotated[
    str | None,
    HeaderParameter(
        name="If-Match",
        description="The version that has to be the current one: the `ETag` of what was read.",
        schema_extra={"pattern": r'^(\*|(W/)?"[0-9]{1,9}")$'},
        examples=[Example(value='"3"')],
    ),
]


class StrictRequest(Request[Any, Any, Any]):
    """A request whose JSON body is decoded once, strictly, into the type that its handler declares."""

    async def json(self) -> Any:  # noqa: ANN401  the type is the handler's
        """Return the body as the handler's type; raise msgspec.DecodeError, or UnsupportedMediaType."""
        content_type, _ = self.content_type
        if content_type not in {"application/json", ""}:
            raise UnsupportedMediaType
        field = self.route_handler.parsed_data_field
        return _decoder(field.annotation if field else object).decode(await self.body())


@lru_cache(maxsize=256)
def _decoder(kind: type[object]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind, strict=True)


def ledger_of(request: Request[Any, Any, Any]) -> UUID:
    """Return the ledger of who reads; raise Malformed for a parameter that is null."""
    refuse_null(request)
    return caller_of(request).ledger


def refuse_null(request: Request[Any, Any, Any]) -> None:
    """Raise Malformed for a parameter that is null, and would pass for left out."""
    for name, value in request.query_params.items():
        if value == "null" and name != "name":  # somebody may be called that
            raise Malformed(f"{name} is null; leave out what is not asked for.")


async def asked(request: Request[Any, Any, Any], idempotency_key: IdempotencyKey = None) -> Asked:
    """Return who asks for something new, and under which name, as the headers say."""
    caller = caller_of(request)
    return Asked(
        ledger_id=caller.ledger,
        actor=caller.actor,
        correlation_id=request_id(request),
        idempotency=await _idempotency(request, caller.actor, idempotency_key),
        rights=rights_of(caller),
        person=caller.person,
    )


async def asked_if(
    request: Request[Any, Any, Any], idempotency_key: IdempotencyKey = None, if_match: IfMatch = None
) -> Asked:
    """Return who asks for a change of what exists, and on what conditions, as the headers say."""
    return structs.replace(await asked(request, idempotency_key), if_match=_if_match(if_match))


def _if_match(header: str | None) -> int | None:
    if header is None or header.strip() == "*":
        return None
    version = header.strip().removeprefix("W/").strip('"')
    if not version.isascii() or not version.isdigit() or len(version) > VERSION_DIGITS_MAX:
        raise Malformed('If-Match is a version in quotes, such as "3".')
    return int(version)


async def _idempotency(request: Request[Any, Any, Any], actor: str, key: str | None) -> Idempotency | None:
    if key is None:
        return None
    if not key.isascii() or not key.isprintable() or not 1 <= len(key) <= IDEMPOTENCY_KEY_CHARACTERS_MAX:
        raise Malformed(f"Idempotency-Key is 1 to {IDEMPOTENCY_KEY_CHARACTERS_MAX} printable ASCII characters.")
    named = f"{request.method} {request.url.path} {request.headers.get('If-Match', '')}\n".encode()
    body, keys = await request.body(), services_of(request).ledgers.of(caller_of(request).ledger).keys
    fingerprint, *earlier = (hmac.digest(secret, named + body, "sha256") for secret in keys.request)
    return Idempotency(actor=actor, key=key, request_sha256=fingerprint, earlier=tuple(earlier))
