"""The door to the proofs: the log's tree as static resources (C2SP tlog-tiles), and proofs made on demand.

The tree and its signatures are public: whoever asks anonymously sees what every auditor sees, and nobody can be shown
a history of his own. They are hashes and say nothing but how many entries there are. Entries need an auditor's token.
"""

import asyncio
import gzip
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from litestar import Controller, Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from api import problems
from api.access import caller_of, may_audit
from api.audited import record_export
from api.services import Services
from domain.errors import NotFound
from domain.merkle import HASH_BYTES
from infra import event_log, proofs, tiles, tree
from infra.database import look_at
from infra.proofs import ConsistencyProof, InclusionProof, NotSealed
from infra.tiles import Place

TEXT: Final = "text/plain"
BYTES: Final = "application/octet-stream"
SIZE_MAX: Final = 2**62
CHECKPOINT_CACHED: Final = "public, max-age=1"
FOR_EVER: Final = "max-age=31536000, immutable"
GZIP_LEVEL: Final = 5

Position = Annotated[int, QueryParameter(ge=1, le=SIZE_MAX, description="The position of the entry.")]
Size = Annotated[
    int | None, QueryParameter(ge=0, le=SIZE_MAX, description="The size of a signed tree; the last one when left out.")
]
From = Annotated[int, QueryParameter(name="from", ge=0, le=SIZE_MAX, description="The size of the older tree.")]
To = Annotated[
    int | None,
    QueryParameter(name="to", ge=0, le=SIZE_MAX, description="The size of a signed tree; the last one when left out."),
]
Format = Annotated[
    Literal["json", "tlog-proof"],
    QueryParameter(name="format", description="`tlog-proof` is a text that other software reads."),
]


class LogController(Controller):
    """The tree over a log, piece by piece: that of the caller's ledger or, for nobody in particular, of the first."""

    path = "/audit/v1/log"
    tags = ("audit",)

    @get("/checkpoint", operation_id="read_checkpoint", media_type=TEXT, responses=problems.PUBLIC)
    async def checkpoint(self, request: Request[Any, Any, Any], services: NamedDependency[Services]) -> Response[str]:
        """Read the last signed checkpoint: how many entries the log has, and the root of the tree over them."""
        return await _checkpoint(services, _ledger_of(request, services))

    @get("/tile/{level:int}/{number:path}", operation_id="read_tile", media_type=BYTES, responses=problems.PUBLIC)
    async def tile(self, request: Request[Any, Any, Any], services: NamedDependency[Services]) -> Response[bytes]:
        """Read 256 hashes of the tree, or as many as the path says, one after the other."""
        return await _tile(services, _ledger_of(request, services), _place(request))

    @get(
        "/tile/entries/{number:path}",
        operation_id="read_entry_bundle",
        guards=[may_audit],
        media_type=BYTES,
        responses=problems.READING_ONE,
    )
    async def entries(
        self, request: Request[Any, Any, Any], ledger_id: NamedDependency[UUID], services: NamedDependency[Services]
    ) -> Response[bytes]:
        """Read 256 entries, or as many as the path says, each after its length in two bytes."""
        place = _place(request)
        await record_export(request, "log")
        after = place.number * tiles.Place(None, 0).width
        async with services.log.pool.connection() as connection:
            sealed = await tree.read_checkpoint(connection, ledger_id)
            if sealed is None or sealed.size < after + place.width:
                raise NotFound("entry bundle", place.path)
            texts = await event_log.read_texts(connection, ledger_id, after, limit=place.width)
        bundle = tiles.bundle(text.entry.encode() for text in texts)
        headers = {"Cache-Control": f"private, {FOR_EVER}", "Vary": "Accept-Encoding"}
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            bundle = await asyncio.to_thread(gzip.compress, bundle, GZIP_LEVEL)
            headers["Content-Encoding"] = "gzip"
        return Response(bundle, media_type=BYTES, headers=headers)


class LedgerLogController(Controller):
    """The same of any ledger by its id, for software that reads logs (C2SP tlog-tiles) and has no token."""

    path = "/audit/v1/ledgers/{log_id:uuid}/log"
    tags = ("audit",)

    @get("/checkpoint", operation_id="read_checkpoint_of", media_type=TEXT, responses=problems.PUBLIC)
    async def checkpoint(self, log_id: FromPath[UUID], services: NamedDependency[Services]) -> Response[str]:
        """Read the last signed checkpoint of a ledger."""
        return await _checkpoint(services, log_id)

    @get("/tile/{level:int}/{number:path}", operation_id="read_tile_of", media_type=BYTES, responses=problems.PUBLIC)
    async def tile(
        self, log_id: FromPath[UUID], request: Request[Any, Any, Any], services: NamedDependency[Services]
    ) -> Response[bytes]:
        """Read 256 hashes of a ledger's tree, or as many as the path says."""
        return await _tile(services, log_id, _place(request))


class ProofController(Controller):
    """Proofs about the log, made on demand."""

    path = "/audit/v1/proofs"
    tags = ("audit",)
    guards = (may_audit,)

    @get(
        "/inclusion",
        operation_id="prove_inclusion",
        responses=problems.READING_ONE,
        also_as={TEXT: "A file in the form of C2SP tlog-proof, which holds the entry as its extra data."},
    )
    async def inclusion(
        self,
        ledger_id: NamedDependency[UUID],
        services: NamedDependency[Services],
        position: Position,
        size: Size = None,
        as_format: Format = "json",
    ) -> Response[InclusionProof] | Response[str]:
        """Prove that an entry is in a signed tree."""
        async with services.log.pool.connection() as connection:
            proof = await proofs.prove_inclusion(
                connection, ledger_id, position, size=size, cosigned=_witnessed(services)
            )
        if as_format == "json":
            return Response(proof)
        return _file(proof.as_tlog_proof(), f"position-{position}.tlog-proof")

    @get(
        "/consistency",
        operation_id="prove_consistency",
        responses=problems.LISTING_OF_ONE,
        also_as={TEXT: "A request as a witness takes it, in the form of C2SP tlog-witness."},
    )
    async def consistency(
        self,
        ledger_id: NamedDependency[UUID],
        services: NamedDependency[Services],
        old_size: From,
        size: To = None,
        as_format: Format = "json",
    ) -> Response[ConsistencyProof] | Response[str]:
        """Prove that a signed tree begins with an older one: that nothing was changed since, or taken away."""
        async with services.log.pool.connection() as connection:
            proof = await proofs.prove_consistency(
                connection, ledger_id, old_size, size=size, cosigned=_witnessed(services)
            )
        if as_format == "json":
            return Response(proof)
        return _file(proof.as_submission(), f"from-{old_size}-to-{proof.size}.tlog-proof")


def _ledger_of(request: Request[Any, Any, Any], services: Services) -> UUID:
    return caller_of(request).ledger if "Authorization" in request.headers else services.ledgers.first


async def _checkpoint(services: Services, ledger_id: UUID) -> Response[str]:
    look_at(ledger_id)
    async with services.log.pool.connection() as connection:
        sealed = await tree.read_published(connection, ledger_id, cosigned=_witnessed(services))
    if sealed is None:
        raise NotSealed("The log has no checkpoint yet.")
    headers = {"Cache-Control": CHECKPOINT_CACHED, "Vary": "Authorization"}
    return Response(sealed.note, media_type=TEXT, headers=headers)


async def _tile(services: Services, ledger_id: UUID, place: Place) -> Response[bytes]:
    look_at(ledger_id)
    async with services.log.pool.connection() as connection:
        stored = await tree.read_tiles(connection, ledger_id, [(place.level or 0, place.number)])
    hashes = stored.get((place.level or 0, place.number), b"")[: place.width * HASH_BYTES]
    if len(hashes) < place.width * HASH_BYTES:
        raise NotFound("tile", place.path)
    headers = {"Cache-Control": f"public, {FOR_EVER}", "Vary": "Authorization"}
    return Response(hashes, media_type=BYTES, headers=headers)


def _witnessed(services: Services) -> bool:
    """Tell whether a checkpoint is shown only once enough witnesses have cosigned it."""
    return services.settings.log_policy_file is not None


def _place(request: Request[Any, Any, Any]) -> Place:
    path = request.scope["path"].partition("/tile/")[2]
    place = tiles.parse_path(path)
    if place is None:
        raise NotFound("tile", path)
    return place


def _file(text: str, name: str) -> Response[str]:
    return Response(text, media_type=TEXT, headers={"Content-Disposition": f'attachment; filename="{name}"'})
