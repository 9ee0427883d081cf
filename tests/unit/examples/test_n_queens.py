"""Counting N queens column by column gives the known totals."""

import pytest
from queens import count_solutions, main, read_board

TOTALS = {1: 1, 2: 0, 3: 0, 4: 2, 5: 10, 6: 4, 7: 40, 8: 92, 9: 352, 10: 724}


@pytest.mark.parametrize(("size", "total"), TOTALS.items())
def test_the_first_row_columns_sum_to_the_known_total(size: int, total: int) -> None:
    assert sum(count_solutions(size, [column]) for column in range(size)) == total
    assert count_solutions(size) == total


def test_mirrored_first_columns_have_equally_many_solutions() -> None:
    counts = [count_solutions(8, [column]) for column in range(8)]
    assert counts == counts[::-1] == [4, 8, 16, 18, 18, 16, 8, 4]


def test_more_given_rows_narrow_the_count() -> None:
    assert sum(count_solutions(8, [3, column]) for column in range(8)) == 18
    assert count_solutions(8, [3, 4]) == 0
    assert count_solutions(4, [1, 3, 0, 2]) == 1


@pytest.mark.parametrize("board", [["8", "3"], ["[3,-1,-1,-1,-1,-1,-1,-1]"]])
def test_the_command_prints_the_number_alone(
    board: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(board) == 0
    assert capsys.readouterr().out == "18\n"


def test_a_written_out_board_gives_its_size_and_first_rows() -> None:
    assert read_board("[3,0,-1,-1]") == (4, [3, 0])
    assert read_board("[-1,-1]") == (2, [])
    assert read_board("[0]") == (1, [0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["0"], "the board's size is 0"),
        (["19"], "between 1 and 18"),
        (["8", "8"], "a board of 8 has columns 0 to 7"),
        (["2", "0", "0", "0"], "3 rows are given for a board of 2"),
        (["eight"], "'eight' is neither"),
        (["[1,true]"], "neither a board's size nor a list of columns"),
        (["[1.0]"], "neither a board's size nor a list of columns"),
        (["[]"], "the board's size is 0"),
        (["[-1,2,-1,-1]"], "a row is given after a free one"),
        (["[1,-1]", "1"], "not both"),
    ],
)
def test_a_board_that_makes_no_sense_ends_with_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err
