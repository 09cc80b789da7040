"""The secrets of the process: made once where that is safe, demanded where it is not, shown nowhere."""

import base64
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from msgspec import structs

from infra import keys
from infra.keys import SecretUnfit
from infra.settings import SettingMissing, Settings

SECRET = base64.urlsafe_b64encode(bytes(range(200, 232))).decode().rstrip("=")
MASTER = base64.urlsafe_b64encode(bytes(range(32))).decode().rstrip("=")


def pem(key: Ed25519PrivateKey, encryption: KeySerializationEncryption | None = None) -> bytes:
    """Return a private key as a file holds it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def written(path: Path, text: bytes) -> Path:
    """Write a file that its owner alone may use, and return its path."""
    path.touch(0o600)
    path.write_bytes(text)
    return path


def settings(data_dir: Path, *, embedded: bool = False) -> Settings:
    """Return settings of a production install, complete, or of an embedded one that names no secret."""
    signing_key_file = written(data_dir / "mounted.pem", pem(Ed25519PrivateKey.generate()))
    return Settings(
        database_url=None if embedded else "postgresql:///ledger",
        data_dir=data_dir / "data",
        public_url="",
        secret_key=None if embedded else SECRET,
        previous_secret_key=None,
        signing_key_file=None if embedded else signing_key_file,
        encryption_key=None if embedded else MASTER,
        admin_email=None,
        admin_password=None,
        log_level="info",
    )


def same(one: keys.Keys, other: keys.Keys) -> bool:
    """Return whether two processes have the same secrets."""
    return (one.generations, pem(one.signing_key), one.kid) == (other.generations, pem(other.signing_key), other.kid)


def _read_at_once(data_dir: Path, barrier: Callable[[], object]) -> tuple[tuple[bytes, ...], str]:
    barrier()
    read = keys.read(settings(data_dir, embedded=True))
    return read.generations, read.kid


def test_an_embedded_install_makes_its_secrets_once(tmp_path: Path) -> None:
    """Secrets are made at the first start, readable by the owner only, and found at the next."""
    first = keys.read(settings(tmp_path, embedded=True))
    folder = tmp_path / "data" / "keys"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir()} == {
        "encryption": 0o600,
        "secret": 0o600,
        "signing.pem": 0o600,
    }
    assert len(first.generations[0]) == keys.SECRET_BYTES_MIN
    assert same(first, keys.read(settings(tmp_path, embedded=True)))
    assert not same(first, keys.read(structs.replace(settings(tmp_path, embedded=True), data_dir=tmp_path / "other")))


def test_processes_that_start_at_once_get_the_same_secrets(tmp_path: Path) -> None:
    """Of several processes that make the secrets at the same moment one wins, and no draft is left behind."""
    processes = 6
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(processes) as pool:
        barrier = manager.Barrier(processes)
        results = pool.starmap(_read_at_once, [(tmp_path, barrier.wait)] * processes, chunksize=1)
    assert len(set(results)) == 1
    assert sorted(file.name for file in (tmp_path / "data" / "keys").iterdir()) == [
        "encryption",
        "secret",
        "signing.pem",
    ]


def test_a_setting_goes_before_what_an_embedded_install_made(tmp_path: Path) -> None:
    """An embedded install that is given its secrets makes none."""
    given = structs.replace(settings(tmp_path), database_url=None)
    assert given.embedded
    assert keys.read(given).generations == (bytes(range(200, 232)),)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("field", "variable"),
    [
        ("secret_key", "LEDGER_SECRET_KEY"),
        ("signing_key_file", "LEDGER_SIGNING_KEY_FILE"),
        ("encryption_key", "LEDGER_ENCRYPTION_KEY"),
    ],
)
def test_production_has_no_default(tmp_path: Path, field: str, variable: str) -> None:
    """With a database of its own an install must be given each secret, and makes none."""
    with pytest.raises(SettingMissing, match=variable):
        keys.read(structs.replace(settings(tmp_path), **{field: None}))
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("secret", [SECRET, SECRET + "=", base64.b64encode(bytes(range(200, 232))).decode()])
def test_both_alphabets_of_base64_are_taken(tmp_path: Path, secret: str) -> None:
    """A secret means the same in base64url, with padding or not, and in the base64 that openssl writes."""
    read = keys.read(structs.replace(settings(tmp_path), secret_key=secret))
    assert read.generations == (bytes(range(200, 232)),)


def test_the_first_master_key_is_followed_by_those_before(tmp_path: Path) -> None:
    """Several master keys of personal data are separated by commas, each of 32 bytes; an embedded install makes one."""
    other = base64.urlsafe_b64encode(bytes(32)).decode()
    several = structs.replace(settings(tmp_path), encryption_key=f"{MASTER}, {other},{MASTER}")
    assert keys.read(several).masters == (bytes(range(32)), bytes(32))
    (made,) = keys.read(settings(tmp_path, embedded=True)).masters
    assert (len(made), keys.read(settings(tmp_path, embedded=True)).masters) == (32, (made,))
    longer = base64.urlsafe_b64encode(bytes(33)).decode()
    for unfit in (longer, f"{MASTER},", "change-me"):
        with pytest.raises(SecretUnfit, match="LEDGER_ENCRYPTION_KEY cannot be used"):
            keys.read(structs.replace(settings(tmp_path), encryption_key=unfit))


@pytest.mark.parametrize("field", ["secret_key", "previous_secret_key"])
@pytest.mark.parametrize(
    "secret",
    ["change-me", SECRET[:-1], SECRET + "!", SECRET + "\n", "===", SECRET + "AA", "=" + SECRET, "\xe9" * 43],
)
def test_an_unfit_secret_is_refused_and_not_repeated(tmp_path: Path, field: str, secret: str) -> None:
    """A secret that is too short or no base64 stops the start, with a message that names the setting alone."""
    with pytest.raises(SecretUnfit, match=f"LEDGER_{field.upper()} cannot be used: it ") as refused:
        keys.read(structs.replace(settings(tmp_path), **{field: secret}))
    assert secret not in str(refused.value)


def test_the_secret_before_a_rotation_is_kept(tmp_path: Path) -> None:
    """The current secret comes first; one that is given twice is one."""
    other = base64.urlsafe_b64encode(bytes(40)).decode()
    rotating = structs.replace(settings(tmp_path), previous_secret_key=other)
    assert keys.read(rotating).generations == (bytes(range(200, 232)), bytes(40))
    assert len(keys.read(structs.replace(rotating, previous_secret_key=SECRET)).generations) == 1


def test_of_several_signing_keys_the_first_signs_and_all_verify(tmp_path: Path) -> None:
    """A key that is to come and one that goes verify as well; whatever else stands in the file is no key."""
    first, second = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    path = written(tmp_path / "two.pem", b"# the new one\n" + pem(first) + b"\n" + pem(second))
    read = keys.read(structs.replace(settings(tmp_path), signing_key_file=path))
    assert pem(read.signing_key) == pem(first)
    assert list(read.public_keys.values()) == [first.public_key(), second.public_key()]
    assert read.kid == next(iter(read.public_keys)) == keys.web_key(first.public_key()).kid


def test_an_unfit_signing_key_is_refused(tmp_path: Path) -> None:
    """A file that is missing, or holds no Ed25519 private key that can be read, stops the start and is named."""
    signing_key = Ed25519PrivateKey.generate()
    path = tmp_path / "unfit.pem"
    with pytest.raises(SecretUnfit, match=r"LEDGER_SIGNING_KEY_FILE.*unfit\.pem.*No such file"):
        keys.read(structs.replace(settings(tmp_path), signing_key_file=path))
    elliptic = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for unfit in (
        b"",
        b"garbage",
        pem(signing_key) + elliptic,
        pem(signing_key, BestAvailableEncryption(b"password")),
        elliptic,
    ):
        written(path, unfit)
        with pytest.raises(SecretUnfit, match=r"unfit\.pem"):
            keys.read(structs.replace(settings(tmp_path), signing_key_file=path))


@pytest.mark.parametrize("path", ["data/keys", "data/keys/secret", "data/keys/signing.pem", "data/keys/encryption"])
def test_secrets_that_others_can_reach_are_refused(tmp_path: Path, path: str) -> None:
    """An embedded install does not go on with keys that another account could have read or replaced."""
    keys.read(settings(tmp_path, embedded=True))
    (tmp_path / path).chmod(0o755)
    with pytest.raises(SecretUnfit, match=f"{path} cannot be used: others"):
        keys.read(settings(tmp_path, embedded=True))


def test_a_signing_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """A key that is named by the settings is its owner's alone as well."""
    named = settings(tmp_path)
    (tmp_path / "mounted.pem").chmod(0o640)
    with pytest.raises(SecretUnfit, match=r"mounted\.pem cannot be used: others"):
        keys.read(named)


def test_a_damaged_secret_is_not_replaced(tmp_path: Path) -> None:
    """A file that was emptied is refused by name, since a new secret would make every token of the old one forged."""
    keys.read(settings(tmp_path, embedded=True))
    (tmp_path / "data/keys/secret").write_bytes(b"")
    with pytest.raises(SecretUnfit, match="data/keys/secret"):
        keys.read(settings(tmp_path, embedded=True))


def test_no_representation_shows_a_secret(tmp_path: Path) -> None:
    """Neither keys nor settings show what is secret when they are printed."""
    given = settings(tmp_path)
    read = keys.read(given)
    for text in (repr(read), str(read), f"{read}", repr(given)):
        assert SECRET not in text
        assert MASTER not in text
        assert repr(read.masters[0]) not in text
        assert repr(read.generations[0]) not in text
    assert read.kid in repr(read)


def test_the_thumbprint_is_that_of_the_standard() -> None:
    """The key of RFC 8037, appendix A.2, has the thumbprint of its appendix A.3."""
    x = base64.urlsafe_b64decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
    public_key = Ed25519PublicKey.from_public_bytes(x)
    assert keys.thumbprint(public_key) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
