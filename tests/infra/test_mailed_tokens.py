"""Mailed tokens: each reads back as what it was written for, and nothing near it does."""

from typing import Final
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from infra import mailed_tokens
from infra.keys import Keys
from infra.mailed_tokens import Purpose, TokenUnfit

KEYS: Final = Keys(generations=(b"k" * 32,), signing_key=Ed25519PrivateKey.generate(), public_keys={}, kid="")
PURPOSES: Final[tuple[Purpose, ...]] = ("invitation", "reset", "verification")
ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
TOKEN_CHARACTERS: Final = 64


@given(st.sampled_from(PURPOSES), st.uuids(), st.uuids())
def test_a_token_reads_back(purpose: Purpose, ledger_id: UUID, token_id: UUID) -> None:
    """A token is the same whenever it is written, and good for its purpose alone."""
    token = mailed_tokens.written(KEYS, purpose, ledger_id, token_id)
    assert token == mailed_tokens.written(KEYS, purpose, ledger_id, token_id)
    assert len(token) == TOKEN_CHARACTERS
    assert set(token) <= set(ALPHABET)
    for other in PURPOSES:
        if other == purpose:
            assert mailed_tokens.read(KEYS, other, token) == (ledger_id, token_id)
        else:
            with pytest.raises(TokenUnfit):
                mailed_tokens.read(KEYS, other, token)


@given(st.uuids(), st.uuids(), st.integers(0, TOKEN_CHARACTERS - 1), st.sampled_from(ALPHABET))
def test_every_character_counts(ledger_id: UUID, token_id: UUID, place: int, character: str) -> None:
    """With any character changed, a token is none: there is one way to write each."""
    token = mailed_tokens.written(KEYS, "reset", ledger_id, token_id)
    altered = token[:place] + character + token[place + 1 :]
    if altered == token:
        assert mailed_tokens.read(KEYS, "reset", altered) == (ledger_id, token_id)
    else:
        with pytest.raises(TokenUnfit):
            mailed_tokens.read(KEYS, "reset", altered)


@given(st.text(max_size=200))
def test_any_other_text_is_refused(text: str) -> None:
    """Whatever is entered, it is refused as every other token is."""
    with pytest.raises(TokenUnfit) as refused:
        mailed_tokens.read(KEYS, "reset", text)
    assert refused.value.detail == TokenUnfit().detail
