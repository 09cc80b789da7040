"""`ledger audit`: exporting, proving and verifying from the command line, and what its exit status says."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from time import monotonic, sleep

import httpx
import pytest
from click.testing import CliRunner, Result

from api.cli import ledger
from infra import mirror
from projections.catalogue import PROJECTIONS
from projections.delivery import FURTHER
from tests.running import free_port
from tests.tamper.exports import roll_back

Run = Callable[..., Result]


@pytest.fixture
def run(evening_url: str) -> Run:
    """Run a command on the evening's database, of which nobody else knows."""

    def invoke(*arguments: object, status: int = 0) -> Result:
        environment = {"LEDGER_DATABASE_URL": evening_url}
        result = CliRunner().invoke(ledger, ["audit", *map(str, arguments)], env=environment)
        assert result.exit_code == status, (result.output, result.exception)
        return result

    return invoke


def test_a_ledger_is_exported_and_verified(run: Run, tmp_path: Path) -> None:
    """An export of a live ledger is complete: it is verified with nothing else, and says whose keys it came with."""
    made = json.loads(run("export", tmp_path / "export", "--json").output)
    assert made["size"] > 700
    assert json.loads((tmp_path / "export" / "manifest.json").read_text()) == made
    verdict = run("verify", tmp_path / "export").output
    assert "as the ledger itself says" in verdict
    assert "Everything is right." in verdict
    assert "bean-check" in verdict
    again = run("export", tmp_path / "export")
    assert f"{made['size']:,} entries" in again.output


def test_what_is_wrong_is_said_and_is_the_exit_status(run: Run, evening_export: Path) -> None:
    """A meddled export is named position by position, for people and as JSON, and the command ends with 1."""
    bundle = evening_export / "tile" / "entries" / "001"
    bundle.write_bytes(bundle.read_bytes().replace(b'"EUR"', b'"USD"', 1))
    verdict = run("verify", evening_export, status=1).output
    assert "Something is wrong." in verdict
    assert "WRONG entries at position 257: the entry is not the one whose hash is in the tree" in verdict
    found = json.loads(run("verify", evening_export, "--json", status=1).output)
    assert found["found"] == len(found["findings"])
    assert found["findings"][0][:2] == ["entries", 257]
    assert found["checked"]["entries"] > 700


def test_an_auditor_trusts_his_own_keys(run: Run, evening_export: Path, tmp_path: Path) -> None:
    """Keys and policies that an auditor brings go before those in the folder."""
    policy = (evening_export / "policy").read_text()
    key = policy.split()[1]
    assert "given by you" in run("verify", evening_export, "--key", key).output
    (tmp_path / "policy").write_text(policy)
    assert "given by you" in run("verify", evening_export, "--policy", tmp_path / "policy").output
    other = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
    assert "no key of the log" in run("verify", evening_export, "--key", other, status=1).output
    run("verify", evening_export, "--key", "nonsense", status=2)


def test_kept_checkpoints_are_held_against_the_log(run: Run, evening_export: Path, tmp_path: Path) -> None:
    """A checkpoint that is larger than the log shows that the log was rolled back."""
    run("verify", evening_export, "--kept", evening_export / "checkpoint", "--kept", evening_export)
    kept = tmp_path / "kept"
    kept.write_text((evening_export / "checkpoint").read_text())
    roll_back(evening_export, Random(1))
    run("verify", evening_export)
    assert "entries were signed, and here are" in run("verify", evening_export, "--kept", kept, status=1).output


def test_an_entry_is_proved(run: Run, evening_export: Path, tmp_path: Path) -> None:
    """A proof is written to a file or to standard output, and verified with nothing but the log's key."""
    key = (evening_export / "policy").read_text().split()[1]
    proof = tmp_path / "300.tlog-proof"
    run("prove", "--position", 300, "--output", proof)
    assert run("prove", "--position", 300).output == proof.read_text()
    assert json.loads(run("prove", "--position", 300, "--json").output)["leaf_index"] == 299
    verdict = run("verify", proof, "--key", key).output
    assert '"stream":"decision-' in verdict
    assert "Everything is right." in verdict
    proof.write_text(proof.read_text().replace("index 299", "index 298"))
    assert "does not lead" in run("verify", proof, "--key", key, status=1).output
    assert "does not lead" in run("verify", proof, status=1).output
    nowhere = CliRunner().invoke(ledger, ["audit", "verify", str(proof), "--data-dir", str(tmp_path / "nowhere")])
    assert (nowhere.exit_code, "--key" in nowhere.output) == (2, True)


def test_an_invoice_line_is_proved_delivery_by_delivery(run: Run, evening_export: Path, tmp_path: Path) -> None:
    """Every billed delivery of a campaign has a proof; together they come to what it has spent, and no two are one."""
    key = (evening_export / "policy").read_text().split()[1]
    times = billed_times(evening_export)
    for budget in map(json.loads, (evening_export / "budgets.ndjson").read_text().splitlines()):
        count = len(times[budget["campaign_id"]])
        folder = tmp_path / budget["campaign_id"]
        assert json.loads(run("invoice", budget["campaign_id"], folder, "--json").output) == {"proofs": count}
        verdict = json.loads(run("verify", folder, "--key", key, "--json").output)
        assert verdict["checked"]["entries"] == count
        assert verdict["billed"] == [
            {name: budget[name] for name in ("campaign_id", "currency", "spent_micros")} | {"deliveries": count}
        ]
        assert f"{count} billed deliveries of campaign" in run("verify", folder).output


def test_an_invoice_is_of_a_time_and_counts_nothing_twice(run: Run, evening_export: Path, tmp_path: Path) -> None:
    """What was billed before a moment and from then on is all of it; the same proof under another name is found."""
    campaign_id, times = max(billed_times(evening_export).items(), key=lambda item: len(set(item[1])))
    moment = times[-1]
    for name, *options in (("all",), ("before", "--to", moment), ("after", "--from", moment)):
        run("invoice", campaign_id, tmp_path / name, *options)
    found = [len(list((tmp_path / name).iterdir())) for name in ("all", "before", "after")]
    assert found == [len(times), len(times) - times.count(moment), times.count(moment)]
    assert all(found)
    first = min((tmp_path / "all").iterdir())
    first.with_name("copy.tlog-proof").write_text(first.read_text())
    assert "proves what another proof here proves" in run("verify", tmp_path / "all", status=1).output
    run("invoice", campaign_id, tmp_path / "part", "--from", "2026-03-10", status=2)


def billed_times(folder: Path) -> dict[str, list[str]]:
    """Return by campaign when each delivery was recorded that cost it something."""
    size = int((folder / "checkpoint").read_text().splitlines()[1])
    times: dict[str, list[str]] = {}
    for said in (json.loads(entry) for _, entry in mirror.entries_in(folder, size)):
        event = said["event"]
        if event.get("billed") and event["price_micros"]:
            times.setdefault(event["campaign_id"], []).append(said["recorded_at"])
    return times


def test_a_live_ledger_is_verified(run: Run) -> None:
    """Without a path, or when asked to, the database itself is verified."""
    for arguments in ((), ("--database",)):
        verdict = run("verify", *arguments).output
        assert "Everything is right." in verdict
        assert "read models" in verdict
        assert "columns" in verdict


def test_what_cannot_be_run_is_status_2(run: Run, evening_export: Path, tmp_path: Path) -> None:
    """Nothing verified is not the same as nothing found."""
    run("verify", tmp_path / "nowhere", status=2)
    run("verify", evening_export, "--database", status=2)
    run("prove", "--position", 0, status=2)
    command = [sys.executable, "-m", "api.cli", "audit"]
    asked = subprocess.run([*command, "verify", str(tmp_path)], capture_output=True, text=True, check=False)
    assert asked.returncode == 2
    assert "is no export" in asked.stderr


def test_a_witness_is_served(tmp_path: Path) -> None:
    """The command says the witness's key and where it listens, and answers there as a witness does."""
    (tmp_path / "policy").write_text(
        "log example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k\nquorum none\n"
    )
    port = free_port()
    command = [sys.executable, "-m", "api.cli", "audit", "witness", str(tmp_path / "witness"), "--name", "w.example"]
    command += ["--policy", str(tmp_path / "policy"), "--port", str(port)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as run:
        try:
            assert run.stdout is not None
            said = run.stdout.readline().split()
            assert said[:2] == ["witness", "w.example"]
            assert said[2].startswith("w.example+")
            answer = asked_until_it_listens(f"{said[3]}/add-checkpoint")
            assert answer.status_code == 400
        finally:
            run.terminate()


def asked_until_it_listens(url: str) -> httpx.Response:
    """Return the answer to a request that is none."""
    deadline = monotonic() + 20
    while monotonic() < deadline:
        with suppress(httpx.TransportError):
            return httpx.post(url, content=b"nonsense")
        sleep(0.05)
    raise AssertionError("nobody listens")


@pytest.mark.parametrize("model", [projection.name for projection in PROJECTIONS])
def test_a_ledger_is_replayed_as_of_a_moment(run: Run, evening_export: Path, model: str) -> None:
    """Every read model, made anew as of a position or a time, is the same from the database and from an export."""
    size = int((evening_export / "checkpoint").read_text().splitlines()[1])
    for moment in (size // 2, size, "2026-03-09T22:00:00Z"):
        live = json.loads(run("replay", model, "--as-of", moment, "--json").output)
        offline = json.loads(run("replay", model, evening_export, "--as-of", moment, "--json").output)
        assert (live["model"], live["position"]) == (model, offline["position"])
        assert live["items"] == offline["items"] != []
        if isinstance(moment, int):
            assert live["position"] == moment
    assert run("replay", model).stdout == run("replay", model, evening_export).stdout
    none = json.loads(run("replay", model, evening_export, "--as-of", "1999-01-01T00:00:00Z", "--json").output)
    assert (none["position"], none["items"]) == (0, [])
    assert run("replay", model, evening_export, "--as-of", 0).stdout == ""


def test_what_is_exported_is_what_a_replay_leads_to(run: Run, evening_export: Path) -> None:
    """The reports in an export are the read models of budgets and delivery, row by row; zeros may go unsaid."""
    unsaid: dict[str, dict[str, int]] = {"budgets": {}, "delivery": dict.fromkeys(FURTHER, 0)}
    for model, name in (("budgets", "budgets.ndjson"), ("delivery", "deliveries.ndjson")):
        lines = [unsaid[model] | json.loads(line) for line in (evening_export / name).read_text().splitlines()]
        assert lines
        assert json.loads(run("replay", model, "--json").output)["items"] == lines


@pytest.mark.parametrize(
    "arguments", [("budgets", "--as-of", "yesterday"), ("budgets", "--as-of", 10**9), ("nothing",)]
)
def test_what_cannot_be_replayed_is_said(run: Run, evening_export: Path, arguments: tuple[object, ...]) -> None:
    """A moment or a read model that there is not ends the command with 2, on a database and offline."""
    run("replay", *arguments, status=2)
    run("replay", arguments[0], evening_export, *arguments[1:], status=2)
