"""A runner as a process of its own, to be killed: `python -m … <settings as JSON> <job as JSON>`.

It runs one job and says on standard output what happens; it never ends by itself.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from qslice_runner.handler import RunHandler
from qslice_runner.settings import RunnerSettings

from tests.support.runs import RecordedJob


class Telling(RecordedJob):
    """Says when the command began, and the lines of the build."""

    async def started(self, **data: Any) -> None:
        print("begun", flush=True)

    async def log(self, stream: str, text: str) -> None:
        print(stream, text, flush=True)


async def main() -> None:
    settings, body, batch = (json.loads(argument) for argument in sys.argv[1:4])
    handler = RunHandler(RunnerSettings(**settings))
    await handler.start()
    request = handler.read(json.dumps(body).encode()).request
    print("ended", await handler.run(Telling(request, batch_id=batch)), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
