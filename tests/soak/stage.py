"""The stage that all plays share: the nodes, the clock on their wall, the book, and an admin who has signed in."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

import httpx

from domain.delivery import Ticket
from tests.soak.book import Book
from tests.soak.nodes import Nodes
from tests.soak.wall_clock import WallClock
from tests.soak.wrong import Wrong

SIGN_IN_EVERY_SECONDS: Final = 300.0
ACCESS_TOKEN_SECONDS: Final = 900


@dataclass(frozen=True, kw_only=True)
class How:
    """How a command is asked for: of which node, under a key or not, and on what version."""

    node: int = 0
    keyed: bool = False
    match: str = "any"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A command that was answered under a key, as it can be sent again."""

    method: str
    path: str
    body: Mapping[str, Any] | None
    headers: Mapping[str, str]
    status: int
    answer: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Promise:
    """A decision: its tokens by kind, what they carry, and how often the clock had been set until then."""

    tokens: Mapping[str, str]
    ticket: Ticket
    clock_steps: int


@dataclass
class Stage:
    """What all plays share: the nodes, their clock, the book, and clients that have signed in."""

    nodes: Nodes
    clock: WallClock
    book: Book
    admins: list[httpx.Client] = field(default_factory=list)
    clock_steps: int = 0
    plays: int = 0
    signed_in_at: float = float("-inf")

    def admin(self, node: int) -> httpx.Client:
        """Return a client of a node that carries an admin's token."""
        if monotonic() > self.signed_in_at + SIGN_IN_EVERY_SECONDS:
            self.sign_in()
        return self.admins[node % len(self.admins)]

    def sign_in(self) -> None:
        """Sign in anew; one token is good at every node."""
        self.admins = self.admins or [service.client() for service in self.nodes.services]
        with closing(self.nodes.services[0].signed_in()) as signed_in:
            token = signed_in.headers["Authorization"]
        for client in self.admins:
            client.headers["Authorization"] = token
        self.signed_in_at = monotonic()

    def step_clock(self, seconds: int) -> None:
        """Set the wall clock of all nodes, and see that access tokens are worth what it says."""
        self.sign_in()  # with an old token, a step back might lead to no time before it
        client = self.admin(0)
        self.clock.step(seconds)
        self.clock_steps += 1
        status = client.get("/api/v1/auth/me").status_code
        if (status == 401) != (not -5 <= seconds < ACCESS_TOKEN_SECONDS):
            raise Wrong(f"an access token is answered {status} after {seconds} s")
        self.sign_in()

    def close(self) -> None:
        """Let go of all connections."""
        for client in self.admins:
            client.close()
        self.admins = []
        self.signed_in_at = float("-inf")
        self.book.close()
