"""What Prometheus can ask a process for; the names are part of the interface."""

from functools import cache
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)

REQUESTS: Final = Counter("ledger_http_requests", "HTTP requests answered.", ["operation", "status"])
REQUEST_SECONDS: Final = Histogram("ledger_http_request_seconds", "Time to answer.", ["operation"], buckets=_SECONDS)
DECISIONS: Final = Counter("ledger_decisions", "Placements asked for, by what they got.", ["outcome"])
BEACONS: Final = Counter(
    "ledger_beacons", "Impressions, views, playback, clicks and conversions, by outcome.", ["kind", "outcome"]
)
SIGN_INS_REFUSED: Final = Counter("ledger_sign_ins_refused", "Sign-ins that were refused.", ["reason"])
BATCH_EVENTS: Final = Histogram(
    "ledger_batch_events", "Events appended in one commit.", buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000)
)
BATCH_SECONDS: Final = Histogram("ledger_batch_seconds", "Time from locking the head to the commit.", buckets=_SECONDS)
BATCHES_FAILED: Final = Counter("ledger_batches_failed", "Commits that did not come through.")
SEALED_ENTRIES: Final = Gauge(
    "ledger_sealed_entries", "Entries in the last signed checkpoint.", multiprocess_mode="mostrecent"
)
UNSEALED_SECONDS: Final = Gauge(
    "ledger_unsealed_seconds",
    "For how long an entry has been in no signed checkpoint; 0 when all are.",
    multiprocess_mode="mostrecent",
)
SEALING_REFUSED: Final = Gauge(
    "ledger_sealing_refused", "1 while the log does not continue what was signed of it.", multiprocess_mode="mostrecent"
)
PROJECTION_LAG: Final = Gauge(
    "ledger_projection_lag_events",
    "How far a projection is behind its log.",
    ["projection"],
    multiprocess_mode="mostrecent",
)
PROJECTION_DIFFERENCES: Final = Gauge(
    "ledger_projection_differing_keys",
    "Keys of a projection that differed from the same one made anew, when they were last compared.",
    ["projection"],
    multiprocess_mode="mostrecent",
)


# Looking a label up costs more than counting; the labels of hot paths are few, and looked up once.
@cache
def request_counter(operation: str, status: int) -> Counter:
    """Return the counter of one operation and status."""
    return REQUESTS.labels(operation, status)


@cache
def request_seconds(operation: str) -> Histogram:
    """Return the histogram of one operation."""
    return REQUEST_SECONDS.labels(operation)


@cache
def decision_counter(outcome: str) -> Counter:
    """Return the counter of one outcome of a placement."""
    return DECISIONS.labels(outcome)


@cache
def beacon_counter(kind: str, outcome: str) -> Counter:
    """Return the counter of one kind of beacon and outcome."""
    return BEACONS.labels(kind, outcome)
