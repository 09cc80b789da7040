"""The door to advertisers, and to their funds."""

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request, Response, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter, RequestBody
from msgspec import Struct, structs

from api import lists, problems
from api.access import Caller, caller_of, may_manage, may_see, may_spend, reads_contacts
from api.beacons import CONVERSION_PATH
from api.lists import Reader
from api.services import Services
from domain.advertiser import ADVERTISER, ChangeAdvertiser, CreateAdvertiser, DepositFunds, WithdrawFunds
from domain.errors import NotFound
from domain.terms import Availability
from infra import clock
from infra.batch import Receipt
from infra.execute import Asked, execute
from infra.leasing import Funds, read_funds
from infra.personal_data import decrypted
from infra.subject_keys import Subject, read_subjects
from projections.advertisers import READ_MODEL, AdvertiserRow
from projections.listing import Listing, Page


class ConversionUrl(Struct, frozen=True, kw_only=True):
    """Where an advertiser's pages report what clicks led to."""

    conversion_url: str


class AdvertiserController(Controller):
    """Who pays for campaigns."""

    path = "/advertisers"
    tags = ("advertisers",)

    @get(operation_id="list_advertisers", guards=[may_see], responses=problems.LISTING)
    async def browse(
        self,
        request: Request[Any, Any, Any],
        reader: NamedDependency[Reader],
        page: NamedDependency[Listing],
        status: Annotated[Availability | None, QueryParameter(description="Only those with this status.")] = None,
        name: lists.Name = None,
    ) -> Page[AdvertiserRow]:
        """List advertisers; how people are reached is encrypted for whoever may not read it."""
        found = await reader.browse(READ_MODEL, page, status=status, name=name)
        return structs.replace(found, items=await _shown(reader.services, caller_of(request), found.items))

    @get("/{advertiser_id:uuid}", operation_id="get_advertiser", guards=[may_see], responses=problems.LISTING_OF_ONE)
    async def show(
        self, request: Request[Any, Any, Any], advertiser_id: FromPath[UUID], reader: NamedDependency[Reader]
    ) -> Response[AdvertiserRow]:
        """Show an advertiser; how people are reached is encrypted for whoever may not read it."""
        answer = await reader.show(READ_MODEL, advertiser_id)
        (answer.content,) = await _shown(reader.services, caller_of(request), [answer.content])
        return answer

    @post(operation_id="create_advertiser", guards=[may_manage], responses=problems.CREATING)
    async def create(
        self, data: RequestBody[CreateAdvertiser], asked: NamedDependency[Asked], services: NamedDependency[Services]
    ) -> Response[Receipt]:
        """Enter an advertiser."""
        answer = await execute(services.log, ADVERTISER, clock.fresh_id(), data, asked)
        return lists.receipt(answer, created=True)

    @patch("/{advertiser_id:uuid}", operation_id="change_advertiser", guards=[may_manage], responses=problems.CHANGING)
    async def change(
        self,
        advertiser_id: FromPath[UUID],
        data: RequestBody[ChangeAdvertiser],
        asked_if: NamedDependency[Asked],
        services: NamedDependency[Services],
    ) -> Response[Receipt]:
        """Set fields of an advertiser."""
        return lists.receipt(await execute(services.log, ADVERTISER, advertiser_id, data, asked_if))

    @post(
        "/{advertiser_id:uuid}/deposit",
        operation_id="deposit_funds",
        status_code=200,
        guards=[may_spend],
        responses=problems.CHANGING,
    )
    async def deposit(
        self,
        advertiser_id: FromPath[UUID],
        data: RequestBody[DepositFunds],
        asked_if: NamedDependency[Asked],
        services: NamedDependency[Services],
    ) -> Response[Receipt]:
        """Take money in advance; from the first deposit on, the advertiser's campaigns spend no more than its funds."""
        return lists.receipt(await execute(services.log, ADVERTISER, advertiser_id, data, asked_if))

    @post(
        "/{advertiser_id:uuid}/withdraw",
        operation_id="withdraw_funds",
        status_code=200,
        guards=[may_spend],
        responses=problems.CHANGING,
    )
    async def withdraw(
        self,
        advertiser_id: FromPath[UUID],
        data: RequestBody[WithdrawFunds],
        asked_if: NamedDependency[Asked],
        services: NamedDependency[Services],
    ) -> Response[Receipt]:
        """Pay back what the advertiser has neither spent nor promised."""
        return lists.receipt(await execute(services.log, ADVERTISER, advertiser_id, data, asked_if))

    @get("/{advertiser_id:uuid}/funds", operation_id="get_funds", guards=[may_see], responses=problems.LISTING_OF_ONE)
    async def show_funds(
        self, advertiser_id: FromPath[UUID], ledger_id: NamedDependency[UUID], services: NamedDependency[Services]
    ) -> Funds:
        """Show what an advertiser deposited, and what its campaigns have spent and set aside of it, at this moment."""
        async with services.log.pool.connection() as connection:
            funds = await read_funds(connection, ledger_id, advertiser_id)
        if funds is None:
            raise NotFound("deposit of advertiser", advertiser_id)
        return funds

    @get(
        "/{advertiser_id:uuid}/conversion_url",
        operation_id="get_conversion_url",
        guards=[may_manage],
        responses=problems.READING_ONE,
    )
    async def show_conversion_url(
        self,
        request: Request[Any, Any, Any],
        advertiser_id: FromPath[UUID],
        ledger_id: NamedDependency[UUID],
        services: NamedDependency[Services],
    ) -> ConversionUrl:
        """Show the URL that an advertiser's pages ask to report a conversion; it outlasts one change of the secret.

        They add `decision_id`, which the page that a click leads to is told as the `click_id_parameter`.
        """
        await Reader(services, ledger_id, as_of=None).show(READ_MODEL, advertiser_id)
        base_url = services.settings.public_url or str(request.base_url).rstrip("/")
        token = services.ledgers.of(ledger_id).beacon_tokens.sign_advertiser(advertiser_id)
        return ConversionUrl(conversion_url=f"{base_url}{CONVERSION_PATH}{token}")


async def _shown(services: Services, caller: Caller, rows: Sequence[AdvertiserRow]) -> list[AdvertiserRow]:
    """Return advertisers as somebody may read them."""
    if not reads_contacts(caller):
        return list(rows)
    async with services.log.pool.connection() as connection:
        found = await read_subjects(connection, services.log.masters, caller.ledger, [row.id for row in rows])
    return [_readable(found[row.id], row) for row in rows]


def _readable(subject: Subject, row: AdvertiserRow) -> AdvertiserRow:
    """Return an advertiser as it reads; what stood there as of a moment and was erased since says when."""
    shown = decrypted(subject, row)
    lost = (row.email, row.phone) != (None, None) and (shown.email, shown.phone) == (None, None)
    return structs.replace(shown, erased_at=subject.erased_at) if lost else shown
