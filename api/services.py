"""What a process serves with: made once when it starts, and handed to the handlers that ask for it."""

from typing import NamedTuple
from uuid import UUID

from infra.beacon_tokens import BeaconTokens
from infra.keys import Keys
from infra.ledger_keys import LedgerKeys
from infra.settings import Settings
from infra.writer import Log
from projections.serving import Serving


class Services(NamedTuple):
    """The log, the keys, and what can be served, of the one ledger of this process."""

    settings: Settings
    ledger_id: UUID
    log: Log
    keys: Keys
    ledger_keys: LedgerKeys
    beacon_tokens: BeaconTokens
    serving: Serving
    issuer: str
