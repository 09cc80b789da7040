"""Somebody who reads mail: aiosmtpd in a process of its own, which keeps all that it takes, twice if told twice."""

import re
import socket
import subprocess
import sys
from collections.abc import Iterable
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from aiosmtpd.handlers import Mailbox

from infra.mail import FOLDER
from tests.running import START_SECONDS_MAX, STOP_SECONDS_MAX, free_port

REFUSED = "refused@example.com"
_ADDED = ("X-Peer", "X-MailFrom", "X-RcptTo")


class Reader(Mailbox):
    """Takes everything but what is for one address."""

    async def handle_RCPT(  # noqa: N802  aiosmtpd calls it so
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: list[str]
    ) -> str:
        """Answer whom a message is for."""
        if address == REFUSED:
            return "550 nobody of that name"
        envelope.rcpt_tos.append(address)
        return "250 OK"


class Post:
    """A mail server, and what it took."""

    def __init__(self, folder: Path) -> None:
        """Keep in a folder what is taken, once it is open."""
        self.port = free_port()
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"smtp://127.0.0.1:{self.port}"

    def open(self) -> None:
        """Take mail from now on."""
        handler = ["-c", "tests.mailbox.Reader", str(self.folder / "box")]
        command = [sys.executable, "-m", "aiosmtpd", "-n", "-l", f"127.0.0.1:{self.port}", *handler]
        self._process = subprocess.Popen(command)
        deadline = monotonic() + START_SECONDS_MAX
        while True:
            with socket.socket() as asking:
                if asking.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert monotonic() < deadline
            sleep(0.05)

    def close(self) -> None:
        """Take no mail, nor connections."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(STOP_SECONDS_MAX)

    def raw(self) -> list[bytes]:
        """Return every message that was taken, as it was sent."""
        box = self.folder / "box" / "new"
        found = sorted(box.iterdir(), key=lambda path: path.stat().st_mtime_ns) if box.exists() else []
        return [_as_sent(path.read_bytes()) for path in found]

    def letters(self, reader: str, about: str = "") -> list[EmailMessage]:
        """Return the letters to a reader whose subject has these words."""
        return _of(reader, about, self.raw())


def kept(data_dir: Path, reader: str, about: str = "") -> list[EmailMessage]:
    """Return the letters to a reader whose subject has these words, of a service that has no server for its mail."""
    return _of(reader, about, [path.read_bytes() for path in (data_dir / FOLDER).glob("[!.]*.eml")])


def _of(reader: str, about: str, raw: Iterable[bytes]) -> list[EmailMessage]:
    # Only what may be meant is parsed, which takes milliseconds: whoever waits for a letter asks often.
    meant = [each for each in raw if reader.encode() in each]
    found = [message_from_bytes(each, _class=EmailMessage, policy=policy.default) for each in meant]
    return [each for each in found if each["To"] == reader and about in each["Subject"]]


def token_in(letter: EmailMessage) -> str:
    """Return the token that stands in a letter, in both of its parts."""
    (token,) = re.findall(r"^[A-Za-z0-9_-]{64}$", text_of(letter, "plain"), re.MULTILINE)
    assert f"<code>{token}</code>" in text_of(letter, "html")
    return str(token)


def text_of(letter: EmailMessage, kind: str) -> str:
    """Return what a letter says, `plain` or `html`."""
    part = letter.get_body((kind,))
    assert part is not None
    content: str = part.get_content()
    return content


def _as_sent(raw: bytes) -> bytes:
    """Return a message without what the server noted about how it came."""
    lines = raw.splitlines(keepends=True)
    return b"".join(line for line in lines if not line.decode(errors="replace").startswith(_ADDED))
