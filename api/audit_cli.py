"""The `ledger audit` commands: what a ledger says is exported, proved and verified, offline or on a database."""

import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from time import monotonic
from typing import Final
from uuid import UUID

import click
import msgspec
from msgspec import Struct

from api import options
from api.replay_cli import Time, replay
from api.witness import serve_witness
from domain.access import Exported
from infra import clock, cosigner, inspection, installation, invoice, mirror, proofs, settings
from infra.access_audit import OPERATOR, append_alone
from infra.accounts import MICROS_PER_UNIT
from infra.checkpoint import parse as parse_checkpoint
from infra.cosigner import Witnesses
from infra.installation import NotInstalled
from infra.invoice import Line
from infra.proofs import InclusionProof
from infra.settings import Settings
from infra.signed_note import NoteMalformed, VerifierKey
from infra.signed_note import parse as parse_note
from infra.verifier import Finding, Policy, Report, parse_key, parse_policy, verify_proof
from infra.witness import Witness
from projections import reconciliation, statements

FOUND_WRONG: Final = 1
PROGRESS_EVERY_SECONDS: Final = 1.0
MANIFEST: Final = "manifest.json"

Progress = Callable[[int, int], None]


class Manifest(Struct, frozen=True, kw_only=True):
    """What a folder holds: the log up to a size, and what the reports and accounts in it are made of."""

    format: int = 1
    log: str
    size: int
    root: bytes
    exported_at: str
    made_by: str
    reports: tuple[str, ...] = (inspection.BUDGETS, inspection.DELIVERIES, inspection.ACCOUNTS)


class Verdict(Struct, frozen=True, kw_only=True):
    """What was checked, by name and how often, what was not and why, what proofs add up to, and what is wrong."""

    checked: dict[str, int]
    not_checked: dict[str, str]
    billed: list[Line]
    found: int
    findings: list[Finding]


@click.group()
def audit() -> None:
    """Export, prove, verify and replay what the ledger says."""


@audit.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@options.organisation
@options.data_dir
@options.as_json
def export(folder: Path, organisation: str | None, data_dir: Path | None, as_json: bool) -> None:
    """Write the sealed log into FOLDER, with keys, budgets, deliveries and accounts.

    The folder is complete in itself: `ledger audit verify FOLDER` needs no database and no network. An export that was
    interrupted goes on where it stopped, and a later one adds what is new. That the log was exported is recorded in it.
    """
    found = settings.read(data_dir=data_dir, organisation=organisation)
    with installation.database(found) as url:
        made = asyncio.run(_export(url, found.organisation, folder, cosigner.read(found.log_policy_file)))
    if as_json:
        click.echo(msgspec.json.encode(made))
    else:
        click.echo(f"{made.size:,} entries of {made.log} are in {folder}.")


@audit.command()
@click.option("--position", required=True, type=click.IntRange(min=1), help="The position of the entry.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Where to write it. [default: stdout]")
@options.organisation
@options.data_dir
@options.as_json
def prove(position: int, output: Path | None, organisation: str | None, data_dir: Path | None, as_json: bool) -> None:
    """Write the proof that an entry is in the signed log, as a .tlog-proof file that holds the entry.

    Whoever has the log's public key can check it: `ledger audit verify FILE`.
    """
    found = settings.read(data_dir=data_dir, organisation=organisation)
    with installation.database(found) as url:
        proof = asyncio.run(_prove(url, found.organisation, position, cosigned=found.log_policy_file is not None))
    text = msgspec.json.encode(proof).decode() if as_json else proof.as_tlog_proof()
    if output is None:
        click.echo(text, nl=as_json)
    else:
        mirror.write(output, text.encode())


@audit.command("invoice")
@click.argument("campaign_id", type=click.UUID)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--from", "since", type=Time(), help="Only what was recorded from this time on.")
@click.option("--to", "until", type=Time(), help="Only what was recorded before this time.")
@options.organisation
@options.data_dir
@options.as_json
def prove_invoice(
    campaign_id: UUID,
    folder: Path,
    since: datetime | None,
    until: datetime | None,
    organisation: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Write into FOLDER a proof of every delivery that a campaign was billed for.

    Whoever has the log's public key can check them, and what they add up to: `ledger audit verify FOLDER`.
    """
    found = settings.read(data_dir=data_dir, organisation=organisation)
    with installation.database(found) as url:
        cosigned = found.log_policy_file is not None
        count = asyncio.run(
            _prove_invoice(url, found.organisation, campaign_id, folder, since=since, until=until, cosigned=cosigned)
        )
    click.echo(msgspec.json.encode({"proofs": count}) if as_json else f"{count:,} proofs are in {folder}.")


@audit.command()
@click.argument("path", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--database", is_flag=True, help="Verify the live database; that is what happens without a PATH.")
@click.option("--key", "keys", multiple=True, help="A public key of the log that you trust, instead of those in PATH.")
@click.option(
    "--policy",
    "policy_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with the keys of log and witnesses, and the quorum (C2SP tlog-policy), instead of the one in PATH.",
)
@click.option(
    "--kept",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="A checkpoint, proof or export that you kept: the log must still have begun like that. May be repeated.",
)
@click.option(
    "--bean-check/--no-bean-check",
    default=None,
    help="Ask beancount about the accounts. [default: if it is installed, and there are not too many transactions]",
)
@options.organisation
@options.data_dir
@options.as_json
def verify(
    path: Path | None,
    database: bool,
    keys: tuple[str, ...],
    policy_file: Path | None,
    kept: tuple[Path, ...],
    bean_check: bool | None,
    organisation: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Verify an exported folder, a .tlog-proof file or a folder of them, or the live database.

    Exits with 1 when something is wrong. What is checked: signatures, every hash of the tree, every checkpoint, also
    those that you kept, every entry, the order and the versions of streams, every limit and price at every position,
    budgets, deliveries and accounts; on a database also its columns and read models.
    """
    if database == (path is not None):
        database = path is None
        if path is not None:
            raise click.UsageError("Name a PATH, or say --database, not both.")
    policy = _policy(keys, policy_file)
    report, not_asked, billed = Report(), None, list[Line]()
    if path is None:
        found = settings.read(data_dir=data_dir, organisation=organisation)
        with installation.database(found) as url:
            witnesses = cosigner.read(found.log_policy_file)
            trusted = asyncio.run(_verify_database(url, found.organisation, policy, witnesses, kept, report))
    elif path.is_dir() and not invoice.is_in(path):
        trusted = policy or inspection.policy_in(path)
        notes = inspection.kept_notes(kept)
        not_asked = inspection.inspect_folder(path, trusted, notes, report, bean_check=bean_check)
    else:
        trusted = policy or _policy_here(settings.read(data_dir=data_dir, organisation=organisation))
        if path.is_dir():
            billed = invoice.verify(path, trusted, report)
        elif (entry := verify_proof(path.read_text(encoding="utf-8"), trusted, report)) and not as_json:
            click.echo(entry)
    not_checked = {} if not_asked is None else {"bean-check": not_asked}
    _tell(report, not_checked, billed, trusted, given=policy is not None, as_json=as_json)
    sys.exit(FOUND_WRONG if report.found else 0)


@audit.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--name", required=True, help="What the witness is called in its cosignatures, such as witness.example.")
@click.option(
    "--policy",
    "policy_file",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with the keys of the logs to witness (C2SP tlog-policy).",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=7_380, show_default=True, type=click.IntRange(1, 65_535), help="The port to listen on.")
def witness(folder: Path, name: str, policy_file: Path, host: str, port: int) -> None:
    """Cosign the checkpoints of other people's ledgers, keeping in FOLDER the keys and what was cosigned.

    Says what a ledger's policy is to name it by: one of its keys, for Ed25519 or for ML-DSA-44; it signs with both.
    A ledger that names this witness in its policy cannot show anybody another history than the one seen here.
    """
    policy = _policy((), policy_file)
    logs = [VerifierKey(*key) for key in policy.logs] if policy else []
    try:
        serving = Witness(folder, name, logs)
    except NoteMalformed as error:
        raise click.UsageError(str(error)) from error
    for signer in serving.signers:  # each is a line that a policy can have
        click.echo(f"witness {name} {signer.key} http://{host}:{port}")
    asyncio.run(serve_witness(serving, host, port))


audit.add_command(replay)


async def _export(url: str, organisation: str | None, folder: Path, witnesses: Witnesses | None) -> Manifest:
    async with installation.opened(url, organisation) as (connection, ledger_id):
        await append_alone(connection, ledger_id, ledger_id, Exported(what="log"), actor=OPERATOR)
        sealed = await mirror.mirror(connection, ledger_id, folder, _progress("copied"), witnesses)
    log = parse_checkpoint(parse_note(sealed.note.encode()).text).origin
    entries = _watched(mirror.entries_in(folder, sealed.size), sealed.size, _progress("counted"))
    statements.write_reports(folder, log, entries)
    made = Manifest(
        log=log,
        size=sealed.size,
        root=sealed.root,
        exported_at=clock.now().isoformat(),
        made_by=f"campaign-ledger {version('campaign-ledger')}",
    )
    mirror.write(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(made)) + b"\n")
    return made


async def _prove(url: str, organisation: str | None, position: int, *, cosigned: bool) -> InclusionProof:
    async with installation.opened(url, organisation) as (connection, ledger_id):
        return await proofs.prove_inclusion(connection, ledger_id, position, cosigned=cosigned)


async def _prove_invoice(
    url: str,
    organisation: str | None,
    campaign_id: UUID,
    folder: Path,
    *,
    since: datetime | None,
    until: datetime | None,
    cosigned: bool,
) -> int:
    async with installation.opened(url, organisation) as (connection, ledger_id):
        return await invoice.prove(
            connection, ledger_id, campaign_id, folder, since=since, until=until, cosigned=cosigned
        )


async def _verify_database(
    url: str,
    organisation: str | None,
    policy: Policy | None,
    witnesses: Witnesses | None,
    kept: tuple[Path, ...],
    report: Report,
) -> Policy:
    async with installation.opened(url, organisation) as (connection, ledger_id):
        trusted = policy or parse_policy(await mirror.policy_of(connection, ledger_id, witnesses))
        notes = inspection.kept_notes(kept)
        await reconciliation.inspect_database(connection, ledger_id, trusted, notes, report, _progress("verified"))
        return trusted


def _policy(keys: tuple[str, ...], policy_file: Path | None) -> Policy | None:
    try:
        policy = parse_policy(policy_file.read_text(encoding="utf-8")) if policy_file else None
        trusted = [parse_key(key) for key in keys]
    except (ValueError, IndexError) as error:
        raise click.UsageError(f"This is no key or policy: {error}") from error
    if trusted:
        policy = (policy or Policy([], {}, {}, "none"))._replace(logs=trusted)
    return policy


def _policy_here(found: Settings) -> Policy:
    """Return the policy of the ledger of this machine; where there is none, a proof cannot be verified without keys."""
    try:
        with installation.database(found) as url:
            return asyncio.run(_policy_of(url, found.organisation, cosigner.read(found.log_policy_file)))
    except NotInstalled as error:
        raise click.UsageError("A proof comes without keys: name the log's with --key or --policy.") from error


async def _policy_of(url: str, organisation: str | None, witnesses: Witnesses | None) -> Policy:
    async with installation.opened(url, organisation) as (connection, ledger_id):
        return parse_policy(await mirror.policy_of(connection, ledger_id, witnesses))


def _tell(
    report: Report, not_checked: Mapping[str, str], billed: list[Line], trusted: Policy, *, given: bool, as_json: bool
) -> None:
    if as_json:
        verdict = Verdict(
            checked=dict(report.checked),
            not_checked=dict(not_checked),
            billed=billed,
            found=report.found,
            findings=report.findings,
        )
        click.echo(msgspec.json.encode(verdict))
        return
    whose = "given by you" if given else "as the ledger itself says: compare them with what you were told"
    click.echo(f"Keys of the log, {whose}:")
    for key in trusted.logs:
        click.echo(f"  {VerifierKey(*key)}")
    for check, count in report.checked.items():
        wrong = sum(finding.check == check for finding in report.findings)
        click.echo(f"{check:<12} {count:>12,} checked  {f'{wrong:,} WRONG' if wrong else 'right'}")
    for check, reason in not_checked.items():
        click.echo(f"{check:<12} {'not':>12} checked  {reason}")
    for line in billed:
        money = f"{Decimal(line.spent_micros) / MICROS_PER_UNIT:,f} {line.currency}"
        click.echo(f"{line.deliveries:,} billed deliveries of campaign {line.campaign_id} come to {money}.")
    for finding in report.findings:
        where = "" if finding.position is None else f" at position {finding.position:,}"
        click.echo(f"WRONG {finding.check}{where}: {finding.detail}")
    if report.found > len(report.findings):
        click.echo(f"... and {report.found - len(report.findings):,} more.")
    click.echo("Something is wrong." if report.found else "Everything is right.")


def _watched(entries: Iterator[tuple[int, bytes]], size: int, progress: Progress) -> Iterator[tuple[int, bytes]]:
    for position, entry in entries:
        if position % mirror.PAGE_TILES == 0 or position == size:
            progress(position, size)
        yield position, entry


def _progress(what: str) -> Progress:
    """Say now and then on the terminal how far something has come; where there is none, say nothing."""
    told = monotonic()

    def progress(done: int, of: int) -> None:
        nonlocal told
        if sys.stderr.isatty() and (monotonic() >= told + PROGRESS_EVERY_SECONDS or done == of):
            told = monotonic()
            click.echo(f"\r{done:,} of {of:,} entries {what}", nl=done == of, err=True)

    return progress
