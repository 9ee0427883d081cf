"""The crate as a file: metadata, inputs, results as table and as JSON, and a file for each job."""

import hashlib
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import IO, Any

import orjson
from qslice import grids
from qslice.logs import clean
from qslice.messages.base import Rejected

from qslice_gateway import results
from qslice_gateway.batches import Points
from qslice_gateway.provenance import crate
from qslice_gateway.provenance.record import BatchRecord, Execution, File

#: Jobs up to which each is an action of its own; a larger batch is one action per software.
MAX_ACTIONS = 1000
INPUTS, TABLE, ALL = "inputs.json", "results.csv", "results.json"

Pages = Callable[[], Iterable[list[results.Item]]]
_JSON = orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z


def write(
    out: IO[bytes],
    record: BatchRecord,
    document: dict[str, Any],
    columns: Sequence[str],
    pages: Pages,
) -> None:
    """Write a batch's crate as a ZIP file.

    document: what `BatchRequest.document` gave. pages: each call gives all results anew. The same
    batch gives the same bytes.
    """
    points = Points.of(document)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        folder = _Folder(archive, record.finished_at)
        files = [
            folder.add(
                INPUTS,
                [orjson.dumps(document, option=_JSON)],
                ("Inputs", "The template of the runs and what varies", "application/json"),
            ),
            folder.add(
                TABLE,
                results.table(columns, points, pages()),
                ("Results as a table", "A line for each job, as the gateway serves it", "text/csv"),
            ),
            folder.add(
                ALL,
                _array(item for page in pages() for item in page),
                ("Results", "All of each job's result", "application/json"),
            ),
        ]
        total = sum(record.counts.values())
        executions = (
            _each(folder, document, pages()) if total <= MAX_ACTIONS else _all(document, pages())
        )
        whole = replace(record, executions=executions, files=files)
        metadata = orjson.dumps(crate.metadata(whole), option=_JSON)
        folder.add(crate.METADATA, [metadata], ("", "", ""))


class _Folder:
    """Adds files with one time for all, so that nothing depends on when it was asked for."""

    def __init__(self, archive: zipfile.ZipFile, at: datetime) -> None:
        self._archive = archive
        self._at = (at.year, at.month, at.day, at.hour, at.minute, at.second)

    def add(self, path: str, lines: Iterable[bytes], about: tuple[str, str, str]) -> File:
        entry = zipfile.ZipInfo(path, self._at)
        entry.compress_type = zipfile.ZIP_DEFLATED
        entry.external_attr = 0o644 << 16
        digest, size = hashlib.sha256(), 0
        with self._archive.open(entry, "w") as file:
            for line in lines:
                file.write(line)
                digest.update(line)
                size += len(line)
        name, description, media_type = about
        return File(path, name, description, media_type, size, digest.hexdigest())


def _array(items: Iterable[results.Item]) -> Iterator[bytes]:
    before = b"[\n"
    for item in items:
        yield before + orjson.dumps(item, option=orjson.OPT_UTC_Z)
        before = b",\n"
    yield b"[]\n" if before == b"[\n" else b"\n]\n"


def _each(
    folder: _Folder, document: dict[str, Any], pages: Iterable[list[results.Item]]
) -> list[Execution]:
    found = []
    for item in (item for page in pages for item in page):
        execution = _execution(document, item)
        path = f"jobs/{item['batch_index']:06d}-{item['job_id']}.json"
        folder.add(path, [orjson.dumps(item, option=_JSON)], ("", "", ""))
        found.append(replace(execution, file=path))
    return found


def _all(document: dict[str, Any], pages: Iterable[list[results.Item]]) -> list[Execution]:
    """One for each pair of commit and image; it succeeded if any job of it did."""
    found: dict[tuple[Any, ...], Execution] = {}
    for item in (item for page in pages for item in page):
        if item["commit"] is None:
            continue
        key = (item["commit"], item["image_digest"] or item["image"])
        known = found.get(key)
        fresh = known or replace(
            _execution(document, item),
            job_id=f"software-{len(found) + 1}",
            command=[str(part) for part in document["template"].get("command", [])],
            env={},
            parameters={},
        )
        starts = [at for at in (fresh.started_at, item["started_at"]) if at]
        ends = [at for at in (fresh.finished_at, item["finished_at"]) if at]
        found[key] = replace(
            fresh,
            state="succeeded" if "succeeded" in (fresh.state, item["state"]) else fresh.state,
            started_at=min(starts, default=None),
            finished_at=max(ends, default=None),
        )
    return list(found.values())


def _execution(document: dict[str, Any], item: results.Item) -> Execution:
    run = _run(document["template"], item["parameters"])
    error = item["error"] or {}
    return Execution(
        job_id=item["job_id"],
        state=item["state"],
        command=[str(part) for part in run.get("command", [])],
        # A crate is made to be passed on: what a name says is secret stays here.
        env={name: str(clean(value, name)) for name, value in run.get("env", {}).items()},
        parameters=item["parameters"],
        repository=run.get("repository"),
        commit=item["commit"],
        image=item["image"],
        image_digest=item["image_digest"],
        started_at=item["started_at"],
        finished_at=item["finished_at"],
        error=error.get("message"),
        inputs=[INPUTS],
        file=None,
        tables=[TABLE, ALL],
    )


def _run(template: dict[str, Any], point: dict[str, Any]) -> dict[str, Any]:
    try:
        return grids.fill(template, point)
    except Rejected:
        return template
