"""The door to one's mail: which letters one gets."""

from typing import Any

from litestar import Controller, Request, get, patch
from litestar.di import NamedDependency
from litestar.params import RequestBody

from api import problems
from api.access import claims_of, is_person
from api.services import Services
from infra import notifications
from infra.notifications import ChangeNotifications, Notifications


class NotificationController(Controller):
    """Which mail one gets."""

    path = "/auth/me/notifications"
    tags = ("account",)
    guards = (is_person,)

    @get(operation_id="get_notifications", responses=problems.READING_ONE)
    async def show(self, request: Request[Any, Any, Any], services: NamedDependency[Services]) -> Notifications:
        """Show which mail one gets: that of one's role, unless one chose otherwise."""
        claims = claims_of(request)
        async with services.log.pool.connection() as connection:
            return await notifications.read(connection, claims.ledger, claims.sub)

    @patch(operation_id="change_notifications", responses=problems.ACCOUNT)
    async def change(
        self,
        data: RequestBody[ChangeNotifications],
        request: Request[Any, Any, Any],
        services: NamedDependency[Services],
    ) -> Notifications:
        """Choose which mail one gets; what is left out stays as it is."""
        claims = claims_of(request)
        async with services.log.pool.connection() as connection:
            return await notifications.choose(connection, claims.ledger, claims.sub, data)
