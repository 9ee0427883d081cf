"""The command line is understood, or refused with the word that is wrong."""

import base64

import orjson
import pytest
from qslice.cli.app import app
from qslice.cli.login import claims_of
from typer.testing import CliRunner

RUNNER = CliRunner()


def refused(*words: str) -> str:
    result = RUNNER.invoke(app, words, env={"COLUMNS": "200"})
    assert result.exit_code == 2, result.output
    return " ".join(result.output.split())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("submit",), "repository is missing"),
        (("submit", "https://h/r.git"), "command is missing. Put `--` before the command"),
        (("submit", "https://h/r.git", "run", "--distance", "1"), "--distance"),
        (("submit", "https://h/r.git", "--env", "A", "--", "run"), "--env: 'A' must be NAME=VALUE"),
        (("submit", "--walltime", "long", "https://h/r", "--", "x"), "walltime"),
        (("sweep", "https://h/r.git", "--", "run"), "give either --param"),
        (("sweep", "https://h/r", "-P", "d=1:0:1", "--", "x"), "--param: d: from 1"),
        (("sweep", "https://h/r", "-P", "a=1", "--points", "p", "--", "x"), "give either --param"),
        (("jobs", "--state", "done"), "--state: 'done' is none of waiting, queued"),
        (("jobs", "--label", "x"), "--label: 'x' must be NAME=VALUE"),
        (("jobs", "--limit", "0"), "--limit"),
        (("results", "b", "--csv", "--json"), "--csv goes neither"),
        (("dead",), "Usage"),
        (("nonsense",), "nonsense"),
    ],
)
def test_what_is_wrong_is_named_and_the_exit_code_is_2(words: tuple[str, ...], told: str) -> None:
    assert told in refused(*words)


COMMANDS = [
    ("login",),
    ("logout",),
    ("token",),
    *(("project", name) for name in ("create", "list", "delete", "broker-user")),
    ("submit",),
    ("sweep",),
    ("jobs",),
    ("show",),
    ("batches",),
    ("watch",),
    ("logs",),
    ("results",),
    ("cancel",),
    ("retry",),
    *(("dead", name) for name in ("list", "replay", "delete")),
    *(("publications", name) for name in ("list", "replay", "settings", "crate")),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_and_has_json(command: tuple[str, ...]) -> None:
    result = RUNNER.invoke(app, [*command, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "--json" in result.output


def test_no_command_is_left_out_of_these_tests() -> None:
    found: set[tuple[str | None, ...]] = {(one.name,) for one in app.registered_commands}
    for group in app.registered_groups:
        assert group.typer_instance is not None
        for command in group.typer_instance.registered_commands:
            assert command.callback is not None
            found.add((group.name, command.name or command.callback.__name__))
    assert found == set(COMMANDS)


def test_a_tokens_claims_are_read_and_nonsense_has_none() -> None:
    middle = base64.urlsafe_b64encode(orjson.dumps({"sub": "é"})).decode().rstrip("=")
    assert claims_of(f"x.{middle}.y") == {"sub": "é"}
    assert claims_of("nonsense") == claims_of("a.!.b") == claims_of("a.WzFd.b") == {}
