"""N queens, one task per first-row column, in the message form of the course RT0704.

    . .run/env
    python examples/lab/n_queens.py 8

Each task is `{"ID_projet", "ID_tache", "URL_git", "CMD"}`; its result carries `Resultat`, what the
command printed. The sum of all of them is the number of solutions.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from broker import LabError, ProjectQueues, Result, setting

#: OEIS A000170.
KNOWN_TOTALS = {4: 2, 5: 10, 6: 4, 7: 40, 8: 92, 9: 352, 10: 724, 11: 2680, 12: 14200}


def tasks(size: int, project_id: str, repository: str) -> list[dict[str, Any]]:
    """Return one task per column of the first row."""
    return [
        {
            "ID_projet": project_id,
            "ID_tache": column,
            "URL_git": repository,
            "CMD": f"python /app/queens.py {size} {column}",
        }
        for column in range(size)
    ]


def total(results: Sequence[Result]) -> int:
    """Sum what the tasks printed; LabError names the first task that failed."""
    for result in results:
        if result["state"] != "succeeded":
            reason = (result.get("error") or {}).get("message", "no reason given")
            raise LabError(f"task {result['ID_tache']} is {result['state']}: {reason}")
    return sum(int(result["Resultat"]) for result in results)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 1 where a task failed or the total is known to be another."""
    parser = argparse.ArgumentParser(description="N queens over RabbitMQ.")
    parser.add_argument("size", type=int, nargs="?", default=8, help="the board's N (default 8)")
    parser.add_argument("--repository", help="git URL (default: n-queens.git in QSLICE_GIT_DIR)")
    parser.add_argument("--project-id", help="ID_projet (default: queens- and the time)")
    parser.add_argument("--json", action="store_true", help="print results as JSON lines")
    parser.add_argument(
        "--silence", type=float, default=600.0, metavar="S", help="give up after S s without news"
    )
    given = parser.parse_args(arguments)
    if not 1 <= given.size <= 16:
        parser.error(f"the board's N is {given.size}: it must lie between 1 and 16")
    try:
        repository = given.repository or f"file://{setting('QSLICE_GIT_DIR')}/n-queens.git"
        project_id = given.project_id or time.strftime("queens-%Y%m%d-%H%M%S")
        to_do = tasks(given.size, project_id, repository)
        results = []
        with ProjectQueues.from_environment() as queues:
            for task in to_do:
                queues.submit(task)
            # The platform's own key of such a task is `<ID_projet>/<ID_tache>`.
            ids = {f"{project_id}/{task['ID_tache']}" for task in to_do}
            for result in queues.results(ids, given.silence):
                results.append(result)
                column, count = result["ID_tache"], result.get("Resultat")
                print(
                    json.dumps(result) if given.json else f"column {column}: {count} solutions",
                    flush=True,
                )
        found = total(results)
        known = KNOWN_TOTALS.get(given.size)
        print(f"{given.size} queens: {found} solutions", file=sys.stderr)
        if known is not None and found != known:
            raise LabError(f"{given.size} queens have {known} solutions, not {found}")
    except LabError as error:
        print(f"n_queens.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
