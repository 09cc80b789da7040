"""Checkpoints: the published ones, cosignatures, and what is none."""

import base64
from collections.abc import Mapping
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from domain import merkle
from infra import checkpoint, signed_note
from infra.checkpoint import Checkpoint, Signer
from infra.signed_note import COSIGNATURE_ED25519, COSIGNATURE_MLDSA44, ED25519, NoteMalformed, VerifierKey

# A checkpoint of Go's checksum database, and a log and a witness from the tests of filippo.io/torchwood's litewitness.
SUMDB_KEY: Final = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
SUMDB: Final = """\
go.sum database tree
6476701
mb8QLQIs0Z0yP5Cstq6guj87oXWeC9gEM8oVikmm9Wk=

— sum.golang.org Az3grsLX85Gz+s1SiTbgkuqxgItqFq7gsMUEyVnrsa9LM7Us9S+1xbFIGu95949rj4nPRYfvimWEPWL+o3GeoWwOoAw=
"""
SIGSUM: Final = "sigsum.org/v1/tree/4d6d8825a6bb689d459628312889dfbb0bcd41b5211d9e1ce768b0ff0309e562"
SIGSUM_KEY: Final = VerifierKey(
    SIGSUM, ED25519, bytes.fromhex("ffdc2d4d98e4124d3feaf788c0c2f9abfd796083d1f0495437f302ec79cf100f")
)
SIGSUM_CHECKPOINTS: Final[Mapping[int, tuple[str, str]]] = {
    1: (
        "KgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "UgIom7fPZTqpxWWhyjWduBvTvGVqsokMbqTArsQilegKoFBJQjUFAmQ0+YeSPM3wfUQMFSzVnnNuWRTYrajXpNUbIQY=",
    ),
    3: (
        "RcCI1Nk56ZcSmIEfIn0SleqtV7uvrlXNccFx595Iwl0=",
        "UgIom2VbtIcdFbwFAy1n7s6IkAxIY6J/GQOTuZF2ORV39d75cbAj2aQYwyJre36kezNobZs4SUUdrcawfAB8WVrx6go=",
    ),
    5: (
        "QrtXrQZCCvpIgsSmOsah7HdICzMLLyDfxToMql9WTjY=",
        "UgIomw/EOJmWi0i1FQsOj+etB7F8IccFam/jgd6wzRns4QPVmyEZtdvl1U2KEmLOZ/ASRcWJi0tW90dJWAShei7sDww=",
    ),
}
SIGSUM_PROOFS: Final[Mapping[tuple[int, int], tuple[str, ...]]] = {
    (1, 3): ("KgEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "KgIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    (3, 5): (
        "KgIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "KgMAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "wgiIFdZfYNv6WU1OllBKsWnLYIS/DBMqt8Uh/S4OukE=",
        "KgQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    ),
}
TREE: Final = Checkpoint("example.com/log", 123, bytes(range(32)))


def signer(kind: int, name: str = "example.com/log") -> Signer:
    """A fresh key of a kind."""
    private_key = MLDSA44PrivateKey.generate() if kind == COSIGNATURE_MLDSA44 else Ed25519PrivateKey.generate()
    return Signer(signed_note.verifier_key(name, kind, private_key), private_key)


def test_a_published_checkpoint_is_read_and_verified() -> None:
    """A checkpoint of the largest log in use is understood and its signature holds."""
    note, key = signed_note.parse(SUMDB.encode()), signed_note.parse_key(SUMDB_KEY)
    assert checkpoint.signers_of(note, [key]) == [key]
    tree = checkpoint.parse(note.text)
    assert (tree.origin, tree.size) == ("go.sum database tree", 6_476_701)
    assert tree.text == note.text


@pytest.mark.parametrize("size", SIGSUM_CHECKPOINTS)
def test_checkpoints_of_a_foreign_log_verify(size: int) -> None:
    """The checkpoints of a Sigsum log, made by other software, verify under its raw public key."""
    root, signature = SIGSUM_CHECKPOINTS[size]
    note = signed_note.parse(f"{SIGSUM}\n{size}\n{root}\n\n— {SIGSUM} {signature}\n".encode())
    assert checkpoint.signers_of(note, [SIGSUM_KEY]) == [SIGSUM_KEY]


@pytest.mark.parametrize(("old", "new"), SIGSUM_PROOFS)
def test_a_foreign_log_is_consistent(old: int, new: int) -> None:
    """The consistency proofs of that log hold between the roots that it signed, and between no others."""
    proof = [base64.b64decode(each) for each in SIGSUM_PROOFS[old, new]]
    roots = base64.b64decode(SIGSUM_CHECKPOINTS[old][0]), base64.b64decode(SIGSUM_CHECKPOINTS[new][0])
    assert merkle.verify_consistency(old, new, proof, *roots)
    assert not merkle.verify_consistency(old, new, proof[::-1], *roots)


@pytest.mark.parametrize("kind", [ED25519, COSIGNATURE_ED25519, COSIGNATURE_MLDSA44])
def test_checkpoints_are_signed_in_three_ways(kind: int) -> None:
    """Each kind of signature verifies under its key, and not under another key of the same name."""
    ours, theirs = signer(kind), signer(kind)
    note = signed_note.parse(str(checkpoint.sign(TREE, [ours], timestamp=1_679_315_147)).encode())
    assert checkpoint.parse(note.text) == TREE
    assert checkpoint.signers_of(note, [ours.key, theirs.key]) == [ours.key]
    forged = note._replace(text=TREE._replace(size=124).text)
    with pytest.raises(NoteMalformed, match="not over this checkpoint"):
        checkpoint.signers_of(forged, [ours.key])


@pytest.mark.parametrize("kind", [COSIGNATURE_ED25519, COSIGNATURE_MLDSA44])
def test_cosignatures_say_when_they_were_made(kind: int) -> None:
    """The time can be read from a cosignature, and is part of what was signed."""
    witness = signer(kind, "witness.example/w1")
    signature = checkpoint.sign_text(TREE.text, witness, timestamp=1_679_315_147)
    assert checkpoint.timestamp_of(signature) == 1_679_315_147
    later = signature._replace(signature=(1_679_315_148).to_bytes(8, "big") + signature.signature[8:])
    assert checkpoint.verifies(witness.key, TREE.text, signature)
    assert not checkpoint.verifies(witness.key, TREE.text, later)
    assert not checkpoint.verifies(witness.key, TREE.text, signature._replace(signature=b"short"))
    assert not checkpoint.verifies(witness.key, TREE.text, signature._replace(name="witness.example/w2"))


def test_an_ed25519_cosignature_signs_what_the_specification_shows() -> None:
    """The message is the example of tlog-cosignature, line by line."""
    text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    witness = signer(COSIGNATURE_ED25519)
    expected = f"cosignature/v1\ntime 1679315147\n{text}"
    assert checkpoint.message(witness.key, text, 1_679_315_147) == expected.encode()


def test_an_mldsa_cosignature_signs_the_structure_of_the_specification() -> None:
    """The message is the `cosigned_message` of tlog-cosignature, byte by byte."""
    witness = signer(COSIGNATURE_MLDSA44, "w.example")
    expected = b"".join(
        [
            b"subtree/v1\n\x00",
            b"\x09w.example",
            (7).to_bytes(8, "big"),
            b"\x0fexample.com/log",
            (0).to_bytes(8, "big"),
            (123).to_bytes(8, "big"),
            bytes(range(32)),
        ]
    )
    assert checkpoint.message(witness.key, TREE.text, 7) == expected


def test_a_name_too_long_for_the_structure_is_refused() -> None:
    """ML-DSA-44 messages have one byte for the length of a name."""
    with pytest.raises(NoteMalformed, match="1 to 255 bytes"):
        checkpoint.message(signer(COSIGNATURE_MLDSA44, "w" * 256).key, TREE.text, 7)


def test_extension_lines_are_allowed_and_signed() -> None:
    """What follows the three lines is no part of the tree, but of the text."""
    text = TREE.text + "extension\n"
    log = signer(ED25519)
    assert checkpoint.parse(text) == TREE
    assert not checkpoint.verifies(log.key, TREE.text, checkpoint.sign_text(text, log, timestamp=0))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.com/log\n",
        "example.com/log\n123\n",
        TREE.text.removesuffix("\n"),
        TREE.text.replace("123", "0123"),
        TREE.text.replace("123", "-1"),
        TREE.text.replace("123", "\uff11\uff12\uff13"),
        TREE.text.replace("AAEC", "AAE"),
        TREE.text.replace("AAEC", "A!EC"),
        TREE.text.replace("Hh8=", "Hh9="),
        TREE.text.replace("example.com/log", ""),
        TREE.text + "\nextension\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    """A text that is not origin, size and root, each on its line, is refused."""
    with pytest.raises(NoteMalformed):
        checkpoint.parse(text)
