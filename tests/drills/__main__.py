"""`python -m tests.drills [--jobs N] [--seconds S] [--seed N]`: nothing lost, nothing done twice.

Starts the whole system with workers that need no containers, on a broker and a database of its
own; hands thousands of runs in, by REST and by a lab's script; meanwhile kills random parts with
-9, and starts them again. At the end each accepted run must be finished once, in REST and on Done.
Exit code 1 where it is not; the logs then stay.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import sys
import tempfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from qslice.messages.result import Result
from qslice.sdk import Client, Lab
from qslice_gateway.store.migrate import upgrade
from qslice_native.instance import Instance
from qslice_native.places import Places, checkout_root

from tests.drills.killer import Killer
from tests.drills.load import Load
from tests.drills.parts import Part, count_finished, start_all
from tests.drills.verdict import Verdict, judge
from tests.support.counting import results_on_done
from tests.support.platform import Platform, fresh_database, fresh_vhost
from tests.support.processes import ProcessStarter
from tests.support.system import PROJECT, System
from tests.support.wait import wait_for

#: Seconds without any job finished after which the rest is taken for lost.
_SILENCE_S = 120.0
_SHOWN_FAULTS = 20


def main() -> int:
    asked = _arguments()
    say(f"seed {asked.seed}: {asked.jobs} jobs, parts are killed for {asked.seconds:g} s")
    folder = Path(tempfile.mkdtemp(prefix="qslice-drill-"))
    starter = ProcessStarter(folder)
    own = Instance(Places(checkout_root(), "drill"), with_docker=False)
    try:
        own.remove()  # of a drill that was killed itself
        own.up()
        platform = Platform.of(own)
        with fresh_vhost(platform) as broker, fresh_database(platform) as database:
            upgrade(database)
            system = System(starter, folder, broker, database, platform.management_url)
            try:
                verdict = _drill(asked, system, own)
            finally:
                system.close()
                starter.kill_all()
    finally:
        starter.kill_all()
        own.remove()
    for fault in verdict.faults[:_SHOWN_FAULTS]:
        say(f"WRONG {fault}")
    if len(verdict.faults) > _SHOWN_FAULTS:
        say(f"WRONG and {len(verdict.faults) - _SHOWN_FAULTS} more")
    say(f"accepted {verdict.accepted}, finished once {verdict.finished}")
    if verdict.passed:
        shutil.rmtree(folder)
        say("PASSED: nothing was lost, nothing was done twice")
        return 0
    say(f"FAILED: again with --seed {asked.seed}; the logs are in {folder}")
    return 1


def _drill(asked: argparse.Namespace, system: System, own: Instance) -> Verdict:
    parts = start_all(system, own)
    system.wait_until_ready()
    system.make_project()
    client, stop = system.client(), threading.Event()
    url = system.environment["QSLICE_DATABASE_URL"]
    load = Load(asked.seed, asked.seconds, stop)
    killer = Killer(parts, asked.seed, lambda: count_finished(url), say)
    with (
        Lab(client.broker_user().amqp_url, PROJECT) as lab,
        ThreadPoolExecutor(1) as pool,
    ):
        try:
            load.by_rest(client, asked.jobs // 2)
            load.by_broker(lab, asked.jobs - asked.jobs // 2)
            wait_for(lambda: count_finished(url), 120, "the first jobs finished")
            killing = pool.submit(killer.run, asked.seconds, stop)
            ended = _watch(asked.jobs, url, parts, killing)
        finally:
            stop.set()
            load.wait()
        killing.result()
    verdict = _count(client, load, system.environment["QSLICE_AMQP_URL"])
    verdict.faults += ended
    say("killed: " + ", ".join(f"{part.name} {part.kills} times" for part in parts))
    say(f"requests sent again: {load.again} after an error, {load.twice} on purpose")
    return verdict


def _watch(jobs: int, url: str, parts: list[Part], killing: Future[None]) -> list[str]:
    """Until all is finished and nothing is killed any more; tells what went wrong meanwhile."""
    wrong: list[str] = []
    last, changed_at, told_at = 0, time.monotonic(), time.monotonic()
    while not killing.done() or last < jobs:
        time.sleep(0.5)
        for part in parts:
            if not part.away and (ended := part.ended()):
                wrong.append(ended)
                part.start()
        now, finished = time.monotonic(), count_finished(url)
        if finished is not None and finished != last:
            last, changed_at = finished, now
        if now - told_at > 10:
            told_at = now
            say(f"{last} of {jobs} finished")
        if killing.done() and now - changed_at > _SILENCE_S:
            return [*wrong, f"no job finished for {_SILENCE_S:g} s"]
    return wrong


def _count(client: Client, load: Load, broker_url: str) -> Verdict:
    jobs = list(client.jobs())
    results: list[Result] = []

    def all_told() -> bool:
        results.extend(results_on_done(broker_url, PROJECT))
        return {job.job_id for job in jobs} <= {result.job_id for result in results}

    with contextlib.suppress(AssertionError):
        wait_for(all_told, 60, "each result on Done")
    return judge(load.expected, jobs, results)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.drills", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=60, help="how long parts are killed")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    return parser.parse_args()


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
