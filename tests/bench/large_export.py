"""Exports of any size, made without a database: an evening's deliveries, and the tree, notes and reports over them."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import Final
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from domain import merkle
from domain.decider import copied
from domain.delivery import EVENT_OF, Ticket
from domain.events import CampaignActivated, CampaignCreated, DeliveryEvent, Entry, Event
from infra import checkpoint, mirror, signed_note, tiles
from infra.checkpoint import Checkpoint, Signer
from infra.event_log import encode_entry
from infra.signed_note import ED25519
from infra.tiles import Place
from projections import statements
from tests.bench import catalogue
from tests.bench.catalogue import Catalogue

ORIGIN: Final = "bench.example/log"
BEGAN: Final = datetime(2026, 3, 9, 12, tzinfo=UTC)
STEP: Final = timedelta(milliseconds=43)
"""Between two entries: two million of them are a day."""

CHECKPOINT_EVERY_ENTRIES: Final = 16_384
TICKETS: Final = 10_000
"""So many different promises are kept again and again."""

SEED: Final = 4


def write(folder: Path, count: int) -> None:
    """Write an export of so many entries."""
    private_key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    signer = Signer(signed_note.verifier_key(ORIGIN, ED25519, private_key), private_key)
    edge, made, notes, written = merkle.EMPTY_EDGE, dict[tuple[int, int], bytes](), list[str](), entries(count)
    for start in range(0, count, CHECKPOINT_EVERY_ENTRIES):
        page = list(islice(written, min(CHECKPOINT_EVERY_ENTRIES, count - start)))
        edge, grown = merkle.extended(edge, b"".join(map(merkle.leaf_hash, page)))
        made |= {(tile.level, tile.number): tile.hashes for tile in grown}
        _write_bundles(folder, start, page)
        signed = Checkpoint(ORIGIN, start + len(page), merkle.edge_root(edge))
        notes.append(str(checkpoint.sign(signed, [signer], timestamp=0)))
    for place in tiles.places(count):
        if place.level is not None:
            mirror.write(folder / "tile" / place.path, made[place.level, place.number])
    lines = "".join(f"{json.dumps(note, ensure_ascii=False)}\n" for note in notes)
    mirror.write(folder / "checkpoints.ndjson", lines.encode())
    mirror.write(folder / "checkpoint", notes[-1].encode())
    mirror.write(folder / "policy", f"log {signer.key}\nquorum none\n".encode())
    statements.write_reports(folder, ORIGIN, mirror.entries_in(folder, count))


def entries(count: int) -> Iterator[bytes]:
    """Yield so many entries: campaigns first, then impressions, for many of which a view follows, for some a click."""
    random, now = Random(SEED), BEGAN
    made = catalogue.mixed(100)
    for stream, version, event in islice(_said(random, made), count):
        now += STEP
        entry = Entry(stream=stream, version=version, actor="bench", occurred_at=now, recorded_at=now, event=event)
        yield encode_entry(entry)


def _said(random: Random, made: Catalogue) -> Iterator[tuple[str, int, Event]]:
    for campaign_id, terms in made.campaigns.items():
        yield f"campaign-{campaign_id}", 1, copied(CampaignCreated, terms)
        yield f"campaign-{campaign_id}", 2, CampaignActivated()
    for ticket in cycle(catalogue.tickets(made, TICKETS)):
        stream = f"decision-{UUID(int=random.getrandbits(128))}"
        for version, kind in enumerate(["impression", *random.choices(AFTER, AFTER_WEIGHTS)[0]], 1):
            yield stream, version, _delivered(ticket, kind)


AFTER: Final[Sequence[Sequence[str]]] = ((), ("view",), ("view", "click"))
AFTER_WEIGHTS: Final = (40, 57, 3)


def _delivered(ticket: Ticket, kind: str) -> DeliveryEvent:
    micros = ticket.pricing.price_micros
    prices = {("impression", "cpm"): micros // 1_000, ("click", "cpc"): micros}
    return EVENT_OF[kind](  # type: ignore[index]  # one of the three
        campaign_id=ticket.campaign_id,
        creative_id=ticket.creative_id,
        advertiser_id=ticket.advertiser_id,
        slot_id=ticket.slot_id,
        country=ticket.country,
        region=ticket.region,
        city=ticket.city,
        viewer=ticket.viewer,
        currency=ticket.currency,
        price_micros=prices.get((kind, ticket.pricing.model), 0),
        billed=True,
    )


def _write_bundles(folder: Path, start: int, page: Sequence[bytes]) -> None:
    for first in range(0, len(page), merkle.TILE_HASHES):
        bundled = page[first : first + merkle.TILE_HASHES]
        place = Place(None, (start + first) // merkle.TILE_HASHES, len(bundled))
        mirror.write(folder / "tile" / place.path, tiles.bundle(bundled))
