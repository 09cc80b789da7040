"""What pages load to show creatives: the tag, frames of HTML creatives, and files that were uploaded."""

import html
import re
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from litestar import Controller, Request, Response, get, head
from litestar.enums import MediaType
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import PathParameter

from api import problems
from api.answers import CLICK_PATH
from api.beacons import Token
from api.services import services_of
from domain.errors import NotFound
from infra import images, media
from infra.beacon_tokens import BeaconTokens, TokenForged

TAG_SECONDS: Final = 3_600
"""How long browsers may use the tag without asking for a newer one."""

FILE_SECONDS: Final = 31_536_000

# As it is written, but for comments on lines of their own and indentation: a quarter of it.
TAG: Final = re.sub(r"^\s*(//.*\n)?", "", Path(__file__).with_name("tag.js").read_text("utf-8"), flags=re.MULTILINE)

_FOR_EVERY_PAGE: Final = {"Cross-Origin-Resource-Policy": "cross-origin"}
_IN_FRAMES: Final = (
    "sandbox allow-scripts allow-popups allow-popups-to-escape-sandbox; default-src 'none'; "
    "script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src 'self' https: data:; media-src https: data:; "
    "font-src https: data:; base-uri 'none'; form-action 'none'"
)
"""Scripts of a creative run, but none from elsewhere, and without an origin: no page, cookie or storage is theirs."""

_FRAME: Final = """<!doctype html>
<html><head><meta charset="utf-8"><base target="_blank"><style>html, body {{ margin: 0; overflow: hidden }}</style>
<script>var clickTag = {click};
addEventListener("DOMContentLoaded", function () {{ parent.postMessage("ledger:rendered", "*") }})</script>
</head><body>
{content}
</body></html>
"""
CLICK_MACRO: Final = "${CLICK_URL}"

FileName = Annotated[
    str,
    PathParameter(
        pattern=r"^[0-9a-f]{64}\.(gif|jpg|png|webp)$(?!\n)", description="As the decision gave it: hash and kind."
    ),
]


def _of(media_type: str, description: str) -> dict[int, ResponseSpec]:
    return {200: ResponseSpec(bytes, media_type=media_type, description=description, generate_examples=False)}


class ShowingController(Controller):
    """Loading what shows creatives on a page."""

    tags = ("ad slots",)

    @get("/tag.js", operation_id="read_tag", responses=_of("text/javascript", "A script.") | problems.LOADING)
    async def tag(self) -> Response[str]:
        """Return the script that shows creatives where a page has a place for them."""
        headers = {**_FOR_EVERY_PAGE, "Cache-Control": f"public, max-age={TAG_SECONDS}"}
        return Response(TAG, media_type="text/javascript", headers=headers)

    @get("/frame/{token:str}", operation_id="read_frame", responses=_of("text/html", "A document.") | problems.CLICK)
    async def frame(self, token: Token, request: Request[Any, Any, Any]) -> Response[str]:
        """Return an HTML creative as a document that can do nothing to the page around it.

        What is in it comes from the catalogue, never from the URL, and only while its review holds.
        """
        services = services_of(request)
        ledger, (kind, ticket) = services.ledgers.verified(token, BeaconTokens.verify)
        if kind != "click":
            raise TokenForged
        markup = ledger.serving.markup(ticket.creative_id)
        if markup is None:
            raise NotFound("creative", ticket.creative_id)
        base_url = services.settings.public_url or str(request.base_url).rstrip("/")
        click_url = f"{base_url}{CLICK_PATH}{token}"
        document = _FRAME.format(
            click=msgspec.json.encode(click_url).decode().replace("<", r"\u003c"),
            content=markup.replace(CLICK_MACRO, html.escape(click_url)),
        )
        headers = {
            **_FOR_EVERY_PAGE,
            "Cache-Control": "private, no-store",
            "Content-Security-Policy": _IN_FRAMES,
            "Referrer-Policy": "no-referrer",
        }
        return Response(document, media_type=MediaType.HTML, headers=headers)

    @get("/media/{name:str}", operation_id="read_media", responses=_of("image/*", "An image.") | problems.LOADING)
    async def file(self, name: FileName, request: Request[Any, Any, Any]) -> Response[bytes]:
        """Return a file that was uploaded, which never changes."""
        return await _file(name, request)

    @head("/media/{name:str}", operation_id="look_at_media", include_in_schema=False)
    async def look(self, name: FileName, request: Request[Any, Any, Any]) -> Response[None]:
        """Return what is told about a file."""
        file = await _file(name, request)
        about = {"Content-Type": str(file.media_type), "Content-Length": str(len(file.content))}
        return Response(None, status_code=file.status_code, headers={**file.headers, **about})


async def _file(name: str, request: Request[Any, Any, Any]) -> Response[bytes]:
    etag = f'"{name}"'
    headers = {
        **_FOR_EVERY_PAGE,
        "Cache-Control": f"public, max-age={FILE_SECONDS}, immutable",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "ETag": etag,
    }
    if request.headers.get("If-None-Match") == etag:
        return Response(b"", status_code=304, headers=headers)
    content = await media.read(services_of(request).settings, name)
    if content is None:
        raise NotFound("file", name)
    return Response(content, media_type=images.TYPES[name.rpartition(".")[2]], headers=headers)
