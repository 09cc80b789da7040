"""The commands below `ledger user`."""

import asyncio
import sys
from pathlib import Path
from typing import get_args
from uuid import UUID

import click
import msgspec

from api import options
from domain.access import PersonAdded
from infra import installation, settings, users
from infra.access_audit import OPERATOR, append_alone
from infra.database import connect
from infra.ownership import check_known
from infra.users import INSTALLATION, User


@click.group()
def user() -> None:
    """Look after the people of the ledger."""


@user.command("create")
@click.option("--email", required=True, help="What they sign in with.")
@click.option("--role", required=True, type=click.Choice(get_args(users.Role)), help="What they may do.")
@click.option("--advertiser", "advertisers", multiple=True, type=click.UUID, help="Whose campaigns an advertiser sees.")
@options.organisation
@options.data_dir
@options.as_json
def create_user(
    email: str,
    role: users.Role,
    advertisers: tuple[UUID, ...],
    organisation: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Add a person.

    The password is asked for, or read from standard input when that is no terminal. Ends with 2 when the e-mail address
    is taken or the password is refused.
    """
    if sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\n")
    found = settings.read(data_dir=data_dir, organisation=organisation)
    with installation.database(found) as url:
        added = asyncio.run(_create(url, found.organisation, email, password, role, advertisers))
    click.echo(msgspec.json.encode(added) if as_json else f"{added.email} may sign in as {added.role}.")


async def _create(
    url: str, organisation: str | None, email: str, password: str, role: users.Role, advertisers: tuple[UUID, ...]
) -> User:
    async with await connect(url) as connection:
        ledger_id = INSTALLATION if role == "operator" else await installation.ledger_of(connection, organisation)
        await check_known(connection, ledger_id, advertisers)
        async with connection.transaction():
            added = await users.create(
                connection, ledger_id, email=email, password=password, role=role, advertiser_ids=advertisers
            )
            event = PersonAdded(role=role, advertiser_ids=advertisers)
            await append_alone(connection, ledger_id, added.id, event, actor=OPERATOR)
        return added
