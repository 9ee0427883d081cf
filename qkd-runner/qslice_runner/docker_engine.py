"""The engine on Docker: images by the classic builder, runs in locked-down containers."""

import asyncio
from datetime import datetime
from pathlib import Path

from docker.errors import APIError
from qslice.faults import Fault, SystemFault, UserFault
from qslice.worker.handler import Failed, Job, Outcome, TimedOut

from qslice_runner import daemon as daemons
from qslice_runner import limits
from qslice_runner.container import Gone
from qslice_runner.containers import Containers
from qslice_runner.daemon import Daemon
from qslice_runner.engine import BuildLog, Checkout, Image, ImageGone, Offer, RunTask
from qslice_runner.images import Images
from qslice_runner.init.protocol import Flag, Kind
from qslice_runner.judge import judge, partial
from qslice_runner.labels import own_labels
from qslice_runner.output import Output
from qslice_runner.settings import RunnerSettings
from qslice_runner.state import StateDir
from qslice_runner.sweep import Sweeper

#: Threads beside two per slot: sweeps.
_MORE_THREADS = 4
_MB = 1024 * 1024
#: What may have to be learnt of an image: its user, its folders.
_TRIES = 3


class DockerEngine:
    """See `qslice_runner.engine.Engine`."""

    def __init__(self, settings: RunnerSettings, state: StateDir) -> None:
        own = own_labels(settings.worker_host, state.id, settings.checkout)
        self._settings = settings
        # A build holds a thread for as long as it takes.
        self._daemon = Daemon(settings.docker_host, 2 * settings.slots + _MORE_THREADS)
        self._images = Images(settings, state, self._daemon, own)
        self._containers = Containers(settings, state, self._daemon, own)
        self._sweeper = Sweeper(self._daemon, state, own)
        self._offer: Offer | None = None

    async def start(self) -> None:
        try:
            info = await self._daemon.call(lambda client: client.info())
            await self._containers.start()
        except APIError as error:
            raise daemons.fault(error) from None
        self._offer = limits.offer(self._settings, float(info["NCPU"]), info["MemTotal"] // _MB)
        self._images.engine_root = Path(info["DockerRootDir"])

    async def stop(self) -> None:
        await self._containers.stop()
        await asyncio.to_thread(self._daemon.close)

    @property
    def offer(self) -> Offer:
        if self._offer is None:
            raise RuntimeError("the engine is not started")
        return self._offer

    async def build(
        self, checkout: Checkout, log: BuildLog, asked_at: datetime | None = None
    ) -> Image:
        return await self._images.get(checkout, log, asked_at)

    async def run(self, image: Image, task: RunTask, job: Job) -> Outcome:
        self._images.check_disk()
        for _ in range(_TRIES):
            outcome = await self._try(image, task, job)
            if outcome is not None:
                return outcome
        raise SystemFault("internal", f"no container of {image.name} can start a command")

    async def _try(self, image: Image, task: RunTask, job: Job) -> Outcome | None:
        """None where the image asks for another kind of container."""
        output = Output(job)
        try:
            used = await self._containers.take(image, task, job)
        except ImageGone:
            self._images.forget(image)
            raise
        except UserFault as refused:
            raise Failed(refused.code, refused.message, partial(image, task, output)) from None
        clean = False
        try:
            await job.started(commit=task.commit, image=image.name)
            async with asyncio.timeout(task.walltime_s):
                report = await used.execute(
                    (*image.entrypoint, *task.command),
                    task.env,
                    output.take,
                    once=task.shared_by is None,
                )
            clean = not report.flags & Flag.NOT_CLEAN
            await output.end()
        except TimeoutError:
            raise TimedOut(
                "walltime",
                f"the command ran longer than its wall time of {task.walltime_s:g} s and was "
                "stopped; raise walltime_s",
                partial(image, task, output),
            ) from None
        except Gone:
            fault: Fault = await used.explain_end()
            if isinstance(fault, SystemFault):
                raise fault from None
            raise Failed(fault.code, fault.message, partial(image, task, output)) from None
        except asyncio.CancelledError:
            # Killed before anybody is told that the job is stopped.
            await self._containers.remove(used.plan)
            raise Failed("cancelled", "stopped", partial(image, task, output)) from None
        finally:
            self._containers.give(used, task, clean)
        if report.kind in (Kind.IS_ROOT, Kind.NOT_WRITABLE):
            await self._containers.learn(used, report.kind)
            return None
        outcome, note = judge(report, image, task, output)
        if note is not None:
            await job.log("system", f"{note}\n")
        return outcome

    async def sweep(self) -> None:
        try:
            await self._sweeper.sweep(self._containers.names, self._containers.volume)
            await self._images.shrink()
        except APIError as error:
            raise daemons.fault(error) from None
