"""Count the ways to set N queens on an N x N board when the first rows are given.

`python /app/queens.py 8 3` counts the boards of 8 queens whose first-row queen stands in column 3
(columns count from 0). `python /app/queens.py [3,-1,-1,-1,-1,-1,-1,-1]` asks the same with the
board written out: one column per row, -1 for a row that is still free. The answer is one number.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

#: A board of 18 takes hours in plain Python; a larger size is a slip of the pen.
LARGEST_BOARD = 18
FREE = -1


def count_solutions(size: int, first_columns: Sequence[int] = ()) -> int:
    """Count the solutions whose first rows have their queens in `first_columns`.

    Raises ValueError for a size outside 1..18 or a column outside the board. Queens that attack
    each other are no error: there are 0 such solutions.
    """
    if not 1 <= size <= LARGEST_BOARD:
        raise ValueError(f"the board's size is {size}: it must lie between 1 and {LARGEST_BOARD}")
    if len(first_columns) > size:
        raise ValueError(f"{len(first_columns)} rows are given for a board of {size}")
    columns = left = right = 0
    for row, column in enumerate(first_columns):
        if not 0 <= column < size:
            raise ValueError(
                f"the queen of row {row} stands in column {column}: "
                f"a board of {size} has columns 0 to {size - 1}"
            )
        square = 1 << column
        if square & (columns | left | right):
            return 0
        columns |= square
        left = (left | square) << 1
        right = (right | square) >> 1
    return _count(columns, left, right, (1 << size) - 1)


def _count(columns: int, left: int, right: int, full: int) -> int:
    """Fill the remaining rows; each set bit is a column attacked along that direction."""
    if columns == full:
        return 1
    total = 0
    safe = full & ~(columns | left | right)
    while safe:
        square = safe & -safe
        safe ^= square
        total += _count(columns | square, (left | square) << 1, (right | square) >> 1, full)
    return total


def read_board(text: str) -> tuple[int, list[int]]:
    """Return size and first columns of a board such as `[3,-1,-1,-1]`; ValueError if it is none."""
    try:
        board = json.loads(text)
    except ValueError:
        board = None
    if not isinstance(board, list) or not all(type(column) is int for column in board):
        raise ValueError(f"{text!r} is neither a board's size nor a list of columns")
    given = board.index(FREE) if FREE in board else len(board)
    if any(column != FREE for column in board[given:]):
        raise ValueError(f"{text}: a row is given after a free one; give the first rows")
    return len(board), board[:given]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; bad arguments end with 2 and a message."""
    parser = argparse.ArgumentParser(
        prog="queens.py", description="Count the solutions of N queens for given first rows."
    )
    parser.add_argument("board", help="the size N, or a list with one column per row, -1 = free")
    parser.add_argument("column", nargs="*", type=int, help="columns of the first rows, from 0")
    given = parser.parse_args(arguments)
    try:
        if given.board.lstrip("-").isdecimal():
            size, first_columns = int(given.board), given.column
        elif given.column:
            raise ValueError("give columns either in the list or after the size, not both")
        else:
            size, first_columns = read_board(given.board)
        total = count_solutions(size, first_columns)
    except ValueError as error:
        parser.error(str(error))
    print(total)
    return 0


if __name__ == "__main__":
    sys.exit(main())
