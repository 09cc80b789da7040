"""Options that several commands of the command line have."""

from pathlib import Path

import click

data_dir = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the service keeps its own PostgreSQL and keys, unless LEDGER_DATABASE_URL is set. "
    "[default: LEDGER_DATA_DIR or .ledger]",
)
host = click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
port = click.option(
    "--port", default=8000, show_default=True, type=click.IntRange(1, 65_535), help="The port to listen on."
)
organisation = click.option(
    "--organisation",
    metavar="SLUG",
    help="Whose ledger, where several organisations share the installation. "
    "[default: LEDGER_ORGANISATION, or the only one]",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
