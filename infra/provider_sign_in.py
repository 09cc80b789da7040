"""Signing in as whom a provider says one is: the account that is linked to it, or will be from now on, or nobody.

Between the doors nothing is kept here but what was used up: attempts and codes travel sealed (AES-256-GCM), under a key
of the process's secret.
"""

import base64
import hmac
import secrets
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Final, TypeVar
from uuid import UUID

import msgspec
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Struct

from domain.access import ProviderLinked
from infra import clock, provider_links, second_factors, spent_codes, throttle, users
from infra.access_audit import AccessAudit, actor_of
from infra.database import Connection, Pool, see
from infra.keys import Keys
from infra.ledger_keys import derived
from infra.openid import Identity
from infra.provider_links import LinkedOtherwise
from infra.sessions import Session
from infra.sign_in import SecondFactorRequired, SignInRefused, begin
from infra.throttle import Throttled
from infra.users import User
from infra.whereabouts import whereabouts

NONCE_BYTES: Final = 12
TIME_BYTES: Final = 8
ATTEMPT_SECONDS_MAX: Final = 600
CODE_SECONDS_MAX: Final = 300
"""For so long a code can be exchanged: a second factor takes its time to be typed."""

T = TypeVar("T", bound=Struct)


class ExchangeCode(Struct, frozen=True, kw_only=True):
    """Who came back from a provider, as whom they are known there, and what the console that began has to prove."""

    provider: str
    user_id: UUID
    issuer: str
    subject: str
    console_challenge: str = ""


class Seal:
    """What makes texts of structs that only this service can make, read and date."""

    def __init__(self, keys: Keys) -> None:
        """Seal with the current secret, and open what one before it has sealed."""
        self._ciphers = [AESGCM(derived(each, "sign-in", None)) for each in keys.generations]

    def closed(self, content: Struct) -> str:
        """Return a struct as a text."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        plain = _second().to_bytes(TIME_BYTES) + msgspec.json.encode(content)
        return base64.urlsafe_b64encode(nonce + self._ciphers[0].encrypt(nonce, plain, _named(type(content)))).decode()

    def opened(self, text: str, kind: type[T], *, seconds_max: int) -> T | None:
        """Return the struct of a text that was sealed so many seconds ago at most; None for any other text.

        What decodes base64 passes over all else, so that one seal would have many texts, each of them new where texts
        are good once.
        """
        try:
            raw = base64.urlsafe_b64decode(text)
        except ValueError:
            return None
        if base64.urlsafe_b64encode(raw).decode() != text or len(raw) <= NONCE_BYTES:
            return None
        for cipher in self._ciphers:
            with suppress(InvalidTag):
                plain = cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], _named(kind))
                age_seconds = _second() - int.from_bytes(plain[:TIME_BYTES])
                return msgspec.json.decode(plain[TIME_BYTES:], type=kind) if age_seconds <= seconds_max else None
        return None


async def admitted(pool: Pool, audit: AccessAudit, known: Identity, *, address: str) -> User:
    """Return whose account at a provider this is, or may be by its e-mail address; raise SignInRefused."""
    async with pool.connection() as connection:
        user_id = await provider_links.find(connection, known)
    return await _active(pool, audit, user_id, address=address)


async def _active(pool: Pool, audit: AccessAudit, user_id: UUID | None, *, address: str) -> User:
    async with pool.connection() as connection:
        found = await users.by_person(connection, user_id) if user_id else None
    user = found[0] if found else None
    if user is None or not user.active:
        audit.refuse_sign_in(user, "deactivated" if user else "unknown", address=address)
        raise SignInRefused
    return user


async def needs_second_factor(pool: Pool, user: User, *, trusted: bool) -> bool:
    """Return whether somebody has to show a second factor: who has one, unless the provider is trusted to ask."""
    async with pool.connection() as connection:
        return not trusted and (await second_factors.of_person(connection, user)).enabled


async def exchange(
    pool: Pool,
    keys: Keys,
    audit: AccessAudit,
    code: str,
    *,
    trusted: Sequence[str],
    address: str,
    agent: str,
    second_factor: str | None = None,
    verifier: str | None = None,
) -> Session:
    """Begin a session for a code, which is good once, with a second factor from who has one.

    A code is for the console that began, and can show of what the challenge was made that it began with.

    Raises SignInRefused, SecondFactorRequired, after which the code is still good, Throttled, LogBusy, LogUnavailable.
    """
    proven = Seal(keys).opened(code, ExchangeCode, seconds_max=CODE_SECONDS_MAX)
    if proven is None or not _answers(proven.console_challenge, verifier):
        audit.refuse_sign_in(None, "code", address=address)
        raise SignInRefused
    user = await _active(pool, audit, proven.user_id, address=address)
    required = await needs_second_factor(pool, user, trusted=proven.provider in trusted)
    async with pool.connection() as connection:
        if required:
            await _show(connection, keys, audit, user, second_factor, address=address)
        async with connection.transaction():
            expires_at = clock.now() + timedelta(seconds=CODE_SECONDS_MAX)
            if not await spent_codes.spend(connection, code, expires_at=expires_at):
                audit.refuse_sign_in(user, "code used before", address=address)
                raise SignInRefused
            found, whence = await users.by_person(connection, user.id), whereabouts(address, agent)
            if found is None:
                raise SignInRefused
            await _link(connection, audit, user, proven, network=whence.address)
            return await begin(
                connection, audit, user, found[1], whence, method=proven.provider, second_factor=required
            )


async def _link(connection: Connection, audit: AccessAudit, user: User, proven: ExchangeCode, *, network: str) -> None:
    """Bind somebody to whom they are at a provider, and tell the log if they were not; raise SignInRefused."""
    await see(connection, user.ledger_id)
    try:
        made = await provider_links.link(connection, user.id, issuer=proven.issuer, subject=proven.subject)
    except LinkedOtherwise:
        audit.refuse_sign_in(user, "linked otherwise", address=network)
        raise SignInRefused from None
    if made:
        event = ProviderLinked(issuer=proven.issuer, network=network)
        await audit.record(user.ledger_id, user.id, event, actor=actor_of(user))


async def _show(
    connection: Connection, keys: Keys, audit: AccessAudit, user: User, code: str | None, *, address: str
) -> None:
    """Let pass who shows their second factor; raise Throttled, or SecondFactorRequired."""
    if code is None:
        raise SecondFactorRequired
    try:
        await throttle.count(connection, keys, account=user.email, address=address)
    except Throttled:
        audit.refuse_sign_in(user, "throttled", address=address)
        raise
    if not await second_factors.passes(connection, keys.masters, user, code):
        audit.refuse_sign_in(user, "second_factor", address=address)
        raise SecondFactorRequired
    await throttle.succeeded(connection, keys, account=user.email, address=address)


def _answers(challenge: str, verifier: str | None) -> bool:
    """Tell whether a challenge was made of a verifier (RFC 7636, S256); where there was none, nothing answers it."""
    if verifier is None or not challenge:
        return verifier is None and not challenge
    return hmac.compare_digest(create_s256_code_challenge(verifier), challenge)


def _named(kind: type[Struct]) -> bytes:
    return kind.__name__.encode()


def _second() -> int:
    return int(clock.now().timestamp())
