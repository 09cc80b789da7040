"""Slot keys: random, recognisable, kept as a hash."""

import re
from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from infra import slot_keys


def test_a_key_is_random_and_recognisable() -> None:
    """A key is `lsk_` and 256 bits in base64url, no two alike, and its hash is that of its text."""
    made = [slot_keys.fresh() for _ in range(100)]
    assert len({one.key for one in made}) == 100
    for one in made:
        assert re.fullmatch(r"lsk_[A-Za-z0-9_-]{43}", one.key)
        assert one.sha256 == sha256(one.key.encode()).hexdigest() == slot_keys.digest(one.key)
        assert one.key not in repr(one)


@given(st.text(alphabet=st.characters()))
def test_whatever_is_presented_has_a_hash(key: str) -> None:
    """A header may hold anything; it is hashed without an error, so that it can be looked up in vain."""
    assert re.fullmatch(r"[0-9a-f]{64}", slot_keys.digest(key))
