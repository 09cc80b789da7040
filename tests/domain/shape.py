"""Whether JSON text has the shape of a type."""

from typing import Any

import msgspec


def passes(kind: Any, raw: str | bytes) -> bool:
    """Tell whether JSON text decodes strictly."""
    try:
        msgspec.json.decode(raw, type=kind, strict=True)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True
