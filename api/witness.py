"""The door of a witness (C2SP tlog-witness): a service of its own, which a counterparty runs beside no ledger."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, Final

from granian.constants import Interfaces
from granian.server.embed import Server
from litestar import Litestar, Request, Response, get, post
from litestar.params import PathParameter

from infra.signed_note import NoteMalformed
from infra.witness import (
    REQUEST_BYTES_MAX,
    LogUnknown,
    NotContinued,
    NotTheLogs,
    SizeOutdated,
    SubmissionMalformed,
    Witness,
)

TEXT: Final = "text/plain"
SIZE: Final = "text/x.tlog.size"

REFUSED: Final[Mapping[type[Exception], HTTPStatus]] = {
    SubmissionMalformed: HTTPStatus.BAD_REQUEST,
    NoteMalformed: HTTPStatus.BAD_REQUEST,
    NotTheLogs: HTTPStatus.FORBIDDEN,
    LogUnknown: HTTPStatus.NOT_FOUND,
    SizeOutdated: HTTPStatus.CONFLICT,
    NotContinued: HTTPStatus.UNPROCESSABLE_ENTITY,
}


def create_witness(witness: Witness) -> Litestar:
    """Return the service of a witness."""

    @post("/add-checkpoint", status_code=200, media_type=TEXT)
    async def add_checkpoint(request: Request[Any, Any, Any]) -> Response[str]:
        """Cosign a checkpoint that continues the one before."""
        return Response(await witness.add_checkpoint(await request.body()), media_type=TEXT)

    @get("/{origin:str}/checkpoint", media_type=TEXT, sync_to_thread=True)
    def last_checkpoint(origin: Annotated[str, PathParameter(max_length=64)]) -> Response[str]:
        """Read the last checkpoint of a log that was cosigned."""
        note = witness.checkpoint_of(origin)
        if note is None:
            raise LogUnknown(LogUnknown.__doc__)
        return Response(note, media_type=TEXT)

    return Litestar(
        [add_checkpoint, last_checkpoint],
        request_max_body_size=REQUEST_BYTES_MAX,
        exception_handlers=dict.fromkeys(REFUSED, _refused),
        openapi_config=None,
        logging_config=None,
    )


async def serve_witness(witness: Witness, host: str, port: int) -> None:
    """Serve a witness until cancelled."""
    server = Server(
        create_witness(witness), address=host, port=port, interface=Interfaces.ASGI, log_enabled=False, websockets=False
    )
    await server.serve()


def _refused(_request: Request[Any, Any, Any], error: Exception) -> Response[str]:
    status = REFUSED[type(error)]
    if isinstance(error, SizeOutdated):
        return Response(f"{error.size}\n", status_code=status, media_type=SIZE)
    return Response(f"{error}\n", status_code=status, media_type=TEXT)
