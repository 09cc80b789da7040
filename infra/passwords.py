"""Passwords: which are taken, and how they are hashed (Argon2id, RFC 9106) without keeping the event loop waiting."""

import asyncio
import base64
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar, Final

from passlib.hash import argon2
from zxcvbn import zxcvbn

from domain.errors import Refusal

PASSWORD_CHARACTERS_MIN: Final = 15
"""Where the password is all that is asked for (NIST SP 800-63B-4, section 3.1.1.2)."""
PASSWORD_CHARACTERS_MAX: Final = 128

GUESSED_CHARACTERS_MAX: Final = 72
"""How much of a password is looked at for what is common in it."""

SCORE_MIN: Final = 2
"""What takes fewer than a million guesses is refused."""

SERVICE_NAME: Final = "ledger"

# The OWASP Password Storage Cheat Sheet's choice: 19 MiB, about 25 ms.
ARGON2_MEMORY_KIB: Final = 19_456
ARGON2_PASSES: Final = 2
ARGON2_LANES: Final = 1

HASHES_AT_ONCE_MAX: Final = 4
"""Bounds what a flood of sign-ins takes: 4 cores and 76 MiB of memory."""

# Now, and not with the first password: whoever came at the same time would be refused by a half-loaded backend.
argon2.set_backend()
_ARGON2: Final = argon2.using(
    type="ID",
    memory_cost=ARGON2_MEMORY_KIB,
    time_cost=ARGON2_PASSES,
    parallelism=ARGON2_LANES,
    salt_len=16,
    hash_len=32,
)
_THREADS: Final = ThreadPoolExecutor(HASHES_AT_ONCE_MAX, thread_name_prefix="passwords")


def _zeros(size: int) -> str:
    return base64.b64encode(bytes(size)).rstrip(b"=").decode()


# Costs as much as any hash to verify against, and no password is known that it is the hash of.
_HASH_OF_NOBODY: Final = (
    f"$argon2id$v=19$m={ARGON2_MEMORY_KIB},t={ARGON2_PASSES},p={ARGON2_LANES}${_zeros(16)}${_zeros(32)}"
)


class PasswordTooWeak(Refusal):
    """The password is not one that this service takes."""

    code: ClassVar[str] = "password_too_weak"


def check(password: str, *, email: str, pointer: str = "/password") -> None:
    """Raise PasswordTooWeak unless a password may be chosen; its length counts, not its composition (NIST 800-63B).

    What is common, a repetition or a row of keys, or little more than the e-mail address, is known to whoever guesses.
    Looking that up takes 1 to 100 ms: not for the event loop.
    """
    password = _normal(password)
    if not PASSWORD_CHARACTERS_MIN <= len(password) <= PASSWORD_CHARACTERS_MAX:
        limits = f"{PASSWORD_CHARACTERS_MIN} to {PASSWORD_CHARACTERS_MAX}"
        raise PasswordTooWeak(f"A password has {limits} characters.", pointer=pointer)
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in password):
        raise PasswordTooWeak("A password has no control characters.", pointer=pointer)
    if password.casefold() == _normal(email).casefold():
        raise PasswordTooWeak("A password is not the e-mail address.", pointer=pointer)
    told = [email, *email.split("@"), SERVICE_NAME]
    if zxcvbn(password[:GUESSED_CHARACTERS_MAX], user_inputs=told)["score"] < SCORE_MIN:
        raise PasswordTooWeak("This password is among the first that anybody guesses.", pointer=pointer)


async def hashed(password: str) -> str:
    """Return the hash of a password that `check` let pass, in the PHC string format."""
    result: str = await asyncio.get_running_loop().run_in_executor(_THREADS, _ARGON2.hash, _normal(password))
    return result


async def verify(password: str, password_hash: str | None) -> bool:
    """Return whether a password has that hash; None, for an unknown account, takes as long and is never right."""
    presented = _normal(password)
    hashable = len(presented) <= PASSWORD_CHARACTERS_MAX and not any("\ud800" <= c <= "\udfff" for c in presented)
    right: bool = await asyncio.get_running_loop().run_in_executor(
        _THREADS, _ARGON2.verify, presented if hashable else "", password_hash or _HASH_OF_NOBODY
    )
    return right and hashable and password_hash is not None


def needs_rehash(password_hash: str) -> bool:
    """Return whether a hash was made with other parameters than today's."""
    return bool(_ARGON2.needs_update(password_hash))


def _normal(password: str) -> str:
    """Return a text as every keyboard's way of typing it comes out: normalisation form C (RFC 8265, OpaqueString)."""
    return unicodedata.normalize("NFC", password)
