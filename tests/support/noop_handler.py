"""A handler without effects: its payload's command says what becomes of the job.

`["noop"]` succeeds at once, `["started"]` tells that it started before that, `["sleep", "2"]`
lasts two seconds (and says so: started, a log line, then the outcome), `["print", "text"]` has
output, `["fail"]` fails by the user's fault, `["timeout"]` is out of time, `["fault"]` fails by
ours, `["crash"]` raises what no handler should.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from qslice import names
from qslice.faults import SystemFault, UserFault
from qslice.messages.run import Run, read_run
from qslice.worker.handler import Failed, Job, Outcome, Owned, Task, TimedOut


class NoopHandler:
    """Does what the command says, and counts what it was asked for."""

    kind = names.RUN

    def __init__(self) -> None:
        #: How often each job was run here, by id.
        self.runs: Counter[str] = Counter()
        #: Project and producer's id of each run, in order.
        self.order: list[tuple[str, str | None]] = []
        self.jobs: list[Job] = []
        self.running = 0
        self.most_running = 0
        self.started = False
        self.stopped = False
        #: What a sweep asks about, and what it was told.
        self.to_sweep: list[str] = []
        self.still_owned: set[str] | None = None

    def read(self, body: bytes) -> Task:
        run, task = read_run(body)
        return Task(
            payload=run.model_dump(mode="json", exclude_none=True),
            producer_id=run.id,
            labels=run.labels,
            priority=run.priority,
            request=run,
            extra={} if task is None else {"ID_projet": task.ID_projet, "ID_tache": task.ID_tache},
        )

    async def start(self) -> None:
        self.started = True

    async def stop(self) -> None:
        self.stopped = True

    async def run(self, job: Job) -> Outcome:
        self.runs[job.id] += 1
        self.order.append((job.project, job.producer_id))
        self.jobs.append(job)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            request: Run = job.request
            return await self._do(job, request.command)
        finally:
            self.running -= 1

    async def sweep(self, owned: Owned) -> None:
        if self.to_sweep:
            self.still_owned = await owned(self.to_sweep)

    async def _do(self, job: Job, command: Sequence[str]) -> Outcome:
        match list(command):
            case ["noop", *_]:
                return Outcome(exit_code=0)
            case ["started"]:
                await job.started()
                return Outcome(exit_code=0)
            case ["sleep", seconds]:
                await job.started()
                await job.log("stdout", f"sleeping {seconds} s\n")
                await asyncio.sleep(float(seconds))
                return Outcome(exit_code=0, stdout=f"slept {seconds} s\n")
            case ["print", *words]:
                text = " ".join(words) + "\n"
                await job.log("stdout", text)
                return Outcome(exit_code=0, stdout=text)
            case ["fail", *_]:
                outcome = Outcome(exit_code=1, stderr="it does not work\n")
                raise Failed("exit_code", "the command ended with code 1", outcome)
            case ["timeout"]:
                raise TimedOut("walltime", "the wall time is over", Outcome(stdout="so far\n"))
            case ["fault"]:
                raise SystemFault("docker_unavailable", "the engine does not answer")
            case ["crash"]:
                raise ZeroDivisionError("nobody thought of this")
            case [other, *_]:
                raise UserFault("command_not_found", f"{other!r} is no command of this handler")
            case _:
                raise AssertionError(command)
