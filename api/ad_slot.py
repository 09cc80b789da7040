"""The other side of the door of ad slots: how a client over HTTP asks for creatives and reports what became of them."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import Final

import httpx
import msgspec
from httpx_retries import Retry, RetryTransport

TOKENS_PER_REQUEST_MAX: Final = 500
REQUEST_SECONDS_MAX: Final = 30

PATIENT: Final = Retry(
    total=8, allowed_methods=("GET", "POST"), backoff_factor=0.1, max_backoff_wait=30, total_timeout=60
)
"""Waits as `Retry-After` says, within bounds. Asking again holds again, for a while; a repeated beacon adds nothing."""

IMPATIENT: Final = PATIENT.copy_with(retry_on_exceptions=())
"""As PATIENT with a service that asks to wait, but takes no answer at all for one: the address may be mistyped."""


class Unanswered(Exception):
    """The service gives no answer with which an ad slot could go on."""


@asynccontextmanager
async def connected(url: str, key: str, *, connections: int) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Yield clients that carry a key, each with one connection; raise Unanswered for an unfit URL or key.

    Choosing from a pool of many connections would cost httpx more than the requests themselves.
    """
    if not key or not key.isascii() or not key.isprintable():
        raise Unanswered("The key is not one that a server could have issued.")
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    trusted = httpx.create_ssl_context()
    async with AsyncExitStack() as stack:
        try:
            clients = [
                httpx.AsyncClient(
                    base_url=url,
                    headers=headers,
                    timeout=REQUEST_SECONDS_MAX,
                    transport=RetryTransport(httpx.AsyncHTTPTransport(verify=trusted)),
                )
                for _ in range(connections)
            ]
        except httpx.InvalidURL as error:
            raise Unanswered(f"{url} is not an address: {error}.") from error
        yield [await stack.enter_async_context(client) for client in clients]


async def ask(
    client: httpx.AsyncClient,
    method: str,
    path: str,
    body: object = None,
    *,
    retry: Retry = PATIENT,
    headers: Mapping[str, str] | None = None,
) -> httpx.Response:
    """Return the answer to a request; raise Unanswered when there is none, or it says that no other can be had."""
    content = None if body is None else msgspec.json.encode(body)
    try:
        answer = await client.request(method, path, content=content, headers=headers, extensions={"retry": retry})
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        raise Unanswered(f"No answer from {client.base_url}: {reason.rstrip('.')}.") from error
    if answer.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        raise Unanswered(f"The key is refused by {client.base_url}.")
    if answer.status_code in {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE}:
        raise Unanswered(f"{client.base_url} keeps asking to try again later.")
    return answer


async def report(client: httpx.AsyncClient, beacons: Sequence[tuple[str, datetime]]) -> list[dict[str, str]]:
    """Report tokens with the times at which it happened, and return a result for each, in the same order."""
    results: list[dict[str, str]] = []
    for start in range(0, len(beacons), TOKENS_PER_REQUEST_MAX):
        batch = beacons[start : start + TOKENS_PER_REQUEST_MAX]
        tokens = [{"token": token, "occurred_at": occurred_at} for token, occurred_at in batch]
        answer = await ask(client, "POST", "/ads/v1/events", {"tokens": tokens})
        if answer.status_code == httpx.codes.OK:
            results += answer.json()["results"]
        else:
            results += [{"result": "refused", "code": code_of(answer)}] * len(batch)
    return results


def token_of(url: str) -> str:
    """Return the token that a beacon's URL carries; the rest may be how others reach the service."""
    return url.rpartition("/")[2]


def code_of(answer: httpx.Response) -> str:
    """Return the code of a problem, or the status of an answer that is none."""
    try:
        return str(answer.json()["code"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"
