"""`python -m qslice_native up|serve|down|status [demo|tests]`."""

from __future__ import annotations

import argparse
import sys

from qslice_native.instance import instance, known_instances
from qslice_native.say import NativeError, say


def _up(names: list[str]) -> int:
    for name in names:
        one = instance(name)
        one.up()
        say(name, f"ready; addresses and passwords are in {one.places.state_file}")
    return 0


def _serve(names: list[str]) -> int:
    for name in names:
        one = instance(name)
        one.up()
        one.serve()
    return 0


def _down(names: list[str]) -> int:
    for name in names or known_instances():
        instance(name).down()
    return 0


def _status(names: list[str]) -> int:
    all_up = True
    for name in names or known_instances():
        for part, answers in instance(name).status().items():
            say(name, f"{part} {'runs' if answers else 'does not run'}")
            all_up = all_up and answers
    return 0 if all_up else 3


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 when done; 1 with a message when a part failed; 3 when `status` misses one."""
    parser = argparse.ArgumentParser(prog="python -m qslice_native", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, nargs, explanation in (
        ("up", "+", "install and start what is missing"),
        ("serve", "+", "the same, and qslice's own services on it"),
        ("down", "*", "stop what this checkout started (default: all its instances)"),
        ("status", "*", "say what runs"),
    ):
        verbs.add_parser(verb, help=explanation).add_argument("name", nargs=nargs)
    options = parser.parse_args(arguments)
    action = {"up": _up, "serve": _serve, "down": _down, "status": _status}[options.verb]
    try:
        return action(options.name)
    except NativeError as error:
        print(f"!! {error}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("!! interrupted; run it again to go on", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
