"""The tag in a real browser, on pages of another origin, against the real service."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from PIL import Image, ImageChops, ImageDraw
from playwright.sync_api import Browser, Route

from tests.api.browsing import (
    File,
    Site,
    counted,
    online,
    outcome,
    place,
    reader_of,
    reading,
    script,
    served,
    started,
    tag,
)
from tests.api.creatives import show, show_film, show_image, with_image, with_markup, with_size
from tests.api.pages import new_page
from tests.running import free_port
from tests.world import World

LONG_ENOUGH_MS: Final = 300
VIEWED_MS: Final = 1_400
"""For what is not to happen: what happens, has happened by then, but for a machine that is very busy."""

CANVAS: Final = '<canvas width="320" height="180"></canvas>'
FILMING: Final = """async () => {
    const canvas = document.querySelector("canvas"), pen = canvas.getContext("2d"), parts = [];
    const recorder = new MediaRecorder(canvas.captureStream(), { mimeType: "video/webm" });
    const stopped = new Promise((stop) => Object.assign(recorder,
        { onstop: stop, ondataavailable: ({ data }) => parts.push(data) }));
    recorder.start();
    for (let second = 0; second < 0.5; second += 0.05) {
        Object.assign(pen, { fillStyle: "rgb(10, 125, 79)" }).fillRect(0, 0, 320, 180);
        await new Promise((go) => setTimeout(go, 50));
    }
    recorder.stop();
    await stopped;
    return [...new Uint8Array(await new Blob(parts).arrayBuffer())];
}"""
NEWSPAPER: Final = """<style>
    body {{ width: 728px; margin: 16px auto; font: 15px/1.4 sans-serif }}
    main {{ display: flex; gap: 24px }}
    article {{ flex: 1 }}
</style>
{0}{1}
<h1>The Morning Post</h1>
<main>
    <article>{2}<p>The harvest began a week early this year, and the first leaves are said to be good.</p>{3}</article>
    <aside>{4}</aside>
</main>"""
BOX: Final = """<style>
    body { background: #1a4f9c; color: white; font: bold 24px sans-serif; text-align: center; padding: 40px 20px }
    a { color: white }
</style>
<p>Two cups for the price of one</p><a href="${CLICK_URL}">To the shop</a>"""
SIZES: Final = ((728, 91), (341, 41), (321, 181), (301, 251))
WHITE: Final = (255, 255, 255)
RED: Final = (179, 38, 30)
GREEN: Final = (10, 125, 79)
BLUE: Final = (26, 79, 156)
ALMOST: Final = 16
"""So far a colour may be off, of 255, that went through a film."""

TALL: Final = "<p style='height: 3000px'></p>"


@pytest.fixture(scope="module")
def debugging_port() -> int:
    """Where another client finds the browser."""
    return free_port()


@pytest.fixture(scope="module")
def browser(debugging_port: int) -> Iterator[Browser]:
    """A browser for all tests of the module."""
    with started(debugging_port) as browser:
        yield browser


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A web site for all tests of the module."""
    with online() as site:
        yield site


@pytest.fixture(scope="module")
def film(browser: Browser, site: Site) -> str:
    """A short film that the browser recorded itself, and where it is."""
    with reading(browser) as reader:
        reader.tab.goto(site.publish(CANVAS))
        recorded = reader.tab.evaluate(FILMING)
    return site.put(File("video/webm", bytes(recorded)))


def painted(width: int, height: int) -> Image.Image:
    """Return a banner."""
    image = Image.new("RGB", (width, height), RED)
    ImageDraw.Draw(image).text((height, height // 4), "A pot, two cups, one afternoon", WHITE, font_size=height // 2)
    return image


def share(image: Image.Image, colour: tuple[int, int, int]) -> float:
    """Return how much of an image has a colour, or almost."""
    off = ImageChops.difference(image, Image.new("RGB", image.size, colour)).split()
    worst = ImageChops.lighter(ImageChops.lighter(off[0], off[1]), off[2])
    return sum(worst.histogram()[: ALMOST + 1]) / (image.width * image.height)


def test_each_kind_is_shown_and_counted(browser: Browser, site: Site, world: World) -> None:
    """One request fills all slots of a page, images, text and HTML are shown, and each is seen and recorded once."""
    image, text = with_image(world), with_markup(world, "text", "Tea <b>for two</b>")
    html = with_markup(world, "html", '<a id="tea" href="${CLICK_URL}">Tea</a>')
    served(image, text, html)
    with reading(browser) as reader:
        shift = "new PerformanceObserver((found) => window.shifts = found.getEntries().length)"
        before = f"<script>{shift}.observe({{type: 'layout-shift', buffered: true}})</script>"
        reader.tab.goto(site.publish(tag(image, image, text, html, before=before)))
        reader.until("viewed", 3)
        assert [request.method for request in reader.asked if request.url.endswith("/decisions")] == ["POST"]
        assert reader.asks(i=3, v=3, c=0)
        outcome(world, reader, ["impression", "view"])
        drawn = reader.tab.locator("img")
        assert drawn.evaluate("image => [image.width, image.naturalWidth]") == [
            image.size["width"],
            2 * image.size["width"],
        ]
        assert reader.tab.get_by_text("Tea <b>for two</b>").is_visible()
        assert reader.tab.frame_locator("iframe").locator("#tea").inner_text() == "Tea"
        assert reader.tab.evaluate("window.shifts") is None
        assert reader.tab.context.cookies() == []
        with reader.tab.context.expect_page() as opened:
            reader.tab.frame_locator("iframe").locator("#tea").click()
        opened.value.wait_for_url("https://shop.example/")
        assert counted(world, reader.decided()[2]["decision_id"]) == ["click", "impression", "view"]


def test_it_counts_when_it_is_rendered_and_not_before(browser: Browser, site: Site, world: World) -> None:
    """While the image has not come, nothing is counted; once it has, its impression is."""
    page = with_image(world)
    served(page)
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    with reading(browser) as reader:
        reader.tab.route("**/ads/v1/media/*", hold)
        reader.tab.goto(site.publish(tag(page)), wait_until="commit")
        while not held:
            reader.wait(20)
        reader.wait(LONG_ENOUGH_MS)
        assert reader.asks(i=0)
        held[0].continue_()
        reader.until("rendered")
        outcome(world, reader, ["impression", "view"])


def test_it_is_viewed_when_half_of_it_is_in_view_for_a_second(browser: Browser, site: Site, world: World) -> None:
    """Below the fold it is rendered; less than half, or less than a second, is no view; a second in one piece is."""
    page = with_image(world)
    served(page)
    with reading(browser, stopped=True) as reader:
        reader.tab.goto(site.publish(TALL + tag(page) + TALL))
        reader.until("rendered")
        top = reader.tab.evaluate("document.querySelector('[data-ledger-slot]').offsetTop")

        def read(pixels_in_view: int, milliseconds: int) -> None:
            reader.tab.evaluate(f"scrollTo(0, {top - 600 + pixels_in_view})")
            reader.pass_over(milliseconds)

        read(24, 5_000)
        for _ in range(2):
            read(26, 999)
            read(24, 1_000)
        read(26, 999)
        assert reader.asks(i=1, v=0)
        read(26, 1)
        reader.until("viewed")
        outcome(world, reader, ["impression", "view"])


def test_a_film_is_viewed_after_two_seconds(browser: Browser, site: Site, world: World, film: str) -> None:
    """A film counts once it plays, which it does without sound, and is viewed after two seconds and not after one."""
    page = new_page(world, media_types=["video"])
    show_film(page, film)
    served(page)
    with reading(browser, stopped=True) as reader:
        reader.tab.goto(site.publish(tag(page)))
        reader.until("rendered")
        assert reader.tab.locator("video").evaluate("film => film.muted && film.played.length === 1")
        reader.pass_over(1_999)
        assert reader.asks(i=1, v=0)
        reader.pass_over(1)
        outcome(world, reader, ["impression", "view"])


def test_a_beacon_that_did_not_arrive_is_sent_again(browser: Browser, site: Site, world: World) -> None:
    """What the service could not take is told again after a while, and counts once."""
    page = with_image(world)
    served(page)
    refused: list[Route] = []

    def refuse_once(route: Route) -> None:
        if refused:
            route.continue_()
            return
        refused.append(route)
        route.fulfill(status=503, headers={"Access-Control-Allow-Origin": "*"})

    with reading(browser, stopped=True) as reader:
        reader.tab.route("**/ads/v1/i/*", refuse_once)
        reader.tab.goto(site.publish(tag(page)))
        reader.until("rendered")
        reader.wait(LONG_ENOUGH_MS)
        assert reader.asks(i=1)
        reader.pass_over(3_000)
        outcome(world, reader, ["impression", "view"])
        assert reader.asks(i=2)


def test_what_is_blocked_never_counts(browser: Browser, site: Site, world: World) -> None:
    """An image that is blocked leaves its place empty and counts for nothing."""
    page = with_image(world)
    served(page)
    with reading(browser) as reader:
        reader.tab.route("**/ads/v1/media/*", lambda route: route.abort("blockedbyclient"))
        reader.tab.goto(site.publish(tag(page)))
        reader.until("failed")
        reader.wait(VIEWED_MS)
        assert reader.asks(i=0, v=0)
        assert reader.tab.locator("[data-ledger-slot]").inner_html() == ""
        outcome(world, reader, [])


def test_it_keeps_to_the_policy_of_the_page(browser: Browser, site: Site, world: World) -> None:
    """Four directives that name the service are enough; what a stricter policy keeps out counts for nothing."""
    image, html = with_image(world), with_markup(world, "html", "<b>Tea</b>")
    served(image, html)
    url = world.service.url
    enough = f"default-src 'none'; script-src {url}; connect-src {url}; img-src {url}; frame-src {url}"
    with reading(browser) as reader:
        violations: list[str] = []
        reader.tab.on("console", lambda message: violations.append(message.text))
        reader.tab.goto(site.publish(tag(image, image, html).replace("style", "data-style"), policy=enough))
        reader.until("rendered", 2)
        assert [text for text in violations if "Content Security Policy" in text] == []
    with reading(browser) as reader:
        stricter = enough.replace(f"frame-src {url}", "frame-src 'none'").replace(f"img-src {url}", "img-src 'none'")
        reader.tab.goto(site.publish(tag(image, image, html), policy=stricter))
        reader.until("failed")
        reader.wait(VIEWED_MS)
        assert reader.asks(i=0, v=0)


def test_in_a_hidden_tab_nothing_counts_until_it_is_seen(
    browser: Browser, debugging_port: int, site: Site, world: World
) -> None:
    """A page that is opened in a tab behind another asks for nothing; once it is seen, all is shown and counted."""
    page = with_image(world)
    served(page)
    # Playwright lets every tab believe that it is seen, but for those of the profile that a browser has of itself.
    same = browser.browser_type.connect_over_cdp(f"http://127.0.0.1:{debugging_port}", no_defaults=True)
    profile = same.contexts[0]
    reader = reader_of(profile)
    profile.new_page().bring_to_front()
    reader.tab.goto(site.publish(tag(page)))
    reader.wait(VIEWED_MS)
    assert reader.tab.evaluate("document.visibilityState") == "hidden"
    assert reader.asks(decisions=0, i=0)
    reader.tab.bring_to_front()
    reader.until("viewed")
    outcome(world, reader, ["impression", "view"])
    same.close()


def test_html_cannot_reach_the_page(browser: Browser, site: Site, world: World) -> None:
    """A script of a creative runs, and can neither read nor lead away the page, nor keep or fetch anything."""
    page = with_markup(
        world,
        "html",
        """<ol id="got"></ol><script>
        for (const reach of [() => parent.document.title, () => top.location = "https://shop.example/",
            () => document.cookie, () => localStorage.length, () => frameElement.id, () => top.secret])
            { let got; try { got = "reached" + reach() } catch { got = "kept out" }
            document.getElementById("got").append(Object.assign(document.createElement("li"), { textContent: got })) }
        fetch("/ads/v1/tag.js").then(() => "reached", () => "kept out").then((got) => document.title = got)
        </script>""",
    )
    served(page)
    with reading(browser) as reader:
        address = site.publish(tag(page, before="<script>window.secret = 'of the page'</script>"))
        reader.tab.goto(address)
        reader.until("viewed")
        got = reader.tab.frame_locator("iframe").locator("li").all_inner_texts()
        assert (len(got), {each for each in got if each != "reachednull"}) == (6, {"kept out"})
        frame = reader.tab.frames[1]
        assert frame.title() == "kept out"
        assert frame.evaluate("origin") == "null"
        assert reader.tab.url == address


def test_it_is_closed_and_refreshed_as_the_slot_allows(browser: Browser, site: Site, world: World) -> None:
    """A slot may ask for the next creative after a while in view, and only in view, and let itself be closed."""
    page = with_image(world, refresh_seconds=30, closable=True)
    still = with_image(world)
    served(page, still)
    with reading(browser, stopped=True) as reader:
        reader.tab.goto(site.publish(tag(page, page, still) + TALL))
        reader.until("rendered", 2)
        reader.pass_over(29_999)
        reader.until("viewed", 2)
        assert reader.asks(decisions=1)
        reader.pass_over(1)
        reader.until("rendered", 3)
        assert reader.asks(decisions=2, i=3)
        reader.tab.evaluate("scrollTo(0, 2000)")
        reader.pass_over(60_000)
        reader.wait(LONG_ENOUGH_MS)
        assert reader.asks(decisions=2)
        reader.tab.evaluate("scrollTo(0, 0)")
        reader.until("rendered", 4)
        reader.tab.get_by_label("Close").click()
        reader.until("closed")
        reader.pass_over(60_000)
        reader.wait(LONG_ENOUGH_MS)
        assert reader.asks(decisions=3)
        assert reader.tab.locator("img").count() == 1
        reader.tab.evaluate("ledger.close(document.querySelectorAll('[data-ledger-slot]')[1])")
        reader.until("closed", 2)
        assert reader.tab.locator("img").count() == 0


def test_it_says_what_the_page_knows_and_honours_privacy(browser: Browser, site: Site, world: World) -> None:
    """The request says language, domain and keywords, the viewer's name if the page gives one, but not against GPC."""
    page = with_image(world)
    served(page)
    address = site.publish(tag(page, options='data-ledger-keywords="tea, winter" data-ledger-viewer="vera"'))
    asked: list[dict[str, Any]] = []
    control = "Object.defineProperty(navigator, 'globalPrivacyControl', {value: true})"
    for extension in ("", control):
        with reading(browser, script=extension, locale="de-AT") as reader:
            reader.tab.goto(address)
            reader.until("rendered")
            asked += [json.loads(each.post_data or "") for each in reader.asked if each.method == "POST"]
    for body in asked:
        assert body["site"] == {"domain": "127.0.0.1", "keywords": ["tea", "winter"]}
        assert body["device"] == {"language": "de-AT"}
    assert [body["viewer"]["id"] for body in asked] == ["vera", None]
    assert [body["privacy"] for body in asked] == [{"gpc": False, "dnt": False}, {"gpc": True, "dnt": False}]


def test_a_page_with_four_slots(browser: Browser, site: Site, world: World, film: str, tmp_path: Path) -> None:
    """An image, a text, a film and HTML stand where the page has room for them, and can be seen there."""
    banner, line, clip, box = pages = [
        with_size(world, *size, media_types=["image", "html", "text", "video"]) for size in SIZES
    ]
    show_image(banner, painted(1456, 182))
    show(line, media_type="text", media_content="Green tea, fresh from Uji. Try it now")
    show_film(clip, film)
    show(box, media_type="html", media_content=BOX)
    served(*pages)
    with reading(browser) as reader:
        reader.tab.goto(site.publish(NEWSPAPER.format(script(banner), *map(place, pages))))
        reader.until("viewed", 4)
        assert reader.asks(decisions=1, i=4, v=4)
        outcome(world, reader, ["impression", "view"])
        reader.tab.screenshot(path=tmp_path / "four slots.png")
        boxes = [each.bounding_box() for each in reader.tab.locator("[data-ledger-slot]").all()]
    with Image.open(tmp_path / "four slots.png") as screen:
        seen = screen.convert("RGB")
    shown = [seen.crop((at["x"], at["y"], at["x"] + at["width"], at["y"] + at["height"])) for at in boxes if at]
    assert [each.size for each in shown] == list(SIZES)
    assert share(shown[0], RED) > 0.7
    assert share(shown[1], WHITE) < 0.99
    assert share(shown[2], GREEN) > 0.9
    assert share(shown[3], BLUE) > 0.7
