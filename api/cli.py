"""The `ledger` command. Exit status: 0 done, 1 found something wrong, 2 could not be run as asked."""

import sys
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Final

import click

COULD_NOT_RUN: Final = 2

COMMANDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "audit": "api.audit_cli",
        "demo": "api.demo_cli",
        "keys": "api.keys_cli",
        "migrate": "api.serve_cli",
        "play": "api.play_cli",
        "projections": "api.projections_cli",
        "serve": "api.serve_cli",
        "user": "api.users_cli",
        "work": "api.work_cli",
    }
)
"""The module of each command, which is imported when it is run: all of them together take seconds."""

ABOUT_ALL: Final = """
Exit status: 0 done, 1 found something wrong, 2 could not be run as asked.

\b
Environment:
  LEDGER_DATABASE_URL           the PostgreSQL to use; not set: the service starts its own
  LEDGER_DATA_DIR               where that one and its keys are kept [default: .ledger]
  LEDGER_SECRET_KEY             32 random bytes or more in base64url, needed with LEDGER_DATABASE_URL
  LEDGER_PREVIOUS_SECRET_KEY    the one before, while it is being replaced
  LEDGER_ENCRYPTION_KEY         32 random bytes in base64url, needed with LEDGER_DATABASE_URL: personal data
  LEDGER_SIGNING_KEY_FILE       an Ed25519 key in PEM, needed with LEDGER_DATABASE_URL
  LEDGER_LOG_KEY_FILE           another one, for its owner alone, needed with LEDGER_DATABASE_URL to sign the log
  LEDGER_PREVIOUS_LOG_KEY_FILE  the one before, while it is being replaced: both sign
  LEDGER_LOG_POLICY_FILE        witnesses that cosign the log, where they are, and how many are enough
  LEDGER_LOG_MLDSA44_KEY_FILE   an ML-DSA-44 key in PEM that signs the log as well
  LEDGER_LOG_ORIGIN             what the log is called in its checkpoints, for ever
  LEDGER_RATE_PER_KEY           how many requests each slot key may make, such as 500/second [default: any number]
  LEDGER_RATE_PER_ADDRESS       the same for each address
  LEDGER_IMPRESSIONS_PER_VIEWER how many of one viewer are plausible; more are invalid [default: 600/minute]
  LEDGER_CLICKS_PER_VIEWER      the same of clicks [default: 60/minute]
  LEDGER_IMPRESSIONS_PER_ADDRESS, LEDGER_CLICKS_PER_ADDRESS
                                the same from one address [default: any number]
  LEDGER_SESSION_IDLE_DAYS      after how many days without use a session of a person ends [default: 7]
  LEDGER_VIEWER_KEY_DAYS        how long the pseudonyms of viewers last; no longer do frequency caps [default: 90]
  LEDGER_DATA_CENTRES_FILE      networks of data centres, one a line: what they report is invalid
  LEDGER_CORS_ORIGINS           origins of pages that may ask /api/v1 and /audit/v1, separated by commas [default: none]
  LEDGER_TRUSTED_PROXIES        addresses and networks whose X-Forwarded-For is believed, separated by commas
  LEDGER_CONNECTIONS_MAX        how many connections each web worker holds at once [default: 2048]
  LEDGER_PUBLIC_URL             where ad slots reach the service, when it is not where they asked
  LEDGER_CONSOLE_PATH           the path of a page there, such as /console, that links in mail lead to [default: none]
  LEDGER_MEDIA_URL              the bucket for uploaded images, such as s3://ads/media, reached as AWS_* variables say
                                [default: the folder media of LEDGER_DATA_DIR]
  LEDGER_WEBHOOK_NETWORKS       private networks in which webhooks may be, separated by commas [default: none]
  LEDGER_SMTP_URL               the server that mail leaves through, such as smtp://user:password@mail.example:587
                                [default: none; mail is kept as files in the folder mail of LEDGER_DATA_DIR]
  LEDGER_MAIL_FROM              whom mail is from, such as Ledger <ledger@example.com>
  LEDGER_MESSAGE_RETRY_SECONDS  how long to wait before a message is sent again, and again, separated by commas
  LEDGER_OIDC_PROVIDERS         through whom people may sign in, such as google,acme, with for each (here ACME)
                                LEDGER_OIDC_ACME_ISSUER, _CLIENT_ID and _CLIENT_SECRET (google needs no issuer), and
                                LEDGER_OIDC_ACME_SECOND_FACTOR=trusted if its own is enough; needs LEDGER_PUBLIC_URL
  LEDGER_OIDC_CONSOLE_URL       where they are sent then, with a code to exchange [default: they get tokens as JSON]
  LEDGER_ADMIN_EMAIL            with LEDGER_ADMIN_PASSWORD: the first admin of an empty ledger
  LEDGER_ORGANISATION           whose ledger a command is about, as with --organisation [default: the only one]
  LEDGER_SELF_SIGN_UP           whether anybody may have an account and begin organisations, or operators alone: on or
                                off [default: off with LEDGER_DATABASE_URL, or else on]
  LEDGER_LOG_LEVEL              debug, info, warning or error [default: info]
"""


class Commands(click.Group):
    """The commands, each found by its name in its module."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  as click calls it
        """Return their names."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  as click calls it
        """Return the one of a name."""
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = getattr(import_module(COMMANDS[cmd_name]), cmd_name)
        return found


@click.group(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, epilog=ABOUT_ALL
)
@click.version_option(package_name="campaign-ledger")
def ledger() -> None:
    """An event-sourced ledger for advertising campaigns."""


def main() -> None:
    """Run the command line; what keeps a command from being run is said in a sentence."""
    try:
        ledger()
    except Exception as error:
        from api import hindrances  # noqa: PLC0415  as it is imported at once, a command would import all others

        reason = hindrances.reason_of(error)
        if reason is None:
            raise
        click.echo(f"ledger: {reason}", err=True)
        sys.exit(COULD_NOT_RUN)


if __name__ == "__main__":
    main()
