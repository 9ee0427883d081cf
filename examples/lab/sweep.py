"""What the two sweep scripts share: their options, the task of one point, the table at the end."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from broker import LabError, Result, setting

MOST_POINTS = 10_000


@dataclass(frozen=True)
class Sweep:
    """A BB84 sweep over fibre lengths, as the command line describes it."""

    name: str
    repository: str
    distances: tuple[str, ...]
    pulses: str
    seed: int
    isolation: str
    #: Whether to print one JSON result per line in place of text.
    as_json: bool
    silence_s: float

    def template(self) -> dict[str, Any]:
        """Return the run of one point, with `{distance}` where its distance belongs."""
        return {
            "id": f"{self.name}/{{distance}}",
            "repository": self.repository,
            "command": [
                *("python", "/app/bb84.py", "--distance", "{distance}"),
                *("--pulses", self.pulses, "--seed", str(self.seed)),
            ],
            "walltime_s": 300,
            "limits": {"cpus": 1, "memory_mb": 256, "pids": 32, "network": False},
            "labels": {"sweep": self.name, "distance": "{distance}"},
            "isolation": self.isolation,
        }

    def tasks(self) -> list[dict[str, Any]]:
        """Return the run of each point, ready to be published; their ids are all different."""
        template = json.dumps(self.template())
        return [json.loads(template.replace("{distance}", km)) for km in self.distances]


def read_options(description: str, arguments: Sequence[str] | None = None) -> Sweep:
    """Read the command line; the repository and its folder may come from the environment."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--distances",
        type=read_distances,
        default=read_distances("0:150:6"),
        metavar="KM",
        help="FIRST:LAST:STEP or a list such as 0,10,25.5 (default 0:150:6)",
    )
    parser.add_argument("--pulses", default="1e12", help="pulses per point (default 1e12)")
    parser.add_argument("--seed", type=int, default=1984, help="(default 1984)")
    parser.add_argument(
        "--repository", help="git URL (default: bb84.git in the folder QSLICE_GIT_DIR)"
    )
    parser.add_argument(
        "--name",
        help="the sweep's name; the same name again goes on where a sweep was interrupted "
        "(default: bb84- and the time)",
    )
    parser.add_argument(
        "--isolation",
        choices=("task", "batch"),
        default="task",
        help="batch: points may share a warm container (default task)",
    )
    parser.add_argument("--json", action="store_true", help="print results as JSON lines")
    parser.add_argument(
        "--silence", type=float, default=600.0, metavar="S", help="give up after S s without news"
    )
    given = parser.parse_args(arguments)
    return Sweep(
        name=given.name or time.strftime("bb84-%Y%m%d-%H%M%S"),
        repository=given.repository or f"file://{setting('QSLICE_GIT_DIR')}/bb84.git",
        distances=given.distances,
        pulses=given.pulses,
        seed=given.seed,
        isolation=given.isolation,
        as_json=given.json,
        silence_s=given.silence,
    )


def read_distances(text: str) -> tuple[str, ...]:
    """Return the distances in km that `0:150:6` or `0,10,25.5` means, as texts, each once."""
    try:
        if ":" in text:
            first, last, step = (Decimal(part) for part in text.split(":"))
            if step <= 0 or last < first:
                raise argparse.ArgumentTypeError(f"{text!r}: use FIRST:LAST:STEP with STEP above 0")
            if (last - first) / step >= MOST_POINTS:
                raise argparse.ArgumentTypeError(f"{text!r}: more than {MOST_POINTS} points")
            count = int((last - first) / step) + 1
            values = [first + index * step for index in range(count)]
        else:
            values = [Decimal(part) for part in text.split(",")]
    except (InvalidOperation, ValueError):
        raise argparse.ArgumentTypeError(
            f"{text!r}: use FIRST:LAST:STEP or a list such as 0,10,25.5"
        ) from None
    if not all(value.is_finite() and value >= 0 for value in values):
        raise argparse.ArgumentTypeError(f"{text!r}: a distance is a number from 0 on")
    return tuple(dict.fromkeys(f"{value.normalize():f}" for value in values))


def report(sweep: Sweep, result: Result, done: int) -> None:
    """Print one result as it comes."""
    if sweep.as_json:
        line = json.dumps(result)
    else:
        line = f"{done:4d}/{len(sweep.distances)}  {describe(result)}"
    print(line, flush=True)


def describe(result: Result) -> str:
    """One line on one point's result."""
    where = f"{result['labels'].get('distance', '?'):>6} km"
    if result["state"] != "succeeded":
        error = result.get("error") or {}
        return f"{where}  {result['state']}: {error.get('message', 'no reason given')}"
    point = result["result"]
    return (
        f"{where}  {point['key_rate']:.3e} ± {point['key_rate_standard_error']:.0e} "
        f"bits per pulse, QBER {point['qber']:.1%}"
    )


def check_all_succeeded(results: Sequence[Result]) -> None:
    """Raise LabError that names the points which did not succeed."""
    failed = [result for result in results if result["state"] != "succeeded"]
    if failed:
        raise LabError(
            f"{len(failed)} of {len(results)} points did not succeed:\n  "
            + "\n  ".join(describe(result) for result in failed[:10])
        )
