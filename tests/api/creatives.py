"""Creatives that can be seen: images as files, and slots for which there is one creative of a kind."""

from io import BytesIO
from typing import Any

import httpx
from PIL import Image

from tests.api.pages import Page, new_page
from tests.world import World


def encoded(image: Image.Image, format_: str, **options: Any) -> bytes:
    """Return an image as a file."""
    written = BytesIO()
    image.save(written, format_, **options)
    return written.getvalue()


def picture(width: int, height: int) -> Image.Image:
    """Return something to see."""
    return Image.linear_gradient("L").resize((width, height)).convert("RGB")


def upload(world: World, creative_id: str, content: bytes, content_type: str = "") -> httpx.Response:
    """Upload a file as a creative's image."""
    headers = {"Content-Type": content_type} if content_type else {}
    return world.admin.post(f"/api/v1/creatives/{creative_id}/media", content=content, headers=headers)


def with_size(world: World, width: int, height: int, **fields: Any) -> Page:
    """Set up a slot of a size that no other test uses."""
    slot_id, ads = world.slot(width=width, height=height, **fields)
    return Page(world, slot_id, ads, {"width": width, "height": height})


def with_image(world: World, **fields: Any) -> Page:
    """Set up a slot for which there is an image that was uploaded."""
    page = new_page(world, **fields)
    show_image(page, picture(2 * page.size["width"], 2 * page.size["height"]))
    return page


def with_markup(world: World, media_type: str, content: str) -> Page:
    """Set up a slot for which there is HTML or text."""
    page = new_page(world)
    show(page, media_type=media_type, media_content=content)
    return page


def show_image(page: Page, image: Image.Image) -> None:
    """Let a page have an image that is uploaded."""
    show(page, encoded(image, "PNG"))


def show_film(page: Page, film: str) -> None:
    """Let a page have the film that is to be found somewhere."""
    show(page, media_type="video", media_url=film, mime_type="video/webm", duration_seconds=1, bit_rate_kbps=500)


def show(page: Page, image: bytes = b"", **fields: Any) -> None:
    """Set up an active campaign with one creative, which may be a file that is uploaded."""
    campaign_id = page.world.campaign()
    creative_id = page.creative(campaign_id, **{"media_url": None, **fields}, approved=False)
    if image:
        assert upload(page.world, creative_id, image).status_code == 200
    page.world.approve(creative_id)
    page.world.post(f"campaigns/{campaign_id}/activate", expect=200)
