"""A page with ad slots, as a test plays it: a format of its own, creatives for it, and what becomes of them."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from time import monotonic, sleep
from typing import Any, Final
from uuid import uuid4

import httpx

from tests.world import World

WAIT_SECONDS_MAX: Final = 45

_widths: Final = count(100)


@dataclass(frozen=True)
class Page:
    """A slot of a format that no other test uses, and a client with its key."""

    world: World
    slot_id: str
    ads: httpx.Client
    size: dict[str, int]

    def campaign(self, **fields: Any) -> tuple[str, str]:
        """Set up an active campaign with one creative that fits, and return the ids of both."""
        return self.world.active_campaign(**self.size, **fields)

    def creative(self, campaign_id: str, **fields: Any) -> str:
        """Add a creative that fits to a campaign, and return its id."""
        return self.world.creative(campaign_id, **{**self.size, **fields})

    def known(self) -> None:
        """Wait until everything that was set up so far is known to the door of ad slots."""
        last, _ = self.world.slot()

        def listed() -> bool:
            answer = self.ads.get("/ads/v1/slots")  # a service that a test before this one hurt may still recover
            return answer.status_code == 200 and any(slot["id"] == last for slot in answer.json())

        eventually(listed)

    def ask(self, *counts: int, slots: tuple[str, ...] = (), **fields: Any) -> list[dict[str, Any]]:
        """Ask for so many creatives a placement, and return what each placement gets."""
        places = slots or (self.slot_id,) * len(counts or (1,))
        answer = self.ads.post(
            "/ads/v1/decisions",
            json={
                "id": "page",
                "placements": [
                    {"id": f"p{number}", "slot_id": slot_id, "count": wanted}
                    for number, (slot_id, wanted) in enumerate(zip(places, counts or (1,) * len(places), strict=True))
                ],
                **fields,
            },
        )
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["decisions"]
        return found

    def shown(self, **fields: Any) -> str | None:
        """Ask for one creative, and return its id if there is one."""
        (placement,) = self.ask(1, **fields)
        return placement["ads"][0]["creative_id"] if placement["ads"] else None

    def served(self, **fields: Any) -> dict[str, Any]:
        """Ask until a creative comes, and return it: what is limited is served once it is leased."""
        return self.world.served(self.ads, self.slot_id, **fields)


def new_page(world: World, **fields: Any) -> Page:
    """Set up a slot of a format of its own."""
    size = {"width": next(_widths), "height": 50}
    slot_id, ads = world.slot(**size, **fields)
    return Page(world, slot_id, ads, size)


def eventually(condition: Callable[[], object], *, seconds: float = WAIT_SECONDS_MAX) -> None:
    """Wait until a condition holds."""
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline, "it did not come to pass"
        sleep(0.02)


def recorded(world: World, decision_id: str) -> list[dict[str, Any]]:
    """Return the entries of the log about a decision, in order."""
    answer = world.admin.get("/audit/v1/events", params={"stream": f"decision-{decision_id}"})
    assert answer.status_code == 200, answer.text
    return [httpx.Response(200, text=item["entry"]).json() for item in answer.json()["items"]]


def spent(world: World, campaign_id: str) -> dict[str, Any]:
    """Return a campaign's line of the budget report, once the report has seen all of the log."""
    world.caught_up()
    (line,) = world.get("reports/budgets", campaign_id=campaign_id)["items"]
    found: dict[str, Any] = line
    return found


def audited(world: World) -> None:
    """Assert that whoever verifies all of the organisation's ledger from the command line finds nothing wrong."""
    world.caught_up()
    service, slug = world.service, world.get("organisation")["slug"]
    verify = [
        *(sys.executable, "-m", "api.cli", "audit", "verify", "--database"),
        *("--organisation", slug, "--data-dir", str(service.data_dir)),
    ]
    done = subprocess.run(verify, env=service.environment, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def fresh() -> str:
    """Return a word that no other test uses."""
    return uuid4().hex


def midday() -> str:
    """Return a time zone in which it is noon, so that no day ends during a test."""
    return f"Etc/GMT{datetime.now(UTC).hour - 12:+d}"
