"""Short words with which a test sets up advertisers, campaigns, creatives and slots over HTTP, and plays an ad slot."""

from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import Any, TypeVar
from uuid import uuid4

import httpx

from tests.running import Service

CATCH_UP_SECONDS_MAX = 10

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """An admin at work."""

    service: Service
    admin: httpx.Client
    clients: list[httpx.Client] = field(default_factory=list)

    def post(self, path: str, expect: int = 201, **body: Any) -> dict[str, Any]:
        """Post a body and return the answer, which must have the expected status."""
        answer = self.admin.post(f"/api/v1/{path}", json=body) if body else self.admin.post(f"/api/v1/{path}")
        assert answer.status_code == expect, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        """Return what is read at a path."""
        answer = self.admin.get(f"/api/v1/{path}", params=params)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def advertiser(self, **fields: Any) -> str:
        """Enter an advertiser and return its id."""
        return str(self.post("advertisers", **{"name": f"Advertiser {uuid4()}", **fields})["id"])

    def campaign(self, **fields: Any) -> str:
        """Draft a campaign and return its id."""
        terms: dict[str, Any] = {
            "name": f"Campaign {uuid4()}",
            "start_date": "2020-01-01",
            "pricing": {"model": "cpm", "price_micros": 5_000_000},
            "currency": "EUR",
            **fields,
        }
        terms.setdefault("advertiser_id", None)
        terms["advertiser_id"] = terms["advertiser_id"] or self.advertiser()
        return str(self.post("campaigns", **terms)["id"])

    def creative(self, campaign_id: str, *, approved: bool = True, **fields: Any) -> str:
        """Add a creative to a campaign, approved and active unless it is to be a draft, and return its id."""
        terms = {
            "campaign_id": campaign_id,
            "name": f"Creative {uuid4()}",
            "ad_type": "top_bar_ad",
            "media_type": "image",
            "media_url": "https://cdn.example/banner.png",
            "width": 300,
            "height": 250,
            "click_url": "https://shop.example/",
            **fields,
            "content_rating": {"no_prohibited_content": True, **fields.get("content_rating", {})},
        }
        creative_id = str(self.post("creatives", **terms)["id"])
        if approved:
            self.approve(creative_id)
        return creative_id

    def approve(self, creative_id: str) -> None:
        """Let a draft pass its review, and be served."""
        for step in ("submit", "approve", "activate"):
            self.post(f"creatives/{creative_id}/{step}", expect=200)

    def active_campaign(self, **fields: Any) -> tuple[str, str]:
        """Set up an active campaign with one creative, and return the ids of both."""
        size = {name: fields.pop(name) for name in ("width", "height") if name in fields}
        campaign_id = self.campaign(**fields)
        creative_id = self.creative(campaign_id, **size)
        self.post(f"campaigns/{campaign_id}/activate", expect=200)
        return campaign_id, creative_id

    def slot(self, **fields: Any) -> tuple[str, httpx.Client]:
        """Set up a slot, and return its id and a client that carries its key."""
        terms = {"name": f"Slot {uuid4()}", "ad_type": "top_bar_ad", "width": 300, "height": 250, **fields}
        slot_id = str(self.post("slots", **terms)["id"])
        key = self.post(f"slots/{slot_id}/keys")["key"]
        ads = self.service.client(headers={"Authorization": f"Bearer {key}"})
        self.clients.append(ads)
        return slot_id, ads

    def decide(self, ads: httpx.Client, slot_id: str, *, count: int = 1, **fields: Any) -> list[dict[str, Any]]:
        """Ask for creatives for one placement, and return them."""
        body = {"id": "r", "placements": [{"id": "p", "slot_id": slot_id, "count": count}], **fields}
        answer = ads.post("/ads/v1/decisions", json=body)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["decisions"][0]["ads"]
        return found

    def served(self, ads: httpx.Client, slot_id: str, **fields: Any) -> dict[str, Any]:
        """Ask until a creative comes: what was just set up is served as soon as the snapshot has it."""
        deadline = monotonic() + CATCH_UP_SECONDS_MAX
        while monotonic() < deadline:
            answer = ads.post(
                "/ads/v1/decisions", json={"id": "r", "placements": [{"id": "p", "slot_id": slot_id}], **fields}
            )
            if answer.status_code == 200 and answer.json()["decisions"][0]["ads"]:
                ad: dict[str, Any] = answer.json()["decisions"][0]["ads"][0]
                return ad
            sleep(0.02)
        raise AssertionError("no creative was served")

    def eventually(self, found: Callable[[], T]) -> T:
        """Return what is found, as soon as it is something."""
        deadline = monotonic() + CATCH_UP_SECONDS_MAX
        while monotonic() < deadline:
            if thing := found():
                return thing
            sleep(0.02)
        raise AssertionError("it did not come to pass")

    def caught_up(self) -> None:
        """Wait until every read model has come to the end of the log."""
        deadline = monotonic() + CATCH_UP_SECONDS_MAX
        while monotonic() < deadline:
            found = self.admin.get("/audit/v1/projections").json()
            if found and all(each["lag"] == 0 for each in found):
                return
            sleep(0.02)
        raise AssertionError("the read models did not catch up")
