"""The command `qslice`."""

from qslice.cli.app import main

__all__ = ["main"]
