"""Mail: how a letter leaves, through a server (SMTP) or, where none is configured, into a folder.

SMTP cannot say whether a message has been seen before: when the server has taken one and the process dies before it
has noted that, the letter is sent again, the same byte for byte, under the same `Message-ID`. By that the reader's side
can tell; many do. A folder knows its files by name, and has each letter once.
"""

import asyncio
import os
from email.message import EmailMessage
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

import aiosmtplib

from infra.keys import synced
from infra.settings import Settings

FOLDER: Final = "mail"
SEND_SECONDS_MAX: Final = 60
PERMANENT: Final = 500
"""From this code on a server says that it will never take the message (RFC 5321, section 4.2.1)."""

PORTS: Final = {"smtp": 25, "smtps": 465}


class MailRefused(Exception):
    """The server will not take the letter, however often it is asked."""


class MailFailed(Exception):
    """The letter could not be handed over now."""


class Mail(Protocol):
    """Whatever letters leave through."""

    async def send(self, letter: EmailMessage) -> None:
        """Hand a letter over; raise MailRefused or MailFailed."""


class Server:
    """A mail server, reached with TLS if it knows it; with a password, only with TLS."""

    def __init__(self, url: str) -> None:
        """Take `smtp://` or, with TLS from the first byte, `smtps://`, with user and password if need be."""
        parsed = urlsplit(url)
        self._options = {
            "hostname": parsed.hostname,
            "port": parsed.port or PORTS[parsed.scheme],
            "username": unquote(parsed.username) if parsed.username else None,
            "password": unquote(parsed.password) if parsed.password else None,
            "use_tls": parsed.scheme == "smtps",
            "start_tls": True if parsed.username and parsed.scheme == "smtp" else None,
            "timeout": SEND_SECONDS_MAX,
        }

    async def send(self, letter: EmailMessage) -> None:
        """Hand a letter over; raise MailRefused or MailFailed."""
        try:
            async with asyncio.timeout(SEND_SECONDS_MAX):
                await aiosmtplib.send(letter, **self._options)  # type: ignore[arg-type]  # each is what it is called
        except aiosmtplib.SMTPRecipientsRefused as error:
            codes = [each.code for each in error.recipients]
            kind = MailRefused if all(code >= PERMANENT for code in codes) else MailFailed
            raise kind(f"the server refused the recipient: {codes}") from error
        except aiosmtplib.SMTPDataError as error:
            kind = MailRefused if error.code >= PERMANENT else MailFailed
            raise kind(f"the server refused the letter: {error.code} {error.message}") from error
        except (aiosmtplib.SMTPException, OSError) as error:
            # Also for a sender or a password that is refused: whoever runs the service can set it right meanwhile.
            raise MailFailed(str(error) or type(error).__name__) from error


class Folder:
    """A folder of `.eml` files, which every mail program opens."""

    def __init__(self, path: Path) -> None:
        """Take the folder, which is made with the first letter."""
        self._path = path

    async def send(self, letter: EmailMessage) -> None:
        """Keep a letter under its id: again, it is the same file. Raise MailFailed."""
        try:
            await asyncio.to_thread(self._keep, letter)
        except OSError as error:
            raise MailFailed(f"{self._path} cannot be used: {error.strerror}") from error

    def _keep(self, letter: EmailMessage) -> None:
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = letter["Message-ID"].strip("<>").partition("@")[0]
        draft = self._path / f".{name}"
        with draft.open("wb") as file:
            file.write(letter.as_bytes())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path / f"{name}.eml")
        synced(self._path)


def mail_of(found: Settings) -> Mail:
    """Return what letters leave through, as the settings have it."""
    return Server(found.smtp_url) if found.smtp_url else Folder(found.data_dir / FOLDER)
