"""What all messages share: strictness, and errors that name the field."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError


class Rejected(ValueError):
    """A message that breaks its contract; `field` is the path to the offending part, or ''."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason


class Message(BaseModel):
    """A message that refuses what it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def read(cls, body: bytes | str) -> Self:
        """The message in a JSON text; raises `Rejected`, naming the field, where it is none."""
        try:
            return cls.model_validate_json(body)
        except ValidationError as wrong:
            raise rejection(wrong) from None

    @classmethod
    def of(cls, value: Any) -> Self:
        """The message of a parsed JSON value; raises `Rejected`."""
        try:
            return cls.model_validate(value)
        except ValidationError as wrong:
            raise rejection(wrong) from None

    def body(self) -> bytes:
        """As it goes over the wire: what was not given is left out."""
        return self.model_dump_json(exclude_none=True).encode()


class Note(Message):
    """A message between our own parts: what a newer version adds is passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def problems(wrong: ValidationError) -> list[tuple[str, str]]:
    """Each thing that is wrong: the field's path with dots, and why."""
    return [
        (".".join(str(part) for part in error["loc"]), _reason(error["type"], error["msg"]))
        for error in wrong.errors(include_url=False, include_input=False, include_context=False)
    ]


def rejection(wrong: ValidationError) -> Rejected:
    found = problems(wrong)
    field, reason = found[0]
    if len(found) > 1:
        more = "; ".join(f"{name}: {why}" if name else why for name, why in found[1:6])
        reason = f"{reason} (also {more})"
    return Rejected(field, reason)


def _reason(type_: str, message: str) -> str:
    if type_ == "extra_forbidden":
        return "unknown field"
    if type_ == "missing":
        return "required, but missing"
    return message.removeprefix("Value error, ")
