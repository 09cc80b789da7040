"""Somebody who is told: an HTTP server in a process of its own, which keeps what it gets, and answers as it is to."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from tests.running import free_port


class Told(NamedTuple):
    """One request: its path, its headers by their names in lower case, and its body."""

    path: str
    headers: dict[str, str]
    body: str

    @property
    def id(self) -> str:
        """What the message is called."""
        return self.headers["webhook-id"]

    @property
    def said(self) -> dict[str, Any]:
        """The body, read."""
        found: dict[str, Any] = json.loads(self.body)
        return found


class Receiver(NamedTuple):
    """A running receiver, and how a test speaks to it."""

    port: int
    folder: Path

    def url(self, path: str) -> str:
        """Return the URL of one of its paths, each of which answers for itself."""
        return f"http://127.0.0.1:{self.port}/{path}"

    def answers(self, path: str, status: int) -> None:
        """Answer with a status from now on."""
        (self.folder / f"{path}.status").write_text(str(status))

    def told(self, path: str) -> list[Told]:
        """Return all that it got at a path, in order."""
        kept = self.folder / f"{path}.ndjson"
        return [Told(*json.loads(line)) for line in kept.read_text().splitlines()] if kept.exists() else []


@contextmanager
def receiving(folder: Path) -> Iterator[Receiver]:
    """Receive, in a process of its own, until the end."""
    port = free_port()
    command = [sys.executable, "-m", "tests.receiver", str(port), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it listens
        try:
            yield Receiver(port, folder)
        finally:
            process.kill()


def main(port: int, folder: Path) -> None:
    """Keep every request in a line, durably enough for a test, before it is answered."""
    writing = Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            headers = {name.lower(): value for name, value in self.headers.items()}
            name = self.path.strip("/")
            with writing, (folder / f"{name}.ndjson").open("a") as kept:
                kept.write(json.dumps([self.path, headers, body]) + "\n")
            status = folder / f"{name}.status"
            self.send_response(int(status.read_text()) if status.exists() else 204)
            self.send_header("Location", f"http://127.0.0.1:{port}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
