"""How the service writes its log: one JSON object a line, on standard error."""

import logging
import os
import sys
from contextlib import suppress
from typing import Any, Final

import msgspec
import structlog

_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class _StandardError:
    """Standard error as long as it takes anything: a full disk must not end a service that cannot say so any more."""

    def write(self, line: bytes) -> None:
        with suppress(OSError):
            os.write(sys.stderr.fileno(), line)

    def flush(self) -> None:
        """Nothing is kept back."""


_STANDARD_ERROR: Final[Any] = _StandardError()  # all of a file that is made use of


def configure(level: str) -> None:
    """Log from `level` (debug, info, warning or error) on."""
    number = _LEVELS.get(level.lower(), logging.INFO)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=lambda event, **_: msgspec.json.encode(event, enc_hook=repr)),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.BytesLoggerFactory(file=_STANDARD_ERROR),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=max(number, logging.WARNING), stream=sys.stderr, format="%(message)s", force=True)
