"""How the registry fails: what to try again, and what not."""

from qslice import faults, logs

#: Characters of an answer that a report keeps.
_MAX_ANSWER = 2000


class RegistryError(faults.SystemFault):
    """The registry did not do what it was asked for; the message holds its answer."""

    def __init__(self, code: str, what: str, status: int | None = None, answer: str = "") -> None:
        said = f"{what}: {status} {answer[:_MAX_ANSWER]}" if status else what
        super().__init__(code, logs.redact(said.strip()))
        self.status = status


class Refused(RegistryError):
    """It said no to what we wrote; the same again would get the same answer."""


class Unavailable(RegistryError):
    """Not now. `doubtful`: it may have stored the object all the same."""

    def __init__(
        self,
        code: str,
        what: str,
        status: int | None = None,
        answer: str = "",
        *,
        doubtful: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(code, what, status, answer)
        self.doubtful = doubtful
        self.retry_after_s = retry_after_s
