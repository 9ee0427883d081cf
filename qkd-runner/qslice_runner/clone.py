"""Repositories: which commit a ref means, its files, and a bare cache for each address.

Nothing is ever checked out. A cache holds commits, each fetched alone (depth 1) by its 40 digits;
their files leave it as a tar. So no tree of a stranger is written to the host's file system, and no
hook, filter or attribute of it has an effect.
"""

import asyncio
import contextlib
import re
import shutil
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO
from weakref import WeakValueDictionary

import structlog
from qslice import repositories
from qslice.faults import Fault, SystemFault, UserFault

from qslice_runner import git
from qslice_runner.addresses import Resolve, Source, locate, resolve
from qslice_runner.settings import RunnerSettings
from qslice_runner.state import StateDir, digest

log = structlog.get_logger(__name__)

#: How far this host's clock may be ahead of that of the gateway, which says when a job came in.
_CLOCKS = timedelta(seconds=2)
_REMEMBERED_REFS = 10_000
_REF = "refs/qslice"
#: Attributes of a tree that would leave files out of an archive, or change them.
_ATTRIBUTES = "* -export-ignore -export-subst -filter -ident -working-tree-encoding\n"


class Repositories:
    """The caches in one state folder."""

    def __init__(
        self, settings: RunnerSettings, state: StateDir, resolve: Resolve = resolve
    ) -> None:
        self._settings = settings
        self._state = state
        self._resolve = resolve
        self._env = git.environment(settings)
        self._refs: OrderedDict[tuple[str, str], tuple[datetime, str]] = OrderedDict()
        self._asking: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def commit(self, url: str, ref: str, asked_at: datetime | None) -> str:
        """The commit that a ref means, at or after the moment a job was submitted.

        A job sees what was pushed before it was submitted; all jobs of a sweep that wait together
        are answered by one look. Raises `UserFault` `ref_not_found`, `repository_not_found`, ….
        """
        if repositories.is_commit(ref):
            await locate(url, self._settings, self._resolve)
            return ref
        key = (url, ref)
        lock = self._asking.setdefault(key, asyncio.Lock())
        async with lock:
            known = self._refs.get(key)
            if known is not None and asked_at is not None and known[0] - _CLOCKS >= asked_at:
                return known[1]
            at = datetime.now(UTC)
            found = await self._look_up(url, ref)
            self._refs[key] = (at, found)
            self._refs.move_to_end(key)
            while len(self._refs) > _REMEMBERED_REFS:
                self._refs.popitem(last=False)
            return found

    async def archive(self, url: str, commit: str, to: BinaryIO) -> None:
        """Write a commit's files as a tar, fetching the commit where the cache lacks it."""
        async with self._state.lock("repository", url):
            cache = self._cache(url)
            if not await self._has(cache, commit):
                await self._fetch(url, commit, cache)
            cache.touch()
            packed = await self._git(None, ["archive", "--format=tar", commit], cache, to)
            if packed.code != 0:
                raise explain(packed.stderr, url, commit)

    async def shrink(self) -> None:
        """Remove the caches that were used the longest time ago, until there is room again."""
        caches = sorted(
            self._state.repositories.glob("*.git"), key=lambda path: path.stat().st_mtime
        )
        sizes = await asyncio.to_thread(lambda: [_size(cache) for cache in caches])
        excess = sum(sizes) - self._settings.repository_cache_mb * 1024 * 1024
        for cache, size in zip(caches, sizes, strict=True):
            if excess <= 0:
                return
            url = (cache / "qslice-url").read_text() if (cache / "qslice-url").exists() else ""
            async with self._state.lock("repository", url):
                await asyncio.to_thread(shutil.rmtree, cache, ignore_errors=True)
            log.info("a repository cache was removed", cache=cache.name, bytes=size)
            excess -= size

    async def _look_up(self, url: str, ref: str) -> str:
        patterns = candidates(ref)
        source = await locate(url, self._settings, self._resolve)
        arguments = ["ls-remote", "--quiet", "--", source.url, *patterns]
        ended = await self._git(source, arguments, self._state.path)
        if ended.code != 0:
            raise explain(ended.stderr, url)
        lines = (line.partition("\t") for line in ended.stdout.splitlines())
        refs = {name: commit for commit, _, name in lines}
        for name in patterns:
            # A tag's own object stands under its name, its commit under name^{}.
            if commit := refs.get(f"{name}^{{}}") or refs.get(name):
                return commit
        if ref == "HEAD":
            raise UserFault("ref_not_found", f"{url} has no commit yet")
        raise UserFault(
            "ref_not_found",
            f"{url} has no branch or tag {ref!r}; a commit is named by all its 40 digits",
        )

    async def _has(self, cache: Path, commit: str) -> bool:
        if not (cache / "HEAD").is_file():
            return False
        wanted = f"{_REF}/{commit}^{{commit}}"
        ended = await self._git(None, ["rev-parse", "--quiet", "--verify", wanted], cache)
        return ended.code == 0

    async def _fetch(self, url: str, commit: str, cache: Path) -> None:
        source = await locate(url, self._settings, self._resolve)
        self._clear_leftovers(cache)
        if not (cache / "qslice-url").is_file():
            await self._make(url, cache)
        started = time.monotonic()
        one = ["--depth", "1", "--", source.url, f"+{commit}:{_REF}/{commit}"]
        ended = await self._git(source, ["fetch", *_FETCH, *one], cache)
        if ended.code != 0 and _UNADVERTISED.search(ended.stderr):
            # A server that gives only the tips by their digits: take all that is behind them.
            everything = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]
            ended = await self._git(
                source, ["fetch", *_FETCH, "--", source.url, *everything], cache
            )
            if ended.code == 0:
                ended = await self._git(source, ["update-ref", f"{_REF}/{commit}", commit], cache)
                if ended.code != 0:
                    raise _no_commit(url, commit)
        if ended.code != 0:
            fault = (
                self._too_large() if self._is_full(cache) else explain(ended.stderr, url, commit)
            )
            self._clear_leftovers(cache)
            if fault.code == "internal":
                # Whatever the cache has: the next attempt starts with a new one.
                await asyncio.to_thread(shutil.rmtree, cache, ignore_errors=True)
            raise fault
        if not await self._has(cache, commit):
            raise _no_commit(url, commit)
        log.info("fetched", url=url, commit=commit, seconds=round(time.monotonic() - started, 2))

    async def _make(self, url: str, cache: Path) -> None:
        """A new bare repository; its last file says that it is whole."""
        await asyncio.to_thread(shutil.rmtree, cache, ignore_errors=True)
        arguments = ["init", "--quiet", "--bare", "--template=", "--", str(cache)]
        ended = await self._git(None, arguments, self._state.path)
        if ended.code != 0:
            raise explain(ended.stderr, url)
        (cache / "info").mkdir()
        (cache / "info" / "attributes").write_text(_ATTRIBUTES)
        (cache / "qslice-url").write_text(url)

    async def _git(
        self,
        source: Source | None,
        arguments: list[str],
        folder: Path,
        to: BinaryIO | None = None,
    ) -> git.Ended:
        options, more = (source.options, dict(source.env)) if source else ((), {})
        command = git.command(arguments, options, self._settings.max_repository_mb)
        limit = self._settings.git_timeout_s
        try:
            ended = await git.run(command, folder, {**self._env, **more}, limit, to)
        except git.TooSlow:
            raise SystemFault(
                "repository_unreachable", f"git {arguments[0]} took longer than {limit:g} s"
            ) from None
        if ended.code != 0 and (ended.hit_file_limit or _FILE_LIMIT.search(ended.stderr)):
            raise self._too_large()
        return ended

    def _too_large(self) -> UserFault:
        return UserFault(
            "limits_exceeded",
            f"the repository is larger than {self._settings.max_repository_mb} MB, the most that "
            "this runner takes",
        )

    def _is_full(self, cache: Path) -> bool:
        """Whether a fetch was killed at the limit of a file's size: git itself does not say so."""
        limit = self._settings.max_repository_mb * 1024 * 1024
        return any(path.stat().st_size >= limit for path in cache.glob("objects/pack/tmp_*"))

    def _cache(self, url: str) -> Path:
        return self._state.repositories / f"{digest(url)}.git"

    def _clear_leftovers(self, cache: Path) -> None:
        """What a killed git left; nobody else is in this cache now."""
        for pattern in ("*.lock", "refs/**/*.lock", "objects/pack/tmp_*", "objects/pack/*.lock"):
            for path in cache.glob(pattern):
                path.unlink(missing_ok=True)


_FETCH = (
    "--quiet",
    "--no-tags",
    "--no-recurse-submodules",
    "--no-write-fetch-head",
    "--no-auto-gc",
)
_UNADVERTISED = re.compile(r"unadvertised object", re.I)
_FILE_LIMIT = re.compile(r"file too large|signal 25|died of signal 25|SIGXFSZ", re.I)


def candidates(ref: str) -> list[str]:
    """The full names that a ref may stand for, in the order `git clone --branch` tries them."""
    if ref == "HEAD" or ref.startswith("refs/"):
        return [ref] if ref == "HEAD" else [ref, f"{ref}^{{}}"]
    return [f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/tags/{ref}^{{}}"]


def _no_commit(url: str, commit: str) -> UserFault:
    return UserFault("ref_not_found", f"{url} has no commit {commit}")


_Explanation = Callable[[str], Fault]
_TABLE: tuple[tuple[str, _Explanation], ...] = (
    (
        r"not our ref|unadvertised object|couldn't find remote ref|no such remote ref",
        lambda text: UserFault("ref_not_found", text),
    ),
    (
        r"no space left on device",
        lambda text: SystemFault("disk_full", f"the runner's disk is full: {text}"),
    ),
    (
        r"redirect|returned error: 30\d",
        lambda text: UserFault(
            "repository_forbidden",
            f"the server points to another address, which is not followed: {text}; "
            "give the full address, often with .git at its end",
        ),
    ),
    (
        r"dubious ownership",
        lambda text: UserFault(
            "repository_forbidden",
            f"{text.split(': ')[0]} belongs to another user of the runner's host than the "
            "runner; its operator must give it to that user",
        ),
    ),
    (
        r"transport '\w+' not allowed|host key verification failed",
        lambda text: UserFault("repository_forbidden", text),
    ),
    (
        r"repository .*not found|does not exist|not appear to be a git repository|not a git repo|"
        r"returned error: 404|could not read username|authentication failed|permission denied|"
        r"returned error: 40[13]|terminal prompts disabled",
        lambda text: UserFault(
            "repository_not_found", f"no repository that this runner can read: {text}"
        ),
    ),
    (
        r"could not resolve|failed to connect|couldn't connect|timed? ?out|connection (was )?"
        r"(refused|reset|closed)|early eof|rpc failed|returned error: 5\d\d|hung up|"
        r"no route to host|network is unreachable|ssl|tls|unexpected disconnect|empty reply",
        lambda text: SystemFault("repository_unreachable", f"cannot be reached: {text}"),
    ),
)


def explain(stderr: str, url: str, commit: str = "") -> Fault:
    """What git's words mean: whose fault it is, and the words themselves."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    said = "; ".join(line.removeprefix("fatal: ") for line in lines[-4:])[:1000]
    about = f"{url} {commit}".strip()
    for pattern, make in _TABLE:
        if re.search(pattern, stderr, re.I):
            return make(f"{about}: {said}")
    return SystemFault("internal", f"git failed on {about}: {said}")


def _size(folder: Path) -> int:
    """Bytes in a folder; what vanishes meanwhile counts nothing."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_size
    return total
