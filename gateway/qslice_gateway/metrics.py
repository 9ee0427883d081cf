"""Counters of the gateway, summed over its processes where `PROMETHEUS_MULTIPROC_DIR` is set."""

import os

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

MEDIA_TYPE = CONTENT_TYPE_LATEST

_REQUESTS = Counter("qslice_gateway_requests", "Answers by route and status", ["route", "status"])
_SECONDS = Histogram(
    "qslice_gateway_request_seconds",
    "Time of a request inside the gateway; of a stream, until its first byte",
    ["route"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
STREAMS = Gauge("qslice_gateway_streams", "Live streams", multiprocess_mode="livesum")


def seen(route: str, status: int, seconds: float) -> None:
    """One request was answered."""
    _REQUESTS.labels(route, status).inc()
    _SECONDS.labels(route).observe(seconds)


def written(gauges: dict[str, dict[tuple[tuple[str, str], ...], float]]) -> bytes:
    """The metrics page: our counters, and gauges of the moment by name and labels."""
    registry = CollectorRegistry() if "PROMETHEUS_MULTIPROC_DIR" in os.environ else REGISTRY
    if registry is not REGISTRY:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    page = generate_latest(registry)
    lines = []
    for name, values in gauges.items():
        lines.append(f"# TYPE {name} gauge")
        for labels, value in values.items():
            shown = ",".join(f'{key}="{text}"' for key, text in labels)
            lines.append(f"{name}{{{shown}}} {value:g}" if shown else f"{name} {value:g}")
    return page + "\n".join([*lines, ""]).encode()
