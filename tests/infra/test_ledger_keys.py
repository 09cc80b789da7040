"""The keys of a ledger: different for every purpose and ledger, the same for ever."""

import re
from itertools import product
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from infra import ledger_keys
from infra.clock import fresh_id
from infra.keys import Keys
from infra.ledger_keys import KEY_BYTES, Purpose, draw, of_ledger, pseudonym

LEDGER = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
CURRENT, PREVIOUS = bytes(range(32)), bytes(range(32, 64))
KEYS = Keys(generations=(CURRENT, PREVIOUS), signing_key=Ed25519PrivateKey.generate(), public_keys={}, kid="")


def test_keys_differ_by_secret_purpose_and_ledger() -> None:
    """No two of secret, purpose and ledger give the same key."""
    purposes: list[Purpose] = ["beacon", "draw", "throttle", "viewer"]
    choices = list(product((CURRENT, PREVIOUS), purposes, (LEDGER, fresh_id(), None)))
    derived = {ledger_keys.derived(*choice) for choice in choices}
    assert len(derived) == len(choices)
    assert {len(key) for key in derived} == {KEY_BYTES}


def test_keys_never_change() -> None:
    """A secret gives the keys that it has always given, or tokens, pseudonyms and draws would lose their meaning."""
    keys = of_ledger(KEYS, LEDGER)
    assert keys.beacon[0].hex() == "091257d30266544673f6b2a73d8bdd0db5d98091f999108e4512b9d23aaa91eb"
    assert keys.viewer.hex() == "abb146d26647fec3fefdcccf167c921b84c2f4dc47323f61a1bff7c6ddf12f87"
    assert keys.draw.hex() == "23fc78e79af8c7f87a70b7e22679a55e1a251e68960eb23dd6c6e821079a1efa"
    assert pseudonym(keys.viewer, "viewer-1") == "YzciPo8cb0otCPe904APOA"
    assert draw(keys.draw, LEDGER) == 0xE4FB978B1A3B3AB049A2C3DDCFFB48C91F2C4FB7322C8385EA145FB047873515


def test_a_rotation_keeps_the_keys_of_beacons_alone() -> None:
    """Tokens of the secret before are still known; pseudonyms and draws begin anew."""
    keys = of_ledger(KEYS, LEDGER)
    rotated_out = Keys(generations=(PREVIOUS,), signing_key=KEYS.signing_key, public_keys={}, kid="")
    assert keys.beacon[1:] == of_ledger(rotated_out, LEDGER).beacon
    assert keys.viewer != of_ledger(rotated_out, LEDGER).viewer
    assert keys.draw != of_ledger(rotated_out, LEDGER).draw


@pytest.mark.parametrize("viewer_id", ["a", "viewer" * 20, "\u89c2\u4f17", "\x00", "\ud800"])
def test_a_pseudonym_has_22_characters_of_a_url(viewer_id: str) -> None:
    """Whatever a viewer is called, the pseudonym is as long as any and tells nothing."""
    assert re.fullmatch(r"[A-Za-z0-9_-]{22}", pseudonym(bytes(32), viewer_id))
    assert pseudonym(bytes(32), viewer_id) == pseudonym(bytes(32), viewer_id)
    assert pseudonym(bytes(32), viewer_id) != pseudonym(bytes(31) + b"x", viewer_id)
    assert pseudonym(bytes(32), viewer_id) != pseudonym(bytes(32), viewer_id + "x")


def test_draws_are_spread_over_256_bits() -> None:
    """Draws of ids that follow one another differ, and use every bit about half of the time."""
    draws = [draw(CURRENT, fresh_id()) for _ in range(1_000)]
    assert len(set(draws)) == 1_000
    ones = [sum(number >> bit & 1 for number in draws) for bit in range(256)]
    assert sum(ones) == pytest.approx(128_000, rel=0.02)
    assert min(ones) > 400
    assert max(ones) < 600
    assert max(draws) < 2**256


def test_no_representation_shows_a_key() -> None:
    """Printing the keys of a ledger shows which ledger, and nothing else."""
    assert repr(of_ledger(KEYS, LEDGER)) == f"LedgerKeys(ledger_id={LEDGER!r})"
