"""The service without its checks of who asks and what they may do, for measuring what those add to a read."""

from litestar import Litestar
from litestar.types import ASGIApp, Receive, Scope, Send

from api import app as whole
from api.access import ROLES, Caller
from infra import clock


def create_app() -> Litestar:
    """Return the service with no guards, and with every caller known to be an admin; for benchmarks alone."""
    app = whole.create_app()
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            handler._resolved_guards = []  # noqa: SLF001  nobody else has a reason to take guards away
    checked: ASGIApp = app.asgi_handler

    async def unchecked(scope: Scope, receive: Receive, send: Send) -> None:
        ledger_id = app.state.services.ledgers.first
        scope["known"] = Caller(ledger_id, ROLES["admin"], "user:nobody", clock.fresh_id())  # type: ignore[typeddict-unknown-key]  # as `api.access` keeps it
        await checked(scope, receive, send)

    app.asgi_handler = unchecked
    return app
