"""Asks witnesses to cosign each new checkpoint (C2SP tlog-witness), and publishes those that enough have cosigned.

Who the witnesses are, where they are reached and how many are enough is said by a policy (C2SP tlog-policy).
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from uuid import UUID

import httpx
import psycopg
import structlog
from msgspec import Struct

from domain.errors import Refusal
from infra import checkpoint, election, proofs, signed_note, tree
from infra.database import Connection, connect
from infra.keys import SecretUnfit
from infra.signed_note import NoteMalformed, Signature, VerifierKey
from infra.tree import Sealed, TreeDamaged
from infra.verifier import Policy, parse_policy

ASK_EVERY_SECONDS: Final = 1.0
ANSWER_SECONDS_MAX: Final = 5.0
RETRY_SECONDS: Final = 2.0
ANSWER_BYTES_MAX: Final = 1 << 16
URL_WORD: Final = 3
"""A witness's line has its name, its key and, in the fourth place, where it is reached."""

log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)


class Witnesses(Struct, frozen=True, kw_only=True):
    """Whose cosignatures are asked for, where, and how many are enough."""

    policy: Policy
    urls: Mapping[str, str]
    lines: tuple[str, ...]


def read(path: Path | None) -> Witnesses | None:
    """Return the witnesses that a policy names, each of which must have a URL; None without one. Raise SecretUnfit."""
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8")
        policy = parse_policy(text)
    except (OSError, ValueError, IndexError) as error:
        raise SecretUnfit(str(path), f"it is no policy: {error}") from error
    lines = [line for line in text.splitlines() if line.split()[:1] in (["witness"], ["group"], ["quorum"])]
    words = [line.split() for line in lines]
    urls = {each[1]: each[URL_WORD].rstrip("/") for each in words if each[0] == "witness" and len(each) > URL_WORD}
    missing = policy.witnesses.keys() - urls.keys()
    if missing:
        raise SecretUnfit(str(path), f"it does not say where {', '.join(sorted(missing))} can be reached")
    return Witnesses(policy=policy, urls=urls, lines=tuple(lines))


class Cosigner:
    """What is known of how far each witness has come with each log."""

    def __init__(self, witnesses: Witnesses, client: httpx.AsyncClient) -> None:
        """Begin without knowing anything: the witnesses say where they stand."""
        self._witnesses = witnesses
        self._client = client
        self._sizes: dict[tuple[UUID, str], int] = {}

    async def publish(self, connection: Connection, ledger_id: UUID) -> bool:
        """Have the last checkpoint cosigned, and publish it when that is enough; tell whether it is published."""
        sealed = await tree.read_checkpoint(connection, ledger_id)
        if sealed is None:
            return False
        published = await tree.read_published(connection, ledger_id, cosigned=True)
        if published is not None and published.size == sealed.size:
            return True
        names = list(self._witnesses.urls)
        asked = (self._ask(connection, ledger_id, sealed, name) for name in names)
        answers = dict(zip(names, await asyncio.gather(*asked), strict=True))
        cosigned = {name: lines for name, lines in answers.items() if lines}
        if not self._witnesses.policy.satisfied(set(cosigned)):
            log.warning("too few witnesses", ledger=str(ledger_id), size=sealed.size, cosigned=sorted(cosigned))
            return False
        note = sealed.note + "".join(str(line) for lines in cosigned.values() for line in lines)
        await tree.write_cosigned(connection, ledger_id, sealed.size, note)
        return True

    async def _ask(self, connection: Connection, ledger_id: UUID, sealed: Sealed, name: str) -> list[Signature]:
        """Return the cosignatures of one witness; none when it does not answer, or refuses."""
        try:
            answer = await self._submit(connection, ledger_id, sealed, name)
            if answer.status_code == httpx.codes.CONFLICT:  # it says where it stands: on from there
                self._sizes[ledger_id, name] = int(answer.text)
                answer = await self._submit(connection, ledger_id, sealed, name)
            answer.raise_for_status()
            lines = self._cosignatures(name, sealed, answer.text[:ANSWER_BYTES_MAX])
        except (httpx.HTTPError, ValueError, NoteMalformed, Refusal, TreeDamaged) as error:
            log.warning("witness did not cosign", ledger=str(ledger_id), witness=name, error=str(error))
            return []
        self._sizes[ledger_id, name] = sealed.size
        return lines

    async def _submit(self, connection: Connection, ledger_id: UUID, sealed: Sealed, name: str) -> httpx.Response:
        """Send a checkpoint; raise SizesOutOfOrder when the witness has seen a larger log than this one."""
        old = self._sizes.get((ledger_id, name), 0)
        proof = await proofs.prove_consistency(connection, ledger_id, old, size=sealed.size)
        url = f"{self._witnesses.urls[name]}/add-checkpoint"
        return await self._client.post(url, content=proof.as_submission().encode())

    def _cosignatures(self, name: str, sealed: Sealed, answer: str) -> list[Signature]:
        key = VerifierKey(*self._witnesses.policy.witnesses[name])
        text = signed_note.parse(sealed.note.encode()).text
        lines = [signed_note.parse_signature(line) for line in answer.splitlines()]
        valid = [line for line in lines if checkpoint.verifies(key, text, line)]
        if not valid:
            raise NoteMalformed("its answer has no cosignature by its key")
        return valid


async def run(url: str, witnesses: Witnesses) -> None:
    """Have every log's checkpoints cosigned until cancelled."""
    while True:
        try:
            async with await connect(url) as connection, httpx.AsyncClient(timeout=ANSWER_SECONDS_MAX) as client:
                await election.win(connection, "cosigner")
                cosigner = Cosigner(witnesses, client)
                while True:
                    cursor = await connection.execute("SELECT ledger_id FROM ledgers")
                    for row in await cursor.fetchall():
                        await cosigner.publish(connection, row["ledger_id"])
                    await asyncio.sleep(ASK_EVERY_SECONDS)
        except (OSError, psycopg.Error) as error:
            log.warning("cosigner interrupted", error=type(error).__name__)
        await asyncio.sleep(RETRY_SECONDS)
