"""The examples in the documentation, for tests that check or run them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"^```(?P<kind>\S[^\n]*)?\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: what stands behind its fence, its text, and the line where it begins."""

    kind: str
    text: str
    line: int


def read(name: str) -> str:
    """A document, by its path from the repository's root."""
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, kind: str | None = None) -> list[Block]:
    """The fenced blocks of a document, or those of one kind."""
    text = read(name)
    found = [
        Block(match["kind"] or "", match["text"], text.count("\n", 0, match.start()) + 1)
        for match in _BLOCK.finditer(text)
    ]
    return [block for block in found if kind in (None, block.kind)]


def table(name: str, heading: str) -> list[list[str]]:
    """The rows of the table under a heading, cell by cell."""
    section = read(name).partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    # A pipe inside of a cell is escaped.
    return [
        [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", row)[1:-1]]
        for row in rows[2:]
    ]
