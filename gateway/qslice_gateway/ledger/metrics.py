"""What the ledger counts, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()

OUTBOX = Gauge("qslice_outbox_messages", "Messages that wait to be relayed", registry=REGISTRY)
OUTBOX_AGE_S = Gauge(
    "qslice_outbox_age_seconds", "For how long the oldest due one has waited", registry=REGISTRY
)
JOBS = Gauge("qslice_jobs", "Jobs that are not over, by state", ["state"], registry=REGISTRY)
WORKERS = Gauge("qslice_workers", "Workers heard of lately", ["kind"], registry=REGISTRY)
SLOTS = Gauge("qslice_worker_slots", "Their slots together", ["kind"], registry=REGISTRY)

RELAYED = Counter(
    "qslice_ledger_relayed", "Messages published and confirmed", ["exchange"], registry=REGISTRY
)
UNRELAYED = Counter(
    "qslice_ledger_unrelayed", "Messages refused or without a queue", ["fate"], registry=REGISTRY
)
CLAIMS = Counter("qslice_ledger_claims", "Claims by answer", ["reason"], registry=REGISTRY)
ANSWER_S = Histogram(
    "qslice_ledger_answer_seconds",
    "Time in the database for a batch of requests",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3, 1, 3, 10),
    registry=REGISTRY,
)
EVENTS = Counter("qslice_ledger_events", "Events of workers", ["type"], registry=REGISTRY)
FINISHED = Counter(
    "qslice_ledger_finished", "Jobs that ended, by state", ["state"], registry=REGISTRY
)
IGNORED = Counter(
    "qslice_ledger_results_ignored", "Results of attempts that were over", registry=REGISTRY
)
RETRIES = Counter(
    "qslice_ledger_retries", "Jobs put back on their queue", ["reason"], registry=REGISTRY
)
LOST = Counter("qslice_ledger_lost", "Jobs whose worker fell silent", registry=REGISTRY)
DEAD_LETTERS = Counter(
    "qslice_ledger_dead_letters", "Messages on Dead", ["owner"], registry=REGISTRY
)
REPUBLISHED = Counter(
    "qslice_ledger_republished",
    "Messages put on an empty queue again whose job still waited",
    registry=REGISTRY,
)
POISON = Counter(
    "qslice_ledger_poison", "Messages that could not be handled", ["queue"], registry=REGISTRY
)
RECONNECTS = Counter("qslice_ledger_reconnects", "Connections to the broker", registry=REGISTRY)
