"""How calls to the broker fail."""

from pika.exceptions import AMQPError

_NOT_FOUND = 404


class Cut(ConnectionError):
    """The connection or the channel is gone; what had no answer may or may not have arrived."""


class Refused(Cut):
    """The broker closed the channel over what was asked on it, with a code and its reason."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code} {text}")
        self.code = code
        self.text = text

    @property
    def not_found(self) -> bool:
        """A queue or an exchange that is not there."""
        return self.code == _NOT_FOUND


class Nacked(Exception):
    """The broker did not take a message: its queue is full, or failed. Try again later."""


def text_of(reason: BaseException) -> str:
    """What happened, out of the exceptions that pika wraps around it."""
    while inner := _inner(reason):
        reason = inner
    # Those of pika tell in their repr what they are about.
    return repr(reason) if isinstance(reason, AMQPError) else f"{type(reason).__name__}: {reason}"


def _inner(reason: BaseException) -> BaseException | None:
    around = (getattr(reason, "exception", None), *getattr(reason, "exceptions", ()), *reason.args)
    return next((one for one in reversed(around) if isinstance(one, BaseException)), None)
