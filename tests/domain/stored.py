"""The stored examples: one entry of every event type that was ever written, as the log holds it."""

from pathlib import Path
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from domain.events import Entry

E = TypeVar("E", bound=Struct)

GOLDEN: Final = Path(__file__).parent / "golden"
GOLDEN_BEFORE: Final = Path(__file__).parent / "golden_before"
"""Some of them in a form in which the log was written before."""


def stored(kind: type[E]) -> E:
    """Return the event of the stored example of its type."""
    text = (GOLDEN / f"{kind.__struct_config__.tag}.json").read_bytes()
    event = msgspec.json.decode(text, type=Entry, strict=True).event
    assert isinstance(event, kind)
    return event
