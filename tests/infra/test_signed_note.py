"""Signed notes: the published examples, and what is none."""

from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from infra import signed_note
from infra.signed_note import COSIGNATURE_MLDSA44, ED25519, NoteMalformed

# The example of C2SP signed-note, and two keys and their note from the tests of golang.org/x/mod/sumdb/note.
EXAMPLE_KEY: Final = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE: Final = """\
This is an example message.

— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=
"""
PETER: Final = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
TWO_SIGNATURES: Final = """\
If you think cryptography is the answer to your problem,
then you don't know what your problem is.

— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=
— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=
"""
ENOCH: Final = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"


@pytest.mark.parametrize(
    ("key", "note", "line"), [(EXAMPLE_KEY, EXAMPLE, 0), (PETER, TWO_SIGNATURES, 0), (ENOCH, TWO_SIGNATURES, 1)]
)
def test_published_notes_verify(key: str, note: str, line: int) -> None:
    """The notes that others published are read, verified, and written back as they were."""
    parsed, verifier = signed_note.parse(note.encode()), signed_note.parse_key(key)
    signature = parsed.signatures[line]
    assert signature.is_by(verifier)
    assert verifier.verifies(parsed.text.encode(), signature.signature)
    assert not verifier.verifies(parsed.text.encode() + b" ", signature.signature)
    assert str(parsed) == note


@pytest.mark.parametrize("key", [EXAMPLE_KEY, PETER, ENOCH])
def test_published_keys_have_their_ids(key: str) -> None:
    """A verifier key that others published has the id it claims, and is written back as it was."""
    assert str(signed_note.parse_key(key)) == key


def test_a_note_is_signed_as_others_sign_it() -> None:
    """Signing the example's text again gives a note that its own key verifies."""
    private_key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    key = signed_note.verifier_key("example.com/bar", ED25519, private_key)
    note = signed_note.parse(EXAMPLE.encode())
    signature = signed_note.sign(note.text, key, private_key)
    again = signed_note.parse(str(note._replace(signatures=(*note.signatures, signature))).encode())
    assert again.signatures == (*note.signatures, signature)
    assert key.verifies(note.text.encode(), again.signatures[1].signature)
    assert signed_note.parse_key(str(key)) == key


@pytest.mark.parametrize(
    "note",
    [
        EXAMPLE.replace("\n\n", "\n"),
        EXAMPLE.removesuffix("\n"),
        EXAMPLE.replace("—", "-"),
        EXAMPLE.replace("Uw2Q", "Uw2"),
        EXAMPLE.replace("aQM=", "aQM"),
        EXAMPLE.replace("example.com/foo ", "example.com/foo+bar "),
        EXAMPLE.replace("example.com/foo ", "example.com/foo\u2003"),
        EXAMPLE.replace("example.com/foo ", ""),
        EXAMPLE + "more\n",
        EXAMPLE[: EXAMPLE.index("—")],
        EXAMPLE[: EXAMPLE.index("—")] + EXAMPLE[EXAMPLE.index("—") :] * 101,
        "— example.com/foo Uw2QOg==\n",
        "text\n\n— example.com/foo Uw2QOg==\n",
        "a\x01b" + EXAMPLE,
        "a\tb" + EXAMPLE,
        "x" * 1_000_001 + EXAMPLE,
    ],
)
def test_what_is_no_note_is_refused(note: str) -> None:
    """Whatever breaks the form of a note is refused, wherever it stands."""
    with pytest.raises(NoteMalformed):
        signed_note.parse(note.encode())


def test_a_note_is_utf_8() -> None:
    """Bytes that are no UTF-8 are no note."""
    with pytest.raises(NoteMalformed, match="UTF-8"):
        signed_note.parse(b"\xff" + EXAMPLE.encode())


@pytest.mark.parametrize(
    "key",
    [
        "",
        "PeterNeumann",
        PETER.replace("c74f20a3", "c74f20a4"),
        PETER.removesuffix("TW"),
        PETER.replace("+ARpc", "+ZRpc"),
        PETER.replace("Peter", "Peter "),
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    ],
)
def test_what_is_no_verifier_key_is_refused(key: str) -> None:
    """A key with another id, another length, an unknown kind or a bad name is refused."""
    with pytest.raises(NoteMalformed):
        signed_note.parse_key(key)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u2003b"])
def test_names_have_no_spaces(name: str) -> None:
    """A key cannot be given a name that no signature may carry."""
    with pytest.raises(NoteMalformed, match="name"):
        signed_note.verifier_key(name, ED25519, Ed25519PrivateKey.generate())


def test_mldsa_keys_are_written_down_too() -> None:
    """The verifier key of an ML-DSA-44 cosigner holds its whole public key, and is read back as it was."""
    key = signed_note.verifier_key("w.example", COSIGNATURE_MLDSA44, MLDSA44PrivateKey.generate())
    assert signed_note.parse_key(str(key)) == key
