"""A worker service of kind `run` without containers, for acceptance tests and benchmarks.

    QSLICE_AMQP_URL=… QSLICE_SLOTS=50 python -m tests.support.noop_worker

See `tests.support.noop_handler` for the commands it knows.
"""

from qslice.worker.service import run_service
from qslice.worker.settings import WorkerSettings

from tests.support.noop_handler import NoopHandler


def main() -> None:
    run_service(lambda settings: NoopHandler(), WorkerSettings)


if __name__ == "__main__":
    main()
