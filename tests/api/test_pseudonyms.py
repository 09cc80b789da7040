"""Pseudonyms over HTTP: viewers get other names, nobody's frequency cap is undone by it, and then they are forgotten.

A service that counts longer or shorter periods from 1970 is in another one: so it is as if a period had passed.
"""

from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest

from tests.api.pages import recorded
from tests.running import Service
from tests.world import World

SIZE: Final = {"width": 417, "height": 93}
DAYS: Final = int(datetime.now(UTC).timestamp()) // 86_400


@pytest.fixture(scope="module")
def service(own_service: Service) -> Service:
    """A service that is stopped and started."""
    return own_service


def in_period(service: Service, number: int) -> None:
    """Start the service again with periods of which this is the one that has just begun, or will have today."""
    service.stop()
    service.environment["LEDGER_VIEWER_KEY_DAYS"] = str(DAYS // number)
    service.start()


def asked(slot: httpx.Client, slot_id: str, viewer: str) -> dict[str, Any]:
    """Ask for one creative on behalf of a viewer."""
    body = {"id": "r", "placements": [{"id": "p", "slot_id": slot_id}], "viewer": {"id": viewer}}
    answer = slot.post("/ads/v1/decisions", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["decisions"][0]
    return found


def shown(world: World, slot: httpx.Client, slot_id: str, viewer: str) -> str:
    """Show a viewer a creative, and return the name under which the log knows them."""
    (ad,) = asked(slot, slot_id, viewer)["ads"]
    assert slot.get(ad["impression_url"]).is_success
    (entry,) = recorded(world, ad["decision_id"])
    assert entry["event"]["reason"] is None
    name: str = entry["event"]["viewer"]
    return name


def test_a_new_name_undoes_no_cap_until_it_is_forgotten(service: Service, world: World) -> None:
    """In the period after, who saw enough is shown no more, under whatever name; in the one after that they are new.

    Somebody else meanwhile is shown as much as ever.
    """
    in_period(service, 1)
    world.active_campaign(max_view_count=1, max_view_duration={"value": 1_000, "unit": "month"}, **SIZE)
    slot_id, slot = world.slot(**SIZE)
    world.served(slot, slot_id, test=True)
    viewer = str(uuid4())
    names = [shown(world, slot, slot_id, viewer)]
    assert asked(slot, slot_id, viewer)["no_bid_reason"] == "frequency_capped"
    in_period(service, 2)
    assert asked(slot, slot_id, viewer)["no_bid_reason"] == "frequency_capped"
    names.append(shown(world, slot, slot_id, str(uuid4())))
    in_period(service, 3)
    names.append(shown(world, slot, slot_id, viewer))
    assert asked(slot, slot_id, viewer)["no_bid_reason"] == "frequency_capped"
    assert len(set(names)) == 3
