"""All containers of this process: started, kept warm, given away, removed."""

import asyncio
import contextlib
import secrets

import docker
import structlog
from docker.errors import APIError, NotFound
from qslice.faults import Fault, SystemFault
from qslice.worker.handler import Job

from qslice_runner import container, labels, lockdown
from qslice_runner.container import Container, InitMissing, Plan
from qslice_runner.daemon import Daemon
from qslice_runner.engine import Image, RunTask
from qslice_runner.init import binary, volume
from qslice_runner.init.protocol import Kind
from qslice_runner.settings import RunnerSettings
from qslice_runner.state import StateDir
from qslice_runner.warm import WarmPool

log = structlog.get_logger(__name__)


class Containers:
    """Whoever takes one gives it back; a container that is not clean then goes."""

    def __init__(
        self, settings: RunnerSettings, state: StateDir, daemon: Daemon, own: dict[str, str]
    ) -> None:
        self._settings = settings
        self._state = state
        self._daemon = daemon
        self._own = own
        self._warm: WarmPool[Container] = WarmPool(
            settings.slots, settings.warm_idle_s, self._discard
        )
        #: Names of containers that this process has, makes or removes.
        self.names: set[str] = set()
        self._removals: set[asyncio.Task[None]] = set()
        #: Images whose user, given by name, is root; and whose folders are in the way.
        self._root_images: set[str] = set()
        self._odd_images: set[str] = set()
        self._program = b""
        self._filling = asyncio.Lock()
        #: The volume with the first process.
        self.volume = ""

    async def start(self) -> None:
        self._program = await asyncio.to_thread(
            binary.binary, self._settings.runner_init, self._state.path
        )
        self.volume = volume.volume_name(self._program, self._state.id)
        if not await self._daemon.call(lambda client: volume.exists(client, self.volume)):
            await self._fill_volume()
        if self._settings.allow_network:
            await self._daemon.call(self._make_network)

    async def stop(self) -> None:
        """Returns once all that was kept or given back is removed."""
        self._warm.clear()
        while self._removals:
            await asyncio.wait(self._removals)
        if self.volume and not self._state.is_shared():
            # Where another runner has just come, it makes the volume again.
            with contextlib.suppress(APIError, Fault):
                await self._daemon.call(lambda client: client.remove_volume(self.volume))

    async def take(self, image: Image, task: RunTask, job: Job) -> Container:
        """A container for one task: warm where one waits, else new. Raises a fault, `ImageGone`."""
        if task.shared_by is not None and (idle := self._warm.take(_key(image, task))):
            return idle
        plan = self._plan(image, task, job)
        self.names.add(plan.name)
        try:
            try:
                return await Container.start(self._daemon, plan)
            except InitMissing:
                # Somebody removed the volume, and the engine made an empty one.
                await container.remove(self._daemon, plan)
                await self._fill_volume()
                return await Container.start(self._daemon, plan)
        except BaseException as error:
            await self.remove(plan)
            if isinstance(error, InitMissing):
                raise SystemFault("internal", f"the volume {self.volume} stays empty") from None
            raise

    def give(self, used: Container, task: RunTask, clean: bool) -> None:
        """Back from a task; returns at once."""
        if clean and task.shared_by is not None and used.is_alive:
            self._warm.give(_key(used.plan.image, task), used)
        else:
            self._discard(used)

    async def learn(self, used: Container, kind: Kind) -> None:
        """Why a container could not start its task: the image's next one is made otherwise."""
        (self._root_images if kind is Kind.IS_ROOT else self._odd_images).add(used.plan.image.id)
        await self.remove(used.plan)

    async def remove(self, plan: Plan) -> None:
        """Kill and remove; what fails here is left to the next sweep."""
        try:
            await container.remove(self._daemon, plan)
        except Fault as fault:
            log.warning("a container could not be removed", container=plan.name, reason=str(fault))
        finally:
            self.names.discard(plan.name)

    def _discard(self, old: Container) -> None:
        old.disconnect()
        removal = asyncio.create_task(self.remove(old.plan))
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)

    def _plan(self, image: Image, task: RunTask, job: Job) -> Plan:
        given = {**self._own, labels.RUNNER: self._state.runner}
        if job.batch_id is not None:
            given[labels.BATCH] = job.batch_id
        if task.shared_by is None:
            name = f"qslice-{job.id}-{job.attempt}"
            given[labels.JOB] = job.id
        else:
            name = f"qslice-warm-{secrets.token_hex(8)}"
        nobody = image.id in self._root_images
        odd = image.id in self._odd_images
        return Plan(
            name=name,
            image=image,
            user=lockdown.NOBODY if nobody else lockdown.user(image.user),
            as_volumes=odd or lockdown.declares_writable(image.volumes),
            limits=task.limits,
            network=self._settings.run_network,
            init_volume=self.volume,
            labels=given,
        )

    async def _fill_volume(self) -> None:
        async with self._filling, self._state.lock("image", self.volume):
            await self._daemon.call(
                lambda client: volume.fill(client, self._program, self.volume, self._own)
            )

    def _make_network(self, client: docker.APIClient) -> None:
        """Containers on it reach the world, but not each other."""
        try:
            client.inspect_network(self._settings.run_network)
        except NotFound:
            client.create_network(
                self._settings.run_network,
                driver="bridge",
                options={"com.docker.network.bridge.enable_icc": "false"},
                labels=self._own,
                check_duplicate=True,
            )


def _key(image: Image, task: RunTask) -> tuple[object, ...]:
    """Tasks with the same key may share a container, one after the other."""
    return task.shared_by, image.id, *vars(task.limits).items()
