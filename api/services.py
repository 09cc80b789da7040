"""What a process serves with: made once when it starts, and handed to the handlers that ask for it."""

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

from litestar.connection import ASGIConnection
from litestar.types import ASGIApp, Receive, Scope, Send

from api.open_ledgers import OpenLedgers
from infra.access_audit import AccessAudit
from infra.access_tokens import KnownTokens
from infra.activity import Activity
from infra.data_centres import DataCentres
from infra.database import viewing
from infra.keys import Keys
from infra.openid import Provider
from infra.revocations import Revocations
from infra.settings import Settings
from infra.writer import Log


class Services(NamedTuple):
    """The log, the keys, the ledgers that are served, and when the process is about to stop."""

    settings: Settings
    database_url: str
    ledgers: OpenLedgers
    log: Log
    keys: Keys
    tokens: KnownTokens
    revocations: Revocations
    audit: AccessAudit
    activity: Activity
    data_centres: DataCentres
    providers: Mapping[str, Provider]
    issuer: str
    stopping: asyncio.Event


def viewed(app: ASGIApp) -> ASGIApp:
    """Return the application with a view of its own for each request: its connections see the caller's ledger."""

    async def view(scope: Scope, receive: Receive, send: Send) -> None:
        with viewing():
            await app(scope, receive, send)

    return view


def services_of(request: ASGIConnection[Any, Any, Any, Any]) -> Services:
    """Return what the process of a request serves with.

    Handlers have it injected, but for those of ad slots: an injection costs them 8 of 100 microseconds.
    """
    services: Services = request.app.state.services
    return services
