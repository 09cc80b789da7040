"""An invoice line proven delivery by delivery: what a campaign was billed for, each with a proof of its own."""

import json
from datetime import datetime
from pathlib import Path
from typing import Final
from uuid import UUID

from msgspec import Struct

from infra import mirror, proofs, tree
from infra.database import Connection
from infra.proofs import NotSealed
from infra.verifier import Policy, Report, verify_proof

PROOF: Final = ".tlog-proof"

_READ_BILLED: Final = """
    SELECT position FROM events
    WHERE ledger_id = %(ledger_id)s AND position <= %(size)s AND stream_id LIKE 'decision-%%'
        AND entry #>> '{event,campaign_id}' = %(campaign_id)s AND entry #>> '{event,billed}' = 'true'
        AND entry #>> '{event,price_micros}' <> '0'
        AND (%(since)s::timestamptz IS NULL OR recorded_at >= %(since)s)
        AND (%(until)s::timestamptz IS NULL OR recorded_at < %(until)s)
    ORDER BY position
"""


class Line(Struct, frozen=True, kw_only=True):
    """What a campaign was billed in one currency, and for how many deliveries."""

    campaign_id: str
    currency: str
    deliveries: int
    spent_micros: int


async def prove(
    connection: Connection,
    ledger_id: UUID,
    campaign_id: UUID,
    folder: Path,
    *,
    since: datetime | None,
    until: datetime | None,
    cosigned: bool,
) -> int:
    """Write a proof of each delivery that cost a campaign something, all in one signed tree; return how many.

    Those count that were recorded from `since` on, and before `until`; `cosigned` says that the tree is the last that
    enough witnesses have cosigned. Raises NotSealed or TreeDamaged.
    """
    sealed = await tree.read_published(connection, ledger_id, cosigned=cosigned)
    if sealed is None:
        raise NotSealed("The log has no checkpoint yet.")
    asked = {"ledger_id": ledger_id, "size": sealed.size, "campaign_id": str(campaign_id)}
    cursor = await connection.execute(_READ_BILLED, {**asked, "since": since, "until": until})
    rows = await cursor.fetchall()
    for row in rows:
        proof = await proofs.prove_inclusion(connection, ledger_id, row["position"], size=sealed.size)
        mirror.write(folder / f"{row['position']}{PROOF}", proof.as_tlog_proof().encode())
    return len(rows)


def is_in(folder: Path) -> bool:
    """Tell whether a folder is no export, and holds proofs."""
    return not (folder / "checkpoint").exists() and any(folder.glob(f"*{PROOF}"))


def verify(folder: Path, policy: Policy, report: Report) -> list[Line]:
    """Check every proof in a folder, and return what they add up to."""
    seen: set[tuple[str, int]] = set()
    lines: dict[tuple[str, str], tuple[int, int]] = {}
    for path in sorted(folder.glob(f"*{PROOF}"), key=lambda each: (len(each.name), each.name)):
        entry = verify_proof(path.read_text(encoding="utf-8", errors="replace"), policy, report)
        if entry is None:
            continue
        said = json.loads(entry)
        if (said["stream"], said["version"]) in seen:
            report.wrong("entries", f"{path.name} proves what another proof here proves")
            continue
        seen.add((said["stream"], said["version"]))
        event = said["event"]
        if event.get("billed"):
            key = (event["campaign_id"], event["currency"])
            deliveries, spent = lines.get(key, (0, 0))
            lines[key] = (deliveries + 1, spent + event["price_micros"])
    return [
        Line(campaign_id=campaign_id, currency=currency, deliveries=deliveries, spent_micros=spent)
        for (campaign_id, currency), (deliveries, spent) in sorted(lines.items())
    ]
