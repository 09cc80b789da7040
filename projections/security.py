"""The report of security: who was let in, who was not, and who changed what somebody may do, straight from the log.

A partial index holds these entries alone, by time, so that the report does not pass over what was delivered in between.
"""

from collections.abc import Iterator
from datetime import date, datetime
from typing import Any, Final, Literal
from uuid import UUID

import msgspec
from msgspec import Struct

from domain.access import AccessRefused, SecondFactorPolicySet
from domain.events import Entry
from infra.database import Connection, as_structs
from infra.event_log import SECURITY, decode_entry

SecurityKind = Literal[
    "signed_in",
    "sign_in_refused",
    "sessions_ended",
    "access_denied",
    "person_added",
    "role_changed",
    "person_deactivated",
    "person_reactivated",
    "password_changed",
    "email_changed",
    "provider_linked",
    "provider_unlinked",
    "invitation_sent",
    "invitation_withdrawn",
    "invitation_accepted",
    "second_factor_enabled",
    "second_factor_disabled",
    "second_factor_policy_set",
    "api_key_issued",
    "api_key_revoked",
    "slot_key_issued",
    "slot_key_revoked",
    "webhook_secret_issued",
    "webhook_deleted",
    "exported",
]


class SecurityItem(Struct, frozen=True, kw_only=True):
    """Something that was done, or refused `count` times, about a person or key (`subject`), from a network.

    `line` tells apart what one entry says of several. Of what was refused, `actor` is as whom it was tried.
    """

    position: int
    line: int
    recorded_at: datetime
    kind: SecurityKind
    actor: str
    subject: UUID | None
    network: str = ""
    reason: str = ""
    role: str = ""
    count: int = 1


class SecuritySum(Struct, frozen=True, kw_only=True):
    """How often there was something of a kind, on a day in UTC."""

    day: date
    kind: SecurityKind
    count: int


class SecurityQuery(Struct, frozen=True, kw_only=True):
    """What is asked for: a time, the end of which does not belong to it, and perhaps one kind, or one person."""

    since: datetime
    until: datetime
    kind: SecurityKind | None = None
    person: UUID | None = None


class Place(Struct, frozen=True, kw_only=True):
    """Where a page ends: at a line of the entry at a position."""

    position: int
    line: int


# Of entries that hold several lines, those that are asked for.
_LINES: Final = """
    json_array_elements(entry #> '{event,lines}') WITH ORDINALITY AS refused (line, number)
    WHERE (%(kind)s::text IS NULL OR line ->> 'kind' = %(kind)s)
        AND (%(actor)s::text IS NULL OR line ->> 'actor' = %(actor)s)
"""

_OF_QUERY: Final = f"""
    ledger_id = %(ledger_id)s AND {SECURITY} AND recorded_at >= %(since)s AND recorded_at < %(until)s
"""

_IS_DONE: Final = """
    type <> 'access_refused' AND (%(kind)s::text IS NULL OR type = %(kind)s)
        AND (%(actor)s::text IS NULL OR stream_id = %(stream)s OR entry ->> 'actor' = %(actor)s)
"""

_PAGE: Final = f"""
    SELECT position, entry::text AS entry FROM events
    WHERE {_OF_QUERY} AND position <= %(position)s
        AND (({_IS_DONE}) OR (type = 'access_refused' AND EXISTS (SELECT FROM {_LINES})))
    ORDER BY recorded_at DESC, position DESC LIMIT %(limit)s
"""

_SUMS: Final = f"""
    SELECT day, kind, sum(count)::bigint AS count FROM (
        SELECT recorded_at::date AS day, type AS kind, count(*) AS count FROM events
        WHERE {_OF_QUERY} AND {_IS_DONE} GROUP BY 1, 2
        UNION ALL
        SELECT tallied.recorded_at::date, refused.kind, refused.count
        FROM (SELECT recorded_at, entry FROM events WHERE {_OF_QUERY} AND type = 'access_refused') AS tallied
        CROSS JOIN LATERAL (
            SELECT line ->> 'kind' AS kind, (line ->> 'count')::bigint AS count FROM {_LINES}
        ) AS refused
    ) AS counted
    GROUP BY day, kind ORDER BY day DESC, kind
"""

FIRST: Final = Place(position=2**63 - 1, line=0)
"""Where the first page begins: before all there can be."""


async def read_page(
    connection: Connection, ledger_id: UUID, query: SecurityQuery, *, after: Place = FIRST, limit: int
) -> list[SecurityItem]:
    """Return up to `limit` items that come after a place, the newest first."""
    # Each entry that is found has a line at least, but for that in which the page before has ended.
    asked = _parameters(ledger_id, query) | {"position": after.position, "limit": limit + 1}
    rows = await (await connection.execute(_PAGE, asked)).fetchall()
    items = [item for row in rows for item in _items(row["position"], decode_entry(row["entry"]))]
    later = [item for item in items if item.position < after.position or item.line > after.line]
    return [item for item in later if _is_of(query, item)][:limit]


async def read_sums(connection: Connection, ledger_id: UUID, query: SecurityQuery) -> list[SecuritySum]:
    """Return how much there is of each kind and day, the last day first."""
    return as_structs(await (await connection.execute(_SUMS, _parameters(ledger_id, query))).fetchall(), SecuritySum)


def _parameters(ledger_id: UUID, query: SecurityQuery) -> dict[str, Any]:
    person = query.person
    return {
        "ledger_id": ledger_id,
        "since": query.since,
        "until": query.until,
        "kind": query.kind,
        "actor": None if person is None else f"user:{person}",
        "stream": f"access-{person}",
    }


def _items(position: int, entry: Entry) -> Iterator[SecurityItem]:
    event, subject = entry.event, UUID(entry.stream.partition("-")[2])
    if isinstance(event, AccessRefused):
        for number, line in enumerate(event.lines, 1):
            said = msgspec.structs.asdict(line)
            yield SecurityItem(position=position, line=number, recorded_at=entry.recorded_at, subject=None, **said)
        return
    said = msgspec.to_builtins(event)
    reason = next((said[name] for name in ("reason", "method", "what", "issuer") if name in said), "")
    if isinstance(event, SecondFactorPolicySet):
        reason = "demanded" if event.demanded else "left to each"
    yield SecurityItem(
        position=position,
        line=1,
        recorded_at=entry.recorded_at,
        kind=said["type"],
        actor=entry.actor,
        subject=subject,
        network=said.get("network", ""),
        reason=reason,
        role=said.get("role", ""),
    )


def _is_of(query: SecurityQuery, item: SecurityItem) -> bool:
    if query.kind not in {None, item.kind}:
        return False
    return query.person is None or item.subject == query.person or item.actor == f"user:{query.person}"
