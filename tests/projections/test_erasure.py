"""An erasure reaches everything: tables, read models, exports and the backup of keys; and all proofs still verify.

`make erasure` erases among 100,000 events; the suite, among fewer.
"""

import os
import re
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

import msgspec

from api.keys_cli import back_up
from domain.advertiser import ADVERTISER, AdvertiserCommand, ChangeAdvertiser, CreateAdvertiser, ErasePersonalData
from domain.delivery import Ticket
from domain.events import CampaignActivated
from infra import clock, personal_data
from infra.commit import commit
from infra.database import Connection, connect, open_pool
from infra.execute import Asked, execute
from infra.subject_keys import Subject, WrappedKey, read_subjects, unwrap
from infra.writer import Log
from tests import evening
from tests.writing import appending, drafted, owning, promised, rows, writing

EVENTS: Final = int(os.environ.get("ERASED_AMONG") or 3_000)
AT_ONCE: Final = 5_000
MASTERS: Final = (b"m" * 32,)
EMAIL: Final = "vera.unmistakable@northwind.example"
PHONE: Final = "+49 171 5550177 31"
CONTACT: Final = {"email": EMAIL, "phone": PHONE}
CIPHERTEXT: Final = re.compile(r"encrypted:[0-9a-f]{32}:[\w-]+:[\w-]+")


async def everything(url: str) -> dict[str, str]:
    """Return the text of every row of every table, by the name of the table."""
    async with owning(url) as owner:
        tables = await rows(
            owner,
            """
            SELECT format('%%I.%%I', table_schema, table_name) AS name FROM information_schema.tables
            WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')
            """,
        )
        texts = {}
        for table in tables:
            cursor = await owner.execute(f"SELECT string_agg(every::text, ' ') AS text FROM {table['name']} AS every")
            row = await cursor.fetchone()
            texts[table["name"]] = (row and row["text"]) or ""
        return texts


def files(folder: Path) -> dict[str, str]:
    """Return the text of every file in a folder."""
    return {str(each): each.read_text(errors="replace") for each in folder.rglob("*") if each.is_file()}


def readable(subject: Subject, text: str) -> list[str | None]:
    """Return what the encrypted values in a text say, which stand there in the order of CONTACT."""
    found = dict(zip(CONTACT, CIPHERTEXT.findall(text), strict=True))
    opened = [personal_data.decrypt(subject, field, value) for field, value in found.items()]
    return [each and each.value for each in opened]


async def sold(connection: Connection, folder: Path, shown: Ticket, events: int) -> None:
    """Let events be recorded, read models follow, and the log be sealed and exported."""
    for done in range(0, events, AT_ONCE):
        await evening.more(connection, min(AT_ONCE, events - done), shown)
    await evening.project(connection)
    await evening.seal(connection, evening.keys_in(folder))
    await evening.export(connection, folder / "export")


async def asked(log: Log, subject: UUID, *commands: AdvertiserCommand) -> None:
    """Execute commands on an advertiser."""
    for command in commands:
        await execute(log, ADVERTISER, subject, command, Asked(ledger_id=evening.LEDGER, actor="user:somebody"))


async def test_an_erasure_reaches_everything(database_url: str, tmp_path: Path) -> None:
    """What was entered about a person can be read with no key that is left, in no table, export or backup of keys."""
    subject, neighbour, backup = uuid4(), uuid4(), tmp_path / "keys"
    async with (
        await connect(database_url) as connection,
        writing(database_url) as writer,
        open_pool(database_url) as pool,
    ):
        log = Log(pool, writer, MASTERS)
        await evening.spend(connection, batches=1)
        await asked(log, subject, CreateAdvertiser(name="Shoes", email=EMAIL), ChangeAdvertiser(phone=PHONE))
        shown = promised(uuid4(), advertiser_id=subject)
        made = drafted(advertiser_id=subject, pricing=shown.pricing, currency=shown.currency)
        advertised = appending(evening.LEDGER, shown.campaign_id, made, CampaignActivated())
        await commit(connection, evening.LEDGER, [advertised], clock.now)
        await sold(connection, tmp_path, shown, EVENTS // 2)
        assert await back_up(database_url, backup) == 1
        known = (await read_subjects(connection, MASTERS, evening.LEDGER, [subject]))[subject]
        texts = files(tmp_path / "export")
        (bundle,) = {text for text in texts.values() if CIPHERTEXT.search(text)}
        assert readable(known, bundle) == list(CONTACT.values())
        wrapped = msgspec.json.decode(backup.read_bytes(), type=WrappedKey)
        assert unwrap(MASTERS, wrapped) == known.keys[0]

        await asked(log, subject, ErasePersonalData())
        await asked(log, neighbour, CreateAdvertiser(name="Bags", email="neighbour@northwind.example"))
        await sold(connection, tmp_path, shown, EVENTS // 2)
        assert await back_up(database_url, backup) == 1
        left = (await read_subjects(connection, MASTERS, evening.LEDGER, [subject, neighbour])).values()
        report = evening.inspected(tmp_path / "export")
        live = await evening.inspected_live(connection)
    assert (report.findings, live.findings) == ([], [])
    assert report.checked["entries"] == live.checked["entries"] > EVENTS
    places = {**await everything(database_url), **files(tmp_path / "export"), str(backup): backup.read_text()}
    secrets = (*CONTACT.values(), wrapped.wrapped.hex(), msgspec.json.encode(wrapped.wrapped).decode().strip('"'))
    assert {name for name, text in places.items() for secret in secrets if secret in text} == set()
    of_subject = [
        value for text in places.values() for value in CIPHERTEXT.findall(text) if wrapped.key_id.hex in value
    ]
    assert len(of_subject) >= 2 * len(CONTACT)
    for field in CONTACT:
        for value in of_subject:
            keys = tuple(key for each in left for key in each.keys)
            assert personal_data.decrypt(Subject(ledger_id=evening.LEDGER, id=subject, keys=keys), field, value) is None
