"""Numbers as people write them."""

from __future__ import annotations

import pytest

from roost import ranges
from roost.errors import Invalid


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("7", [7]),
        ("1-4", [1, 2, 3, 4]),
        ("1-10x3", [1, 4, 7, 10]),
        ("1-9x3", [1, 4, 7]),
        ("1-3,20,30-40x5", [1, 2, 3, 20, 30, 35, 40]),
        (" 1 , 2 ", [1, 2]),
        ("4-1", [4, 3, 2, 1]),
        ("9-1x4", [9, 5, 1]),
        ("-2-1", [-2, -1, 0, 1]),
        ("-3--1", [-3, -2, -1]),
        ("3-3", [3]),
        ("5,1-5,5", [5, 1, 2, 3, 4]),
        ("007", [7]),
    ],
)
def test_ranges(text: str, numbers: list[int]) -> None:
    assert ranges.parse(text) == numbers


@pytest.mark.parametrize(
    "text",
    ["", "a", "1-", "-", "1,,2", "1-2-3", "1-5x", "1-5x0", "1-5x-1", "1.5", "1:5", "²", "1-200000"],
)
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        ranges.parse(text)


def test_the_refusal_names_the_piece() -> None:
    with pytest.raises(Invalid, match="'x9'"):
        ranges.parse("1-3,x9")


def test_ids_come_from_several_arguments_each_once() -> None:
    assert ranges.parse_ids(["3", "5-7", "6,9"]) == [3, 5, 6, 7, 9]


@pytest.mark.parametrize("text", ["0", "-1", "0-3"])
def test_ids_are_positive(text: str) -> None:
    with pytest.raises(Invalid, match="is not a job id"):
        ranges.parse_ids([text])
