"""Whose fault it is: the two kinds of failure, as exceptions and as they stand in a result."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class Owner(StrEnum):
    #: Ends the job; the message is for a scientist.
    USER = "user"
    #: Ours; tried again.
    SYSTEM = "system"


class Error(BaseModel):
    """Why a job did not succeed."""

    model_config = ConfigDict(frozen=True)

    owner: Owner
    #: Stable, for programs: `build_failed`, `out_of_memory`, …
    code: str
    #: For people: what happened and what to do.
    message: str


class Fault(Exception):
    """A failure that knows its owner; raise one of the two below."""

    owner: Owner

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def error(self) -> Error:
        return Error(owner=self.owner, code=self.code, message=self.message)


class UserFault(Fault):
    """The job asks for what cannot be done; trying again would not help."""

    owner = Owner.USER


class SystemFault(Fault):
    """Something of ours failed; the job is tried again later."""

    owner = Owner.SYSTEM
