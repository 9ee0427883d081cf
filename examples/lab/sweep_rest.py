"""A sweep of the BB84 experiment with the SDK, over REST.

    . .run/env
    python examples/lab/sweep_rest.py --distances 0:150:6

The whole sweep is one request: a template and the distances to fill in. The same `--name` again is
the same sweep: after an interruption it goes on, and nothing is run twice.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from broker import LabError, Result
from qslice.sdk import Batch, Client, QsliceError
from sweep import Sweep, check_all_succeeded, read_options, report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 1 where a point failed or stayed away, 2 for bad arguments."""
    try:
        run(read_options("A BB84 sweep over REST.", arguments))
    except (LabError, QsliceError) as error:
        print(f"sweep_rest.py: {error}", file=sys.stderr)
        return 1
    return 0


def run(sweep: Sweep) -> None:
    """Submit the sweep, and report each point as its result comes."""
    results = []
    # Address, token and project come from QSLICE_URL, QSLICE_TOKEN and QSLICE_PROJECT.
    with Client() as client:
        batch = client.sweep(
            sweep.template(),
            grid={"distance": sweep.distances},
            name=sweep.name,
            request_id=sweep.name,
        )
        print(
            f"{batch.total} jobs of {batch.batch_id}; after an interruption go on with "
            f"--name {sweep.name}",
            file=sys.stderr,
        )
        for result in results_of(batch, sweep.silence_s):
            results.append(result)
            report(sweep, result, len(results))
    check_all_succeeded(results)


def results_of(batch: Batch, silence_s: float) -> Iterator[Result]:
    """Yield each result as it comes; LabError when none came for about `silence_s` seconds."""
    seen: set[str] = set()
    while True:
        known = len(seen)
        try:
            for result in batch.results(timeout_s=silence_s):
                if result.job_id not in seen:
                    seen.add(result.job_id)
                    yield result.model_dump(mode="json")
            return
        except TimeoutError as error:
            if len(seen) == known:
                raise LabError(f"no result for {silence_s:g} s: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
