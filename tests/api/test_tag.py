"""The tag in a real browser, on pages of another origin, against the real service."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from time import monotonic
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Request, Route, sync_playwright
from playwright.sync_api import Page as Tab

from tests.api.pages import Page, new_page, recorded
from tests.api.test_showing import encoded, picture, upload
from tests.running import free_port
from tests.world import World

BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
FLAGS: Final = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
WAIT_SECONDS_MAX: Final = 15
ALMOST_VIEWED_MS: Final = 700
VIEWED_MS: Final = 1_400
"""A second, and time for a busy machine to say so."""

TALL: Final = "<p style='height: 3000px'></p>"


@pytest.fixture(scope="module")
def debugging_port() -> int:
    """Where another client finds the browser."""
    return free_port()


@pytest.fixture(scope="module")
def browser(debugging_port: int) -> Iterator[Browser]:
    """A browser without a window, for all tests of the module."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"there is no browser here: none of {', '.join(BROWSERS)}")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=found, args=[*FLAGS, f"--remote-debugging-port={debugging_port}"]
        )
        yield started
        started.close()


class Site:
    """A publisher's web site: documents by path, with their Content-Security-Policy."""

    def __init__(self, url: str) -> None:
        """Begin without a page."""
        self.url = url
        self.pages: dict[str, tuple[str, str]] = {}

    def publish(self, body: str, *, policy: str = "") -> str:
        """Put a document online, and return its address."""
        path = f"/{len(self.pages)}"
        self.pages[path] = (f"<!doctype html><html><body>{body}</body></html>", policy)
        return self.url + path


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A web server of its own, hence another origin than the service's."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body, policy = published.pages.get(self.path, ("", ""))
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            if policy:
                self.send_header("Content-Security-Policy", policy)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    published = Site(f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield published
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Reader:
    """Somebody who reads a page: their tab, and what it asked the service for."""

    tab: Tab
    asked: list[Request] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def see(self, request: Request) -> None:
        """Notice what the page asks for."""
        if urlsplit(request.url).path.startswith("/ads/v1/"):
            self.asked.append(request)

    def hear(self, what: str) -> None:
        """Notice what the tag says has happened."""
        self.told.append(what)

    def beacons(self, kind: str) -> int:
        """Return how many impressions (`i`), views (`v`) or decisions (`decisions`) were requested."""
        return sum(urlsplit(request.url).path.startswith(f"/ads/v1/{kind}") for request in self.asked)

    def wait(self, milliseconds: int) -> None:
        """Read on for a while."""
        self.tab.wait_for_timeout(milliseconds)

    def until(self, what: str, times: int = 1) -> None:
        """Read until the tag has said something so often."""
        deadline = monotonic() + WAIT_SECONDS_MAX
        while self.told.count(what) < times:
            assert monotonic() < deadline, (what, self.told)
            self.wait(20)

    def decided(self) -> list[dict[str, Any]]:
        """Return the creatives that the page was given, in order."""
        return [
            ad
            for request in self.asked
            if request.url.endswith("/decisions") and request.method == "POST"
            for decision in request.response().json()["decisions"]  # type: ignore[union-attr]  # it was answered
            for ad in decision["ads"]
        ]


@contextmanager
def reading(browser: Browser, *, script: str = "", **options: Any) -> Iterator[Reader]:
    """A reader with a browser profile of their own; a script of theirs runs before those of the page."""
    context = browser.new_context(viewport={"width": 800, "height": 600}, **options)
    try:
        yield reader_of(context, script)
    finally:
        context.close()


def reader_of(profile: BrowserContext, script: str = "") -> Reader:
    """Return a reader who opens a tab."""
    profile.route("https://shop.example/**", lambda route: route.fulfill(body="The shop."))
    tab = profile.new_page()
    reader = Reader(tab)
    tab.on("request", reader.see)
    tab.expose_function("told", reader.hear)
    tab.add_init_script(
        f"""for (const what of ["rendered", "viewed", "empty", "failed", "closed"])
            addEventListener("ledger:" + what, () => window.told(what)); {script}"""
    )
    return reader


def tag(page: Page, *slots: Page, before: str = "", options: str = "") -> str:
    """Return what a publisher puts on a page that shows slots: the tag, and a place for each."""
    key = page.ads.headers["Authorization"].removeprefix("Bearer ")
    script = f'<script async src="{page.world.service.url}/ads/v1/tag.js" data-ledger-key="{key}" {options}></script>'
    return script + before + "".join(place(slot) for slot in slots or (page,))


def place(slot: Page) -> str:
    """Return a place for the creatives of a slot."""
    style = "; ".join(f"{name}: {pixels}px" for name, pixels in slot.size.items())
    return f'<div data-ledger-slot="{slot.slot_id}" style="{style}"></div>'


def with_image(world: World, **fields: Any) -> Page:
    """Set up a slot for which there is an image that was uploaded."""
    page = new_page(world, **fields)
    campaign_id = world.campaign()
    creative_id = page.creative(campaign_id, media_url=None, approved=False)
    file = encoded(picture(2 * page.size["width"], 2 * page.size["height"]), "PNG")
    assert upload(world, creative_id, file).status_code == 200
    world.approve(creative_id)
    world.post(f"campaigns/{campaign_id}/activate", expect=200)
    return page


def with_markup(world: World, media_type: str, content: str) -> Page:
    """Set up a slot for which there is HTML or text."""
    page = new_page(world)
    campaign_id = world.campaign()
    page.creative(campaign_id, media_type=media_type, media_url=None, media_content=content)
    world.post(f"campaigns/{campaign_id}/activate", expect=200)
    return page


def served(*pages: Page) -> None:
    """Wait until slots have something to show; nobody sees it."""
    for page in pages:
        page.served(test=True)


def counted(world: World, decision_id: str) -> list[str]:
    """Return which kinds of delivery the log has of a decision."""
    return [str(entry["event"]["type"]).removesuffix("_recorded") for entry in recorded(world, decision_id)]


def outcome(world: World, reader: Reader, expected: Sequence[str]) -> None:
    """Wait until the log has exactly this of each decision that a reader's page was given."""
    deadline = monotonic() + WAIT_SECONDS_MAX
    while any(counted(world, ad["decision_id"]) != list(expected) for ad in reader.decided()):
        assert monotonic() < deadline, [counted(world, ad["decision_id"]) for ad in reader.decided()]
        reader.wait(50)


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
        assert (reader.beacons("i/"), reader.beacons("v/"), reader.beacons("c/")) == (3, 3, 0)
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
        assert counted(world, reader.decided()[2]["decision_id"]) == ["impression", "view", "click"]


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
        reader.wait(ALMOST_VIEWED_MS)
        assert reader.beacons("i/") == 0
        held[0].continue_()
        reader.until("rendered")
        outcome(world, reader, ["impression", "view"])


def test_it_is_viewed_when_half_of_it_is_in_view_for_a_second(browser: Browser, site: Site, world: World) -> None:
    """Below the fold it is rendered; less than half, or less than a second, is no view; a second in one piece is."""
    page = with_image(world)
    served(page)
    with reading(browser) as reader:
        reader.tab.goto(site.publish(TALL + tag(page) + TALL))
        reader.until("rendered")
        top = reader.tab.locator("[data-ledger-slot]").bounding_box()["y"]  # type: ignore[index]  # it is shown

        def scroll(pixels_in_view: int) -> None:
            reader.tab.evaluate(f"scrollTo(0, {top - 600 + pixels_in_view})")

        scroll(20)
        reader.wait(VIEWED_MS)
        for _ in range(2):
            scroll(30)
            reader.wait(ALMOST_VIEWED_MS)
            scroll(0)
            reader.wait(100)
        assert (reader.beacons("i/"), reader.beacons("v/")) == (1, 0)
        scroll(30)
        reader.until("viewed")
        outcome(world, reader, ["impression", "view"])


def test_what_is_blocked_never_counts(browser: Browser, site: Site, world: World) -> None:
    """An image that is blocked leaves its place empty and counts for nothing."""
    page = with_image(world)
    served(page)
    with reading(browser) as reader:
        reader.tab.route("**/ads/v1/media/*", lambda route: route.abort("blockedbyclient"))
        reader.tab.goto(site.publish(tag(page)))
        reader.until("failed")
        reader.wait(VIEWED_MS)
        assert (reader.beacons("i/"), reader.beacons("v/")) == (0, 0)
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
        assert (reader.beacons("i/"), reader.beacons("v/")) == (0, 0)


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
    assert (reader.beacons("decisions"), reader.beacons("i/")) == (0, 0)
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
    with reading(browser) as reader:
        reader.tab.clock.install()
        reader.tab.goto(site.publish(tag(page, page, still) + TALL))
        reader.until("rendered", 2)
        reader.tab.clock.fast_forward(29_000)
        reader.until("viewed", 2)
        assert reader.beacons("decisions") == 1
        reader.tab.clock.fast_forward(1_000)
        reader.until("rendered", 3)
        assert (reader.beacons("decisions"), reader.beacons("i/")) == (2, 3)
        reader.tab.evaluate("scrollTo(0, 2000)")
        reader.wait(200)
        reader.tab.clock.fast_forward(60_000)
        reader.wait(200)
        assert reader.beacons("decisions") == 2
        reader.tab.evaluate("scrollTo(0, 0)")
        reader.until("rendered", 4)
        reader.tab.get_by_label("Close").click()
        reader.until("closed")
        reader.tab.clock.fast_forward(60_000)
        reader.wait(200)
        assert (reader.beacons("decisions"), reader.tab.locator("img").count()) == (3, 1)
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
    for script in ("", control):
        with reading(browser, script=script, locale="de-AT") as reader:
            reader.tab.goto(address)
            reader.until("rendered")
            asked += [json.loads(each.post_data or "") for each in reader.asked if each.method == "POST"]
    for body in asked:
        assert body["site"] == {"domain": "127.0.0.1", "keywords": ["tea", "winter"]}
        assert body["device"] == {"language": "de-AT"}
    assert [body["viewer"]["id"] for body in asked] == ["vera", None]
    assert [body["privacy"] for body in asked] == [{"gpc": False, "dnt": False}, {"gpc": True, "dnt": False}]
