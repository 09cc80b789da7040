"""The secrets of the process: read from the settings, or made once beside an embedded database.

None has a default. One secret feeds every symmetric key but those of personal data (see `infra.ledger_keys`), which
master keys wrap (see `infra.subject_keys`); an Ed25519 key signs access tokens.
"""

import base64
import os
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from msgspec import Struct

from infra.settings import SettingMissing, Settings

SECRET_BYTES_MIN: Final = 32
MASTER_BYTES: Final = 32

# The standard alphabet is taken too: `openssl rand -base64 32` writes it, and no text means one thing in each.
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_PEM: Final = re.compile(rb"-----BEGIN [^-]+-----.+?-----END [^-]+-----", re.DOTALL)
_FOR_OTHERS: Final = 0o077


class SecretUnfit(Exception):
    """{name} cannot be used: {reason}."""

    def __init__(self, name: str, reason: str) -> None:
        """Name the setting or the file, and what is wrong with it; never what it holds."""
        super().__init__(str(self.__doc__).format(name=name, reason=reason))


class Keys(Struct, frozen=True, kw_only=True):
    """The secrets of a process; of `generations` the first is current, a second is being rotated out.

    So it is with the `masters`, which wrap the keys of personal data: the first wraps, all unwrap. And with the keys of
    access tokens, of which the first signs and all verify; `public_keys` holds them by their `kid`.
    """

    generations: tuple[bytes, ...]
    signing_key: Ed25519PrivateKey
    public_keys: dict[str, Ed25519PublicKey]
    kid: str
    masters: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        """Show nothing secret."""
        return f"Keys(generations={len(self.generations)}, kid={self.kid!r})"


def read(settings: Settings) -> Keys:
    """Return the secrets that the settings name; an embedded install makes those that they do not name.

    Raises SettingMissing for a secret that nobody set, SecretUnfit for one that cannot be used.
    """
    secret = _secret(settings)
    previous = settings.previous_secret_key
    generations = (secret, _decoded("LEDGER_PREVIOUS_SECRET_KEY", previous)) if previous else (secret,)
    signing_keys = {thumbprint(key.public_key()): key for key in _signing_keys(settings)}
    kid, signing_key = next(iter(signing_keys.items()))
    return Keys(
        generations=tuple(dict.fromkeys(generations)),
        signing_key=signing_key,
        public_keys={each: key.public_key() for each, key in signing_keys.items()},
        kid=kid,
        masters=read_masters(settings),
    )


def read_masters(settings: Settings) -> tuple[bytes, ...]:
    """Return the master keys of personal data; an embedded install makes the first. Raise as `read` does."""
    name, text = "LEDGER_ENCRYPTION_KEY", settings.encryption_key
    if text is None and settings.embedded:
        path = keys_folder(settings.data_dir) / "encryption"
        name, text = str(path), made_once(path, _fresh_secret).decode(errors="replace").strip()
    if text is None:
        how = 'python3 -c "import secrets; print(secrets.token_urlsafe(32))"'
        raise SettingMissing(f"{name} is not set. This prints a new one: {how}")
    masters = tuple(_decoded(name, each.strip()) for each in text.split(","))
    if any(len(master) != MASTER_BYTES for master in masters):
        raise SecretUnfit(name, f"each master key has {MASTER_BYTES} bytes")
    return tuple(dict.fromkeys(masters))


class JsonWebKey(Struct, frozen=True, kw_only=True):
    """A public key that verifies access tokens (RFC 7517, RFC 8037)."""

    kid: str
    x: str
    kty: Literal["OKP"] = "OKP"
    crv: Literal["Ed25519"] = "Ed25519"
    alg: Literal["EdDSA"] = "EdDSA"
    use: Literal["sig"] = "sig"


def web_key(key: Ed25519PublicKey) -> JsonWebKey:
    """Return a public key as others read it; its thumbprint (RFC 7638) is the `kid` of what it verifies."""
    x = _base64url(key.public_bytes(Encoding.Raw, PublicFormat.Raw))
    kid = _base64url(sha256(f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'.encode()).digest())
    return JsonWebKey(kid=kid, x=x)


def thumbprint(key: Ed25519PublicKey) -> str:
    """Return the `kid` of what a public key verifies."""
    return web_key(key).kid


def _secret(settings: Settings) -> bytes:
    if settings.secret_key:
        return _decoded("LEDGER_SECRET_KEY", settings.secret_key)
    if settings.embedded:
        path = keys_folder(settings.data_dir) / "secret"
        return _decoded(str(path), made_once(path, _fresh_secret).decode(errors="replace").strip())
    how = 'python3 -c "import secrets; print(secrets.token_urlsafe(32))"'
    raise SettingMissing(f"LEDGER_SECRET_KEY is not set. This prints a new one: {how}")


def _decoded(name: str, text: str) -> bytes:
    digits = text.rstrip("=")
    if not _BASE64.fullmatch(text) or len(digits) % 4 == 1:
        raise SecretUnfit(name, "it is not base64url")
    secret = base64.urlsafe_b64decode(digits.replace("+", "-").replace("/", "_") + "=" * (-len(digits) % 4))
    if len(secret) < SECRET_BYTES_MIN:
        raise SecretUnfit(name, f"it holds {len(secret)} bytes, and {SECRET_BYTES_MIN} random ones are needed")
    return secret


def _signing_keys(settings: Settings) -> list[Ed25519PrivateKey]:
    path = settings.signing_key_file
    if path is not None:
        try:
            pem = private(path).read_bytes()
        except OSError as failure:
            raise SecretUnfit(f"LEDGER_SIGNING_KEY_FILE ({path})", str(failure.strerror)) from failure
    elif settings.embedded:
        path = keys_folder(settings.data_dir) / "signing.pem"
        pem = made_once(path, fresh_signing_key)
    else:
        how = "openssl genpkey -algorithm ed25519 -out signing.pem"
        raise SettingMissing(f"LEDGER_SIGNING_KEY_FILE is not set. This makes one: {how}")
    return [ed25519_key(path, each) for each in _PEM.findall(pem) or [pem]]


def ed25519_key(path: Path, pem: bytes) -> Ed25519PrivateKey:
    """Return the Ed25519 key in the text of a PEM file; raise SecretUnfit."""
    key = private_key(path, pem)
    if not isinstance(key, Ed25519PrivateKey):
        raise SecretUnfit(str(path), "its key is not an Ed25519 key")
    return key


def private_key(path: Path, pem: bytes) -> PrivateKeyTypes:
    """Return the key in the text of a PEM file, of whatever kind; raise SecretUnfit."""
    try:
        return load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as failure:
        raise SecretUnfit(str(path), "it holds no private key in PEM without a password") from failure


def keys_folder(data_dir: Path) -> Path:
    """Return the folder in which an embedded install keeps its keys, made if there is none; raise SecretUnfit."""
    folder = data_dir / "keys"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return private(folder)


def private(path: Path) -> Path:
    """Return the path of a file or folder that only its owner may use; raise SecretUnfit for any other."""
    if path.stat().st_mode & _FOR_OTHERS:
        raise SecretUnfit(str(path), f"others than its owner may use it; chmod go= {path}")
    return path


def made_once(path: Path, make: Callable[[], bytes]) -> bytes:
    """Return what a file holds, made if there is none; of several processes that make it at once one wins."""
    if not path.exists():
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(make())
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(draft, path)  # unlike a rename, it replaces nothing: whoever reads the file reads all of it
        finally:
            draft.unlink(missing_ok=True)
        synced(path.parent)
    return private(path).read_bytes()


def synced(folder: Path) -> None:
    """Make durable which files a folder holds, beside what is in them."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fresh_secret() -> bytes:
    return secrets.token_urlsafe(SECRET_BYTES_MIN).encode()


def fresh_signing_key() -> bytes:
    """Return a new Ed25519 key as the text of a PEM file."""
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
