"""The OpenAPI document: what Litestar derives from the handlers, completed with what holds for all of them alike."""

import re
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin

import msgspec
from litestar import Litestar, Response
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, SwaggerRenderPlugin
from litestar.openapi.spec import (
    Components,
    Example,
    OpenAPIHeader,
    OpenAPIMediaType,
    OpenAPIResponse,
    Operation,
    Parameter,
    RequestBody,
    Schema,
    SecurityScheme,
    Tag,
)
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType
from litestar.routes import HTTPRoute

from api import problems
from api.specimens import SPECIMENS

TAGS: Final[Mapping[str, str]] = {
    "sign-in": "Signing in and out.",
    "account": "One's own account: name, password, sessions.",
    "organisations": "Who has a ledger, and who belongs to which.",
    "people": "Who may do what.",
    "advertisers": "Who pays for campaigns.",
    "campaigns": "Who is shown what, when, where, and for how much.",
    "creatives": "What is shown, its review, and where a click on it leads.",
    "slots": "Where a creative can be shown, and the keys with which it is asked for.",
    "reports": "What was delivered, and what it cost.",
    "ad slots": "Asking for creatives, and reporting what became of them.",
    "webhooks": "URLs that are told of events as they are recorded.",
    "audit": "The log itself.",
    "reference": "The codes that commands take, for forms.",
    "operations": "Health and metrics.",
}
DESCRIPTION: Final = """
Campaigns, budgets, creatives and slots are run under `/api/v1` with a person's access token. Ad slots ask for creatives
and report what became of them under `/ads/v1`, with a slot key. Auditors read the log under `/audit/v1`.

Money is in integer micros of an ISO 4217 currency. Commands answer with a receipt and take `Idempotency-Key` and
`If-Match`. Errors are problem details (RFC 9457).
"""

JSON: Final = frozenset({"application/json", "application/problem+json"})
COMPONENTS: Final = "#/components/schemas/"

_TEXT: Final = Schema(type=OpenAPIType.STRING)
_REQUEST_ID: Final = OpenAPIHeader(schema=_TEXT, description="The id of the request, which the log names as well.")
_ETAG: Final = OpenAPIHeader(schema=_TEXT, description="The version, in quotes, as `If-Match` takes it.")
_LOCATION: Final = OpenAPIHeader(
    schema=Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.URI), description="Where to go on."
)
_HEADERS_OF_STATUS: Final[Mapping[str, Mapping[str, OpenAPIHeader]]] = {"302": {"Location": _LOCATION}} | {
    str(status.value): {name: OpenAPIHeader(schema=_TEXT, description=said) for name, said in headers.items()}
    for status, headers in problems.HEADERS.items()
}
_WITHOUT_CONTENT: Final = frozenset({"204", "302", "304"})


def configuration(assets: str) -> OpenAPIConfig:
    """Return how the document and its page are served; `assets` is the path of the page's scripts, on this server."""
    return OpenAPIConfig(
        title="Campaign ledger",
        version="1",
        description=DESCRIPTION,
        path="/schema",
        use_handler_docstrings=True,
        tags=[Tag(name=name, description=said) for name, said in TAGS.items()],
        components=Components(
            security_schemes={
                "access_token": SecurityScheme(
                    type="http", scheme="bearer", bearer_format="JWT", description="As signing in gives it."
                ),
                "slot_key": SecurityScheme(type="http", scheme="bearer", description="A key of any slot."),
            }
        ),
        render_plugins=[
            JsonRenderPlugin(path="/openapi.json"),
            SwaggerRenderPlugin(
                path="/",
                js_url=f"{assets}/swagger-ui-bundle.js",
                css_url=f"{assets}/swagger-ui.css",
                standalone_preset_js_url=f"{assets}/swagger-ui-standalone-preset.js",
                favicon=f'<link rel="icon" href="{assets}/favicon-32x32.png">',
            ),
        ],
    )


def complete(app: Litestar) -> None:
    """Complete the document of an application whose handlers are all registered.

    Litestar says nothing of unknown fields, and wrong things of tuples, so bodies are described by msgspec, which also
    decodes them. An operation with a guard needs an access token; an answer with a version carries it as ETag.
    """
    document = app.openapi_schema
    described = list(_operations(app))
    bodies = [body for handler, operation in described for body in _bodies(handler, operation)]
    kinds = [kind for _, kind in bodies]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=COMPONENTS + "{name}")
    versioned = {COMPONENTS + name for name, schema in components.items() if "version" in schema["properties"]}
    examples = {type(example): Example(value=msgspec.to_builtins(example)) for example in SPECIMENS}
    for (media_type, kind), schema in zip(bodies, schemas, strict=True):
        media_type.schema = schema  # type: ignore[assignment]  # JSON, as the document will be
        if kind in examples:
            media_type.examples = {"example": examples[kind]}
    document.components.schemas = components
    for handler, operation in described:
        _complete(handler, operation, versioned)


def _operations(app: Litestar) -> Iterator[tuple[HTTPRouteHandler, Operation]]:
    paths = app.openapi_schema.paths or {}
    for route in app.routes:
        if isinstance(route, HTTPRoute) and route.path_format in paths:
            for method, (handler, _) in route.route_handler_map.items():
                operation = getattr(paths[route.path_format], method.lower(), None)
                if operation is not None:
                    yield handler, operation


def _bodies(handler: HTTPRouteHandler, operation: Operation) -> Iterator[tuple[OpenAPIMediaType, Any]]:
    """Yield each JSON body of an operation with its type."""
    if isinstance(operation.request_body, RequestBody) and handler.parsed_data_field is not None:
        for media_type in operation.request_body.content.values():
            yield media_type, handler.parsed_data_field.annotation
    kinds = {str(status): spec.data_container for status, spec in (handler.responses or {}).items()}
    kinds.setdefault(str(handler.status_code), _answer(handler.parsed_fn_signature.return_type.annotation))
    for status, response in (operation.responses or {}).items():
        if isinstance(response, OpenAPIResponse) and status not in _WITHOUT_CONTENT:
            for name, media_type in (response.content or {}).items():
                if name in JSON:
                    yield media_type, kinds[status]


def _answer(annotation: Any) -> Any:  # noqa: ANN401  types, of whatever kind
    """Return what a handler answers with: of a union, the first."""
    while get_origin(annotation) in {Response, Union, UnionType}:
        annotation = get_args(annotation)[0]
    return annotation


def _complete(handler: HTTPRouteHandler, operation: Operation, versioned: set[str]) -> None:
    operation.summary = re.split(r"[.;](?:\s|$)|, which", operation.description or "")[0]
    if takes := handler.opt.get("takes"):
        file = OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY))
        operation.request_body = RequestBody(required=True, content=dict.fromkeys(takes, file))
    if handler.resolve_guards():
        operation.security = [{"access_token": []}]
    for parameter in operation.parameters or ():
        if isinstance(parameter, Parameter) and isinstance(parameter.schema, Schema):
            _sharpen(parameter.schema)
    for status, response in (operation.responses or {}).items():
        if not isinstance(response, OpenAPIResponse):
            continue
        if status in _WITHOUT_CONTENT:
            response.content = None
        elif status == str(handler.status_code):
            response.content = {**(response.content or {}), **_alternatives(handler)}
        headers = {**(response.headers or {}), "X-Request-Id": _REQUEST_ID, **_HEADERS_OF_STATUS.get(status, {})}
        for media_type in (response.content or {}).values():
            schema: Any = media_type.schema
            if isinstance(schema, dict) and schema.get("$ref") in versioned:
                headers["ETag"] = _ETAG
        response.headers = headers


def _alternatives(handler: HTTPRouteHandler) -> dict[str, OpenAPIMediaType]:
    also_as: Mapping[str, str] = handler.opt.get("also_as", {})
    return {
        name: OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING, description=said))
        for name, said in also_as.items()
    }


def _sharpen(schema: Schema) -> None:
    """Describe a parameter by what it is when it is sent: there is no way to send null, and bounds are whole."""
    if schema.one_of is not None:
        (sent,) = (kind for kind in schema.one_of if isinstance(kind, Schema) and kind.type is not OpenAPIType.NULL)
        schema.one_of, schema.type, schema.format = None, sent.type, schema.format or sent.format
    if schema.enum is not None:
        schema.type, schema.enum = OpenAPIType.STRING, [value for value in schema.enum if value is not None]
    if schema.type is OpenAPIType.INTEGER:
        schema.minimum = None if schema.minimum is None else int(schema.minimum)
        schema.maximum = None if schema.maximum is None else int(schema.maximum)
