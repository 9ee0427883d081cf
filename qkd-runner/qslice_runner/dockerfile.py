"""What a Dockerfile may ask of the engine: pure checks on its text.

Its RUN steps are a stranger's code and run in a container; what is looked at here are the lines
that the engine itself carries out, outside of any container and with its own network and images.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from qslice.faults import UserFault

#: The names under which built images are kept; nobody's base image.
OWN_IMAGES = "qslice-run"
MAX_BYTES = 1024 * 1024

_SYNTAX = re.compile(r"^(#|//)\s*syntax\s*=", re.I)
_ESCAPE = re.compile(r"^#\s*escape\s*=\s*(\S)\s*$", re.I)
_REMOTE = re.compile(r"^[\"'\[\s]*(https?|ftp|git|ssh)://|^[\"'\[\s]*git@", re.I)
#: An image by its digits would be any image of this host, whoever it belongs to.
_DIGITS = re.compile(r"^(sha256:)?[0-9a-f]{12,64}$")
_VARIABLE = re.compile(
    r"\$(?:(?P<plain>[A-Za-z_]\w*)|\{(?P<name>[A-Za-z_]\w*)(?:(?P<how>:?[-+])(?P<other>[^}]*))?\})"
)


def forbidden(message: str) -> UserFault:
    return UserFault("dockerfile_forbidden", message)


@dataclass(frozen=True)
class Instruction:
    #: In capitals.
    name: str
    rest: str
    #: The number of its first line.
    line: int


@dataclass
class _Scope:
    """What stands before and between the FROM lines."""

    variables: dict[str, str] = field(default_factory=dict)
    stages: set[str] = field(default_factory=set)
    count: int = 0


def check(text: str) -> list[str]:
    """The base images that the Dockerfile builds on; raises `UserFault` `dockerfile_forbidden`."""
    if len(text.encode()) > MAX_BYTES:
        raise forbidden(f"the Dockerfile is larger than {MAX_BYTES // 1024} KiB")
    _check_directives(text)
    scope = _Scope()
    bases: list[str] = []
    for instruction in instructions(text):
        _check_instruction(instruction, scope, bases)
    if not scope.count:
        raise UserFault("build_failed", "the Dockerfile has no FROM")
    return list(dict.fromkeys(bases))


def instructions(text: str) -> Iterator[Instruction]:
    """The instructions, continued lines joined, comments left out."""
    escape = _escape(text)
    pending, start = "", 0
    for number, raw in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        line = raw.strip()
        # A comment or an empty line inside of a continued instruction ends nothing.
        if not line or line.startswith("#"):
            continue
        if not pending:
            start = number
        if line.endswith(escape):
            pending += line[: -len(escape)] + " "
            continue
        yield _instruction(pending + line, start)
        pending = ""
    if pending.strip():
        yield _instruction(pending, start)


def _instruction(line: str, number: int) -> Instruction:
    name, _, rest = line.strip().partition(" ")
    # A tab separates as well.
    head, _, tail = name.partition("\t")
    return Instruction(head.upper(), f"{tail} {rest}".strip(), number)


def _check_directives(text: str) -> None:
    """A `# syntax=` line names a program that BuildKit would fetch and run as the builder."""
    for line in text.removeprefix("\ufeff").splitlines():
        line = line.strip()
        if line and not line.startswith(("#", "//")):
            return
        if _SYNTAX.match(line):
            raise forbidden("a '# syntax=' line is refused: it names a builder of its own")


def _escape(text: str) -> str:
    for line in text.removeprefix("\ufeff").splitlines():
        line = line.strip()
        if line and not line.startswith("#"):
            break
        if found := _ESCAPE.match(line):
            return found[1]
    return "\\"


def _check_instruction(found: Instruction, scope: _Scope, bases: list[str]) -> None:
    if found.name == "ONBUILD":
        raise forbidden(f"line {found.line}: ONBUILD is refused")
    if found.name == "FROM":
        _check_from(found, scope, bases)
    elif found.name == "ARG" and not scope.count:
        name, _, value = found.rest.partition("=")
        scope.variables[name.strip()] = _expand(value.strip().strip("\"'"), scope.variables)
    elif found.name in ("ADD", "COPY"):
        _check_copy(found, scope, bases)


def _check_from(found: Instruction, scope: _Scope, bases: list[str]) -> None:
    words = [word for word in found.rest.split() if not word.startswith("--")]
    if not words:
        raise UserFault("build_failed", f"line {found.line}: FROM names no image")
    base = _expand(words[0].strip("\"'"), scope.variables)
    _take_base(base, found.line, scope, bases)
    scope.count += 1
    if len(words) == 3 and words[1].lower() == "as":
        scope.stages.add(words[2].lower())


def _check_copy(found: Instruction, scope: _Scope, bases: list[str]) -> None:
    words = found.rest.split()
    for word in words:
        if word.lower().startswith("--from="):
            image = word.partition("=")[2].strip("\"'")
            if not (image.isdigit() and int(image) < scope.count):
                _take_base(_expand(image, scope.variables), found.line, scope, bases)
    if found.name != "ADD":
        return
    sources = " ".join(word for word in words if not word.startswith("--"))
    if "$" in sources:
        raise forbidden(f"line {found.line}: ADD with a variable is refused; use COPY")
    if any(_REMOTE.match(part) for part in re.split(r"[\s,]+", sources)):
        raise forbidden(
            f"line {found.line}: ADD of an address is refused: the engine would fetch it from its "
            "own network; commit the file, or fetch it in a RUN step"
        )


def _take_base(image: str, line: int, scope: _Scope, bases: list[str]) -> None:
    """Note a base image, unless it is an earlier stage."""
    if image.lower() in scope.stages or image == "scratch":
        return
    if not image or "$" in image:
        raise forbidden(f"line {line}: the base image must be given by name, or by an ARG before")
    if _DIGITS.match(image):
        raise forbidden(f"line {line}: a base image must be given by name, not by its digits")
    name = image.partition("@")[0].rpartition("/")[2].partition(":")[0]
    if name.startswith("qslice-"):
        raise forbidden(f"line {line}: {image} is an image of the runner itself")
    bases.append(image)


def _expand(text: str, variables: dict[str, str]) -> str:
    """Variables as the engine puts them in; an unknown one becomes empty."""

    def value(found: re.Match[str]) -> str:
        name = found["plain"] or found["name"]
        given = variables.get(name)
        how, other = found["how"], found["other"] or ""
        if how is None:
            return given or ""
        missing = given is None or (how.startswith(":") and not given)
        if how.endswith("-"):
            return other if missing else given or ""
        return "" if missing else other

    return _VARIABLE.sub(value, text)
