"""Second factors: time-based one-time passwords (RFC 6238) with recovery codes, which a person may turn on.

The secret is kept as personal data is, encrypted under a key of its owner's that a master key wraps, among the keys of
the ledger in which it was turned on; it counts in all of them. A password is good
once: the step of time that it belonged to is kept, and must grow. A recovery code is good once as well, and kept as
SHA-256: it has 120 random bits.
"""

import base64
import secrets
from collections.abc import Sequence
from hashlib import sha256
from typing import Final
from uuid import UUID

import pyotp
from msgspec import Struct
from psycopg.rows import DictRow

from domain.errors import NotFound, Refusal
from infra import clock, personal_data
from infra.database import Connection, see
from infra.subject_keys import WRITE_KEY, fresh_key, read_subjects, row_of, wrap
from infra.users import User

ISSUER: Final = "Campaign ledger"
STEP_SECONDS: Final = 30
STEPS_LATE_MAX: Final = 1
"""How many steps ago, or ahead, a password may belong to: clocks differ, and people type slowly."""

RECOVERY_CODES: Final = 10
RECOVERY_CODE_BYTES: Final = 15
"""120 bits: as many as need no slow hash (OWASP ASVS 5.0, 6.5.2), and no padding in base32."""

_FIELD: Final = "one-time password"


class Enrolment(Struct, frozen=True, kw_only=True):
    """The secret of one-time passwords, for an app: to be typed, or as a URI that is shown as a QR code."""

    secret: str
    uri: str

    def __repr__(self) -> str:
        """Show nothing secret."""
        return "Enrolment()"


class SecondFactor(Struct, frozen=True, kw_only=True):
    """Whether a person signs in with a one-time password as well, and how many recovery codes are left."""

    enabled: bool
    recovery_codes_left: int


class AlreadyEnabled(Refusal):
    """One-time passwords are on; turn them off first."""

    kind = "conflict"
    code = "second_factor_enabled"


class WrongCode(Refusal):
    """The one-time password is another, or was used before."""

    code = "wrong_code"


# Begin anew, unless it was confirmed.
ENROL: Final = """
    INSERT INTO second_factors AS known (ledger_id, user_id, secret, confirmed, last_step, recovery_sha256)
    VALUES (%(ledger_id)s, %(user_id)s, %(secret)s, false, 0, '{}')
    ON CONFLICT (user_id) DO UPDATE
    SET ledger_id = excluded.ledger_id, secret = excluded.secret, last_step = 0
    WHERE NOT known.confirmed
"""

READ: Final = """
    SELECT ledger_id, secret, confirmed, cardinality(recovery_sha256) AS left_over FROM second_factors
    WHERE user_id = %(user_id)s
"""

CONFIRM: Final = """
    UPDATE second_factors SET confirmed = true, last_step = %(step)s, recovery_sha256 = %(recovery)s
    WHERE user_id = %(user_id)s AND NOT confirmed AND secret = %(secret)s
"""

# Of two who present one password at once, one is let in.
USE_STEP: Final = """
    UPDATE second_factors SET last_step = %(step)s
    WHERE user_id = %(user_id)s AND last_step < %(step)s AND secret = %(secret)s
"""

USE_RECOVERY: Final = """
    UPDATE second_factors SET recovery_sha256 = array_remove(recovery_sha256, %(code)s)
    WHERE user_id = %(user_id)s AND confirmed AND %(code)s = ANY(recovery_sha256)
"""

DEMAND: Final = "UPDATE ledgers SET second_factor_demanded = %(demanded)s WHERE ledger_id = %(ledger_id)s"

IS_DEMANDED: Final = "SELECT second_factor_demanded FROM ledgers WHERE ledger_id = %(ledger_id)s"

REMOVE: Final = "DELETE FROM second_factors WHERE user_id = %(user_id)s"


async def of_person(connection: Connection, user: User) -> SecondFactor:
    """Return whether a person has a second factor."""
    row = await (await connection.execute(READ, _named(user))).fetchone()
    if row is None or not row["confirmed"]:
        return SecondFactor(enabled=False, recovery_codes_left=0)
    return SecondFactor(enabled=True, recovery_codes_left=row["left_over"])


async def demand(connection: Connection, ledger_id: UUID, *, demanded: bool) -> None:
    """Let an organisation demand a second factor of its people, or not; `Revocations` knows who has none."""
    await connection.execute(DEMAND, {"ledger_id": ledger_id, "demanded": demanded})


async def is_demanded(connection: Connection, ledger_id: UUID) -> bool:
    """Return whether an organisation demands a second factor of its people."""
    row = await (await connection.execute(IS_DEMANDED, {"ledger_id": ledger_id})).fetchone()
    return row is not None and bool(row["second_factor_demanded"])


async def enrol(connection: Connection, masters: Sequence[bytes], user: User) -> Enrolment:
    """Return a new secret, which counts once it is confirmed; raise AlreadyEnabled."""
    secret = pyotp.random_base32()
    async with connection.transaction():
        subject = (await read_subjects(connection, masters, user.ledger_id, [user.id]))[user.id]
        key = subject.keys[-1] if subject.keys else fresh_key()
        if key.fresh:
            await connection.execute(WRITE_KEY, row_of(wrap(masters, subject, key)))
        kept = personal_data.encrypt(subject, key, _FIELD, secret)
        if not (await connection.execute(ENROL, _named(user) | {"secret": kept})).rowcount:
            raise AlreadyEnabled("One-time passwords are on; turn them off first.")
    return Enrolment(secret=secret, uri=pyotp.TOTP(secret).provisioning_uri(name=user.email, issuer_name=ISSUER))


async def confirm(connection: Connection, masters: Sequence[bytes], user: User, code: str) -> list[str]:
    """Turn one-time passwords on for who has entered the secret, and return recovery codes; raise WrongCode."""
    row = await (await connection.execute(READ, _named(user))).fetchone()
    step = None if row is None else await _step(connection, masters, user, row, code)
    codes = [base64.b32encode(secrets.token_bytes(RECOVERY_CODE_BYTES)).decode().lower() for _ in range(RECOVERY_CODES)]
    if row is not None and step is not None:
        set_to = {"step": step, "secret": row["secret"], "recovery": [_digest(each) for each in codes]}
        if (await connection.execute(CONFIRM, _named(user) | set_to)).rowcount:
            return codes
    raise WrongCode("This is not the one-time password of now.", pointer="/code")


async def passes(connection: Connection, masters: Sequence[bytes], user: User, code: str) -> bool:
    """Use up a one-time password or a recovery code; tell whether it was one."""
    row = await (await connection.execute(READ, _named(user))).fetchone()
    if row is None or not row["confirmed"]:
        return False
    step = await _step(connection, masters, user, row, code)
    if step is not None:
        used = await connection.execute(USE_STEP, _named(user) | {"step": step, "secret": row["secret"]})
    else:
        used = await connection.execute(USE_RECOVERY, _named(user) | {"code": _digest(code)})
    return bool(used.rowcount)


async def remove(connection: Connection, user: User) -> None:
    """Turn one-time passwords off; raise NotFound when they were not on."""
    if not (await connection.execute(REMOVE, _named(user))).rowcount:
        raise NotFound("second factor of", user.id)


async def _step(connection: Connection, masters: Sequence[bytes], user: User, kept: DictRow, code: str) -> int | None:
    """Return the step of time that a one-time password belongs to, if it is one of about now."""
    await see(connection, kept["ledger_id"])  # where it was turned on, whichever organisation is signed in to
    subject = (await read_subjects(connection, masters, kept["ledger_id"], [user.id]))[user.id]
    opened = personal_data.decrypt(subject, _FIELD, kept["secret"])
    if opened is None:
        return None
    totp, now = pyotp.TOTP(opened.value), int(clock.now().timestamp()) // STEP_SECONDS
    for step in range(now - STEPS_LATE_MAX, now + STEPS_LATE_MAX + 1):
        if pyotp.utils.strings_equal(code, totp.generate_otp(step)):
            return step
    return None


def _digest(code: str) -> bytes:
    return sha256(code.lower().encode(errors="surrogatepass")).digest()


def _named(user: User) -> dict[str, UUID]:
    return {"ledger_id": user.ledger_id, "user_id": user.id}
