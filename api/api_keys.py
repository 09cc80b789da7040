"""The door to API keys: made, listed and revoked by people, never by another key."""

from datetime import datetime
from typing import Annotated, Any, get_args
from uuid import UUID

from litestar import Controller, Request, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, RequestBody
from msgspec import Meta, Struct

from api import problems
from api.access import Permission, check_scopes, claims_of, is_person, may_administer
from api.audited import record
from api.people import AdvertiserIds
from api.services import Services
from domain.access import ApiKeyIssued, ApiKeyRevoked
from infra import api_keys
from infra.api_keys import ApiKey
from infra.ownership import check_known
from infra.users import MemberRole


class NewApiKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a key is for, what it may do, and until when; with `scopes` only these of what its role may."""

    name: Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
    role: MemberRole
    expires_at: Annotated[datetime, Meta(tz=True)] | None = None
    advertiser_ids: AdvertiserIds = ()
    scopes: Annotated[tuple[Permission, ...], Meta(min_length=1, max_length=len(get_args(Permission)))] | None = None


class IssuedApiKey(Struct, frozen=True, kw_only=True):
    """A key that was just made; `key` is shown this once."""

    id: UUID
    key: str


class ApiKeyController(Controller):
    """The keys of programs."""

    path = "/api-keys"
    tags = ("people",)
    guards = (may_administer, is_person)

    @get(operation_id="list_api_keys", responses=problems.READING)
    async def browse(self, ledger_id: NamedDependency[UUID], services: NamedDependency[Services]) -> list[ApiKey]:
        """List the keys of programs, and when each was used last."""
        async with services.log.pool.connection() as connection:
            return await api_keys.of_ledger(connection, ledger_id)

    @post(operation_id="issue_api_key", responses=problems.ACCOUNT)
    async def issue(
        self, data: RequestBody[NewApiKey], request: Request[Any, Any, Any], services: NamedDependency[Services]
    ) -> IssuedApiKey:
        """Make a key for a program, show it this once, and keep only its hash."""
        claims = claims_of(request)
        check_scopes(data.role, data.scopes)
        async with services.log.pool.connection() as connection:
            await check_known(connection, claims.ledger, data.advertiser_ids)
            async with connection.transaction():
                made, key = await api_keys.issue(
                    connection,
                    claims.ledger,
                    name=data.name,
                    role=data.role,
                    created_by=claims.sub,
                    expires_at=data.expires_at,
                    advertiser_ids=data.advertiser_ids,
                    scopes=data.scopes,
                )
                issued = ApiKeyIssued(
                    role=made.role,
                    expires_at=made.expires_at,
                    advertiser_ids=made.advertiser_ids,
                    scopes=made.scopes,
                )
                await record(request, made.id, issued)
            await services.ledgers.of(claims.ledger).api_keys.refresh(connection)
        return IssuedApiKey(id=made.id, key=key)

    @delete("/{key_id:uuid}", operation_id="revoke_api_key", responses=problems.READING_ONE)
    async def revoke(
        self,
        key_id: FromPath[UUID],
        request: Request[Any, Any, Any],
        ledger_id: NamedDependency[UUID],
        services: NamedDependency[Services],
    ) -> None:
        """Make a key of a program invalid; it is out within seconds."""
        async with services.log.pool.connection() as connection:
            async with connection.transaction():
                await api_keys.revoke(connection, ledger_id, key_id)
                await record(request, key_id, ApiKeyRevoked())
            await services.ledgers.of(ledger_id).api_keys.refresh(connection)
