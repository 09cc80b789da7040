"""Beacon tokens: every ticket comes back as it was signed, and nothing else does."""

import base64
import re
from hashlib import blake2b
from typing import Final
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import msgpack, structs

from domain.basis import Basis, Facts
from domain.budget import DeliveryKind
from domain.delivery import EVENT_OF, Ticket
from domain.explanation import BASIS_BYTES_MAX
from domain.values import MICROS_MAX, Pricing
from infra.beacon_tokens import TOKEN_CHARACTERS_MAX, BeaconTokens, TokenForged
from infra.clock import fresh_id
from infra.ledger_keys import LedgerKeys
from tests.domain.strategies import bases

KINDS: Final[tuple[DeliveryKind, ...]] = tuple(EVENT_OF)
ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
CURRENT, PREVIOUS, FOREIGN = b"c" * 32, b"p" * 32, b"f" * 32
LEDGER: Final = fresh_id()

places = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=100)
tickets = st.builds(
    Ticket,
    decision_id=st.uuids(),
    campaign_id=st.uuids(),
    creative_id=st.uuids(),
    advertiser_id=st.uuids(),
    slot_id=st.uuids(),
    country=st.none() | st.from_regex(r"\A[A-Z]{2}\Z"),
    region=places,
    city=places,
    viewer=st.none() | st.text(ALPHABET, min_size=22, max_size=22),
    expires_at=st.integers(0, 2**40),
    hold_expires_at=st.integers(0, 2**40),
    worker=st.integers(0, 2**52),
    pricing=st.builds(Pricing, model=st.sampled_from(["cpm", "cpc", "flat"]), price_micros=st.integers(1, MICROS_MAX)),
    currency=st.from_regex(r"\A[A-Z]{3}\Z"),
    test=st.booleans(),
)


def tokens(*generations: bytes, ledger_id: UUID = LEDGER) -> BeaconTokens:
    """Return what signs under the first of these keys, and verifies under all."""
    return BeaconTokens(LedgerKeys(ledger_id=ledger_id, beacon=generations, viewer=b"", draw=b""))


def ticket() -> Ticket:
    """Return a ticket like those of real traffic."""
    return Ticket(
        decision_id=fresh_id(),
        campaign_id=fresh_id(),
        creative_id=fresh_id(),
        advertiser_id=fresh_id(),
        slot_id=fresh_id(),
        country="CN",
        region="216",
        city="217",
        viewer="v" * 22,
        expires_at=1_800_000_000,
        hold_expires_at=1_799_913_660,
        worker=2**51,
        pricing=Pricing(model="cpm", price_micros=2_500_000),
        currency="CNY",
        test=False,
    )


TOKENS: Final = tokens(CURRENT)
TOKEN: Final = TOKENS.sign("impression", ticket())


def id_of(key: bytes) -> bytes:
    """Return the byte by which a token names the key that signed it."""
    return blake2b(b"key id", key=key, digest_size=16).digest()[:1]


def by_hand(key: bytes, encoded: bytes, letter: str) -> str:
    """Return a token as the description of the format has it."""
    key_id = id_of(key)
    signed = b"\x01" + key_id + LEDGER.bytes + letter.encode() + encoded
    mac = blake2b(signed, key=key, digest_size=16).digest()
    return letter + base64.urlsafe_b64encode(key_id + encoded + mac).decode().rstrip("=")


def refused(token: str, by: BeaconTokens = TOKENS) -> bool:
    """Return whether a token is refused; any other error fails the test."""
    try:
        by.verify(token)
    except TokenForged:
        return True
    return False


@given(tickets, st.sampled_from(KINDS))
def test_a_ticket_comes_back_as_it_was_signed(promised: Ticket, kind: DeliveryKind) -> None:
    """Any ticket survives its token, whose characters a URL takes as they are."""
    token = TOKENS.sign(kind, promised)
    assert TOKENS.verify(token) == (kind, promised)
    assert set(token) <= set(ALPHABET)
    assert len(token) <= TOKEN_CHARACTERS_MAX


@given(tickets)
def test_all_kinds_are_signed_at_once(promised: Ticket) -> None:
    """Signing all gives what signing each gives, in the order impression, view, click."""
    assert TOKENS.sign_all(promised) == tuple(TOKENS.sign(kind, promised) for kind in ("impression", "view", "click"))


@given(bases)
def test_only_the_impression_carries_the_basis(basis: Basis) -> None:
    """What a decision knew comes back with its impression, and makes the other tokens no longer."""
    promised = ticket()
    impression, *others = TOKENS.sign_all(promised, basis)
    assert TOKENS.verify(impression) == ("impression", structs.replace(promised, basis=basis))
    assert others == [TOKENS.sign(kind, promised) for kind in ("view", "click")]
    known = structs.replace(promised, earlier="w" * 22)
    assert TOKENS.verify(TOKENS.sign_all(known, basis)[0]) == ("impression", structs.replace(known, basis=basis))
    assert TOKENS.verify(TOKENS.sign_all(known)[0]) == ("impression", known)


def test_a_token_is_short() -> None:
    """A token of real traffic leaves a URL far below what anybody cuts off."""
    assert len(TOKEN) <= 280


def test_the_longest_ticket_fits() -> None:
    """Names as long as they may be, in characters of four bytes, make a token that is still taken."""
    long = "\U0001f6b6" * 100
    pricing = Pricing(model="flat", price_micros=MICROS_MAX)
    promised = structs.replace(ticket(), region=long, city=long, expires_at=2**40, pricing=pricing)
    basis = Basis(position=2**50, facts=Facts(domain="a" * (BASIS_BYTES_MAX - 36)))
    assert len(msgpack.encode(basis)) == BASIS_BYTES_MAX
    impression, _, click = TOKENS.sign_all(promised, basis)
    assert TOKENS.verify(impression) == ("impression", structs.replace(promised, basis=basis))
    assert TOKENS.verify(click) == ("click", promised)


def test_an_advertiser_has_a_token_of_its_own() -> None:
    """An advertiser's token says whose it is, also after a rotation; it is none of a decision's, nor are they one."""
    advertiser_id = fresh_id()
    token = TOKENS.sign_advertiser(advertiser_id)
    assert TOKENS.verify_advertiser(token) == advertiser_id
    assert tokens(FOREIGN, CURRENT).verify_advertiser(token) == advertiser_id
    assert refused(token)
    others = [f"{kind}{token[1:]}" for kind in "ivc"] + [f"x{TOKEN[1:]}", TOKEN, token[:-1], token + "A", "x", ""]
    others += [by_hand(CURRENT, encoded, "x") for encoded in (b"", bytes(15), bytes(17))]
    assert [other for other in others if not refused(other)] == [TOKEN]
    for foreign in (*others, TOKENS.sign("impression", ticket()), tokens(FOREIGN).sign_advertiser(advertiser_id)):
        with pytest.raises(TokenForged):
            TOKENS.verify_advertiser(foreign)


@given(tickets)
def test_an_exchange_has_a_token_of_its_own(promised: Ticket) -> None:
    """The token of a notice has the ticket of its impression, and is good for nothing else, nor is another for it."""
    token = TOKENS.sign_notice(promised)
    assert TOKENS.verify_notice(token) == promised
    assert refused(token)
    for other in (TOKENS.sign("impression", promised), f"b{TOKEN[1:]}", token[:-1], token + "A", "b", ""):
        with pytest.raises(TokenForged):
            TOKENS.verify_notice(other)


def test_every_key_of_two_generations_verifies() -> None:
    """After a rotation tokens of the secret before are good until it is taken away; new ones are of the new secret."""
    rotated = tokens(CURRENT, PREVIOUS)
    old, new = tokens(PREVIOUS).sign("click", ticket()), rotated.sign("click", ticket())
    assert rotated.verify(old) == tokens(PREVIOUS).verify(old)
    assert rotated.verify(new) == TOKENS.verify(new)
    assert refused(old)
    assert refused(new, by=tokens(PREVIOUS))


def test_generations_of_the_same_key_id_are_told_apart() -> None:
    """Keys whose one-byte ids are alike, as one pair in 256 is, both verify."""
    first, *others = (number.to_bytes(32, "big") for number in range(10_000))
    second = next(key for key in others if id_of(key) == id_of(first))
    both = tokens(first, second)
    assert first != second
    for key in (first, second):
        promised = ticket()
        assert both.verify(tokens(key).sign("view", promised)) == ("view", promised)


def test_foreign_tokens_are_refused() -> None:
    """A token of another secret, or of another ledger under the same secret, is as good as none."""
    assert refused(tokens(FOREIGN).sign("click", ticket()))
    assert refused(tokens(CURRENT, ledger_id=fresh_id()).sign("click", ticket()))


def test_a_kind_cannot_become_another() -> None:
    """An impression's token reports no click."""
    for token in TOKENS.sign_all(ticket()):
        assert [refused(letter + token[1:]) for letter in "ivc"].count(False) == 1
        assert refused(token[1:])
        assert refused(token[0].upper() + token[1:])


def test_no_character_can_be_altered() -> None:
    """A token in which any one character is any other is refused, the bits that base64 leaves unused included."""
    for city in ("217", "2170", "21700"):
        token = TOKENS.sign("impression", structs.replace(ticket(), city=city))
        assert not refused(token)
        for index in range(len(token)):
            for character in ALPHABET.replace(token[index], ""):
                assert refused(token[:index] + character + token[index + 1 :])


def test_no_token_can_be_lengthened_or_shortened() -> None:
    """Every part of a token is refused, and so is a token with anything before, after or within it."""
    assert all(refused(TOKEN[:end]) for end in range(len(TOKEN)))
    assert all(refused(TOKEN[begin:]) for begin in range(1, len(TOKEN)))
    for more in ("=", "==", "A", "AAAA", "\n", " ", "+", "/", "%", "\x00", "\xe9", "\u89c2", "\ud800", "A" * 1_000_000):
        assert refused(TOKEN + more)
        assert refused(more + TOKEN)
        assert refused(TOKEN[:100] + more + TOKEN[100:])


def test_the_format_is_as_described() -> None:
    """A token that is put together by hand verifies, and is the one that is signed."""
    encoded = msgpack.Encoder(uuid_format="bytes").encode(promised := ticket())
    assert by_hand(CURRENT, encoded, "c") == TOKENS.sign("click", promised)
    assert re.fullmatch(r"[ivc][A-Za-z0-9_-]+", by_hand(CURRENT, encoded, "c"))


@pytest.mark.parametrize(
    "encoded", [b"", b"\xc1", b"\xc0", b"\x90", msgpack.encode(["text"] * 13), b"\xdd\xff\xff\xff\xff"]
)
def test_a_ticket_of_another_version_is_refused(encoded: bytes) -> None:
    """What is signed under our key but is no ticket, as of a later version of the service, is refused."""
    assert refused(by_hand(CURRENT, encoded, "i"))


texts = st.text(st.characters(), max_size=300)
shapes = st.from_regex(r"\A[ivc][A-Za-z0-9_-]{0,300}={0,2}\Z")
pieces = st.lists(st.sampled_from([TOKEN[:30], TOKEN[30:], TOKEN[-22:], "i", "=", "-"]), max_size=5).map("".join)
sealed = st.binary(max_size=300).map(lambda raw: "c" + base64.urlsafe_b64encode(raw).decode().rstrip("="))


@given(texts | shapes | pieces | sealed)
def test_no_text_is_an_error(text: str) -> None:
    """Whatever stands in a URL is refused, unless it is the token itself."""
    assert refused(text) is (text != TOKEN)


@given(st.binary(max_size=300))
def test_nothing_signed_is_an_error(encoded: bytes) -> None:
    """Even bytes under a right signature either are a ticket or are refused."""
    refused(by_hand(CURRENT, encoded, "v"))
