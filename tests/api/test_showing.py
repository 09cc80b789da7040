"""What pages load: the tag, frames of HTML creatives, and images that were uploaded."""

from io import BytesIO
from typing import Any, Final

import httpx
import pytest
from PIL import Image, PngImagePlugin

from api.showing import TAG
from tests.api.creatives import encoded, picture, upload
from tests.api.pages import Page, eventually, new_page
from tests.running import Service
from tests.world import World

TAG_BYTES_MAX: Final = 5_000
SECRET: Final = "taken with the camera of Vera"


@pytest.fixture
def page(world: World) -> Page:
    """A page with a slot of its own."""
    return new_page(world)


def draft(page: Page, **fields: Any) -> str:
    """Draft an image creative that has nothing to show yet."""
    return page.world.creative(page.world.campaign(), **page.size, media_url=None, approved=False, **fields)


def test_the_tag_is_small_and_anybody_s(service: Service) -> None:
    """The tag is a script of less than 5 KB that browsers keep for a while, and knows of no address and no cookie."""
    answer = httpx.get(f"{service.url}/ads/v1/tag.js")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert answer.headers["Cache-Control"] == "public, max-age=3600"
    assert len(answer.content) < TAG_BYTES_MAX
    assert answer.text == TAG
    assert "cookie" not in TAG
    assert "://" not in TAG


def test_the_doors_of_ad_slots_are_open_to_every_page(service: Service) -> None:
    """Scripts of any page may ask at these doors, refusals can be read by them, and no other door is open."""
    origin = {"Origin": "https://news.example"}
    preflight = httpx.options(
        f"{service.url}/ads/v1/decisions",
        headers={**origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"},
    )
    assert preflight.status_code == 204
    assert preflight.headers["Access-Control-Allow-Origin"] == "*"
    assert "authorization" in preflight.headers["Access-Control-Allow-Headers"]
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    for path, status in (("tag.js", 200), ("i/forged", 403), ("vast", 400), ("nothing", 404), ("slots", 401)):
        answer = httpx.get(f"{service.url}/ads/v1/{path}", headers=origin)
        assert (answer.status_code, answer.headers.get_list("Access-Control-Allow-Origin")) == (status, ["*"]), path
    for path in ("/api/v1/campaigns", "/audit/v1/events", "/health/live"):
        assert "Access-Control-Allow-Origin" not in httpx.get(f"{service.url}{path}", headers=origin).headers


def test_a_frame_holds_what_was_approved(page: Page) -> None:
    """A frame is a document of the creative's markup with its click URL, and with no origin; nothing else is framed."""
    content = '<a href="${CLICK_URL}">Tea</a><script>document.title = clickTag</script>'
    campaign_id = page.world.campaign()
    page.creative(campaign_id, media_type="html", media_url=None, media_content=content)
    page.world.post(f"campaigns/{campaign_id}/activate", expect=200)
    ad = page.served()
    answer = httpx.get(ad["frame_url"])
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert f'<a href="{ad["click_url"]}">Tea</a>' in answer.text
    assert f'var clickTag = "{ad["click_url"]}";' in answer.text
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("sandbox allow-scripts allow-popups allow-popups-to-escape-sandbox; default-src 'none'; ")
    assert "allow-same-origin" not in policy
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers.get_list("X-Content-Type-Options") == ["nosniff"]
    assert answer.headers["Cache-Control"] == "private, no-store"
    of_impression = ad["impression_url"].replace("/i/", "/frame/")
    assert httpx.get(of_impression).json()["code"] == "token_forged"
    assert httpx.get(ad["frame_url"][:-1]).status_code == 403
    page.world.post(f"creatives/{ad['creative_id']}/deny", expect=200, reason="It shouts.")
    eventually(lambda: httpx.get(ad["frame_url"]).status_code == 404)


def test_only_html_is_framed(page: Page) -> None:
    """An image has no frame, neither in the answer nor behind its click token."""
    page.campaign()
    ad = page.served()
    assert "frame_url" not in ad
    assert httpx.get(ad["click_url"].replace("/c/", "/frame/")).status_code == 404


@pytest.mark.parametrize(
    ("format_", "ending", "content_type"),
    [("PNG", "png", "image/png"), ("JPEG", "jpg", "image/jpeg"), ("GIF", "gif", ""), ("WEBP", "webp", "image/webp")],
)
def test_an_uploaded_image_is_shown(page: Page, format_: str, ending: str, content_type: str) -> None:
    """An image of the creative's dimensions or twice those is kept without its metadata, and served for ever."""
    about = PngImagePlugin.PngInfo()
    about.add_text("Comment", SECRET)
    said: dict[str, dict[str, Any]] = {
        "PNG": {"pnginfo": about},
        "JPEG": {"comment": SECRET.encode()},
        "GIF": {"comment": SECRET.encode()},
        "WEBP": {"xmp": SECRET.encode()},
    }
    file = encoded(picture(2 * page.size["width"], 2 * page.size["height"]), format_, **said[format_])
    assert SECRET.encode() in file
    campaign_id = page.world.campaign()
    creative_id = page.creative(campaign_id, media_url=None, approved=False)
    assert page.world.post(f"creatives/{creative_id}/submit", expect=422)["code"] == "media_incomplete"
    assert upload(page.world, creative_id, file, content_type).status_code == 200
    page.world.approve(creative_id)
    page.world.post(f"campaigns/{campaign_id}/activate", expect=200)
    media_url = page.served()["media_url"]
    media_file = page.world.get(f"creatives/{creative_id}")["media_file"]
    assert media_url == f"{page.world.service.url}/ads/v1/media/{media_file}"
    answer = httpx.get(media_url)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == f"image/{'jpeg' if ending == 'jpg' else ending}"
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert answer.headers.get_list("X-Content-Type-Options") == ["nosniff"]
    assert SECRET.encode() not in answer.content
    with Image.open(BytesIO(answer.content)) as shown:
        assert (shown.format, shown.size) == (format_, (2 * page.size["width"], 2 * page.size["height"]))
    looked = httpx.head(media_url)
    assert (looked.status_code, looked.headers["Content-Length"]) == (200, str(len(answer.content)))
    assert httpx.get(media_url, headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304
    assert httpx.get(media_url.replace(media_file, f"{'0' * 64}.png")).status_code == 404
    assert httpx.get(media_url.replace(media_file, "..%2Fsigning.pem")).status_code in {400, 404}


REFUSED: Final = (
    ("image_unfit", encoded(picture(64, 64), "PNG"), "image/png"),
    ("image_malformed", encoded(picture(64, 64), "PNG")[:-60], "image/png"),
    ("image_malformed", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/png"),
    ("image_malformed", encoded(picture(64, 64), "BMP"), ""),
    ("image_mislabelled", encoded(picture(64, 64), "PNG"), "image/jpeg"),
    ("image_too_large", encoded(Image.new("1", (30_000, 30_000)), "PNG"), "image/png"),
    ("unsupported_media_type", b"<svg/>", "image/svg+xml"),
    ("body_too_large", bytes(4_000_001), "image/png"),
)


def test_what_is_no_fitting_image_is_refused(page: Page) -> None:
    """Malformed, mislabelled, unfit and oversized files, and bombs, are refused with the reason; nothing changes."""
    creative_id = draft(page)
    for code, content, content_type in REFUSED:
        answer = upload(page.world, creative_id, content, content_type)
        assert answer.json()["code"] == code
    named = page.world.admin.patch(f"/api/v1/creatives/{creative_id}", json={"media_file": f"{'0' * 64}.png"})
    assert named.json()["code"] == "field_fixed"
    assert page.world.get(f"creatives/{creative_id}")["version"] == 1
