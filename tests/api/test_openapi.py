"""The OpenAPI document against the service that it describes, and what those need who run it."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any, Final

import httpx
import msgspec
import pytest

from api.background import compare
from api.specimens import SPECIMENS
from infra.database import open_pool
from infra.writer import Log
from projections import campaigns
from tests.running import ADMIN_EMAIL, ADMIN_PASSWORD, Service
from tests.world import World
from tests.writing import writing

FUZZED: Final = int(os.environ.get("FUZZED", "0"))
"""How often each operation is asked something drawn by chance, beside what covers each of its parameters."""

ASKING_SECONDS_MAX: Final = 300 + 60 * FUZZED
CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "ignored_auth",
)
PROBLEM: Final = "application/problem+json"
CONDITIONS: Final = {"Idempotency-Key", "If-Match"}
PUBLIC: Final = {
    "login",
    "refresh",
    "switch",
    *("register", "confirm_registration"),
    "logout",
    *("list_providers", "start_oidc", "finish_oidc", "exchange_oidc"),
    "forget_password",
    "reset_password",
    "verify_email",
    "accept_invitation",
    "read_keys",
    "read_checkpoint",
    "read_checkpoint_of",
    "read_tile",
    "read_tile_of",
    "record_impression",
    "record_view",
    "record_click",
    "record_playback",
    "record_notice",
    "report_nothing_played",
    "record_conversion",
    "read_tag",
    "read_frame",
    "read_media",
    "live",
    "ready",
    "metrics",
}


@pytest.fixture(scope="module")
def service(own_service: Service) -> Service:
    """A service that nobody else is asking."""
    return own_service


@pytest.fixture(scope="module")
def document(service: Service) -> dict[str, Any]:
    """The document, as everybody gets it."""
    answer = httpx.get(f"{service.url}/schema/openapi.json")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every operation of the document by its id, with its method and path."""
    return {
        operation["operationId"]: operation | {"method": method, "path": path}
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


@pytest.fixture(scope="module")
def credentials(service: Service, admin: httpx.Client) -> Iterator[dict[str, str]]:
    """The tokens of an admin and of a slot, which has something to show, by the name of their security scheme."""
    world = World(service, admin)
    world.active_campaign()
    slot_id, ads = world.slot()
    world.served(ads, slot_id)
    clients = {"access_token": admin, "slot_key": ads}
    yield {name: client.headers["Authorization"].removeprefix("Bearer ") for name, client in clients.items()}
    ads.close()


def test_the_service_does_what_it_says(service: Service, credentials: dict[str, str], tmp_path: Path) -> None:
    """Whatever it is asked, the service fails nowhere, answers as announced, and takes only what it has announced."""
    settings = tmp_path / "schemathesis.toml"
    bearers = [f'[auth.openapi.{name}]\nbearer = "{token}"\n' for name, token in credentials.items()]
    settings.write_text("".join([*bearers, "[phases.coverage]\nunexpected-methods = []\n"]))
    asked = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(settings)),
            *("run", f"{service.url}/schema/openapi.json", "--checks", ",".join(CHECKS)),
            *("--phases", "examples,coverage,fuzzing" if FUZZED else "examples,coverage"),
            *("--max-examples", str(FUZZED or 1)),
            *("--generation-deterministic", "--no-color"),
            # It takes ids from answers, and would end the session that it asks in.
            *("--exclude-operation-id", "end_session"),
            *("--exclude-operation-id", "set_second_factor_policy"),  # whoever asks has none
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=ASKING_SECONDS_MAX,
        check=False,
    )
    assert asked.returncode == 0, asked.stdout[-10_000:] + asked.stderr[-2_000:]


def test_every_operation_is_described(document: dict[str, Any], operations: dict[str, dict[str, Any]]) -> None:
    """An operation has a name, a sentence, a tag that is explained, and parameters that are."""
    explained = {tag["name"] for tag in document["tags"] if tag["description"]}
    for name, operation in operations.items():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", name), name
        assert operation["summary"][0].isupper(), name
        assert operation["description"].endswith("."), name
        assert set(operation["tags"]) <= explained, name
        for parameter in operation.get("parameters", []):
            assert parameter.get("description") or parameter["in"] == "path", (name, parameter["name"])
            assert "null" not in json.dumps(parameter["schema"]), (name, parameter["name"])
    assert {
        name for name, schema in document["components"]["schemas"].items() if not schema.get("description")
    } == set()


def test_every_operation_says_what_it_needs(operations: dict[str, dict[str, Any]]) -> None:
    """People's operations need an access token, those of ad slots a slot key, and some need nothing."""
    expected: list[dict[str, list[str]]] | None
    for name, operation in operations.items():
        if name in PUBLIC:
            expected = None
        elif name == "record_events":
            expected = [{}, {"slot_key": []}]
        else:
            expected = [{"slot_key": []} if operation["path"].startswith("/ads/") else {"access_token": []}]
        assert operation.get("security") == expected, name


def exists(operation: dict[str, Any]) -> bool:
    """Tell whether an operation is about what is there before: it has an id, or there is one of it."""
    return "{" in operation["path"] or operation["method"] == "put"


def test_commands_say_on_what_conditions(operations: dict[str, dict[str, Any]]) -> None:
    """Commands take an Idempotency-Key, and on what exists If-Match, which is why they may answer 412."""
    commands = {
        name: operation
        for name, operation in operations.items()
        if operation["method"] != "get" and {"advertisers", "campaigns", "creatives", "slots"} & set(operation["tags"])
    }
    assert commands
    for name, operation in commands.items():
        headers = {each["name"] for each in operation["parameters"] if each["in"] == "header"}
        assert headers == (CONDITIONS if exists(operation) else {"Idempotency-Key"}), name
    assert {name for name, operation in operations.items() if "412" in operation["responses"]} == {
        name for name, operation in commands.items() if exists(operation)
    }


def test_every_answer_is_described(operations: dict[str, dict[str, Any]]) -> None:
    """A refusal is a problem with an example; every answer names the request, and what has a version has an ETag."""
    for name, operation in operations.items():
        for status, answer in operation["responses"].items():
            assert "X-Request-Id" in answer["headers"], (name, status)
            if status[0] in "45" and name != "ready":
                assert set(answer["content"]) == {PROBLEM}, (name, status)
                assert answer["content"][PROBLEM]["schema"] == {"$ref": "#/components/schemas/Problem"}
                (example,) = answer["content"][PROBLEM]["examples"].values()
                assert example["value"]["status"] == int(status), (name, status)
        assert ("ETag" in operation["responses"].get("200", {}).get("headers", {})) == (
            name in {f"get_{thing}" for thing in ("advertiser", "campaign", "creative", "slot")}
            or ("412" in operation["responses"] and name != "issue_slot_key")
            or "reference" in operation["tags"]
        ), name
    for name in ("login", "decide"):
        assert operations[name]["responses"]["200"]["content"]["application/json"]["examples"]
    assert "Retry-After" in operations["login"]["responses"]["429"]["headers"]
    assert "WWW-Authenticate" in operations["me"]["responses"]["401"]["headers"]


def test_other_forms_of_an_answer_are_described(operations: dict[str, dict[str, Any]]) -> None:
    """Reports come as CSV and the log as NDJSON too; beacons answer with nothing or a pixel, clicks lead on."""

    def forms(name: str, status: str = "200") -> set[str]:
        return set(operations[name]["responses"][status].get("content", {}))

    assert forms("report_delivery") == {"application/json", "text/csv"}
    assert forms("read_log") == {"application/json", "application/x-ndjson", "text/event-stream"}
    for name in ("record_impression", "record_view", "record_playback", "record_notice"):
        assert forms(name) == {"image/gif"}
        assert forms(name, "204") == set()
    assert forms("vast") == {"application/xml"}
    assert forms("record_click", "302") == set()
    assert "Location" in operations["record_click"]["responses"]["302"]["headers"]


def test_bodies_have_examples(operations: dict[str, dict[str, Any]]) -> None:
    """Every body that is sent has an example, and every example is what its type says."""
    for name, operation in operations.items():
        if "requestBody" in operation and name not in {"upload_media", "upload_logo"}:  # which are sent images
            assert operation["requestBody"]["content"]["application/json"]["examples"], name
    for specimen in SPECIMENS:
        assert msgspec.json.decode(msgspec.json.encode(specimen), type=type(specimen)) == specimen


def test_the_documentation_needs_nothing_from_elsewhere(service: Service, document: dict[str, Any]) -> None:
    """The documentation page and all that it loads come from the service, and its script can read the document."""
    page = httpx.get(f"{service.url}/schema/")
    assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    loaded = re.findall(r"""<(?:script|link|img|iframe)[^>]*?(?:src|href)=["']([^"']*)""", page.text)
    assert len(loaded) == 4
    for path in loaded:
        assert path.startswith("/assets/")
        asset = httpx.get(f"{service.url}{path}")
        assert asset.status_code == 200, path
        if path.endswith(".css"):
            assert not re.search(r"@import|url\((?!['\"]?data:)", asset.text)
    script = httpx.get(f"{service.url}{next(path for path in loaded if 'bundle' in path)}").text
    assert document["openapi"].startswith("3.1.")
    assert "isOAS31" in script


def test_whether_the_service_is_well(service: Service) -> None:
    """The service says that it is alive, and that database, schema and read models are as they should be."""
    live, ready = (httpx.get(f"{service.url}/health/{question}") for question in ("live", "ready"))
    assert (live.status_code, live.json()) == (200, {"status": "live"})
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    assert {ready.json()[part] for part in ("database", "schema", "projections")} == {"ok"}


def test_what_the_service_counts(service: Service, world: World) -> None:
    """Prometheus finds requests, decisions, beacons, batches and the lag of every read model."""
    campaign_id, _ = world.active_campaign(width=120, height=600)
    slot_id, ads = world.slot(width=120, height=600)
    impression_url = world.served(ads, slot_id)["impression_url"]
    for _ in range(2):
        assert httpx.get(impression_url, headers={"Accept": "image/*"}).headers["Content-Type"] == "image/gif"
    world.get("advertisers")
    world.caught_up()
    answer = httpx.get(f"{service.url}/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    for sample in (
        'ledger_http_requests_total{operation="list_advertisers",status="200"}',
        'ledger_http_request_seconds_bucket{le="1.0",operation="decide"}',
        'ledger_decisions_total{outcome="filled"}',
        'ledger_beacons_total{kind="impression",outcome="billed"}',
        'ledger_beacons_total{kind="impression",outcome="repeated"}',
        "ledger_batch_events_sum",
        "ledger_batch_seconds_count",
    ):
        assert re.search(rf"^{re.escape(sample)} [1-9]", answer.text, re.MULTILINE), sample
    for name in ("advertisers", "budgets", "campaigns", "creatives", "delivery", "history", "slots"):
        assert f'ledger_projection_lag_events{{projection="{name}"}} 0.0' in answer.text
    assert campaign_id not in answer.text


def test_what_the_background_worker_has_come_to_is_measured(service: Service, world: World) -> None:
    """How far the log is sealed, whether signing is refused and what comparisons found is at the same door."""
    world.active_campaign()
    with service.database() as url:
        asyncio.run(compared(url))
    deadline = monotonic() + 20
    while "ledger_unsealed_seconds 0.0" not in (told := httpx.get(f"{service.url}/metrics").text):
        assert monotonic() < deadline, told
    assert re.search(r"^ledger_sealed_entries [1-9]", told, re.MULTILINE)
    assert "ledger_sealing_refused 0.0" in told
    assert 'ledger_projection_differing_keys{projection="campaigns"} 0.0' in told


async def compared(url: str) -> None:
    """Compare a read model, as the background worker does at night."""
    async with open_pool(url) as pool, writing(url) as writer:
        await compare(url, Log(pool, writer), [campaigns.PROJECTION])


def test_the_log_of_the_service_tells_no_secrets(service: Service, world: World, credentials: dict[str, str]) -> None:
    """Each request leaves a line of JSON with its id; none of all the lines so far has a secret or a person in it."""
    secret = f"not the password-{service.port}"
    request_id = f"request-{service.port}"
    headers = {"X-Request-Id": request_id}
    refused = httpx.post(
        f"{service.url}/api/v1/auth/login", json={"email": "vera@example.com", "password": secret}, headers=headers
    )
    assert refused.status_code in {401, 429}
    world.post("users", email="wanda@example.com", password=f"a long {secret}", role="viewer")
    httpx.get(f"{service.url}/ads/v1/i/{credentials['slot_key']}", params={"token": credentials["access_token"]})
    written = (service.data_dir / "service.log").read_text()
    lines = [json.loads(line) for line in written.splitlines()]
    (line,) = (line for line in lines if line.get("id") == request_id)
    assert line | {"event": "request", "method": "POST", "operation": "login", "status": refused.status_code} == line
    assert line["ms"] > 0
    assert {line["level"] for line in lines} <= {"info", "warning"}
    for secret_or_person in (
        *credentials.values(),
        credentials["access_token"].rpartition(".")[2],
        secret,
        ADMIN_PASSWORD,
        ADMIN_EMAIL,
        "@example.com",
        "lsk_",
        "eyJ",
    ):
        assert secret_or_person not in written
