"""A single REST submit, durable when answered, against a view that calls `apply_async`."""

from collections.abc import Iterator

import orjson

from tests.benchmarks.load import Load, post_all
from tests.benchmarks.measure import Line, percentile, rate_line
from tests.benchmarks.parts import Parts
from tests.support.system import PROJECT

_RUN = {"repository": "https://git.example/qkd/bb84.git", "command": ["noop"]}


def measure(parts: Parts, jobs: int = 3000, connections: int = 8, rounds: int = 3) -> list[Line]:
    parts.system.gateway()
    parts.system.make_project()
    token = parts.system.tokens.make("alice", PROJECT)
    peer_port = parts.celery_gateway()
    each = jobs // connections

    def bodies(number: int) -> Iterator[bytes]:
        del number
        return (orjson.dumps(_RUN) for _ in range(each))

    ours, peers = [], []
    path = f"/api/v1/projects/{PROJECT}/jobs"
    post_all(parts.system.port, path, lambda number: iter([orjson.dumps(_RUN)] * 20), 8, token)
    post_all(peer_port, "/submit", lambda number: iter([orjson.dumps(_RUN)] * 20), 8)
    for _ in range(rounds):
        ours.append(post_all(parts.system.port, path, bodies, connections, token))
        peers.append(post_all(peer_port, "/submit", bodies, connections))
    mine, theirs = _middle(ours), _middle(peers)
    return [
        rate_line(f"submit, {connections} connections", mine.rate, theirs.rate, 1.0),
        Line(
            "submit, p50 / p99",
            _delays(mine),
            _delays(theirs),
            f"{percentile(mine.delays, 0.5) / percentile(theirs.delays, 0.5):.2f}",
            "reported",
            None,
        ),
    ]


def _middle(loads: list[Load]) -> Load:
    return sorted(loads, key=lambda load: load.rate)[len(loads) // 2]


def _delays(load: Load) -> str:
    p50, p99 = (1000 * percentile(load.delays, share) for share in (0.5, 0.99))
    return f"{p50:.1f} / {p99:.1f} ms"
