"""What the environment says: the only module that reads it."""

import os
import re
from email.utils import parseaddr
from ipaddress import ip_network
from pathlib import Path
from secrets import randbelow
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

CONNECTIONS_MAX: Final = 2_048
VIEWER_KEY_DAYS: Final = 90
SESSION_IDLE_DAYS: Final = 7
"""How many connections a web worker holds at once, unless it is told otherwise."""


IMPRESSIONS_PER_VIEWER: Final = "600/minute"
CLICKS_PER_VIEWER: Final = "60/minute"
"""More than this no person sees or clicks. An address may be that of thousands: what is too much, operators say."""

MAIL_FROM: Final = "Campaign ledger <ledger@localhost>"
WAIT_SECONDS_MAX: Final = 7 * 86_400
MESSAGE_RETRY_SECONDS: Final = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""How long to wait before a message is sent again, as Standard Webhooks proposes: three days in all."""


OIDC_ISSUERS: Final = {"google": "https://accounts.google.com"}
"""Providers that need no more than an id and a secret."""


class SettingMissing(Exception):
    """A setting that production needs is not there."""


class SettingUnfit(Exception):
    """{name} is {said!r}, and has to be {fit}."""

    def __init__(self, name: str, said: str, fit: str) -> None:
        """Say which, and what would do."""
        super().__init__(str(self.__doc__).format(name=name, said=said, fit=fit))


class OidcProvider(Struct, frozen=True, kw_only=True):
    """A provider of OpenID Connect, and whether it asks for a second factor as well as we would."""

    name: str
    issuer: str
    client_id: str
    client_secret: str
    trusted: bool = False

    def __repr__(self) -> str:
        """Show nothing secret."""
        return f"OidcProvider(name={self.name!r}, issuer={self.issuer!r})"


class Settings(Struct, frozen=True, kw_only=True):
    """The settings of a process; secrets are read by `infra.keys` and appear in no representation."""

    database_url: str | None
    data_dir: Path
    public_url: str
    console_path: str = ""
    secret_key: str | None
    previous_secret_key: str | None
    signing_key_file: Path | None
    encryption_key: str | None = None
    log_key_file: Path | None = None
    log_previous_key_file: Path | None = None
    log_mldsa44_key_file: Path | None = None
    log_policy_file: Path | None = None
    log_origin: str | None = None
    self_sign_up: bool = False
    organisation: str | None = None
    session_idle_days: int = SESSION_IDLE_DAYS
    admin_email: str | None
    admin_password: str | None
    log_level: str
    lifeline: int | None = None
    rate_per_key: str = ""
    viewer_key_days: int = VIEWER_KEY_DAYS
    rate_per_address: str = ""
    rates_file: Path | None = None
    workers: int = 1
    trusted_proxies: str = ""
    cors_origins: tuple[str, ...] = ()
    connections_max: int = CONNECTIONS_MAX
    media_url: str = ""
    data_centres_file: Path | None = None
    impressions_per_viewer: str = IMPRESSIONS_PER_VIEWER
    impressions_per_address: str = ""
    clicks_per_viewer: str = CLICKS_PER_VIEWER
    clicks_per_address: str = ""
    webhook_networks: str = ""
    smtp_url: str | None = None
    mail_from: str = MAIL_FROM
    message_retry_seconds: tuple[float, ...] = MESSAGE_RETRY_SECONDS
    oidc_providers: tuple[OidcProvider, ...] = ()
    oidc_console_url: str = ""

    def __repr__(self) -> str:
        """Show where things are, never what is secret."""
        return f"Settings(embedded={self.database_url is None}, data_dir={str(self.data_dir)!r})"

    @property
    def embedded(self) -> bool:
        """Whether the service runs on its own PostgreSQL under `data_dir`, where it also makes its own keys."""
        return self.database_url is None


def handed_down(
    *, data_dir: Path, lifeline: int, metrics_dir: Path, rates_file: Path, workers: int, connections_max: int
) -> dict[str, str]:
    """Return the environment of the processes that this one starts: its own, and what they cannot know otherwise.

    `lifeline` is the descriptor of a pipe that ends with this process; in `metrics_dir` they all count together, and
    in `rates_file` the web workers do, which they can because strings have the same hash in all of them.
    """
    told = {"LEDGER_DATA_DIR": str(data_dir), "LEDGER_LIFELINE": str(lifeline)}
    told |= {"LEDGER_RATES_FILE": str(rates_file), "LEDGER_WORKERS": str(workers)}
    told["LEDGER_CONNECTIONS_MAX"] = str(connections_max)
    told["PYTHONHASHSEED"] = str(randbelow(2**32))
    told["PROMETHEUS_MULTIPROC_DIR"] = str(metrics_dir)
    return {**os.environ, **told}


def read(*, data_dir: Path | None = None, organisation: str | None = None) -> Settings:
    """Return the settings of this process; what the command line gives goes before the environment."""
    lifeline = os.environ.get("LEDGER_LIFELINE")
    return Settings(
        database_url=os.environ.get("LEDGER_DATABASE_URL") or None,
        data_dir=data_dir or Path(os.environ.get("LEDGER_DATA_DIR") or ".ledger"),
        public_url=os.environ.get("LEDGER_PUBLIC_URL") or "",
        console_path=_console("LEDGER_CONSOLE_PATH"),
        secret_key=os.environ.get("LEDGER_SECRET_KEY") or None,
        previous_secret_key=os.environ.get("LEDGER_PREVIOUS_SECRET_KEY") or None,
        signing_key_file=_path("LEDGER_SIGNING_KEY_FILE"),
        encryption_key=os.environ.get("LEDGER_ENCRYPTION_KEY") or None,
        log_key_file=_path("LEDGER_LOG_KEY_FILE"),
        log_previous_key_file=_path("LEDGER_PREVIOUS_LOG_KEY_FILE"),
        log_mldsa44_key_file=_path("LEDGER_LOG_MLDSA44_KEY_FILE"),
        log_policy_file=_path("LEDGER_LOG_POLICY_FILE"),
        log_origin=os.environ.get("LEDGER_LOG_ORIGIN") or None,
        self_sign_up=_switch("LEDGER_SELF_SIGN_UP", default=not os.environ.get("LEDGER_DATABASE_URL")),
        organisation=organisation or os.environ.get("LEDGER_ORGANISATION") or None,
        session_idle_days=_number("LEDGER_SESSION_IDLE_DAYS", SESSION_IDLE_DAYS),
        admin_email=os.environ.get("LEDGER_ADMIN_EMAIL") or None,
        admin_password=os.environ.get("LEDGER_ADMIN_PASSWORD") or None,
        log_level=os.environ.get("LEDGER_LOG_LEVEL") or "info",
        lifeline=int(lifeline) if lifeline else None,
        viewer_key_days=_number("LEDGER_VIEWER_KEY_DAYS", VIEWER_KEY_DAYS),
        rate_per_key=os.environ.get("LEDGER_RATE_PER_KEY") or "",
        rate_per_address=os.environ.get("LEDGER_RATE_PER_ADDRESS") or "",
        rates_file=_path("LEDGER_RATES_FILE"),
        workers=int(os.environ.get("LEDGER_WORKERS") or 1),
        trusted_proxies=_networks("LEDGER_TRUSTED_PROXIES"),
        cors_origins=_origins("LEDGER_CORS_ORIGINS"),
        connections_max=_number("LEDGER_CONNECTIONS_MAX", CONNECTIONS_MAX),
        media_url=_bucket("LEDGER_MEDIA_URL"),
        data_centres_file=_path("LEDGER_DATA_CENTRES_FILE"),
        impressions_per_viewer=os.environ.get("LEDGER_IMPRESSIONS_PER_VIEWER", IMPRESSIONS_PER_VIEWER),
        impressions_per_address=os.environ.get("LEDGER_IMPRESSIONS_PER_ADDRESS") or "",
        clicks_per_viewer=os.environ.get("LEDGER_CLICKS_PER_VIEWER", CLICKS_PER_VIEWER),
        clicks_per_address=os.environ.get("LEDGER_CLICKS_PER_ADDRESS") or "",
        webhook_networks=_networks("LEDGER_WEBHOOK_NETWORKS"),
        smtp_url=_smtp("LEDGER_SMTP_URL"),
        mail_from=_mailbox("LEDGER_MAIL_FROM", MAIL_FROM),
        message_retry_seconds=_waits("LEDGER_MESSAGE_RETRY_SECONDS", MESSAGE_RETRY_SECONDS),
        oidc_providers=_providers("LEDGER_OIDC_PROVIDERS"),
        oidc_console_url=_safe_url("LEDGER_OIDC_CONSOLE_URL"),
    )


def is_safe_url(url: str) -> bool:
    """Tell whether nobody on the way can read what is sent to a URL: by https, or within this machine."""
    parts = urlsplit(url)
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in {"127.0.0.1", "::1", "localhost"})
    )


def _safe_url(name: str, default: str = "") -> str:
    said = os.environ.get(name) or default
    if said and not is_safe_url(said):
        raise SettingUnfit(name, said, "an https URL")
    return said


def _providers(name: str) -> tuple[OidcProvider, ...]:
    names = [part.strip() for part in (os.environ.get(name) or "").split(",") if part.strip()]
    if names and not os.environ.get("LEDGER_PUBLIC_URL"):
        raise SettingMissing("LEDGER_PUBLIC_URL is missing: it is where providers send people back to.")
    return tuple(_provider(name, each) for each in dict.fromkeys(names))


def _provider(setting: str, name: str) -> OidcProvider:
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", name):
        raise SettingUnfit(setting, name, "names of lower-case letters, digits and hyphens, separated by commas")
    prefix = setting.replace("PROVIDERS", name.upper().replace("-", "_"))
    found = {part: os.environ.get(f"{prefix}_{part}") or "" for part in ("CLIENT_ID", "CLIENT_SECRET", "SECOND_FACTOR")}
    issuer = _safe_url(f"{prefix}_ISSUER", OIDC_ISSUERS.get(name, ""))
    for part, said in (
        ("ISSUER", issuer),
        ("CLIENT_ID", found["CLIENT_ID"]),
        ("CLIENT_SECRET", found["CLIENT_SECRET"]),
    ):
        if not said:
            raise SettingMissing(f"{prefix}_{part} is missing.")
    if found["SECOND_FACTOR"] not in {"", "here", "trusted"}:
        raise SettingUnfit(f"{prefix}_SECOND_FACTOR", found["SECOND_FACTOR"], "here or trusted")
    return OidcProvider(
        name=name,
        issuer=issuer,
        client_id=found["CLIENT_ID"],
        client_secret=found["CLIENT_SECRET"],
        trusted=found["SECOND_FACTOR"] == "trusted",
    )


def _networks(name: str) -> str:
    said = os.environ.get(name) or ""
    try:
        for part in said.split(",") if said else ():
            ip_network(part.strip())
    except ValueError as error:
        raise SettingUnfit(name, said, "addresses and networks, such as 10.0.0.0/8, separated by commas") from error
    return said


def _origins(name: str) -> tuple[str, ...]:
    said = os.environ.get(name) or ""
    origins = tuple(part.strip() for part in said.split(",")) if said else ()
    for origin in origins:
        parts = urlsplit(origin)
        if origin != f"{parts.scheme}://{parts.netloc}" or parts.scheme not in {"http", "https"} or not parts.hostname:
            raise SettingUnfit(name, said, "origins, such as https://console.example, separated by commas")
    return origins


def _console(name: str) -> str:
    said = os.environ.get(name) or ""
    if said and not (said.startswith("/") and said.isascii() and said.isprintable() and not set(said) & set(" #")):
        raise SettingUnfit(name, said, "the path of a page, such as /console")
    return said


def _bucket(name: str) -> str:
    said = os.environ.get(name) or ""
    if said and not (said.startswith("s3://") and said.removeprefix("s3://").strip("/")):
        raise SettingUnfit(name, said, "a bucket, and what keys in it begin with, such as s3://ads/media")
    return said


def _smtp(name: str) -> str | None:
    said = os.environ.get(name) or None
    if said and not (urlsplit(said).scheme in {"smtp", "smtps"} and urlsplit(said).hostname):
        raise SettingUnfit(name, "not shown here", "a mail server, such as smtp://user:password@mail.example:587")
    return said


def _mailbox(name: str, default: str) -> str:
    said = os.environ.get(name) or default
    address = parseaddr(said)[1]
    if not (address.count("@") == 1 and all(address.split("@")) and said.isascii() and said.isprintable()):
        raise SettingUnfit(name, said, "an address that mail comes from, such as Ledger <ledger@example.com>")
    return said


def _waits(name: str, default: tuple[float, ...]) -> tuple[float, ...]:
    said = os.environ.get(name)
    if not said:
        return default
    try:
        waits = tuple(float(part) for part in said.split(","))
    except ValueError:
        waits = ()
    if not waits or not all(0 <= wait <= WAIT_SECONDS_MAX for wait in waits):
        raise SettingUnfit(name, said, "numbers of seconds, separated by commas")
    return waits


def _switch(name: str, *, default: bool) -> bool:
    said = os.environ.get(name) or ("on" if default else "off")
    if said not in {"on", "off"}:
        raise SettingUnfit(name, said, "on or off")
    return said == "on"


def _number(name: str, default: int) -> int:
    said = os.environ.get(name) or str(default)
    if not (said.isascii() and said.isdigit() and int(said) > 0):
        raise SettingUnfit(name, said, "a number above 0")
    return int(said)


def _path(name: str) -> Path | None:
    value = os.environ.get(name)
    return Path(value) if value else None
