"""People: added once in the installation, seen in their ledger only, signed out when they may no longer come in."""

from uuid import UUID

import pytest

from domain.errors import NotFound
from infra import passwords, sessions, users
from infra.clock import fresh_id
from infra.database import Pool
from infra.sessions import SessionRefused
from infra.users import EmailTaken, EmailUnfit, User

PASSWORD = "a long walk home"


def address() -> str:
    """Return an e-mail address that no other test has."""
    return f"{fresh_id().hex}@example.com"


async def person(pool: Pool, *, email: str | None = None, ledger_id: UUID | None = None) -> User:
    """Return somebody who was just added, as a viewer."""
    async with pool.connection() as connection:
        return await users.create(
            connection, ledger_id or fresh_id(), email=email or address(), password=PASSWORD, role="viewer"
        )


async def test_who_is_added_can_be_found(pool: Pool) -> None:
    """A person is found by id in their ledger and by e-mail address, with a hash that their password has."""
    user = await person(pool)
    async with pool.connection() as connection:
        assert await users.by_id(connection, user.ledger_id, user.id) == user
        found = await users.by_email(connection, user.email)
    assert found is not None
    assert found[0] == user
    assert await passwords.verify(PASSWORD, found[1])


async def test_an_address_is_kept_in_one_form(pool: Pool) -> None:
    """Case, surrounding space and the way of composing an accent make no other address."""
    unique = fresh_id().hex
    user = await person(pool, email=f" Zoe\u0308.{unique}@Example.COM ")
    assert user.email == f"zo\xeb.{unique}@example.com"
    async with pool.connection() as connection:
        found = await users.by_email(connection, f"ZO\xcb.{unique}@example.com")
    assert found is not None
    assert found[0].id == user.id


async def test_an_address_belongs_to_one_account_of_the_installation(pool: Pool) -> None:
    """An address that somebody has is refused, in every ledger and however it is written, and nothing is added."""
    user = await person(pool)
    for ledger_id in (user.ledger_id, fresh_id()):
        with pytest.raises(EmailTaken) as refused:
            await person(pool, email=user.email.upper(), ledger_id=ledger_id)
        assert (refused.value.kind, refused.value.code, refused.value.pointer) == ("conflict", "email_taken", "/email")
    async with pool.connection() as connection:
        assert await users.page(connection, user.ledger_id) == [user]


@pytest.mark.parametrize(
    "email",
    [
        *("", "nobody", "@example.com", "a@b", "a b@example.com", "a\x00@example.com", "\ud800@example.com"),
        *("x,y@example.com", "x<y@example.com", '"x"@example.com', "x;y@example.com", "(x)y@example.com"),
    ],
)
async def test_what_is_no_address_is_refused_and_finds_nobody(pool: Pool, email: str) -> None:
    """A text that is no e-mail address makes no account and is looked up without an error."""
    with pytest.raises(EmailUnfit):
        await person(pool, email=email or " ")
    async with pool.connection() as connection:
        assert await users.by_email(connection, email) is None


async def test_a_person_is_not_seen_from_another_ledger(pool: Pool) -> None:
    """Reading or changing a person under another ledger's id finds nobody."""
    user = await person(pool)
    async with pool.connection() as connection:
        with pytest.raises(NotFound):
            await users.by_id(connection, fresh_id(), user.id)
        with pytest.raises(NotFound):
            await users.change(connection, fresh_id(), user.id, role="admin")
        with pytest.raises(NotFound):
            await users.set_password(connection, fresh_id(), user.id, "another long walk")
        assert await users.page(connection, fresh_id()) == []
        assert await users.by_id(connection, user.ledger_id, user.id) == user


async def test_people_are_listed_in_the_order_they_were_added(pool: Pool) -> None:
    """A page holds at most its limit, and the next begins after the last person of the one before."""
    first = await person(pool)
    others = [await person(pool, ledger_id=first.ledger_id) for _ in range(2)]
    async with pool.connection() as connection:
        page = await users.page(connection, first.ledger_id, limit=2)
        assert page == [first, others[0]]
        assert await users.page(connection, first.ledger_id, after=page[-1].id) == [others[1]]


async def test_a_role_can_change(pool: Pool) -> None:
    """What is not given stays, and a session goes on under the new role."""
    user = await person(pool)
    async with pool.connection() as connection:
        found = await users.by_email(connection, user.email)
        assert found is not None
        session = await sessions.start(connection, user, password_hash=found[1])
        changed = await users.change(connection, user.ledger_id, user.id, role="manager")
        assert (changed.role, changed.active) == ("manager", True)
        assert (await sessions.rotate(connection, session.refresh_token)).user == changed


async def test_deactivating_ends_all_sessions_for_good(pool: Pool) -> None:
    """Whoever is deactivated can neither prolong a session nor begin one; being active again brings none back."""
    user = await person(pool)
    async with pool.connection() as connection:
        found = await users.by_email(connection, user.email)
        assert found is not None
        session = await sessions.start(connection, user, password_hash=found[1])
        assert not (await users.change(connection, user.ledger_id, user.id, active=False)).active
        with pytest.raises(SessionRefused):
            await sessions.start(connection, user, password_hash=found[1])
        assert (await users.change(connection, user.ledger_id, user.id, active=True)).active
        with pytest.raises(SessionRefused) as refused:
            await sessions.rotate(connection, session.refresh_token)
        assert refused.value.reason == "ended"
        await sessions.start(connection, user, password_hash=found[1])


async def test_another_password_ends_all_sessions(pool: Pool) -> None:
    """After a change of password neither the old password nor a session that it began is good for anything."""
    user = await person(pool)
    async with pool.connection() as connection:
        found = await users.by_email(connection, user.email)
        assert found is not None
        session = await sessions.start(connection, user, password_hash=found[1])
        await users.set_password(connection, user.ledger_id, user.id, "another long walk")
        with pytest.raises(SessionRefused):
            await sessions.rotate(connection, session.refresh_token)
        with pytest.raises(SessionRefused):
            await sessions.start(connection, user, password_hash=found[1])
        changed = await users.by_email(connection, user.email)
    assert changed is not None
    assert await passwords.verify("another long walk", changed[1])
    assert not await passwords.verify(PASSWORD, changed[1])


async def test_a_weak_password_changes_nothing(pool: Pool) -> None:
    """A password that breaks the rules is refused when a person is added and when it is changed."""
    user = await person(pool)
    async with pool.connection() as connection:
        with pytest.raises(passwords.PasswordTooWeak):
            await users.create(connection, user.ledger_id, email=address(), password="short", role="viewer")
        with pytest.raises(passwords.PasswordTooWeak):
            await users.set_password(connection, user.ledger_id, user.id, user.email)
        assert await users.page(connection, user.ledger_id) == [user]


async def test_a_better_hash_does_not_undo_a_change_of_password(pool: Pool) -> None:
    """A hash is replaced only while it is still the hash that was verified against."""
    user = await person(pool)
    async with pool.connection() as connection:
        found = await users.by_email(connection, user.email)
        assert found is not None
        await users.rehash(connection, user, password_hash=found[1], better="better")
        await users.rehash(connection, user, password_hash=found[1], better="late")
        after = await users.by_email(connection, user.email)
    assert after is not None
    assert after[1] == "better"
