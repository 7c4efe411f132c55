"""Lines of output by number and by pattern."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roost.core.records import JobId
from roost.gateway import OutputMatches
from roost.store import lines as module
from roost.store import linesearch
from roost.store.lines import LineIndex, last_lines
from roost.store.output import OutputStore

JOB = JobId(42)


@pytest.fixture
def output(tmp_path: Path) -> Iterator[OutputStore]:
    store = OutputStore(tmp_path / "output")
    yield store
    store.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(
    texts=st.lists(st.lists(st.sampled_from("ab\n"), max_size=30).map("".join), max_size=3),
    first=st.integers(-40, 60).filter(bool),
    count=st.integers(0, 60),
)
def test_lines_are_those_of_the_whole_log(
    output: OutputStore, texts: list[str], first: int, count: int
) -> None:
    output.delete(JOB)
    for number, text in enumerate(texts, 1):
        output.write(JOB, number, 0, text.encode())
    whole = output.read_all(JOB, len(texts)).decode()
    every = whole.split("\n")
    is_open = bool(every.pop()) or (whole != "" and not whole.endswith("\n"))
    if is_open:
        every = whole.split("\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK_BYTES", 4)
        patch.setattr(module, "BLOCK_BYTES", 3)
        found = LineIndex().read(output.pieces(JOB, len(texts)), first, count)
    begin = max(1, len(every) + first + 1 if first < 0 else first)
    assert (found.total, found.is_open, found.size) == (len(every), is_open, len(whole))
    assert (found.first, found.texts) == (begin, every[begin - 1 :][:count])


def test_a_line_came_when_its_first_byte_came(output: OutputStore) -> None:
    output.write(JOB, 1, 0, b"a\nbc\n\nd")
    output.write(JOB, 2, 0, b"e\nf")
    pieces = output.pieces(JOB, 2)

    def arrived_at(piece: bytes | Path, offsets: Sequence[int]) -> list[int]:
        return [0 if isinstance(piece, bytes) else 100 + offset for offset in offsets]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_BYTES", 3)
        found = LineIndex().read(pieces, 1, 99, arrived_at)
    assert found.texts == ["a", "bc", "", "d", "--- attempt 2 ---", "e", "f"]
    assert found.times == [100, 102, 105, 106, 0, 100, 102]
    assert LineIndex().read(pieces, -2, 9, arrived_at).times == [100, 102]
    assert LineIndex().read(pieces, 1, 9).times == []


def test_one_attempt_is_numbered_from_its_own_beginning(output: OutputStore) -> None:
    output.write(JOB, 1, 0, b"a\nb\n")
    output.write(JOB, 2, 0, b"c\nd\n")
    index = LineIndex()
    assert index.read(output.pieces(JOB, 2), -2, 9).texts == ["c", "d"]
    assert index.read(output.pieces(JOB, 2), 3, 2).texts == ["", "--- attempt 2 ---"]
    assert index.read(output.pieces(JOB, 2, 2), 2, 9).texts == ["d"]


def test_counts_go_on_as_a_file_grows(output: OutputStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_BYTES", 4)
    index = LineIndex()
    text = b""
    for number in range(1, 40):
        output.write(JOB, 1, len(text), b"%d\n" % number)
        text += b"%d\n" % number
        found = index.read(output.pieces(JOB, 1), number, 5)
        assert (found.total, found.texts) == (number, [str(number)])


def test_a_counted_chunk_is_not_read_again(
    output: OutputStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK_BYTES", 1000)
    output.write(JOB, 1, 0, b"0123456\n" * 10_000)
    index = LineIndex()
    index.read(output.pieces(JOB, 1), 1, 1)
    chunk, numbers = module._Counts._chunk, []
    monkeypatch.setattr(module._Counts, "_chunk", lambda s, n: numbers.append(n) or chunk(s, n))
    assert index.read(output.pieces(JOB, 1), 5_000, 1).texts == ["0123456"]
    assert numbers == [39]


def test_of_overwritten_and_long_lines_a_screenful_is_kept(output: OutputStore) -> None:
    progress = b"".join(b"%d %%\r" % n for n in range(100_000))
    long = b"y" * (3 * module.BLOCK_BYTES)
    output.write(JOB, 1, 0, progress + b"done\r\nplain\r\n" + long + b"\nend")
    texts = LineIndex().read(output.pieces(JOB, 1), 1, 9).texts
    assert texts == ["done", "plain", "y" * module.LINE_BYTES_MAX, "end"]


def search(
    output: OutputStore, pattern: str, first: int = 1, matches_max: int = 100
) -> OutputMatches:
    return LineIndex().search(output.pieces(JOB, 2), pattern, first, matches_max)


def test_matching_lines_are_found_in_all_attempts(output: OutputStore) -> None:
    output.write(JOB, 1, 0, b"Error one\nfine\nERROR two\n")
    output.write(JOB, 2, 0, b"fine\nerror three")
    # Between the attempts are an empty line and the separator.
    assert search(output, "error") == OutputMatches([1, 3, 7], 7)
    assert search(output, "Error") == OutputMatches([1], 7)
    assert search(output, "error", first=2) == OutputMatches([3, 7], 7)
    assert search(output, "error", matches_max=2) == OutputMatches([1, 3], 3)
    assert search(output, r"attempt \d") == OutputMatches([5], 7)
    assert search(output, "^fine$") == OutputMatches([2, 6], 7)
    assert search(output, "nowhere") == OutputMatches([], 7)


@pytest.mark.parametrize("pattern", ["a[^x]*b", r"\s", "^", "$", "b$", "a|", "(?s)a.*a"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(text=st.lists(st.sampled_from("ab \n"), max_size=30).map("".join))
def test_a_match_is_within_one_line(pattern: str, text: str) -> None:
    every = text.split("\n")
    if not every[-1]:
        every.pop()
    found = [
        text.count("\n", 0, at) for at in linesearch._matching(linesearch.compiled(pattern), text)
    ]
    assert found == [n for n, line in enumerate(every) if re.search(pattern, line)]


def test_what_is_searched_is_what_is_shown(output: OutputStore) -> None:
    output.write(
        JOB, 1, 0, b"\x1b[31mred\x1b[0m\r\n10 %\r20 %\rdone\n" + "été\nÉté\n".encode() + b"\xff\n"
    )
    assert search(output, "^red$").numbers == [1]
    assert search(output, "20 %").numbers == []
    assert search(output, "^done$").numbers == [2]
    assert search(output, "Été").numbers == [4]
    assert search(output, "été").numbers == [3, 4]


def test_a_line_longer_than_a_block_is_found_once(output: OutputStore) -> None:
    output.write(JOB, 1, 0, b"a\n" + b"needle " * 1_000_000 + b"\nneedle\n")
    assert search(output, "needle") == OutputMatches([2, 3], 3)


def test_a_search_that_takes_for_ever_is_stopped(output: OutputStore) -> None:
    output.write(JOB, 1, 0, b"x\n" * linesearch.BLOCK_BYTES + b"a" * 60 + b"b\n")
    found = LineIndex().search(output.pieces(JOB, 1), "(a+)+$", 1, 10, seconds_max=2.0)
    assert found.numbers == []
    assert found.searched_to < linesearch.BLOCK_BYTES + 1


def test_a_pattern_that_is_none_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="unterminated character set"):
        linesearch.compiled("[a")
    with pytest.raises(ValueError, match="longer than 500 characters"):
        linesearch.compiled("a" * 501)


def test_the_end_of_a_huge_log_is_read_without_the_rest(
    output: OutputStore, tmp_path: Path
) -> None:
    output.write(JOB, 1, 0, b"x")
    output.close()
    [(path, _)] = output.pieces(JOB, 1)
    assert isinstance(path, Path)
    os.truncate(path, 300 << 20)
    with path.open("ab") as end:
        end.write(b"\nthe end\n")
    assert LineIndex().read(output.pieces(JOB, 1), -1, 500).texts == ["the end"]


@pytest.mark.parametrize(
    ("text", "bytes_max", "lines"),
    [
        (b"", 10, []),
        (b"one\ntwo\n", 100, ["one", "two"]),
        (b"one\ntwo\nthree", 7, ["three"]),
        (b"one\ntwo\nthree", 9, ["two", "three"]),
        (b"one\n10 %\r20 %\r\n", 100, ["one", "20 %"]),
        (b"a line longer than what is asked for", 9, ["asked for"]),
    ],
)
def test_the_last_lines_are_those_that_begin_in_the_last_bytes(
    output: OutputStore, text: bytes, bytes_max: int, lines: list[str]
) -> None:
    output.write(JOB, 1, 0, text)
    assert last_lines(output.pieces(JOB, 1), bytes_max) == lines


def test_the_last_lines_are_those_of_the_index(output: OutputStore) -> None:
    output.write(JOB, 1, 0, b"".join(b"line %d\n" % number for number in range(3_000)))
    output.write(JOB, 2, 0, b"again\n")
    pieces = output.pieces(JOB, 2)
    found = last_lines(pieces, 4_000)
    assert found[-1] == "again" and found == LineIndex().read(pieces, -len(found), 5_000).texts
