"""The keys of the log, and what the signer remembers beside them."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from msgspec import structs

from infra import checkpoint, log_keys
from infra.checkpoint import Checkpoint
from infra.keys import SecretUnfit
from infra.log_keys import LogKeys, SigningRefused
from infra.settings import SettingMissing, Settings
from infra.signed_note import COSIGNATURE_MLDSA44, ED25519, Note
from tests.sealing import log_keys_in

LEDGER = uuid4()


def settings(data_dir: Path, *, database_url: str | None = None) -> Settings:
    """Return settings that name no key of the log."""
    return Settings(
        database_url=database_url,
        data_dir=data_dir,
        public_url="",
        secret_key=None,
        previous_secret_key=None,
        signing_key_file=None,
        admin_email=None,
        admin_password=None,
        log_level="info",
    )


def written(path: Path, key: Ed25519PrivateKey | MLDSA44PrivateKey, mode: int = 0o600) -> Path:
    """Write a key into a file."""
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(mode)
    return path


def signed(size: int, *, root: bytes = bytes(32), origin: str = "log.example") -> Note:
    """Return a checkpoint under which stands some signature."""
    keys = structs.replace(log_keys_in(Path()), origin=origin)
    return checkpoint.sign(Checkpoint(origin, size, root), keys.signers(LEDGER), timestamp=0)


def test_an_embedded_install_makes_its_key_once(tmp_path: Path) -> None:
    """The key is made on the first start, for its owner alone, and found on every later one."""
    keys = log_keys.read(settings(tmp_path))
    again = log_keys.read(settings(tmp_path))
    assert keys.ed25519.private_bytes_raw() == again.ed25519.private_bytes_raw()
    assert keys.path.stat().st_mode & 0o777 == 0o600
    assert keys.path.parent.stat().st_mode & 0o777 == 0o700
    assert "BEGIN" not in repr(keys)


def test_a_production_install_must_name_its_key(tmp_path: Path) -> None:
    """Nothing is made beside a database that somebody else runs: the key is asked for, with how to make one."""
    configured = settings(tmp_path, database_url="postgresql:///ledger")
    with pytest.raises(SettingMissing, match=r"LEDGER_LOG_KEY_FILE.*openssl"):
        log_keys.read(configured)
    key = Ed25519PrivateKey.generate()
    named = structs.replace(configured, log_key_file=written(tmp_path / "log.pem", key))
    assert log_keys.read(named).ed25519.private_bytes_raw() == key.private_bytes_raw()


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """Whoever can read the key can sign another history."""
    path = written(tmp_path / "log.pem", Ed25519PrivateKey.generate(), mode=0o640)
    with pytest.raises(SecretUnfit, match="others than its owner"):
        log_keys.read(structs.replace(settings(tmp_path), log_key_file=path))


def test_a_key_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """A wrong path is named, and nothing made there."""
    with pytest.raises(SecretUnfit, match=r"nowhere\.pem"):
        log_keys.read(structs.replace(settings(tmp_path), log_key_file=tmp_path / "nowhere.pem"))
    assert list(tmp_path.iterdir()) == []


def test_a_second_key_signs_too(tmp_path: Path) -> None:
    """With an ML-DSA-44 key there are two signers, under one name."""
    path = written(tmp_path / "second.pem", MLDSA44PrivateKey.generate())
    keys = log_keys.read(structs.replace(settings(tmp_path), log_mldsa44_key_file=path))
    assert [signer.key.kind for signer in keys.signers(LEDGER)] == [ED25519, COSIGNATURE_MLDSA44]
    assert {signer.key.name for signer in keys.signers(LEDGER)} == {f"campaign-ledger/{LEDGER}"}
    wrong = written(tmp_path / "wrong.pem", Ed25519PrivateKey.generate())
    with pytest.raises(SecretUnfit, match="not an ML-DSA-44 key"):
        log_keys.read(structs.replace(settings(tmp_path), log_mldsa44_key_file=wrong))


def test_a_key_may_replace_another(tmp_path: Path) -> None:
    """With the previous key named as well, both sign, and what either remembers counts."""
    old = written(tmp_path / "old.pem", Ed25519PrivateKey.generate())
    new = written(tmp_path / "new.pem", Ed25519PrivateKey.generate())
    named = structs.replace(settings(tmp_path), log_key_file=new, log_previous_key_file=old)
    keys = log_keys.read(named)
    assert [signer.key.kind for signer in keys.signers(LEDGER)] == [ED25519, ED25519]
    assert keys.recalled(LEDGER) == []
    before = log_keys.read(structs.replace(named, log_key_file=old, log_previous_key_file=None))
    log_keys.remember(before.memory(LEDGER), signed(3))
    assert keys.recalled(LEDGER) == [signed_last(before)]


def signed_last(keys: LogKeys) -> Note | None:
    """Return what is remembered beside a key."""
    return log_keys.recall(keys.memory(LEDGER))


def test_a_log_may_be_named(tmp_path: Path) -> None:
    """The operator may give the log the name under which it can be reached."""
    keys = log_keys.read(structs.replace(settings(tmp_path), log_origin="ads.example/log"))
    assert keys.origin_of(LEDGER) == "ads.example/log"


def test_what_was_signed_is_remembered(tmp_path: Path) -> None:
    """The last checkpoint is found as it was written, in a file for its owner alone; before the first there is none."""
    path = tmp_path / "log.checkpoint"
    assert log_keys.recall(path) is None
    for note in (signed(3), signed(3), signed(4)):
        log_keys.remember(path, note)
        assert log_keys.recall(path) == note
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("note", [signed(2), signed(3, root=bytes(31) + b"\x01"), signed(4, origin="other.example")])
def test_no_other_history_is_remembered(tmp_path: Path, note: Note) -> None:
    """What is smaller, of the same size with another root, or of another log, is refused and forgets nothing."""
    path = tmp_path / "log.checkpoint"
    first = signed(3)
    log_keys.remember(path, first)
    with pytest.raises(SigningRefused):
        log_keys.remember(path, note)
    assert log_keys.recall(path) == first


def test_of_many_that_write_at_once_the_last_checkpoint_stays(tmp_path: Path) -> None:
    """Whatever the order in which several signers come, the largest tree is remembered."""
    path = tmp_path / "log.checkpoint"

    def try_to_remember(size: int) -> bool:
        try:
            log_keys.remember(path, signed(size))
        except SigningRefused:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        remembered = list(threads.map(try_to_remember, [*range(1, 40), 40, *range(39, 0, -1)]))
    last = log_keys.recall(path)
    assert last is not None
    assert checkpoint.parse(last.text).size == 40
    assert remembered[39]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["log.checkpoint", "log.lock"]


@pytest.mark.parametrize("damaged", [b"", b"nonsense", str(signed(3)).encode()[:-1], b"text\n\n" + b"x"])
def test_a_damaged_memory_is_refused(tmp_path: Path, damaged: bytes) -> None:
    """Whoever has spoilt the file is not rewarded with a signer that has forgotten everything."""
    path = tmp_path / "log.checkpoint"
    path.write_bytes(damaged)
    with pytest.raises(SigningRefused, match="should hold the last checkpoint"):
        log_keys.remember(path, signed(3))
