"""USER.md leaves no command and no method out."""

import re

from qslice.cli.app import app
from qslice.sdk import Batch, Client, Lab

from tests.support import documents

DOCUMENT = "docs/USER.md"


def told(owner: str) -> set[str]:
    """The methods in the table of a class."""
    table = documents.read(DOCUMENT).partition(f"| `{owner}` | |\n")[2].partition("\n\n")[0]
    return set(re.findall(r"`(\w+)\(", table.replace(" or `", ", `")))


def public(owner: type) -> set[str]:
    return {name for name, value in vars(owner).items() if callable(value) and name[0] != "_"}


def test_every_public_method_is_in_its_table() -> None:
    for owner in (Client, Batch, Lab):
        assert told(owner.__name__) == public(owner)


def test_every_command_is_in_the_table() -> None:
    words = set()
    for row in documents.table(DOCUMENT, "On the command line"):
        first, *more = re.findall(r"`(.+?)`", row[0])
        _, *start, word = first.split()
        words |= {(*start, word), *((*start, other) for other in more)}
    found: set[tuple[str | None, ...]] = {(one.name,) for one in app.registered_commands}
    for group in app.registered_groups:
        assert group.typer_instance is not None
        for command in group.typer_instance.registered_commands:
            assert command.callback is not None
            found.add((group.name, command.name or command.callback.__name__))
    assert words == found


def test_links_lead_to_headings_that_exist() -> None:
    for name, anchor in re.findall(r"\]\((\w+\.md)#([\w-]+)\)", documents.read(DOCUMENT)):
        headings = re.findall(r"^#+ (.+)$", documents.read(f"docs/{name}"), re.MULTILINE)
        assert anchor in {heading.lower().replace(" ", "-") for heading in headings}
