"""Jobs of the kind `run`: clone, build, run."""

import contextlib
from dataclasses import dataclass, replace
from functools import partial

import orjson
from qslice import names
from qslice.faults import SystemFault, UserFault
from qslice.messages.run import Run, TpTask, read_run
from qslice.worker.handler import Failed, Job, Outcome, Owned, Task

from qslice_runner import limits
from qslice_runner.clone import Repositories
from qslice_runner.docker_engine import DockerEngine
from qslice_runner.engine import Checkout, Engine, Image, ImageGone, RunTask
from qslice_runner.settings import RunnerSettings
from qslice_runner.state import StateDir

#: How often an image may vanish between its build and its use.
_TRIES = 3


@dataclass(frozen=True)
class Request:
    """A message as the handler wants it."""

    run: Run
    #: Where it came in the form of the course RT0704.
    tp: TpTask | None = None


class RunHandler:
    """See `qslice.worker.handler.Handler`."""

    kind = names.RUN

    def __init__(
        self,
        settings: RunnerSettings,
        state: StateDir | None = None,
        engine: Engine | None = None,
        repositories: Repositories | None = None,
    ) -> None:
        self._settings = settings
        self._state = state or StateDir(settings.runner_state_dir)
        self._engine = engine or DockerEngine(settings, self._state)
        self._repositories = repositories or Repositories(settings, self._state)

    def read(self, body: bytes) -> Task:
        run, tp = read_run(body)
        extra = {"ID_projet": tp.ID_projet, "ID_tache": tp.ID_tache} if tp else {}
        return Task(
            payload=orjson.loads(body),
            producer_id=run.id,
            labels=run.labels,
            priority=run.priority,
            request=Request(run, tp),
            extra=extra,
        )

    async def start(self) -> None:
        self._state.open()
        await self._engine.start()

    async def stop(self) -> None:
        await self._engine.stop()
        self._state.close()

    async def run(self, job: Job) -> Outcome:
        request: Request = job.request
        try:
            outcome = await self._run(job, request.run)
        except Failed as failed:
            failed.outcome = _tp(failed.outcome, request)
            raise
        return _tp(outcome, request)

    async def sweep(self, owned: Owned) -> None:
        # A container whose runner is gone is of no use, whoever owns its job: locks tell more
        # than the ledger would (see `sweep`).
        del owned
        await self._engine.sweep()
        await self._repositories.shrink()

    async def _run(self, job: Job, run: Run) -> Outcome:
        limits.check(run, self._settings, self._engine.offer)
        commit = await self._repositories.commit(run.repository, run.ref, job.submitted_at)
        checkout = Checkout(
            repository=run.repository,
            commit=commit,
            dockerfile=run.dockerfile,
            archive=partial(self._repositories.archive, run.repository, commit),
        )
        task = RunTask(
            command=tuple(run.command),
            env=environment(job, run, commit),
            limits=run.limits,
            walltime_s=run.walltime_s,
            commit=commit,
            shared_by=shared_by(job, run),
        )
        for _ in range(_TRIES):
            image = await self._image(job, checkout)
            with contextlib.suppress(ImageGone):
                return await self._engine.run(image, task, job)
        raise SystemFault("internal", f"the image {image.name} vanishes as soon as it is built")

    async def _image(self, job: Job, checkout: Checkout) -> Image:
        try:
            return await self._engine.build(checkout, partial(job.log, "build"), job.submitted_at)
        except UserFault as fault:
            raise Failed(fault.code, fault.message, Outcome(commit=checkout.commit)) from None


def environment(job: Job, run: Run, commit: str) -> dict[str, str]:
    """What a command finds beside its image's own variables; ours come last."""
    given = {
        # The image's home is on the read-only root; programs like to keep caches there.
        "HOME": "/tmp",  # noqa: S108 - the container's own
        # Else Python holds its output back, and there would be no live log.
        "PYTHONUNBUFFERED": "1",
        **run.env,
        "QSLICE_JOB_ID": job.id,
        "QSLICE_ATTEMPT": str(job.attempt),
        "QSLICE_PROJECT": job.project,
        "QSLICE_COMMIT": commit,
        "QSLICE_OUTPUT": "/output",
    }
    if job.batch_id is not None:
        given["QSLICE_BATCH_ID"] = job.batch_id
    return given


def shared_by(job: Job, run: Run) -> str | None:
    """Who may share a warm container: the tasks of one batch of one project that ask for it."""
    if run.isolation != "batch" or job.batch_id is None:
        return None
    return f"{job.project}/{job.batch_id}"


def _tp(outcome: Outcome, request: Request) -> Outcome:
    """The TP's field beside ours."""
    if request.tp is None:
        return outcome
    return replace(outcome, extra={**outcome.extra, "Resultat": outcome.stdout.strip()})
