"""The service whose checks of who asks and what they may do are turned off and on, for measuring what they cost."""

from typing import Any, Final

from litestar import Litestar
from litestar.types import ASGIApp, Empty, Receive, Scope, Send

from api import app as whole
from api.access import ROLES, Caller
from infra import clock

CHECKS_PATH: Final = "/checks/"
"""Followed by `on` or `off`."""


def create_app() -> Litestar:
    """Return the service; while checks are off it has no guards, and every caller is an admin. For benchmarks alone."""
    app = whole.create_app()
    checked: ASGIApp = app.asgi_handler
    handlers = [handler for route in app.routes for handler in getattr(route, "route_handlers", ())]
    checks = True

    async def switched(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal checks
        if scope["path"].startswith(CHECKS_PATH):
            checks = scope["path"] == f"{CHECKS_PATH}on"
            guards: Any = Empty if checks else []  # resolved anew, or none
            for handler in handlers:
                handler._resolved_guards = guards  # noqa: SLF001  nobody else has a reason to take guards away
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        if not checks:
            ledger_id = app.state.services.ledgers.first
            scope["known"] = Caller(ledger_id, ROLES["admin"], "user:nobody", clock.fresh_id())  # type: ignore[typeddict-unknown-key]  # as `api.access` keeps it
        await checked(scope, receive, send)

    app.asgi_handler = switched
    return app
