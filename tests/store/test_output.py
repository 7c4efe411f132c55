"""Job output: bytes at offsets in, one log per job out."""

from __future__ import annotations

import contextlib
import os
import resource
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roost.core.records import JobId
from roost.errors import StoreFailure, Unreadable
from roost.store.output import FILE_MODE, OutputStore, read_pieces, separator

JOB = JobId(12345)


@pytest.fixture
def output(tmp_path: Path) -> Iterator[OutputStore]:
    store = OutputStore(tmp_path / "output", open_files_max=4)
    yield store
    store.close()


def test_a_file_appears_with_the_first_byte(output: OutputStore, tmp_path: Path) -> None:
    assert output.write(JOB, 2, 0, b"") == 0
    assert not (tmp_path / "output").exists()
    assert output.write(JOB, 2, 0, b"x") == 1
    assert (tmp_path / "output/000/0123/12345.2.log").read_bytes() == b"x"


def test_sending_bytes_again_changes_nothing(output: OutputStore) -> None:
    assert output.write(JOB, 1, 0, b"hello ") == 6
    assert output.write(JOB, 1, 6, b"world") == 11
    assert output.write(JOB, 1, 6, b"world") == 11
    assert output.write(JOB, 1, 0, b"hello ") == 11
    assert output.write(JOB, 1, 3, b"lo world!") == 12
    assert output.read_all(JOB, 1) == b"hello world!"


def test_a_gap_is_not_made(output: OutputStore) -> None:
    assert output.write(JOB, 1, 3, b"late") == 0
    assert output.write(JOB, 1, 0, b"ab") == 2
    assert output.write(JOB, 1, 3, b"late") == 2
    assert output.size(JOB, 1) == 2


def test_attempts_with_output_are_separated_and_the_first_has_no_header(
    output: OutputStore,
) -> None:
    output.write(JOB, 2, 0, b"second")
    output.write(JOB, 5, 0, b"fifth")
    assert output.read_all(JOB, 1) == b""
    assert output.read_all(JOB, 4) == b"second"
    assert output.read_all(JOB, 5) == b"second" + separator(5) + b"fifth"


def test_a_job_without_output_reads_as_nothing(output: OutputStore) -> None:
    assert output.read_all(JOB, 0) == output.read_last(JOB, 3, 10) == b""
    assert output.read_range(JOB, 3, 5, 10) == (b"", 0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    texts=st.lists(st.binary(max_size=12), max_size=4),
    offset=st.integers(0, 90),
    size_max=st.integers(0, 90),
)
def test_every_way_of_reading_cuts_the_same_log(
    output: OutputStore, texts: list[bytes], offset: int, size_max: int
) -> None:
    output.delete(JOB)
    for number, text in enumerate(texts, 1):
        output.write(JOB, number, 0, text)
    whole = output.read_all(JOB, len(texts))
    part = output.read_range(JOB, len(texts), offset, size_max)
    assert part == (whole[offset : offset + size_max], len(whole))
    last = output.read_last(JOB, len(texts), size_max)
    assert last == (whole[-size_max:] if size_max else b"")


def test_the_end_of_a_huge_log_is_read_without_the_rest(
    output: OutputStore, tmp_path: Path
) -> None:
    output.write(JOB, 1, 0, b"x")
    output.close()
    file = tmp_path / "output/000/0123/12345.1.log"
    os.truncate(file, 1 << 40)  # a terabyte: reading it all would not end well
    with file.open("r+b") as end:
        end.seek(0, os.SEEK_END)
        end.write(b"the end")
    assert output.read_last(JOB, 1, 7) == b"the end"


def test_open_files_are_bounded_while_many_jobs_print(output: OutputStore) -> None:
    for turn in range(3):
        for number in range(20):
            assert output.write(JobId(number), 1, turn, b"x") == turn + 1
    names = [os.path.realpath(fd) for fd in Path("/proc/self/fd").iterdir()]
    assert sum(name.endswith(".1.log") for name in names) == 4


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.dup(0)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(64, taken[0] + 1), hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_files_kept_open_are_given_up_when_no_descriptor_is_left(output: OutputStore) -> None:
    for number in range(4):
        output.write(JobId(number), 1, 0, b"x")
    with no_descriptor_left():
        assert output.write(JOB, 1, 0, b"x") == 1
        with output.opened(JOB, 2, create=True) as file:
            assert file is not None
    assert output.read_all(JobId(3), 1) == b"x"


def test_a_store_without_any_descriptor_says_so(output: OutputStore) -> None:
    with no_descriptor_left(), pytest.raises(StoreFailure, match="Too many open files"):
        output.write(JOB, 1, 0, b"x")


def test_deleting_forgets_every_attempt_of_that_job_only(output: OutputStore) -> None:
    near = JobId(1234)
    for number in (1, 2, 7):
        output.write(JOB, number, 0, b"x")
    output.write(near, 1, 0, b"y")
    output.delete(JOB)
    output.delete(JOB)
    assert output.read_all(JOB, 9) == b""
    assert output.read_all(near, 1) == b"y"
    assert output.write(JOB, 1, 1, b"late") == 0


def test_output_that_cannot_be_read_is_refused_by_name(output: OutputStore, tmp_path: Path) -> None:
    output.write(JOB, 1, 0, b"x")
    pieces = output.pieces(JOB, 1)
    output.delete(JOB)
    (tmp_path / "output/000/0123/12345.1.log").mkdir()
    with pytest.raises(Unreadable, match=r"12345\.1\.log could not be read: Is a directory"):
        read_pieces(pieces, 0, 1)


def test_a_disk_that_refuses_is_a_store_failure(tmp_path: Path) -> None:
    (tmp_path / "output").write_text("not a folder")
    store = OutputStore(tmp_path / "output")
    with pytest.raises(StoreFailure, match=r"12345\.1\.log could not be written: Not a directory"):
        store.write(JOB, 1, 0, b"x")


class Clock:
    """A clock that the files follow: what has just been written is as old as the clock says."""

    def __init__(self, folder: Path) -> None:
        self.now = 1_000_000.0
        self.folder = folder

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        for path in self.folder.rglob("*.log"):
            if path.stat().st_mtime > 2_000_000:  # touched by the real clock since
                os.utime(path, (self.now, self.now))
        self.now += seconds


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "output")


@pytest.fixture
def timed(tmp_path: Path, clock: Clock) -> Iterator[OutputStore]:
    store = OutputStore(tmp_path / "output", clock=clock)
    yield store
    store.close()


def test_output_of_one_second_needs_no_times_beside_it(timed: OutputStore, clock: Clock) -> None:
    timed.write(JOB, 1, 0, b"one\n")
    clock.pass_(0.4)
    timed.write(JOB, 1, 4, b"two\n")
    clock.pass_(9)
    [(log, _)] = timed.pieces(JOB, 1)
    assert isinstance(log, Path) and [path.suffix for path in log.parent.iterdir()] == [".log"]
    assert timed.arrived_at(log, [0, 4]) == [1_000_000] * 2


def test_each_second_in_which_bytes_arrive_is_kept_once(timed: OutputStore, clock: Clock) -> None:
    size = 0
    for wait in (3, 0.5, 5, 0):
        size = timed.write(JOB, 1, size, b"1234")
        clock.pass_(wait)
    [(log, _)] = timed.pieces(JOB, 1)
    assert isinstance(log, Path) and log.with_suffix(".times").stat().st_size == 3 * 12
    assert timed.arrived_at(log, [0, 3, 4, 8, 12]) == [1_000_000, 1_000_000, *(1_000_003,) * 2,
                                                       1_000_008]  # fmt: skip


def test_bytes_that_pass_beside_the_store_arrive_when_they_are_let_in(
    timed: OutputStore, clock: Clock
) -> None:
    timed.write(JOB, 1, 0, b"1234")
    clock.pass_(7)
    with timed.opened(JOB, 1, create=False) as file:
        assert file is not None
        os.pwrite(file, b"5678", 4)
    [(log, _)] = timed.pieces(JOB, 1)
    assert timed.arrived_at(log, [0, 3, 4]) == [1_000_000, 1_000_000, 1_000_007]


def test_bytes_sent_again_do_not_arrive_again(timed: OutputStore, clock: Clock) -> None:
    timed.write(JOB, 1, 0, b"1234")
    clock.pass_(10)
    timed.write(JOB, 1, 0, b"1234")
    clock.pass_(10)
    timed.write(JOB, 1, 2, b"3456")
    [(log, _)] = timed.pieces(JOB, 1)
    assert timed.arrived_at(log, [0, 4]) == [1_000_000, 1_000_020]


def test_output_from_before_times_were_kept_has_none(tmp_path: Path, clock: Clock) -> None:
    first = OutputStore(tmp_path / "output", clock=clock)
    for job in (JOB, JobId(12346)):
        first.write(job, 1, 0, b"old\n")
    first.close()
    clock.pass_(100)
    (tmp_path / "output/times-since").unlink()
    store = OutputStore(tmp_path / "output", clock=clock)
    store.write(JOB, 1, 4, b"new\n")
    [(log, _)], [(other, _)] = store.pieces(JOB, 1), store.pieces(JobId(12346), 1)
    assert store.arrived_at(log, [0, 4]) == [0, 1_000_100]
    assert store.arrived_at(other, [0]) == [0]
    store.close()


def test_times_outlive_the_server_and_go_with_the_output(timed: OutputStore, clock: Clock) -> None:
    timed.write(JOB, 1, 0, b"1234")
    clock.pass_(2)
    timed.close()
    later = OutputStore(clock.folder, clock=clock)
    later.write(JOB, 1, 4, b"5678")
    [(log, _)] = later.pieces(JOB, 1)
    assert isinstance(log, Path)
    assert later.arrived_at(log, [0, 4]) == [1_000_000, 1_000_002]
    later.delete(JOB)
    assert list(log.parent.iterdir()) == []


# --- files of others --------------------------------------------------------------------------


@pytest.fixture
def printed(tmp_path: Path) -> Iterator[IO[bytes]]:
    """What an attempt prints into."""
    with (tmp_path / "slot").open("w+b", buffering=0) as file:
        yield file


def test_a_file_that_was_adopted_is_the_log_with_all_that_comes_later(
    output: OutputStore, printed: IO[bytes]
) -> None:
    printed.write(b"one\n")
    assert output.adopt(JOB, 1, printed.fileno(), 0, 4)
    printed.write(b"two\n")
    assert output.read_all(JOB, 1) == b"one\ntwo\n"
    assert output.size(JOB, 1) == 8
    assert output.adopt(JOB, 1, printed.fileno(), 4, 4)
    [(log, _)] = output.pieces(JOB, 1)
    assert isinstance(log, Path) and stat.S_IMODE(log.stat().st_mode) == FILE_MODE


def test_a_file_takes_the_place_of_what_has_arrived_of_it(
    output: OutputStore, printed: IO[bytes]
) -> None:
    printed.write(b"one\ntwo\n")
    output.write(JOB, 1, 0, b"one\n")
    assert output.adopt(JOB, 1, printed.fileno(), 4, 4)
    printed.write(b"three\n")
    assert output.write(JOB, 1, 8, b"three\n") == 14
    assert output.read_all(JOB, 1) == b"one\ntwo\nthree\n"
    printed.seek(0)
    assert printed.read() == b"one\ntwo\nthree\n"


def test_a_log_with_a_gap_is_not_adopted(output: OutputStore, printed: IO[bytes]) -> None:
    printed.write(b"one\ntwo\n")
    assert not output.adopt(JOB, 1, printed.fileno(), 4, 4)
    assert output.size(JOB, 1) == 0


def test_a_file_that_has_less_is_not_adopted(output: OutputStore, printed: IO[bytes]) -> None:
    output.write(JOB, 1, 0, b"one\ntwo\n")
    printed.write(b"one\n")
    assert not output.adopt(JOB, 1, printed.fileno(), 0, 4)
    assert not output.adopt(JOB, 1, printed.fileno(), 4, 1)
    assert output.read_all(JOB, 1) == b"one\ntwo\n"


def test_a_file_of_another_file_system_is_not_adopted(output: OutputStore, tmp_path: Path) -> None:
    shared_memory = Path("/dev/shm")
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no other file system")
    with tempfile.TemporaryFile(dir=shared_memory) as file:
        file.write(b"text")
        file.flush()
        assert not output.adopt(JOB, 1, file.fileno(), 0, 4)
    assert output.size(JOB, 1) == 0


def test_a_deleted_log_leaves_the_file_to_its_writer(
    output: OutputStore, printed: IO[bytes], tmp_path: Path
) -> None:
    printed.write(b"one\n")
    assert output.adopt(JOB, 1, printed.fileno(), 0, 4)
    output.delete(JOB)
    assert output.size(JOB, 1) == 0
    assert (tmp_path / "slot").read_bytes() == b"one\n"


def test_of_an_adopted_log_it_is_kept_when_each_stretch_arrived(
    timed: OutputStore, clock: Clock, printed: IO[bytes]
) -> None:
    timed.write(JOB, 1, 0, b"1234")
    clock.pass_(3)
    printed.write(b"1234567890")
    for offset in (4, 6, 8):
        assert timed.adopt(JOB, 1, printed.fileno(), offset, 2)
        clock.now += 0.5
    [(log, _)] = timed.pieces(JOB, 1)
    times = [1_000_000, 1_000_003, 1_000_003, 1_000_004]
    assert timed.arrived_at(log, [3, 4, 6, 8]) == times


def test_of_an_adopted_log_it_is_kept_when_later_lines_arrived_and_not_what_is_said_again(
    timed: OutputStore, clock: Clock, printed: IO[bytes]
) -> None:
    printed.write(b"12345678")
    assert timed.adopt(JOB, 1, printed.fileno(), 0, 4)
    clock.now += 60
    timed.write(JOB, 1, 4, b"5678")
    clock.now += 60
    assert timed.adopt(JOB, 1, printed.fileno(), 0, 4)
    timed.write(JOB, 1, 4, b"5678")
    [(log, _)] = timed.pieces(JOB, 1)
    assert timed.arrived_at(log, [0, 3, 4, 7]) == [1_000_000, 1_000_000, 1_000_060, 1_000_060]
