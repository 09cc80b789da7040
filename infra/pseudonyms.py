"""Pseudonyms: the names under which a ledger knows viewers, which are others in every period.

Each period has a key, which follows from the ledger's and the period's number (HKDF-SHA256, RFC 5869): so all workers
have the same at the same moment, and none is stored. So that no frequency cap is undone where one period ends and the
next begins, a viewer's name of the period before is looked up as well, for as long as a cap looks back; caps that look
back further count what was seen in this period and the one before. Nobody can tell more, and that is what names change
for.
"""

from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from infra.ledger_keys import KEY_BYTES, pseudonym

SECONDS_PER_DAY: Final = 86_400


class Pseudonyms:
    """The names of viewers in one ledger, at any moment in seconds since 1970."""

    def __init__(self, viewer_key: bytes, *, days: int) -> None:
        """Name viewers anew every so many days, counted from 1970, with keys that follow from the ledger's."""
        self._viewer_key = viewer_key
        self._seconds = days * SECONDS_PER_DAY
        self._keys: dict[int, bytes] = {}

    def __repr__(self) -> str:
        """Show nothing secret."""
        return f"Pseudonyms(days={self._seconds // SECONDS_PER_DAY})"

    def name(self, viewer_id: str, second: int) -> str:
        """Return what a viewer is called at a moment."""
        return pseudonym(self._key(second // self._seconds), viewer_id)

    def earlier(self, viewer_id: str, second: int, *, seconds: int) -> str | None:
        """Return what a viewer was called in the period before, if that was less than so many seconds ago."""
        period, since = divmod(second, self._seconds)
        return pseudonym(self._key(period - 1), viewer_id) if period and since < seconds else None

    def _key(self, period: int) -> bytes:
        known = self._keys.get(period)
        if known is None:
            info = f"campaign-ledger 1 period {period}".encode()
            known = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(self._viewer_key)
            self._keys = {each: key for each, key in self._keys.items() if abs(each - period) == 1} | {period: known}
        return known
