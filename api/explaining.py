"""The door to explanations: why a creative was shown, and what kept the others out, as of the decision."""

import asyncio
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from litestar import Controller, get
from litestar.di import NamedDependency
from litestar.params import FromPath

from api import problems
from api.access import may_manage
from api.services import Services
from domain.ad_request import Geo
from domain.basis import Basis
from domain.decider import stream_of
from domain.errors import NotFound
from domain.events import ImpressionRecorded
from domain.explanation import Explanation, NotExplainable, explain, second_of
from infra.event_log import read_streams
from projections.serving import catalogue_at

_one_at_a_time: Final = asyncio.Semaphore(1)
"""Bounds what the past takes from a process that serves: whoever comes later waits."""


class ExplanationController(Controller):
    """Why decisions were what they were."""

    path = "/decisions"
    tags = ("reports",)

    @get(
        "/{decision_id:uuid}/explanation",
        operation_id="explain_decision",
        guards=[may_manage],
        responses=problems.EXPLAINING,
    )
    async def show(
        self, decision_id: FromPath[UUID], ledger_id: NamedDependency[UUID], services: NamedDependency[Services]
    ) -> Explanation:
        """Explain a decision whose impression was recorded: made again from the log as of that moment."""
        stream = stream_of("decision", decision_id)
        async with _one_at_a_time, services.log.pool.connection() as connection:
            entries = (await read_streams(connection, ledger_id, [stream]))[stream]
            shown = next(
                (each.entry.event for each in entries if isinstance(each.entry.event, ImpressionRecorded)), None
            )
            if shown is None:
                raise NotFound("impression of the decision", decision_id)
            if not isinstance(shown.basis, Basis):
                raise NotExplainable("What was known when this was decided has not been recorded.")
            catalogue = await catalogue_at(connection, ledger_id, shown.basis.position)
        geo = Geo(country=shown.country, region=shown.region, city=shown.city)
        moment = datetime.fromtimestamp(second_of(decision_id) + shown.basis.late_seconds, UTC)
        return await asyncio.to_thread(explain, catalogue, shown.basis, shown.slot_id, geo, moment, shown.creative_id)
