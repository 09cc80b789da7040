"""Passwords: which may be chosen, and that a hash tells nothing but whether a password is right."""

import asyncio
import subprocess
import sys
import time

import pytest
from passlib.hash import argon2

from infra import passwords
from infra.passwords import PASSWORD_CHARACTERS_MAX, PASSWORD_CHARACTERS_MIN, PasswordTooWeak

PASSWORD = "a long walk home"


async def test_a_password_has_its_hash() -> None:
    """The hash is Argon2id of today's parameters, salted, and the password that made it is right."""
    one, other = await passwords.hashed(PASSWORD), await passwords.hashed(PASSWORD)
    assert one.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert one != other
    assert await passwords.verify(PASSWORD, one)
    assert not passwords.needs_rehash(one)


async def test_an_accent_may_be_typed_either_way() -> None:
    """A password is the same however a keyboard composes its characters."""
    assert await passwords.verify("zoe\u0308's long walk", await passwords.hashed("zo\xeb's long walk"))


@pytest.mark.parametrize(
    "presented", ["", "A long walk home", PASSWORD + " ", PASSWORD + "\x00", "\ud800", PASSWORD * 10, "x" * 1_000_000]
)
async def test_any_other_text_is_wrong(presented: str) -> None:
    """Whatever is presented, also what could never be chosen, is wrong rather than an error."""
    assert not await passwords.verify(presented, await passwords.hashed(PASSWORD))
    assert not await passwords.verify(presented, None)


async def test_nothing_is_right_for_nobody() -> None:
    """No password opens an account that does not exist, not even an empty one."""
    assert not await passwords.verify(PASSWORD, None)


async def test_an_unknown_account_takes_as_long() -> None:
    """Verifying for nobody costs the processor what verifying a wrong password costs."""
    password_hash = await passwords.hashed(PASSWORD)

    async def seconds(of: str | None) -> float:
        begin = time.process_time()
        await passwords.verify("a wrong password", of)
        return time.process_time() - begin

    known, unknown = [], []
    for _ in range(15):
        known.append(await seconds(password_hash))
        unknown.append(await seconds(None))
    assert min(unknown) == pytest.approx(min(known), rel=0.5)


async def test_the_event_loop_goes_on_meanwhile() -> None:
    """While passwords are hashed, other tasks run."""
    hashing = asyncio.gather(*(passwords.hashed(PASSWORD) for _ in range(8)))
    turns = 0
    while not hashing.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 100
    assert len(set(await hashing)) == 8


def test_a_hash_of_other_parameters_is_made_anew() -> None:
    """A hash of another cost is known as one to replace."""
    cheap = argon2.using(memory_cost=1_024, time_cost=1, parallelism=1).hash(PASSWORD)
    assert passwords.needs_rehash(cheap)


@pytest.mark.parametrize(
    "password",
    [
        PASSWORD,
        "every third owl"[:PASSWORD_CHARACTERS_MIN],
        " ".join(str(each * each) for each in range(13, 60))[:PASSWORD_CHARACTERS_MAX],
        "\u89c2\u4f17 \u770b \u4e0d \u89c1 \u7684 \u4e1c\u897f \u5728 \u5c71\u91cc",
        "8 owls & 13 mice \U0001f6b6",
    ],
)
def test_a_long_password_may_be_chosen(password: str) -> None:
    """Length is all that is asked for: any characters, spaces too, unless it is what everybody guesses."""
    passwords.check(password, email="anna@example.com")


@pytest.mark.parametrize(
    "password",
    [
        "",
        "a" * (PASSWORD_CHARACTERS_MIN - 1),
        "a" * (PASSWORD_CHARACTERS_MAX + 1),
        "e\u0308" * (PASSWORD_CHARACTERS_MIN - 1),
        "anna@example.com",
        "Anna@Example.com",
        "anna@example.com!",
        "a" * PASSWORD_CHARACTERS_MIN,
        "passwordpassword",
        "qwertyuiopasdfgh",
        "123456789012345",
        "iloveyou12345678",
        "a long\x00walk home",
        "a long walk home\n",
        "a long walk \x7f home",
        "a long walk \ud800 home",
    ],
)
def test_a_weak_password_is_refused(password: str) -> None:
    """Too short, too long, guessed first, or with what cannot be typed: refused with a code and a pointer."""
    with pytest.raises(PasswordTooWeak) as refused:
        passwords.check(password, email="anna@example.com")
    assert (refused.value.kind, refused.value.code, refused.value.pointer) == ("rule", "password_too_weak", "/password")
    assert not password or password not in refused.value.detail


def test_the_first_to_sign_in_may_be_many() -> None:
    """What hashes is loaded before anybody signs in: threads that load it at once get in each other's way."""
    code = """
import asyncio
from passlib.hash import argon2
from infra import passwords
argon2.set_backend = None
asyncio.run(passwords.verify("a guess", None))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
