"""The command `ledger demo`."""

from pathlib import Path

import click

from api import options
from api.demo import demo as serve_demo


@click.command()
@options.host
@options.port
@options.data_dir
def demo(host: str, port: int, data_dir: Path | None) -> None:
    """Serve a lived-in example.

    There are campaigns in every state and a day of traffic, and more is trickling in while it runs. Prints an admin's
    credentials, new ones at every start, and what to try. Nothing is made twice: the next start goes on with the same
    ledger. Takes an empty ledger, or one that it made; for any other it ends with 2.
    """
    serve_demo(host=host, port=port, data_dir=data_dir)
