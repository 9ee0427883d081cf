"""Where the gateway is and who asks."""

import base64
import binascii
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from qslice import names
from qslice.cli import output
from qslice.sdk import config
from qslice.sdk.client import Client
from qslice.sdk.errors import Unconfigured


def login(
    url: Annotated[
        str | None, typer.Option(help="The gateway's address.", envvar="QSLICE_URL")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="A file with the token; '-' reads it from standard input.")
    ] = None,
    project: Annotated[
        str | None,
        typer.Option("--project", "-p", help="The project of later commands."),
    ] = None,
    as_json: output.Json = False,
) -> None:
    """Check a token and keep it, with the gateway's address, for later commands.

    The token comes from a file, from QSLICE_TOKEN, or is asked for; it is never an argument,
    which others on the machine could see. It is kept in a file that only you can read.
    """
    kept = config.saved()
    url = (url or kept.url or typer.prompt("The gateway's address")).rstrip("/")
    secret = _secret(token_file)
    if project is not None:
        names.check_project(project)
    login_ = config.Login(url, secret, project or kept.project)
    with Client(login_.url, login_.token, patience_s=output.PATIENCE_S) as client:
        usable = [found.name for found in client.projects()]
    path = config.save(login_)
    claims = claims_of(secret)
    if as_json:
        output.json({"url": url, "file": str(path), "projects": usable, **_shown(claims)})
        return
    output.line(f"logged in at {url} as {claims.get('sub', 'somebody')}; kept in {path}")
    output.line(f"projects: {', '.join(usable) or 'none yet; make one: qslice project create'}")


def logout(as_json: output.Json = False) -> None:
    """Forget the kept token."""
    forgotten = config.forget()
    if as_json:
        output.json({"forgotten": forgotten})
    else:
        output.line("logged out" if forgotten else "nobody was logged in")


def token(
    show: Annotated[
        bool, typer.Option("--show", help="Print the token itself, for other programs.")
    ] = False,
    dev: Annotated[
        bool,
        typer.Option(
            "--dev", help="Make one with the development issuer's key, on the gateway's machine."
        ),
    ] = False,
    subject: Annotated[str, typer.Option(help="With --dev: who it is for.")] = "developer",
    project: Annotated[
        list[str] | None,
        typer.Option("--project", "-p", help="With --dev: a project that it names; repeat it."),
    ] = None,
    as_json: output.Json = False,
) -> None:
    """Tell whose token is in use, for which projects, and until when; or make one with --dev.

    What --dev makes is kept like a login's.
    """
    login_ = config.effective()
    if dev:
        made = _dev_token(subject, project or [])
        first = project[0] if project else login_.project
        login_ = config.Login(login_.url, made, first)
        config.save(login_)
    if login_.token is None:
        raise Unconfigured("there is no token: set QSLICE_TOKEN, or run `qslice login`")
    if show:
        output.json({"token": login_.token}) if as_json else print(login_.token)
        return
    claims = {"url": login_.url, **_shown(claims_of(login_.token))}
    output.json(claims) if as_json else output.pairs(claims)


def claims_of(token: str) -> dict[str, Any]:
    """What a token says of itself; nothing is proven by it. Empty where it is no JWT."""
    try:
        part = token.split(".")[1]
        claims = orjson.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (IndexError, binascii.Error, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _shown(claims: dict[str, Any]) -> dict[str, Any]:
    ends = claims.get("exp")
    known: dict[str, Any] = {
        "subject": claims.get("sub"),
        "issuer": claims.get("iss"),
        "projects": claims.get("proj_name"),
    }
    if isinstance(ends, int | float):
        known["expires_at"] = datetime.fromtimestamp(ends, UTC)
        known["expired"] = ends <= datetime.now(UTC).timestamp()
    return known


def _dev_token(subject: str, projects: list[str]) -> str:
    """A token of the gateway's own issuer, which exists only where its operator made a key."""
    beside = Path(sys.executable).with_name("qslice-gateway")
    program = str(beside) if beside.exists() else "qslice-gateway"
    command = [program, "token", "--subject", subject]
    for name in projects:
        command += ["--project", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        raise Unconfigured(
            "the development issuer lives on the gateway's machine, where the program "
            "qslice-gateway and the key QSLICE_DEV_ISSUER_KEY are; run this there"
        ) from None
    if done.returncode != 0:
        raise Unconfigured(f"qslice-gateway makes no token: {done.stderr.strip()}")
    return done.stdout.strip()


def _secret(token_file: Path | None) -> str:
    if token_file is not None:
        try:
            text = sys.stdin.read() if str(token_file) == "-" else token_file.read_text()
        except (OSError, UnicodeDecodeError) as wrong:
            raise typer.BadParameter(f"--token-file: {wrong}") from None
    else:
        text = os.environ.get("QSLICE_TOKEN") or typer.prompt("Token", hide_input=True)
    secret = text.strip()
    if not secret or any(character.isspace() for character in secret):
        raise typer.BadParameter("the token must be one word")
    return secret
