"""Personal data: readable with the right key at the right place alone, and nowhere in plain text."""

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from msgspec import structs

from domain.advertiser import ADVERTISER, ChangeAdvertiser, CreateAdvertiser, ErasePersonalData
from domain.decider import stream_of
from domain.events import AdvertiserChanged, AdvertiserCreated, PersonalDataErased
from infra import personal_data, subject_keys
from infra.database import Pool
from infra.event_log import read_streams, read_texts
from infra.execute import Asked, execute
from infra.subject_keys import MasterKeyUnknown, Subject, fresh_key, read_subjects
from infra.writer import Log
from tests.writing import appending, committed, owning, rows, writing

OLD, NEW = b"o" * 32, b"n" * 32
EMAIL = "ads@northwind.example"
KEY = fresh_key()
SUBJECT = Subject(ledger_id=uuid4(), id=uuid4(), keys=(KEY,))


@pytest.fixture
async def log(database_url: str, pool: Pool) -> AsyncIterator[Log]:
    """A log that knows a master key."""
    async with writing(database_url) as writer:
        yield Log(pool, writer, (OLD,))


async def entered(log: Log, ledger_id: UUID, subject: UUID, command: object) -> None:
    """Execute a command on an advertiser."""
    asked = Asked(ledger_id=ledger_id, actor="user:somebody")
    await execute(log, ADVERTISER, subject, command, asked)  # type: ignore[arg-type]  # one of an advertiser's


async def subject_of(log: Log, ledger_id: UUID, subject: UUID, *masters: bytes) -> Subject:
    """Return a subject with the keys that these master keys, or those of the log, open."""
    async with log.pool.connection() as connection:
        return (await read_subjects(connection, masters or log.masters, ledger_id, [subject]))[subject]


@settings(deadline=None, max_examples=40)
@for_all(value=st.emails() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=200))
def test_a_value_is_read_with_its_key_at_its_place(value: str) -> None:
    """What is encrypted is read again, with a salt that shows the commitment to be to this value and no other."""
    text = personal_data.encrypt(SUBJECT, KEY, "email", value)
    opened = personal_data.decrypt(SUBJECT, "email", text)
    assert opened is not None
    assert opened.value == value
    committed = personal_data.commitment_in(text)
    assert personal_data.commitment(SUBJECT, "email", value, bytes.fromhex(opened.salt)) == committed
    assert personal_data.commitment(SUBJECT, "email", value + "x", bytes.fromhex(opened.salt)) != committed
    assert personal_data.encrypt(SUBJECT, KEY, "email", value).split(":")[2:] != text.split(":")[2:]


def test_a_value_is_read_nowhere_else() -> None:
    """A value that was moved to another place or altered is refused; without its key it is gone."""
    text = personal_data.encrypt(SUBJECT, KEY, "email", EMAIL)
    other = personal_data.encrypt(SUBJECT, KEY, "email", EMAIL)
    exchanged = ":".join([*text.split(":")[:2], other.split(":")[2], text.split(":")[3]])
    for subject, field, moved in (
        (structs.replace(SUBJECT, ledger_id=uuid4()), "email", text),
        (structs.replace(SUBJECT, id=uuid4()), "email", text),
        (SUBJECT, "phone", text),
        (SUBJECT, "email", exchanged),
        (SUBJECT, "email", text[:-8] + ("A" if text[-8] != "A" else "B") + text[-7:]),
    ):
        with pytest.raises(InvalidTag):
            personal_data.decrypt(subject, field, moved)
    assert personal_data.decrypt(structs.replace(SUBJECT, keys=()), "email", text) is None
    lengths = {len(personal_data.encrypt(SUBJECT, KEY, "email", "a" * length)) for length in range(1, 33)}
    assert len(lengths) == 1


def test_what_was_entered_in_plain_text_is_read_as_it_is() -> None:
    """A log from before contacts were encrypted still reads, and keeps what it says."""
    before = AdvertiserCreated(name="Shoes", email=EMAIL)
    assert personal_data.decrypted(SUBJECT, before) == before


async def test_the_log_has_no_contact_in_plain_text(log: Log, ledger_id: UUID) -> None:
    """An advertiser's contact is appended encrypted, under one key, and the same contact again is no change."""
    subject = uuid4()
    await entered(log, ledger_id, subject, CreateAdvertiser(name="Shoes", email=EMAIL))
    await entered(log, ledger_id, subject, ChangeAdvertiser(email=EMAIL))
    await entered(log, ledger_id, subject, ChangeAdvertiser(email=EMAIL, phone="+44 20 7946"))
    async with log.pool.connection() as connection:
        texts = "".join(text.entry for text in await read_texts(connection, ledger_id, 0))
        streams = await read_streams(connection, ledger_id, [stream := stream_of("advertiser", subject)])
    assert "@" not in texts
    assert "7946" not in texts
    person = await subject_of(log, ledger_id, subject)
    assert len(person.keys) == 1
    assert [each.entry.event for each in personal_data.decrypted_entries(person, streams[stream])] == [
        AdvertiserCreated(name="Shoes", email=EMAIL),
        AdvertiserChanged(phone="+44 20 7946"),
    ]


async def test_erasing_destroys_the_key(log: Log, ledger_id: UUID) -> None:
    """An erased contact cannot be read, the next has another key, and no backup brings the first key back."""
    subject = uuid4()
    await entered(log, ledger_id, subject, CreateAdvertiser(name="Shoes", email=EMAIL))
    first = (await subject_of(log, ledger_id, subject)).keys
    async with log.pool.connection() as connection:
        (backup,) = [each async for each in subject_keys.read_all(connection)]
    await entered(log, ledger_id, subject, ErasePersonalData())
    erased = await subject_of(log, ledger_id, subject)
    assert (erased.keys, erased.erased_at is not None) == ((), True)
    await entered(log, ledger_id, subject, ChangeAdvertiser(email=EMAIL))
    async with log.pool.connection() as connection:
        assert not await subject_keys.restore(connection, backup)
        (stored,) = [each async for each in subject_keys.read_all(connection)]
        streams = await read_streams(connection, ledger_id, [stream := stream_of("advertiser", subject)])
    person = await subject_of(log, ledger_id, subject)
    assert [key.key_id for key in person.keys] == [stored.key_id] != [key.key_id for key in first]
    assert [each.entry.event for each in personal_data.decrypted_entries(person, streams[stream])] == [
        AdvertiserCreated(name="Shoes"),
        PersonalDataErased(),
        AdvertiserChanged(email=EMAIL),
    ]


async def test_a_lost_key_comes_back_from_its_backup(log: Log, ledger_id: UUID, database_url: str) -> None:
    """A key that was lost is restored, unless its subject was erased after it was made."""
    kept, erased = uuid4(), uuid4()
    for subject in (kept, erased):
        await entered(log, ledger_id, subject, CreateAdvertiser(name="Shoes", email=EMAIL))
    async with log.pool.connection() as connection:
        backup = [each async for each in subject_keys.read_all(connection)]
    await entered(log, ledger_id, erased, ErasePersonalData())
    async with owning(database_url) as owner:
        await owner.execute("DELETE FROM subject_keys")
    async with log.pool.connection() as connection:
        restored = {each.subject for each in backup if await subject_keys.restore(connection, each)}
    assert restored == {kept}
    assert len((await subject_of(log, ledger_id, kept)).keys) == 1


async def test_master_keys_are_rotated(log: Log, ledger_id: UUID) -> None:
    """Every key is wrapped anew, which is done once; then the old master key is not needed."""
    subjects = [uuid4() for _ in range(3)]
    for subject in subjects:
        await entered(log, ledger_id, subject, CreateAdvertiser(name="Shoes", email=EMAIL))
    with pytest.raises(MasterKeyUnknown):
        await subject_of(log, ledger_id, subjects[0], NEW)
    async with log.pool.connection() as connection:
        with pytest.raises(MasterKeyUnknown):
            await subject_keys.check_masters(connection, (NEW,))
        with pytest.raises(MasterKeyUnknown):
            await subject_keys.rewrap_some(connection, (NEW,))
        before = [await subject_of(log, ledger_id, subject) for subject in subjects]
        assert await subject_keys.rewrap_some(connection, (NEW, OLD)) == len(subjects)
        assert await subject_keys.rewrap_some(connection, (NEW, OLD)) == 0
        await subject_keys.check_masters(connection, (NEW,))
        assert await subject_keys.count_keys(connection) == {subject_keys.master_name(NEW): len(subjects)}
    assert [await subject_of(log, ledger_id, subject, NEW) for subject in subjects] == before


async def test_a_key_and_what_it_encrypts_are_durable_together(log: Log, ledger_id: UUID) -> None:
    """When an entry is refused under the lock, its key is not kept either."""
    subject = uuid4()
    person = Subject(ledger_id=ledger_id, id=subject)
    events, key = personal_data.encrypted(person, (AdvertiserCreated(name="Shoes", email=EMAIL),))
    assert key is not None
    wrapped = subject_keys.wrap((OLD,), person, key)
    async with log.pool.connection() as connection:
        late = appending(ledger_id, subject, *events, after=1, thing="advertiser", subject_key=wrapped)
        await committed(connection, ledger_id, late)
        assert await rows(connection, "SELECT * FROM subject_keys") == []
        on_time = appending(ledger_id, subject, *events, thing="advertiser", subject_key=wrapped)
        await committed(connection, ledger_id, on_time)
        assert len(await rows(connection, "SELECT * FROM subject_keys")) == 1
