"""The door to invitations: made and withdrawn by who looks after people, accepted by whom they were mailed to."""

import secrets
from typing import Annotated, Any, Final
from uuid import UUID

from litestar import Controller, Request, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter, RequestBody
from msgspec import Meta, Struct

from api import problems
from api.access import claims_of, may_administer
from api.audited import record, seen_from
from api.lists import Limit
from api.people import AdvertiserIds
from api.services import Services, services_of
from domain.access import InvitationAccepted, InvitationSent, InvitationWithdrawn, PersonAdded, RoleChanged
from infra import invitations, provider_links, users
from infra.access_audit import actor_of
from infra.execute import Asked
from infra.invitations import VALID_DAYS, Invitation, Status
from infra.mailed_tokens import TokenUnfit
from infra.once import once
from infra.openid import Identity
from infra.ownership import check_known
from infra.users import MemberRole, User
from projections.listing import LIMIT_DEFAULT, Page

UNKNOWN_PASSWORD_BYTES: Final = 48

Name = Annotated[str, Meta(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Token = Annotated[str, Meta(min_length=1, max_length=200, description="As it stands in the letter.")]


class NewInvitation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody who is to join, in which role, and how many days they have for it."""

    email: Annotated[str, Meta(min_length=3, max_length=254)]
    role: MemberRole
    advertiser_ids: AdvertiserIds = ()
    name: Name = ""
    valid_days: Annotated[int, Meta(ge=1, le=90)] = VALID_DAYS


class Acceptance(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The token that was mailed, and what to sign in with from now on; who has an account needs the token alone."""

    token: Token
    password: Annotated[str, Meta(max_length=200)] = ""
    name: Name = ""


class InvitationController(Controller):
    """Invitations."""

    path = "/invitations"
    tags = ("people",)

    @get(operation_id="list_invitations", guards=[may_administer], responses=problems.READING)
    async def browse(
        self,
        ledger_id: NamedDependency[UUID],
        services: NamedDependency[Services],
        limit: Limit = LIMIT_DEFAULT,
        cursor: Annotated[UUID | None, QueryParameter(description="The `next_cursor` of the page before.")] = None,
        status: Annotated[Status | None, QueryParameter(description="Only those of this status.")] = None,
    ) -> Page[Invitation]:
        """List invitations and what came of them, in the order in which they were made."""
        async with services.log.pool.connection() as connection:
            found = await invitations.page(connection, ledger_id, status=status, after=cursor, limit=limit)
        return Page(items=found, next_cursor=str(found[-1].id) if len(found) == limit else None)

    @get(
        "/{invitation_id:uuid}", operation_id="get_invitation", guards=[may_administer], responses=problems.READING_ONE
    )
    async def show(
        self, invitation_id: FromPath[UUID], ledger_id: NamedDependency[UUID], services: NamedDependency[Services]
    ) -> Invitation:
        """Show an invitation."""
        async with services.log.pool.connection() as connection:
            return await invitations.by_id(connection, ledger_id, invitation_id)

    @post(operation_id="create_invitation", guards=[may_administer], responses=problems.INVITING)
    async def create(
        self,
        data: RequestBody[NewInvitation],
        request: Request[Any, Any, Any],
        asked: NamedDependency[Asked],
        services: NamedDependency[Services],
    ) -> Invitation:
        """Invite somebody by mail; whether they have an account is not told."""
        async with services.log.pool.connection() as connection:

            async def act() -> UUID:
                await check_known(connection, asked.ledger_id, data.advertiser_ids)
                async with connection.transaction():
                    made = await invitations.invite(
                        connection,
                        asked.ledger_id,
                        keys=services.keys,
                        email=data.email,
                        role=data.role,
                        advertiser_ids=data.advertiser_ids,
                        name=data.name,
                        days=data.valid_days,
                        by=asked.actor,
                    )
                    await record(request, made, InvitationSent(role=data.role, advertiser_ids=data.advertiser_ids))
                return made

            made = await once(connection, asked.ledger_id, asked.idempotency, act)
            return await invitations.by_id(connection, asked.ledger_id, made)

    @post(
        "/{invitation_id:uuid}/send",
        operation_id="send_invitation",
        status_code=200,
        guards=[may_administer],
        responses=problems.INVITING,
    )
    async def send(
        self,
        invitation_id: FromPath[UUID],
        request: Request[Any, Any, Any],
        ledger_id: NamedDependency[UUID],
        services: NamedDependency[Services],
    ) -> Invitation:
        """Send an invitation again, with another token and as much time as at first."""
        async with services.log.pool.connection() as connection, connection.transaction():
            sent = await invitations.send_again(connection, services.keys, ledger_id, invitation_id)
            await record(request, sent.id, InvitationSent(role=sent.role, advertiser_ids=sent.advertiser_ids))
        return sent

    @post(
        "/{invitation_id:uuid}/withdraw",
        operation_id="withdraw_invitation",
        status_code=200,
        guards=[may_administer],
        responses=problems.ACCOUNT,
    )
    async def withdraw(
        self,
        invitation_id: FromPath[UUID],
        request: Request[Any, Any, Any],
        ledger_id: NamedDependency[UUID],
        services: NamedDependency[Services],
    ) -> Invitation:
        """Withdraw an invitation that was not accepted; its token opens nothing any more."""
        async with services.log.pool.connection() as connection, connection.transaction():
            withdrawn = await invitations.withdraw(connection, ledger_id, invitation_id)
            await record(request, withdrawn.id, InvitationWithdrawn())
        return withdrawn

    @post("/accept", operation_id="accept_invitation", responses=problems.JOINING)
    async def accept(
        self, data: RequestBody[Acceptance], request: Request[Any, Any, Any], services: NamedDependency[Services]
    ) -> User:
        """Accept an invitation: choose a password, or sign in first to the account that has this address."""
        signed_in = await _signed_in(request, services)
        return await _accepted(request, data, signed_in)


async def accept_proven(request: Request[Any, Any, Any], token: str, known: Identity) -> None:
    """Accept an invitation for whom a provider knows; without an account, they get one and no password of theirs.

    Raises TokenUnfit, also when the invitation went to another address.
    """
    proven = users.canonical(known.email)
    async with services_of(request).log.pool.connection() as connection:
        user_id = await provider_links.find(connection, known)
        found = await users.by_person(connection, user_id) if user_id else None
    user = found[0] if found else None
    if user is not None and user.email != proven:
        raise TokenUnfit
    unknown = Acceptance(token=token, password=secrets.token_urlsafe(UNKNOWN_PASSWORD_BYTES))
    await _accepted(request, unknown, user, proven=proven)


async def _accepted(
    request: Request[Any, Any, Any], said: Acceptance, signed_in: User | None, *, proven: str | None = None
) -> User:
    services = services_of(request)
    async with services.log.pool.connection() as connection:
        async with connection.transaction():
            joined, invitation_id = await invitations.accept(
                connection,
                services.keys,
                said.token,
                password=said.password,
                name=said.name,
                signed_in=signed_in,
                proven=proven,
            )
            for subject, event in ((invitation_id, InvitationAccepted()), (joined.id, _joining(joined, signed_in))):
                seen = seen_from(request, event)
                await services.audit.record(joined.ledger_id, subject, seen, actor=actor_of(joined))
        await services.revocations.refresh(connection)
    return joined


def _joining(joined: User, before: User | None) -> PersonAdded | RoleChanged:
    if before is None or (before.ledger_id, before.id) != (joined.ledger_id, joined.id):
        return PersonAdded(role=joined.role, advertiser_ids=joined.advertiser_ids)
    return RoleChanged(role=joined.role, earlier=before.role, advertiser_ids=joined.advertiser_ids)


async def _signed_in(request: Request[Any, Any, Any], services: Services) -> User | None:
    """Return who asks, if they say so; raise Unauthenticated, TokenRefused, or Forbidden for a program."""
    if "Authorization" not in request.headers:
        return None
    claims = claims_of(request)
    async with services.log.pool.connection() as connection:
        return await users.by_id(connection, claims.ledger, claims.sub)
