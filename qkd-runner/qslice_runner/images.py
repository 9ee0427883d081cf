"""Images: named by repository, commit and Dockerfile, built once, kept while they are used."""

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections import OrderedDict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from docker.errors import APIError, ImageNotFound
from qslice.faults import Fault, SystemFault, UserFault

from qslice_runner import context, daemon, labels
from qslice_runner.builder import BrokenOff, Build, BuildPlan
from qslice_runner.daemon import Daemon
from qslice_runner.dockerfile import OWN_IMAGES
from qslice_runner.engine import BuildLog, Checkout, Image
from qslice_runner.settings import RunnerSettings
from qslice_runner.shared_build import SharedBuild
from qslice_runner.state import StateDir, digest

log = structlog.get_logger(__name__)

_MB = 1024 * 1024
_REMEMBERED_FAILURES = 1000
_LOOK_S = 1.0


def image_name(checkout: Checkout) -> str:
    """The same for the same repository, commit and Dockerfile, on every runner."""
    key = digest(checkout.repository, checkout.commit, checkout.dockerfile)
    return f"{OWN_IMAGES}:{key}"


class Images:
    """The images on one engine, for one runner."""

    def __init__(
        self, settings: RunnerSettings, state: StateDir, engine: Daemon, own: dict[str, str]
    ) -> None:
        self._own = own
        self._settings = settings
        self._state = state
        self._daemon = engine
        #: Where the engine keeps images.
        self.engine_root: Path | None = None
        self._known: dict[str, Image] = {}
        self._builds: dict[str, SharedBuild] = {}
        self._failed: OrderedDict[str, tuple[datetime, UserFault]] = OrderedDict()

    async def get(self, checkout: Checkout, log_: BuildLog, asked_at: datetime | None) -> Image:
        """See `Engine.build`."""
        name = image_name(checkout)
        if known := self._known.get(name):
            self._used(name)
            return known
        if (failed := self._failed.get(name)) and asked_at is not None and failed[0] > asked_at:
            raise UserFault(failed[1].code, failed[1].message)
        shared = self._builds.get(name)
        if shared is None:
            shared = self._builds[name] = SharedBuild(lambda: self._end(name, shared))
            shared.task = asyncio.create_task(self._make(name, checkout, shared))
            shared.task.add_done_callback(lambda task: self._end(name, shared, task))
        image = await shared.wait(log_)
        self._used(name)
        return image

    def forget(self, image: Image) -> None:
        """It is gone from the engine."""
        self._known.pop(image.name, None)

    def _end(
        self, name: str, shared: SharedBuild | None, task: asyncio.Task[Image] | None = None
    ) -> None:
        """Whoever wants the image from now on starts another build."""
        if self._builds.get(name) is shared:
            del self._builds[name]
        if task is not None and not task.cancelled():
            task.exception()  # perhaps nobody waits for it any more

    async def _make(self, name: str, checkout: Checkout, shared: SharedBuild) -> Image:
        async with self._state.lock("image", name):
            image = await self._inspect(name)
            if image is None:
                try:
                    await self._build(name, checkout, shared)
                except UserFault as fault:
                    self._failed[name] = (datetime.now(UTC), fault)
                    self._failed.move_to_end(name)
                    while len(self._failed) > _REMEMBERED_FAILURES:
                        self._failed.popitem(last=False)
                    raise
                image = await self._inspect(name)
                if image is None:
                    raise SystemFault("internal", f"the image {name} vanished after its build")
        self._failed.pop(name, None)
        self._known[name] = image
        return image

    async def _build(self, name: str, checkout: Checkout, shared: SharedBuild) -> None:
        started = time.monotonic()
        self.check_disk()
        with (
            tempfile.TemporaryFile(dir=self._state.scratch) as files,
            tempfile.TemporaryFile(dir=self._state.scratch) as packed,
        ):
            await checkout.archive(files)
            ready = await asyncio.to_thread(context.prepare, files, packed, checkout.dockerfile)
            for note in ready.notes:
                await shared.say(f"{note}\n")
            plan = BuildPlan(
                context=packed,
                dockerfile=ready.dockerfile,
                bases=tuple(ready.bases),
                tag=name,
                labels=self._own,
                network=self._settings.build_network,
                memory_mb=self._settings.build_memory_mb,
                air_gapped=self._settings.air_gapped,
            )
            build = Build(self._daemon, plan, shared.say)
            try:
                await self._watched(build)
            except BaseException:
                if build.last_layer is not None:
                    # It speeds up the next try, which may never come.
                    (self._state.leftovers / build.last_layer).touch()
                raise
        await self._check_size(name)
        log.info(
            "built",
            image=name,
            repository=checkout.repository,
            commit=checkout.commit,
            seconds=round(time.monotonic() - started, 2),
        )

    async def _watched(self, build: Build) -> None:
        """Within its time and its room on the disk."""
        running = asyncio.ensure_future(build.run())
        watching = asyncio.ensure_future(self._watch_disk())
        limit = self._settings.build_timeout_s
        why: Fault = UserFault(
            "build_timeout",
            f"the build took longer than {limit:g} s; make it smaller or ask for more",
        )
        try:
            await asyncio.wait(
                (running, watching), timeout=limit, return_when=asyncio.FIRST_COMPLETED
            )
            if running.done():
                return await running
            if watching.done():
                why = await watching
            build.stop()
            try:
                await running
            except BrokenOff:
                raise why from None
        finally:
            # Reached by a cancel too: the engine's step is over when this returns.
            watching.cancel()
            if not running.done():
                build.stop()
                await asyncio.wait((running,))
                with contextlib.suppress(BrokenOff, Fault):
                    running.result()

    async def _watch_disk(self) -> Fault:
        """Returns once the disk gets full, telling by whom."""
        before = self._free_mb()
        while True:
            await asyncio.sleep(_LOOK_S)
            free = self._free_mb()
            # All builds of this runner take from the same disk.
            if before - free > self._settings.max_image_mb * max(1, len(self._builds)):
                return self._too_large(before - free)
            if free < self._settings.min_free_mb / 2:
                return _disk_full(free)

    def check_disk(self) -> None:
        """Raises `SystemFault` `disk_full` where too little is free to begin anything."""
        free = self._free_mb()
        if free < self._settings.min_free_mb:
            raise _disk_full(free)

    def _free_mb(self) -> int:
        places = [self._state.path]
        # An engine on another host has its own disk.
        if self.engine_root is not None and self.engine_root.is_dir():
            places.append(self.engine_root)
        return min(shutil.disk_usage(place).free for place in places) // _MB

    async def _check_size(self, name: str) -> None:
        found = await self._daemon.call(lambda client: client.inspect_image(name))
        size = int(found["Size"]) // _MB
        if size > self._settings.max_image_mb:
            await self._daemon.call(lambda client: client.remove_image(name))
            raise self._too_large(size)

    def _too_large(self, size: int) -> UserFault:
        return UserFault(
            "limits_exceeded",
            f"the image takes {size} MB, more than the {self._settings.max_image_mb} MB that this "
            "runner keeps",
        )

    async def _inspect(self, name: str) -> Image | None:
        try:
            found = await self._daemon.call(lambda client: client.inspect_image(name))
        except ImageNotFound:
            return None
        except APIError as error:
            raise daemon.fault(error) from None
        return read_image(name, found)

    def _used(self, name: str) -> None:
        (self._state.images / name.partition(":")[2]).touch()

    async def shrink(self) -> None:
        """Remove built images that are too old, or too many; containers keep theirs."""
        found: list[dict[str, Any]] = await self._daemon.call(
            lambda client: client.images(name=OWN_IMAGES, filters=labels.filters(self._own))
        )
        ages = sorted((self._idle_s(name), name) for image in found for name in image["RepoTags"])
        for place, (idle, name) in enumerate(ages):
            if place < self._settings.keep_images and idle < self._settings.keep_images_h * 3600:
                continue
            if name not in self._builds:
                await self._remove(name)
        for layer in self._state.leftovers.iterdir():
            if _age_s(layer) > self._settings.keep_images_h * 3600:
                await self._remove_layers(layer.name)
                layer.unlink(missing_ok=True)

    async def _remove_layers(self, last: str) -> None:
        """What a broken build left, as far as nothing else is made from it."""
        with contextlib.suppress(APIError):
            found = await self._daemon.call(lambda client: client.inspect_image(last))
            if not found.get("RepoTags"):
                await self._daemon.call(lambda client: client.remove_image(last))

    async def _remove(self, name: str) -> None:
        self._known.pop(name, None)
        try:
            await self._daemon.call(lambda client: client.remove_image(name))
        except APIError as error:
            # In use, or removed by somebody else.
            log.debug("an image stays", image=name, reason=str(error))
            return
        (self._state.images / name.partition(":")[2]).unlink(missing_ok=True)
        log.info("an unused image was removed", image=name)

    def _idle_s(self, name: str) -> float:
        """Seconds since its last use by any runner of this folder."""
        try:
            return _age_s(self._state.images / name.partition(":")[2])
        except FileNotFoundError:
            self._used(name)
            return 0.0


def read_image(name: str, found: dict[str, Any]) -> Image:
    """What of an image's description matters for running it."""
    config = found.get("Config") or {}
    return Image(
        name=name,
        id=found["Id"],
        entrypoint=tuple(config.get("Entrypoint") or ()),
        user=config.get("User") or "",
        volumes=tuple(sorted(config.get("Volumes") or ())),
    )


def _disk_full(free: int) -> SystemFault:
    return SystemFault("disk_full", f"only {free} MB of disk are free on the runner")


def _age_s(path: Path) -> float:
    return time.time() - path.stat().st_mtime
