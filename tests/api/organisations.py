"""What tests of organisations have in common: beginning one, running the installation, going from one to another."""

import asyncio
from typing import Any, Final
from uuid import uuid4

import httpx

from infra import users
from infra.database import connect
from infra.users import INSTALLATION
from tests.running import ADMIN_EMAIL, ADMIN_PASSWORD, Service

PASSWORD: Final = "a sentence that nobody guesses"

PIXEL: Final = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")


def founded(service: Service, **fields: Any) -> tuple[httpx.Client, dict[str, Any], dict[str, Any]]:
    """Let the first admin begin an organisation, and return a client that is signed in to it, it and the tokens."""
    founder = service.signed_in()
    said = {"name": "Neighbour", "slug": f"neighbour-{uuid4().hex}", **fields}
    made = founder.post("/api/v1/organisations", json=said)
    assert made.status_code == 201, made.text
    founder.close()
    tokens = switched(service, signed_in(service)["refresh_token"], made.json()["id"])
    client = service.client(headers={"Authorization": f"Bearer {tokens['access_token']}"})
    return client, made.json(), tokens


def operating(service: Service) -> httpx.Client:
    """Return a client of a new operator of the installation."""
    email = f"{uuid4().hex}@example.com"

    async def add() -> None:
        async with await connect(service.environment["LEDGER_DATABASE_URL"]) as connection:
            await users.create(connection, INSTALLATION, email=email, password=PASSWORD, role="operator")

    asyncio.run(add())
    return service.signed_in(email, PASSWORD)


def signed_in(service: Service) -> dict[str, Any]:
    """Return the tokens of the first admin."""
    answer = httpx.post(f"{service.url}/api/v1/auth/login", json={"email": ADMIN_EMAIL, "password": ADMIN_PASSWORD})
    tokens: dict[str, Any] = answer.raise_for_status().json()
    return tokens


def switched(service: Service, refresh_token: str, organisation_id: str, expect: int = 200) -> dict[str, Any]:
    """Go on with a session in another organisation, and return the answer."""
    body = {"refresh_token": refresh_token, "organisation_id": organisation_id}
    answer = httpx.post(f"{service.url}/api/v1/auth/switch", json=body)
    assert answer.status_code == expect, answer.text
    found: dict[str, Any] = answer.json()
    return found


def me(service: Service, tokens: dict[str, Any]) -> httpx.Response:
    """Ask who one is."""
    return httpx.get(f"{service.url}/api/v1/auth/me", headers={"Authorization": f"Bearer {tokens['access_token']}"})
