"""A reader of a publisher's pages: a web site of another origin, and a real browser."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from time import monotonic
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Request, sync_playwright
from playwright.sync_api import Page as Tab

from tests.api.pages import Page, recorded
from tests.world import World

BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
FLAGS: Final = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
WAIT_SECONDS_MAX: Final = 45
OBSERVED: Final = """() => new Promise((done) => new IntersectionObserver((_, own) => {
    own.disconnect();
    done();
}).observe(document.body))"""
"""Observers are told in the order in which they began: when this one is, all of the tag have been."""


@contextmanager
def started(debugging_port: int) -> Iterator[Browser]:
    """A browser without a window, which another client finds at a port as well."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"there is no browser here: none of {', '.join(BROWSERS)}")
    flags = [*FLAGS, f"--remote-debugging-port={debugging_port}"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=flags)
        yield browser
        browser.close()


class File(NamedTuple):
    """What a web site answers: a kind of content, the content, and a Content-Security-Policy if there is one."""

    content_type: str
    content: bytes
    policy: str = ""


class Site:
    """A publisher's web site: what it answers by path."""

    def __init__(self, url: str) -> None:
        """Begin without a page."""
        self.url = url
        self.files: dict[str, File] = {"/favicon.ico": File("image/x-icon", b"")}

    def publish(self, body: str, *, policy: str = "") -> str:
        """Put a document online, and return its address."""
        document = f"<!doctype html><html><meta charset='utf-8'><body>{body}</body></html>"
        return self.put(File("text/html; charset=utf-8", document.encode(), policy))

    def put(self, file: File) -> str:
        """Put a file online, and return its address."""
        path = f"/{len(self.files)}"
        self.files[path] = file
        return self.url + path


@contextmanager
def online() -> Iterator[Site]:
    """A web server of its own, hence another origin than the service's."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            file = site.files[self.path]
            self.send_response(200)
            self.send_header("Content-Type", file.content_type)
            self.send_header("Content-Length", str(len(file.content)))
            if file.policy:
                self.send_header("Content-Security-Policy", file.policy)
            self.end_headers()
            self.wfile.write(file.content)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site = Site(f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield site
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

    def asks(self, **times: int) -> bool:
        """Tell whether the page asks for so many decisions, impressions (`i`), views (`v`) or clicks (`c`)."""
        deadline = monotonic() + WAIT_SECONDS_MAX
        while any(self._asked(what) < many for what, many in times.items()) and monotonic() < deadline:
            self.wait(20)
        return all(self._asked(what) == many for what, many in times.items())

    def _asked(self, what: str) -> int:
        return sum(urlsplit(request.url).path.split("/")[3] == what for request in self.asked)

    def wait(self, milliseconds: int) -> None:
        """Read on for a while."""
        self.tab.wait_for_timeout(milliseconds)

    def pass_over(self, milliseconds: int) -> None:
        """Let time pass on a page whose clock stands still, once the page knows what is in view."""
        self.tab.evaluate(OBSERVED)
        self.tab.clock.run_for(milliseconds)

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
def reading(browser: Browser, *, script: str = "", stopped: bool = False, **options: Any) -> Iterator[Reader]:
    """A reader with a browser profile of their own; a script of theirs runs before those of the page.

    With `stopped`, the clock of pages stands still, and their timers with it, until a test lets time pass.
    """
    context = browser.new_context(viewport={"width": 800, "height": 600}, **options)
    if stopped:
        context.clock.install(time="2030-01-01T11:00:00Z")
        context.clock.pause_at("2030-01-01T12:00:00Z")
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
    return script(page, options) + before + "".join(place(slot) for slot in slots or (page,))


def script(page: Page, options: str = "") -> str:
    """Return the tag, which asks with the key of a slot."""
    key = page.ads.headers["Authorization"].removeprefix("Bearer ")
    return f'<script async src="{page.world.service.url}/ads/v1/tag.js" data-ledger-key="{key}" {options}></script>'


def place(slot: Page) -> str:
    """Return a place for the creatives of a slot."""
    style = "; ".join(f"{name}: {pixels}px" for name, pixels in slot.size.items())
    return f'<div data-ledger-slot="{slot.slot_id}" style="{style}"></div>'


def served(*pages: Page) -> None:
    """Wait until slots have something to show; nobody sees it."""
    for page in pages:
        page.served(test=True)


def counted(world: World, decision_id: str) -> list[str]:
    """Return which kinds of delivery the log has of a decision, by name."""
    return sorted(str(entry["event"]["type"]).removesuffix("_recorded") for entry in recorded(world, decision_id))


def outcome(world: World, reader: Reader, expected: Sequence[str]) -> None:
    """Wait until the log has exactly this of each decision that a reader's page was given, in whatever order."""
    deadline = monotonic() + WAIT_SECONDS_MAX
    while found := [kinds for ad in reader.decided() if (kinds := counted(world, ad["decision_id"])) != list(expected)]:
        assert monotonic() < deadline, found
        reader.wait(50)
