"""What the publisher counts, for Prometheus."""

from prometheus_client import Counter, Histogram

PUBLISHED = Counter("qslice_mrs_published_total", "Completions that the registry has", ["action"])
FAILED = Counter("qslice_mrs_attempts_failed_total", "Attempts to be made again", ["code"])
GIVEN_UP = Counter("qslice_mrs_given_up_total", "Completions that were given up", ["code"])
DELAY = Histogram(
    "qslice_mrs_delay_seconds",
    "From the completion to its publication",
    buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 60, 600, 3600, 86400),
)
