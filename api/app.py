"""The composition root of the HTTP service: one `create_app`, and what it starts and stops."""

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, asynccontextmanager, suppress
from secrets import randbits
from typing import Final

import openapi_ui_bundles
from litestar import Litestar, Router
from litestar.di import Provide
from litestar.static_files import create_static_files_router

from api import audited, documentation, lists, logs
from api.account import AccountController
from api.addresses import AddressController
from api.advertisers import AdvertiserController
from api.api_keys import ApiKeyController
from api.approvals import ApprovalController, PolicyController
from api.audit import AuditController
from api.beacons import BeaconController
from api.campaigns import CampaignController
from api.creatives import CreativeController
from api.deadline import bounded
from api.decisions import DecisionController
from api.explaining import ExplanationController
from api.express import expressed
from api.guard import behind_proxies, guarded
from api.hardening import hardened
from api.invitations import InvitationController
from api.lifeline import hung_on
from api.notifications import NotificationController
from api.observe import observed
from api.open_ledgers import WORKER_BITS, OpenLedgers
from api.openid import PROVIDERS_PATH, OpenIdController
from api.openrtb import OpenRtbController
from api.operations import OperationsController
from api.organisations import InstallationController, OrganisationController, OrganisationsController
from api.people import PeopleController
from api.personal_data import PersonalDataController
from api.proofs import LedgerLogController, LogController, ProofController
from api.recovery import RecoveryController
from api.reference import ReferenceController
from api.reports import ReportController
from api.requests import StrictRequest, asked, asked_if, ledger_of
from api.second_factor import SecondFactorController, SecondFactorPolicyController
from api.security_report import SecurityController
from api.services import Services, services_of, viewed
from api.showing import ShowingController
from api.sign_in import KeysController, SignInController
from api.sign_up import SignUpController
from api.slots import SlotController
from api.vast import VastController
from api.webhooks import WebhookController
from infra import installation, keys, settings
from infra.access_audit import AccessAudit
from infra.access_tokens import KnownTokens
from infra.activity import activity_of
from infra.data_centres import DataCentres
from infra.database import APPLICATION_ROLE, open_pool
from infra.openid import CALLBACK, Provider
from infra.rate_limits import RateLimits, SharedCounts
from infra.revocations import Revocations, keep_fresh
from infra.settings import Settings
from infra.writer import Log, Writer

BODY_BYTES_MAX: Final = 1_000_000
POOL_CONNECTIONS_MAX: Final = 10
COLLECT_AFTER: Final = (50_000, 50, 1_000)
"""How seldom the garbage collector looks: requests leave little for it, and looking costs a quarter of a decision."""

FOR_AD_SLOTS: Final = (
    DecisionController,
    BeaconController,
    ShowingController,
    VastController,
    OpenRtbController,
)
ISSUER_WITHOUT_URL: Final = "campaign-ledger"
ASSETS_PATH: Final = "/assets"

ACCOUNTS: Final = (
    SignInController,
    OpenIdController,
    RecoveryController,
    SignUpController,
    AccountController,
    AddressController,
    SecondFactorController,
    SecondFactorPolicyController,
    NotificationController,
    PeopleController,
    InvitationController,
    ApiKeyController,
)
"""The doors to who may do what."""

FOR_PEOPLE: Final = (
    *ACCOUNTS,
    OrganisationsController,
    OrganisationController,
    InstallationController,
    AdvertiserController,
    PersonalDataController,
    CampaignController,
    ApprovalController,
    PolicyController,
    CreativeController,
    SlotController,
    ReportController,
    SecurityController,
    ExplanationController,
    ReferenceController,
    WebhookController,
)


def create_app(configured: Settings | None = None) -> Litestar:
    """Return the service; it reads its settings from the environment unless they are given."""
    found = configured or settings.read()
    logs.configure(found.log_level)
    counts = SharedCounts(found.rates_file, found.workers)
    app = Litestar(
        route_handlers=[
            Router("/api/v1", route_handlers=FOR_PEOPLE),
            Router("/ads/v1", route_handlers=FOR_AD_SLOTS),
            KeysController,
            AuditController,
            LogController,
            LedgerLogController,
            ProofController,
            OperationsController,
            create_static_files_router(
                ASSETS_PATH, [openapi_ui_bundles.swagger_ui.static_path], include_in_schema=False, name="assets"
            ),
        ],
        request_class=StrictRequest,
        request_max_body_size=BODY_BYTES_MAX,
        dependencies={
            "services": Provide(services_of, sync_to_thread=False),
            "ledger_id": Provide(ledger_of, sync_to_thread=False),
            "asked": Provide(asked),
            "asked_if": Provide(asked_if),
            "page": Provide(lists.listing, sync_to_thread=False),
            "as_of": Provide(lists.as_of, sync_to_thread=False),
            "reader": Provide(lists.reader, sync_to_thread=False),
        },
        exception_handlers=audited.EXCEPTION_HANDLERS,
        openapi_config=documentation.configuration(ASSETS_PATH),
        lifespan=[_running(found, counts)],
        logging_config=None,
        debug=False,
    )
    documentation.complete(app)
    limits = RateLimits(found.rate_per_key, found.rate_per_address, counts)
    routes = viewed(app.asgi_handler)
    https = found.public_url.startswith("https:")
    people = hardened(routes, found.cors_origins, https=https)
    ordinary = guarded(expressed(routes, app), people, limits, connections_max=found.connections_max, https=https)
    app.asgi_handler = behind_proxies(observed(bounded(ordinary)), found.trusted_proxies)
    return app


def _running(found: Settings, counts: SharedCounts) -> Callable[[Litestar], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def running(app: Litestar) -> AsyncIterator[None]:
        with ExitStack() as held:
            url = await asyncio.to_thread(held.enter_context, installation.database(found))
            async with serving(url, found, counts) as services:
                app.state.services = services
                # The server above this worker, which ends its workers and would start another if one ended by itself;
                # or the worker, if that server is gone: an orphan's parent is the machine's first process.
                stop = [process for process in (os.getppid(), os.getpid()) if process != 1]
                with hung_on(found.lifeline, stop=stop, tell=services.stopping.set):
                    yield

    return running


@asynccontextmanager
async def serving(url: str, found: Settings, counts: SharedCounts) -> AsyncIterator[Services]:
    """Open what a web worker works with, and close it once all that was accepted is durable."""
    gc.set_threshold(*COLLECT_AFTER)
    secrets = keys.read(found)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(url, size_max=POOL_CONNECTIONS_MAX, role=APPLICATION_ROLE))
        async with pool.connection() as connection:
            await installation.check(connection)
            await installation.first_ledger(connection)
            revocations = Revocations()
            await revocations.refresh(connection)
            ledgers = OpenLedgers(secrets, viewer_key_days=found.viewer_key_days)
            writer = Writer(url, ledgers.holds.get)
            await ledgers.notice(connection, writer)
        writing = asyncio.create_task(writer.run(), name="writer")
        audit = AccessAudit(writer, randbits(WORKER_BITS))
        auditing = asyncio.create_task(audit.keep(), name="audit of people")
        refreshed = (revocations.refresh, ledgers.refresh_api_keys)
        revoking = asyncio.create_task(keep_fresh(pool, *refreshed), name="revocations")
        following = asyncio.create_task(ledgers.follow(url, writer), name="serving")
        data_centres = DataCentres(found.data_centres_file)
        reading = asyncio.create_task(data_centres.follow(), name="data centres")
        providers = _providers(found)
        for provider in providers.values():
            stack.push_async_callback(provider.close)
        issuer = found.public_url or ISSUER_WITHOUT_URL
        try:
            yield Services(
                settings=found,
                database_url=url,
                stopping=asyncio.Event(),
                ledgers=ledgers,
                log=Log(pool, writer, secrets.masters),
                keys=secrets,
                tokens=KnownTokens(secrets, issuer=issuer),
                revocations=revocations,
                audit=audit,
                activity=activity_of(found, counts),
                data_centres=data_centres,
                providers=providers,
                issuer=issuer,
            )
        finally:
            for task in (revoking, following, auditing, reading):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await ledgers.close()
            writer.close()
            await writing


def _providers(found: Settings) -> dict[str, Provider]:
    paths = {each.name: f"{PROVIDERS_PATH}/{each.name}/{CALLBACK}" for each in found.oidc_providers}
    return {
        each.name: Provider(each, redirect_uri=f"{found.public_url.rstrip('/')}{paths[each.name]}")
        for each in found.oidc_providers
    }
