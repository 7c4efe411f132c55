"""Chirp line by line: every command, whole and byte by byte, and everything that is no request."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.errors import ProtocolError
from roost.wire import chirp
from roost.wire.chirp import (
    COMMANDS,
    LINE_MAX,
    Blank,
    Code,
    Ended,
    Event,
    Gate,
    Invalid,
    Payload,
    Request,
    RequestReader,
    TooLong,
    Unsendable,
    format_request,
)


def drain(reader: RequestReader) -> list[Event]:
    found: list[Event] = []
    while (event := reader.next_event()) is not None:
        found.append(event)
    return found


def read(data: bytes, size: int | None = None, *, end: bool = False) -> list[Event]:
    """The events of `data`, given in pieces of `size`; neighbouring payload chunks are joined."""
    reader = RequestReader()
    found: list[Event] = []
    size = size or max(1, len(data))
    for at in range(0, len(data), size):
        reader.receive(data[at : at + size])
        for event in drain(reader):
            before = found[-1] if found else None
            if isinstance(event, Payload) and isinstance(before, Payload) and not before.last:
                found[-1] = Payload(before.chunk + event.chunk, event.last)
            else:
                found.append(event)
    if end:
        reader.receive(b"")
        found += drain(reader)
    return found


def one(line: bytes) -> Event:
    (event,) = read(line + b"\n")
    return event


ROWS = [
    (b"cookie abcdefghijklmnopqrstuvwxyzabcde", "", [b"abcdefghijklmnopqrstuvwxyzabcde"], []),
    (b"version", "", [], []),
    (b"open dir/a rwc 511", "IO", [b"dir/a", b"rwc"], [511]),
    (b"close 3", "IO", [], [3]),
    (b"read 3 4096", "IO", [], [3, 4096]),
    (b"pread 3 4096 8589934592", "IO", [], [3, 4096, 2**33]),
    (b"sread 3 8 1 2 4", "IO", [], [3, 8, 1, 2, 4]),
    (b"write 3 0", "IO", [], [3, 0]),
    (b"pwrite 3 0 17", "IO", [], [3, 0, 17]),
    (b"swrite 3 0 1 2 4", "IO", [], [3, 0, 1, 2, 4]),
    (b"lseek 3 -5 2", "IO", [], [3, -5, 2]),
    (b"fsync 3", "IO", [], [3]),
    (b"fstat 3", "IO", [], [3]),
    (b"fstatfs 3", "IO", [], [3]),
    (b"fchmod 3 420", "IO", [], [3, 420]),
    (b"fchown 3 -1 100", "IO", [], [3, -1, 100]),
    (b"ftruncate 3 5000000000", "IO", [], [3, 5_000_000_000]),
    (b"getfile a", "IO", [b"a"], []),
    (b"putfile a 33261 5", "IO", [b"a"], [33261, 5]),
    (b"getdir .", "IO", [b"."], []),
    (b"getlongdir .", "IO", [b"."], []),
    (b"stat a", "IO", [b"a"], []),
    (b"lstat a", "IO", [b"a"], []),
    (b"statfs a", "IO", [b"a"], []),
    (b"access a 6", "IO", [b"a"], [6]),
    (b"chmod a 420", "IO", [b"a"], [420]),
    (b"chown a 1 2", "IO", [b"a"], [1, 2]),
    (b"lchown a 1 2", "IO", [b"a"], [1, 2]),
    (b"utime a 1000000000 4000000000", "IO", [b"a"], [1_000_000_000, 4_000_000_000]),
    (b"truncate a 5", "IO", [b"a"], [5]),
    (b"unlink a", "IO", [b"a"], []),
    (b"rmdir a", "IO", [b"a"], []),
    (b"mkdir a 511", "IO", [b"a"], [511]),
    (b"rename a b", "IO", [b"a", b"b"], []),
    (b"rmall a", "IO", [b"a"], []),
    (b"link a b", "IO", [b"a", b"b"], []),
    (b"symlink ../a b", "IO", [b"../a", b"b"], []),
    (b"readlink a 4096", "IO", [b"a"], [4096]),
    (b"whoami 1024", "IO", [], [1024]),
    (b"whoareyou localhost 1024", "IO", [b"localhost"], [1024]),
    (b"lookup a", "IO", [b"a"], []),
    (b"get_job_attr Iwd", "UPD", [b"Iwd"], []),
    (b'set_job_attr A "x\\ y"', "UPD", [b"A", b'"x y"'], []),
    (b"get_job_attr_delayed ChirpA", "DLY", [b"ChirpA"], []),
    (b"set_job_attr_delayed ChirpA 1", "DLY", [b"ChirpA", b"1"], []),
    (b"ulog two\\ words", "UPD", [b"two words"], []),
    (b"constrain x>1", "UPD", [b"x>1"], []),
    (b"phase output", "UPD", [b"output"], []),
]


def name_of(row: object) -> str | None:
    return row.split()[0].decode() if isinstance(row, bytes) else None


@pytest.mark.parametrize(("line", "gate", "words", "numbers"), ROWS, ids=name_of)
@pytest.mark.parametrize("size", [None, 1], ids=["whole", "byte by byte"])
def test_each_command_is_read_and_written_alike(
    line: bytes, gate: str, words: list[bytes], numbers: list[int], size: int | None
) -> None:
    (request,) = read(line + b"\n", size)
    assert request == Request(line.split()[0].decode(), tuple(words), tuple(numbers))
    assert isinstance(request, Request)
    assert request.gate == Gate(gate)
    assert format_request(request.command, *words, *numbers) == line + b"\n"


def test_the_rows_are_all_commands() -> None:
    assert [name_of(line) for line, *_ in ROWS] == list(COMMANDS)


@pytest.mark.parametrize("size", [None, 1, 3], ids=["whole", "byte by byte", "in threes"])
@pytest.mark.parametrize("line", [b"write 3 5", b"pwrite 3 5 9", b"swrite 3 5 0 2 4"])
def test_a_payload_follows_its_line_and_the_next_request_follows_it(
    line: bytes, size: int | None
) -> None:
    events = read(line + b"\nu\nl\x00kstat a\n", size)
    assert isinstance(events[0], Request)
    assert events[0].payload == 5
    assert events[1:] == [Payload(b"u\nl\x00k", True), Request("stat", (b"a",))]


def test_a_payload_is_handed_on_as_it_comes() -> None:
    reader = RequestReader()
    reader.receive(b"write 3 1000000\nabc")
    assert drain(reader)[1:] == [Payload(b"abc", False)]
    piece = bytes(100_000)
    reader.receive(piece)
    event = reader.next_event()
    assert isinstance(event, Payload)
    assert event.chunk is piece, "copied for nothing"


@pytest.mark.parametrize("size", [None, 1], ids=["whole", "byte by byte"])
def test_the_payload_of_putfile_is_one_when_the_server_has_accepted(size: int | None) -> None:
    reader = RequestReader()
    reader.receive(b"putfile a 420 8\n")
    assert drain(reader) == [Request("putfile", (b"a",), (420, 8))]
    reader.expect_payload(8)
    data = b"stat b\n\nstat c\n"
    got: list[Event] = []
    for at in range(0, len(data), size or len(data)):
        reader.receive(data[at : at + (size or len(data))])
        got += drain(reader)
    *payload, request = got
    assert b"".join(event.chunk for event in payload if isinstance(event, Payload)) == data[:8]
    assert request == Request("stat", (b"c",))


def test_nothing_is_made_of_half_a_line() -> None:
    assert read(b"unlink precious-backup", end=True) == [Ended(cut=True)]
    assert read(b"stat a\nunlink b", 1, end=True) == [Request("stat", (b"a",)), Ended(cut=True)]


def test_no_event_is_false_or_takes_another_ones_place() -> None:
    events = [Blank(), TooLong(), Invalid(""), Ended(False), Payload(b"", True), Request("version")]
    assert all(events)
    assert len(set(events)) == len(events)


def test_the_end_between_requests_is_clean_and_in_a_payload_it_is_not() -> None:
    assert read(b"stat a\n", end=True)[-1] == Ended(cut=False)
    assert read(b"write 3 5\nabc", end=True)[-2:] == [Payload(b"abc", False), Ended(cut=True)]
    assert read(b"write 3 5\n", end=True)[-1] == Ended(cut=True)


@pytest.mark.parametrize("size", [None, 1, 1000])
def test_a_line_of_5120_bytes_is_read_and_one_of_5121_is_not(size: int | None) -> None:
    name = b"x" * (LINE_MAX - len(b"stat "))
    assert read(b"stat " + name + b"\n", size) == [Request("stat", (name,))]
    assert read(b"stat x" + name + b"\nstat a\n", size) == [TooLong()]
    assert read(b"stat x" + name, size) == [TooLong()], "known without an end of the line"


def test_an_empty_line_is_blank_and_blanks_alone_are_invalid() -> None:
    assert one(b"") == Blank()
    assert one(b" ") == one(b"\r") == one(b"\t\v\f") == Invalid("")


@pytest.mark.parametrize(
    "line",
    [
        b"STAT a", b"Stat a", b" stat a", b"\tversion", b"statfoo", b"stat.", b"mkdirX 511",
        b"stat", b"stat ", b"ulog ", b"ulog \\", b"set_job_attr A ", b"open  r 0", b"read 3",
        b"read 3 x", b"close", b"close x", b"close -", b"nonsense", b"md5 a", b"login me",
        b"seek 3 0 0", b"write 3 -1", b"lseek 3", b"lseek 3 5", b"pread 3 5 99999999999999999999",
        b"stat a\0b", b"\\stat a", b"close 3 \0", b"pread 3 5 9223372036854775808",
        b"close " + b"9" * 5000,
    ],
)  # fmt: skip
def test_what_is_no_request_is_invalid_and_the_connection_goes_on(line: bytes) -> None:
    invalid, after = read(line + b"\nstat a\n")
    assert isinstance(invalid, Invalid)
    assert after == Request("stat", (b"a",))


def test_an_invalid_line_shows_its_keyword_but_not_what_may_be_a_secret() -> None:
    assert one(b"md5 path/with/names") == Invalid("md5")
    assert one(b"l\xe9on x") == Invalid("l\\xe9on")
    assert one(b"abcdefghijklmnopqrstuvwxyzabcde") == Invalid("")


@pytest.mark.parametrize(
    ("line", "same"),
    [
        (b"stat a\r", b"stat a"),
        (b"stat \t \v\f a", b"stat a"),
        (b"stat\ta\tb c", b"stat a"),
        (b"close 3abc", b"close 3"),
        (b"close 0x10", b"close 0"),
        (b"access a 0755", b"access a 755"),
        (b"lseek 3 +5 0", b"lseek 3 5 0"),
        (b"close " + b"0" * 5000 + b"7", b"close 7"),
        (b"pread 3 5 -9223372036854775808", b"pread 3 5 -09223372036854775808"),
        (b"versionX", b"version"),
        (b"version 2", b"version"),
        (b"stat \\q\\\\", b"stat q\\\\"),
        (b"stat a\\", b"stat a"),
    ],
)
def test_lines_that_mean_the_same(line: bytes, same: bytes) -> None:
    assert isinstance(one(line), Request)
    assert one(line) == one(same)


def test_a_backslash_makes_any_byte_an_ordinary_one_but_lf() -> None:
    assert one(b"rename a\\ b\\\tc\\\\ d\\\ve\\\ff\\\r") == Request(
        "rename", (b"a b\tc\\", b"d\ve\ff\r")
    )
    assert read(b"ulog a\\\nb\n") == [Request("ulog", (b"a",)), Invalid("b")]


def test_names_are_bytes() -> None:
    assert one(b"stat caf\xc3\xa9") == Request("stat", (b"caf\xc3\xa9",))
    assert one(b"stat caf\xe9\xa0\x85x") == Request("stat", (b"caf\xe9\xa0\x85x",))
    assert one(b"stat %20") == Request("stat", (b"%20",))


WORD = st.binary(min_size=1, max_size=300).filter(lambda word: not {0, 10} & set(word))
NUMBER = st.integers(-(2**63), 2**63 - 1)


@given(st.data())
def test_what_is_written_is_read_as_it_was(data: st.DataObject) -> None:
    command = data.draw(st.sampled_from(sorted(COMMANDS)))
    form = COMMANDS[command]
    words = tuple(data.draw(WORD) for _ in form.words)
    numbers = tuple(data.draw(NUMBER) for _ in form.numbers)
    line = format_request(command, *words, *numbers)
    event = chirp.parse_line(line[:-1])
    if form.payload is not None and numbers[form.payload] < 0:
        assert isinstance(event, Invalid)
    else:
        payload = 0 if form.payload is None else numbers[form.payload]
        assert event == Request(command, words, numbers, payload)


@given(st.binary(max_size=400), st.integers(1, 7))
def test_rubbish_means_the_same_in_any_pieces(data: bytes, size: int) -> None:
    assert read(data, size, end=True) == read(data, end=True)


@pytest.mark.parametrize("word", ["", "a\nb", "a\0b", b"a\n", "\ud800"])
def test_words_that_no_line_can_carry_are_refused(word: str | bytes) -> None:
    with pytest.raises(Unsendable) as caught:
        format_request("rename", "a", word)
    assert caught.value.code is Code.INVALID_REQUEST
    assert str(caught.value).startswith("The new of rename ")


def test_the_limit_of_a_written_line_counts_its_lf() -> None:
    room = LINE_MAX - len(b"stat \n")
    assert len(format_request("stat", "x" * room)) == LINE_MAX
    with pytest.raises(Unsendable) as caught:
        format_request("stat", "x" * (room + 1))
    assert caught.value.code is Code.TOO_BIG
    with pytest.raises(Unsendable):
        format_request("stat", " " * (room // 2 + 1))


def test_a_number_beyond_64_bits_is_refused() -> None:
    with pytest.raises(Unsendable):
        format_request("truncate", "a", 2**63)


def test_names_that_were_not_utf_8_are_sent_as_they_were() -> None:
    assert format_request("stat", "caf\udce9 é") == b"stat caf\xe9\\ \xc3\xa9\n"


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.EPERM, -2), (errno.EACCES, -2), (errno.EROFS, -2), (errno.ENOENT, -3),
        (errno.EEXIST, -4), (errno.EFBIG, -5), (errno.ENAMETOOLONG, -5), (errno.ENOSPC, -6),
        (errno.EDQUOT, -6), (errno.ENOMEM, -7), (errno.EINVAL, -8), (errno.ELOOP, -8),
        (errno.ESPIPE, -8), (errno.EMFILE, -9), (errno.ETXTBSY, -10), (errno.EINTR, -11),
        (errno.EBADF, -12), (errno.EISDIR, -13), (errno.ENOTDIR, -14), (errno.ENOTEMPTY, -15),
        (errno.EXDEV, -16), (errno.ETIMEDOUT, -17), (errno.EIO, -127), (None, -127), (0, -127),
    ],
)  # fmt: skip
def test_each_errno_has_its_code(number: int | None, code: int) -> None:
    assert chirp.code_of_errno(number) == code


def test_a_code_becomes_an_errno_that_becomes_the_code_again() -> None:
    for code in Code:
        if code is not Code.NOT_AUTHENTICATED:
            assert chirp.code_of_errno(chirp.errno_of_code(code)) is code
    assert chirp.errno_of_code(-24) == errno.EIO


@pytest.mark.parametrize(("line", "code"), [(b"0", 0), (b"-127\r", -127), (b" 23 \n", 23)])
def test_an_answer_is_a_number(line: bytes, code: int) -> None:
    assert chirp.parse_code(line) == code


@pytest.mark.parametrize("line", [b"", b"no", b"1 2", b"1_0", b"0x1", b"9" * 5000])
def test_anything_else_breaks_the_protocol(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        chirp.parse_code(line)


STAT = tuple(range(1, 14))


def test_the_line_of_a_stat_has_13_numbers_and_that_of_a_file_system_7() -> None:
    line = chirp.format_numbers(STAT)
    assert line == b"1 2 3 4 5 6 7 8 9 10 11 12 13\n"
    assert tuple(chirp.parse_stat(line).items()) == tuple(zip(chirp.STAT_FIELDS, STAT, strict=True))
    assert chirp.parse_statfs(chirp.format_numbers(STAT[:7]))["f_ffree"] == 7
    assert chirp.parse_statfs(line)["f_ffree"] == 7, "fstatfs of the starter is fstat"
    for bad in (b"\n", chirp.format_numbers(STAT[:7]), b"1 2 3 4 5 6 7 8 9 10 11 12 x\n"):
        with pytest.raises(ProtocolError):
            chirp.parse_stat(bad)


def body(answer: bytes) -> bytes:
    count, _, data = answer.partition(b"\n")
    assert chirp.parse_code(count) == len(data)
    return data


@pytest.mark.parametrize("names", [[], [b"a"], [b"one", b"with space ", b"caf\xe9"]])
def test_listings_end_with_a_blank_line_that_is_counted(names: list[bytes]) -> None:
    data = body(chirp.format_listing(names))
    assert data == b"".join(name + b"\n" for name in names) + b"\n"
    assert chirp.parse_listing(data) == names
    data = body(chirp.format_long_listing([(name, STAT) for name in names]))
    assert data.endswith(b"\n")
    entries = chirp.parse_long_listing(data)
    assert [name for name, _ in entries] == names
    assert all(tuple(numbers.values()) == STAT for _, numbers in entries)


def test_half_a_listing_breaks_the_protocol() -> None:
    with pytest.raises(ProtocolError):
        chirp.parse_long_listing(b"a\n1 2 3 4 5 6 7 8 9 10 11 12 13\nb\n\n")
