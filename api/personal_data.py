"""The door to what is held about the people of advertisers: told, kept from being erased, and erased."""

from datetime import datetime
from typing import Any
from uuid import UUID

from litestar import Controller, Request, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, RequestBody
from msgspec import Struct

from api import lists, problems
from api.access import may_administer
from api.audited import record
from api.services import Services
from domain.access import Exported
from domain.advertiser import (
    ADVERTISER,
    AdvertiserCommand,
    ErasePersonalData,
    LiftLegalHold,
    PlaceLegalHold,
)
from domain.decider import stream_of
from domain.errors import NotFound
from domain.events import AdvertiserChanged, AdvertiserCreated
from domain.terms import CONTACT
from infra import personal_data
from infra.batch import Receipt
from infra.event_log import Recorded, read_streams
from infra.execute import Asked, execute
from infra.subject_keys import Subject, read_subjects
from projections.advertisers import AdvertiserRow, fold


class PersonalDatum(Struct, frozen=True, kw_only=True):
    """A value that was entered about a person, and the entry of the log that holds it.

    Null where it was erased. HMAC-SHA-256 with the salt (hexadecimal) as key, of ledger, advertiser, field and value in
    a line each, is the commitment (base64url) that the log has. Neither is there of what was entered in plain text.
    """

    position: int
    recorded_at: datetime
    actor: str
    field: str
    value: str | None
    salt: str | None
    commitment: str | None


class PersonalData(Struct, frozen=True, kw_only=True):
    """All that is held about the person with whom one deals at an advertiser."""

    ledger_id: UUID
    advertiser_id: UUID
    name: str
    company_name: str
    email: str | None
    phone: str | None
    legal_hold: str | None
    erased_at: datetime | None
    entries: list[PersonalDatum]


class PersonalDataController(Controller):
    """What is held about people at advertisers."""

    path = "/advertisers/{advertiser_id:uuid}"
    tags = ("advertisers",)
    guards = (may_administer,)

    @get("/personal-data", operation_id="get_personal_data", responses=problems.READING_ONE)
    async def show(
        self,
        advertiser_id: FromPath[UUID],
        request: Request[Any, Any, Any],
        ledger_id: NamedDependency[UUID],
        services: NamedDependency[Services],
    ) -> PersonalData:
        """Show all that is held about the person of an advertiser, with where in the log it stands.

        That it was shown is recorded.
        """
        stream = stream_of(ADVERTISER.thing, advertiser_id)
        async with services.log.pool.connection() as connection:
            entries = (await read_streams(connection, ledger_id, [stream]))[stream]
            found = await read_subjects(connection, services.log.masters, ledger_id, [advertiser_id])
        subject, row = found[advertiser_id], _row(entries)
        if row is None:
            raise NotFound(ADVERTISER.thing, advertiser_id)
        await record(request, advertiser_id, Exported(what="personal_data"))
        row = personal_data.decrypted(subject, row)
        return PersonalData(
            ledger_id=ledger_id,
            advertiser_id=advertiser_id,
            name=row.name,
            company_name=row.company_name,
            email=row.email,
            phone=row.phone,
            legal_hold=row.legal_hold,
            erased_at=row.erased_at,
            entries=[datum for each in entries for datum in _data(subject, each)],
        )

    @post("/erase", operation_id="erase_personal_data", status_code=200, responses=problems.STEPPING)
    async def erase(
        self,
        advertiser_id: FromPath[UUID],
        asked_if: NamedDependency[Asked],
        services: NamedDependency[Services],
    ) -> Response[Receipt]:
        """Destroy the key of an advertiser's contact, so that nobody can read it any more, wherever the log went."""
        return await _execute(services, advertiser_id, ErasePersonalData(), asked_if)

    @post("/legal-hold", operation_id="place_legal_hold", status_code=200, responses=problems.CHANGING)
    async def hold(
        self,
        advertiser_id: FromPath[UUID],
        data: RequestBody[PlaceLegalHold],
        asked_if: NamedDependency[Asked],
        services: NamedDependency[Services],
    ) -> Response[Receipt]:
        """Refuse every erasure from now on, for a reason that is told; it is kept in plain text, so name no person."""
        return await _execute(services, advertiser_id, data, asked_if)

    @delete("/legal-hold", operation_id="lift_legal_hold", status_code=200, responses=problems.STEPPING)
    async def lift(
        self,
        advertiser_id: FromPath[UUID],
        asked_if: NamedDependency[Asked],
        services: NamedDependency[Services],
    ) -> Response[Receipt]:
        """Allow erasures again."""
        return await _execute(services, advertiser_id, LiftLegalHold(), asked_if)


async def _execute(services: Services, subject: UUID, command: AdvertiserCommand, asked: Asked) -> Response[Receipt]:
    return lists.receipt(await execute(services.log, ADVERTISER, subject, command, asked))


def _row(entries: list[Recorded]) -> AdvertiserRow | None:
    row = None
    for each in entries:
        row = fold(row, each)
    return row


def _data(subject: Subject, recorded: Recorded) -> list[PersonalDatum]:
    event, found = recorded.entry.event, []
    if isinstance(event, AdvertiserCreated | AdvertiserChanged):
        for field in CONTACT:
            text = getattr(event, field)
            if isinstance(text, str):
                plain = not text.startswith(personal_data.PREFIX)
                opened = None if plain else personal_data.decrypt(subject, field, text)
                datum = PersonalDatum(
                    position=recorded.position,
                    recorded_at=recorded.entry.recorded_at,
                    actor=recorded.entry.actor,
                    field=field,
                    value=text if plain else opened and opened.value,
                    salt=opened and opened.salt,
                    commitment=None if plain else personal_data.commitment_in(text),
                )
                found.append(datum)
    return found
