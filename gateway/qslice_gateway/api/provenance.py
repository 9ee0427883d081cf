"""A finished batch's provenance, to download."""

import tempfile
from collections.abc import Iterator
from typing import IO, Any

from flask import Response, request
from qslice import ids

from qslice_gateway.auth.access import Access, Call
from qslice_gateway.batches import Points
from qslice_gateway.problems import Problem
from qslice_gateway.provenance import archive
from qslice_gateway.provenance.record import Agent, BatchRecord, Licence
from qslice_gateway.results import pages
from qslice_gateway.routing import Answer, Routes
from qslice_gateway.services import Services
from qslice_gateway.store import batches, publications

routes = Routes("batches", "/api/v1/projects/<project>/batches")

ZIP = "application/zip"
#: Bytes up to which a crate is held in memory.
_IN_MEMORY = 4 * 1024 * 1024
_BLOCK = 64 * 1024


@routes.get(
    "/<batch>/crate",
    access=Access.PROJECT,
    summary="The provenance of a finished batch, as an RO-Crate",
    description=(
        "A ZIP file: RO-Crate 1.1 metadata under the profile Process Run Crate 0.5, the inputs, "
        "the results as CSV and JSON, and a file for each job (of up to "
        f"{archive.MAX_ACTIONS} jobs)."
    ),
    answers={200: Answer("The crate", media_types=(ZIP,))},
    problems=("batch_not_found", "batch_active"),
)
def get_crate(call: Call, project: str, batch: str) -> Response:
    services = call.services
    found, columns, record = _record(services, project, batch)
    points = Points.of(found["template"])
    file: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 (closed below)
    try:
        archive.write(
            file,
            record,
            found["template"],
            columns,
            lambda: pages(services.pool.connection, batch, points),
        )
        size = file.tell()
        file.seek(0)
    except BaseException:
        file.close()
        raise
    headers = {
        "Content-Disposition": f'attachment; filename="{batch}.crate.zip"',
        "Content-Length": str(size),
    }
    answer = Response(_blocks(file), 200, headers, content_type=ZIP, direct_passthrough=True)
    answer.call_on_close(file.close)
    return answer


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while block := file.read(_BLOCK):
            yield block


def _record(
    services: Services, project: str, batch: str
) -> tuple[dict[str, Any], list[str], BatchRecord]:
    missing = Problem("batch_not_found", f"the project has no batch {batch[:120]!r}")
    try:
        ids.parse(batch, ids.BATCH)
    except ValueError:
        raise missing from None
    with services.pool.connection() as connection:
        found = batches.get(connection, batch)
        if found is None or found["project"] != project:
            raise missing
        if found["finished_at"] is None:
            raise Problem("batch_active", "its provenance is there when its last job has ended")
        columns = batches.result_columns(connection, batch)
        settings = publications.settings(connection, project)
        published = publications.get(connection, project, batch)
    who = found["created_by"] or {}
    name = who.get("name") or f"{who.get('given_name', '')} {who.get('family_name', '')}".strip()
    return (
        found,
        columns,
        BatchRecord(
            batch_id=batch,
            project=project,
            name=found["name"] or batch,
            url=request.base_url.removesuffix("/crate"),
            submitted_at=found["submitted_at"],
            finished_at=found["finished_at"],
            counts=found["counts"],
            agent=Agent(
                subject=who.get("sub") or found["owner"],
                name=name or who.get("preferred_username", ""),
                email=who.get("email", ""),
                organization=who.get("organization", ""),
                orcid=who.get("orcid", ""),
            ),
            licence=Licence(settings.license, settings.license_uri, settings.copyright_holder)
            if settings
            else Licence(),
            experiment=who.get("experiment"),
            keywords=settings.keywords if settings else (),
            registry_url=published["portal_url"] if published else None,
        ),
    )
