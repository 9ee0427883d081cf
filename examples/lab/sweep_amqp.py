"""A sweep of the BB84 experiment from a lab script, over RabbitMQ alone.

    . .run/env
    python examples/lab/sweep_amqp.py --distances 0:150:6

Nothing of qslice is imported: the messages are JSON, and pika carries them. Hand the same `--name`
in again after an interruption: a task with a known id is not run again, its result is sent again.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from broker import LabError, ProjectQueues
from sweep import Sweep, check_all_succeeded, read_options, report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 1 where a point failed or stayed away, 2 for bad arguments."""
    try:
        run(read_options("A BB84 sweep over RabbitMQ.", arguments))
    except LabError as error:
        print(f"sweep_amqp.py: {error}", file=sys.stderr)
        return 1
    return 0


def run(sweep: Sweep) -> None:
    """Hand in every point, and report each as its result comes."""
    tasks = sweep.tasks()
    results = []
    with ProjectQueues.from_environment() as queues:
        for task in tasks:
            queues.submit(task)
        print(
            f"{len(tasks)} tasks are on {queues.project}.ToDo; after an interruption go on with "
            f"--name {sweep.name}",
            file=sys.stderr,
        )
        for result in queues.results({task["id"] for task in tasks}, sweep.silence_s):
            results.append(result)
            report(sweep, result, len(results))
    check_all_succeeded(results)


if __name__ == "__main__":
    sys.exit(main())
