"""What keeps a command from being run, in a sentence; imported when something has, as it knows nearly everything."""

from typing import Final

import psycopg

from api.ad_slot import Unanswered
from api.demo import NotADemo
from api.keys_cli import BackupUnfit
from api.play import CouldNotPlay
from api.serve import CannotListen
from domain.errors import Refusal
from infra.data_centres import NetworksUnreadable
from infra.database import WORKER_ROLE, NotDurable
from infra.embedded import DataFolderHeld, PostgresFailed
from infra.inspection import Unreadable
from infra.installation import NotInstalled, OrganisationUnclear
from infra.keys import SecretUnfit
from infra.mirror import FolderUnfit
from infra.rate_limits import RatesUnreadable
from infra.schema import SchemaUnfit
from infra.settings import SettingMissing, SettingUnfit
from infra.subject_keys import MasterKeyUnknown
from projections.rebuild import RebuildRunning

COULD_NOT_RUN_BECAUSE: Final = (
    *(BackupUnfit, MasterKeyUnknown),
    *(CannotListen, CouldNotPlay, DataFolderHeld, FolderUnfit, NotADemo, NotDurable, NotInstalled),
    *(
        OrganisationUnclear,
        PostgresFailed,
        RatesUnreadable,
        RebuildRunning,
        Refusal,
        SchemaUnfit,
        SecretUnfit,
        SettingMissing,
    ),
    *(NetworksUnreadable, OrganisationUnclear, SettingUnfit, Unanswered, Unreadable),
)


def reason_of(error: Exception) -> str | None:
    """Return what keeps a command from being run; None for a defect, whose traceback should be seen."""
    if isinstance(error, COULD_NOT_RUN_BECAUSE):
        return str(error)
    if isinstance(error, psycopg.errors.UndefinedTable) or f'role "{WORKER_ROLE}" does not exist' in str(error):
        return NotInstalled.__doc__
    if isinstance(error, psycopg.OperationalError):
        return f"The database cannot be reached: {str(error).splitlines()[0]}."
    if isinstance(error, psycopg.ProgrammingError) and error.sqlstate is None:
        return f"LEDGER_DATABASE_URL does not name a database: {str(error).strip()}."
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename} cannot be used: {error.strerror}."
    return None
