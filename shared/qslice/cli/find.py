"""What a person means by a job or a sweep on the command line."""

from qslice import ids
from qslice.sdk.client import Client
from qslice.sdk.errors import QsliceError


def is_batch(text: str) -> bool:
    """Whether it is a sweep's identifier; raises `QsliceError` where it is cut short."""
    return _is(text, ids.BATCH)


def job_id(client: Client, text: str) -> str:
    """A job's identifier, or your own `id` of it: then the project's newest job of that id."""
    if _is(text, ids.JOB):
        return text
    for job in client.jobs(id=text):
        return job.job_id
    raise QsliceError(f"the project {client.project} has no job whose id is {text!r}")


def _is(text: str, type_: str) -> bool:
    try:
        ids.parse(text, type_)
    except ValueError:
        if text.startswith(f"{type_}_") and text.count("_") == 2:
            raise QsliceError(f"{text!r} is no whole identifier of a {type_}") from None
        return False
    return True
