"""The server's end of a data channel: bytes from a peer into files, and back."""

from __future__ import annotations

import fcntl
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from roost.server.channel import Channel
from roost.wire import channel as wire

SIZE = 3_000_000
DATA = os.urandom(SIZE)
PATIENCE_S = 60


class Ends:
    def __init__(self) -> None:
        self.peer, own = socket.socketpair()
        self.peer.settimeout(PATIENCE_S)
        self.channel = Channel(own)
        assert self.peer.recv(len(wire.ACCEPTED)) == wire.ACCEPTED

    def do(self, work: Callable[[], object]) -> Any:
        """In the channel's thread; raises what it raises."""
        done = threading.Event()
        results: list[object] = []

        def run() -> None:
            try:
                results.append(work())
            except OSError as error:
                results.append(error)
            done.set()

        self.channel.add(run)
        assert done.wait(PATIENCE_S)
        if isinstance(results[0], OSError):
            raise results[0]
        return results[0]

    def send(self, data: bytes, *, end: bool = False) -> None:
        def run() -> None:
            self.peer.sendall(data)
            if end:
                self.peer.shutdown(socket.SHUT_WR)

        threading.Thread(target=run, daemon=True).start()


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends()
    yield ends
    ends.channel.close()
    ends.peer.close()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def test_what_comes_goes_into_the_file_at_its_place(ends: Ends, file: int) -> None:
    ends.send(DATA)
    assert ends.do(lambda: ends.channel.receive(file, 100, SIZE)) == SIZE
    assert os.pread(file, SIZE + 1, 100) == DATA


def test_a_file_that_the_kernel_does_not_move_into_is_written(ends: Ends, tmp_path: Path) -> None:
    appending = os.open(tmp_path / "appended", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    ends.send(DATA)
    assert ends.do(lambda: ends.channel.receive(appending, 0, SIZE)) == SIZE
    os.close(appending)
    assert (tmp_path / "appended").read_bytes() == DATA


def test_what_comes_before_the_end_is_kept_and_counted(ends: Ends, file: int) -> None:
    ends.send(DATA[:1_500_000], end=True)
    assert ends.do(lambda: ends.channel.receive(file, 0, SIZE)) == 1_500_000
    assert os.fstat(file).st_size == 1_500_000, "nobody sees the room for what has not come"
    assert os.pread(file, SIZE, 0) == DATA[:1_500_000]
    assert ends.do(lambda: ends.channel.receive(file, 1_500_000, 10)) == 0


def test_a_full_disk_leaves_the_channel_where_the_next_bytes_begin(ends: Ends, file: int) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    ends.send(DATA + b"next")
    with pytest.raises(OSError, match="No space left"):
        ends.do(lambda: ends.channel.receive(full, 0, SIZE))
    os.close(full)
    assert ends.do(lambda: ends.channel.receive(file, 0, 4)) == 4
    assert os.pread(file, 5, 0) == b"next"


def test_discarded_bytes_are_gone_and_no_others(ends: Ends, file: int) -> None:
    ends.send(DATA)
    ends.do(lambda: ends.channel.discard(SIZE - 4))
    assert ends.do(lambda: ends.channel.receive(file, 0, 4)) == 4
    assert os.pread(file, 5, 0) == DATA[-4:]


def test_a_file_is_sent_from_its_place_and_no_further_than_it_goes(ends: Ends, file: int) -> None:
    os.write(file, DATA)
    received: list[bytes] = []

    def receive() -> None:
        while data := ends.peer.recv(1_000_000):
            received.append(data)

    reading = threading.Thread(target=receive)
    reading.start()
    assert ends.do(lambda: ends.channel.send(file, 1_000_000, SIZE)) == SIZE - 1_000_000
    ends.channel.cut()
    reading.join(PATIENCE_S)
    assert b"".join(received) == DATA[1_000_000:]


def test_sending_ends_when_the_peer_is_gone(ends: Ends, file: int) -> None:
    os.ftruncate(file, 1_000_000_000)
    ends.peer.close()
    assert ends.do(lambda: ends.channel.send(file, 0, 1_000_000_000)) < 1_000_000_000


def test_a_channel_that_is_cut_wakes_who_waits_for_its_bytes(ends: Ends, file: int) -> None:
    waiting = threading.Timer(0, ends.channel.cut)
    waiting.start()
    assert ends.do(lambda: ends.channel.receive(file, 0, SIZE)) == 0
    waiting.join()


def test_what_is_added_after_the_end_is_called_and_finds_nothing(ends: Ends, file: int) -> None:
    ends.channel.close()
    assert ends.do(lambda: ends.channel.send(file, 0, 1)) == 0
    for thread in threading.enumerate():
        if thread.name == "channel":
            thread.join(PATIENCE_S)
    assert ends.do(lambda: ends.channel.receive(file, 0, 1)) == 0
    assert ends.do(lambda: ends.channel.discard(1)) is None


# --- files that are handed over ----------------------------------------------------------------


def hand_over(ends: Ends, *files: int) -> None:
    socket.send_fds(ends.peer, [wire.HANDOVER], files)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


@pytest.fixture
def source(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "source").write_bytes(DATA)
    descriptor = os.open(tmp_path / "source", os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def received(ends: Ends, file: int, offset: int, size: int) -> int:
    """So many bytes were copied of the file that was handed over next."""

    def receive() -> int:
        with ends.channel.file_taken() as source:
            return 0 if source is None else ends.channel.copy(source, file, offset, size)

    return ends.do(receive)


def test_what_a_file_has_is_copied_to_the_same_place(ends: Ends, file: int, source: int) -> None:
    hand_over(ends, source)
    hand_over(ends, source)
    assert received(ends, file, 1_000_000, 1_500_000) == 1_500_000
    assert received(ends, file, 100, 1000) == 1000
    assert os.pread(file, SIZE, 1_000_000) == DATA[1_000_000:2_500_000]
    assert os.pread(file, 1000, 100) == DATA[100:1100]
    assert os.lseek(source, 0, os.SEEK_CUR) == 0, "its owner shares the place where it reads"


def test_a_file_is_let_go_before_anybody_is_told(ends: Ends, file: int, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(DATA)
    with (tmp_path / "source").open("rb") as mine:
        hand_over(ends, mine.fileno())
    received(ends, file, 0, SIZE)
    with (tmp_path / "source").open("r+b") as mine:
        fcntl.fcntl(mine, fcntl.F_SETLEASE, fcntl.F_WRLCK)  # only while it is open nowhere else


def test_a_file_that_has_less_is_copied_as_far_as_it_goes(
    ends: Ends, file: int, source: int
) -> None:
    hand_over(ends, source)
    assert received(ends, file, SIZE - 10, 1000) == 10
    assert os.fstat(file).st_size == SIZE
    hand_over(ends, source)
    assert received(ends, file, SIZE + 10, 1000) == 0


def test_a_copy_into_a_file_that_the_kernel_does_not_move_into_is_written(
    ends: Ends, source: int, tmp_path: Path
) -> None:
    appending = os.open(tmp_path / "appended", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    hand_over(ends, source)
    assert received(ends, appending, 0, SIZE) == SIZE
    os.close(appending)
    assert (tmp_path / "appended").read_bytes() == DATA


@pytest.mark.parametrize("what", ["a folder", "a pipe", "a device", "write-only", "nothing"])
def test_what_is_no_file_to_be_read_is_refused_without_harm(
    ends: Ends, file: int, source: int, tmp_path: Path, what: str
) -> None:
    hand_over(ends, source)
    received(ends, file, 0, 0)  # has the channel make its pipe
    before = open_files()
    out, into = os.pipe()
    offered = {
        "a folder": os.open(tmp_path, os.O_RDONLY),
        "a pipe": os.dup(out),
        "a device": os.open("/dev/zero", os.O_RDONLY),
        "write-only": os.open(tmp_path / "source", os.O_WRONLY),
        "nothing": -1,
    }
    hand_over(ends, *([offered[what]] if what != "nothing" else []))
    hand_over(ends, source)
    assert received(ends, file, 0, SIZE) == 0
    assert os.fstat(file).st_size == 0
    assert received(ends, file, 0, SIZE) == SIZE
    assert os.pread(file, SIZE, 0) == DATA
    for descriptor in (out, into, *offered.values()):
        if descriptor >= 0:
            os.close(descriptor)
    assert open_files() == before


def test_of_several_files_at_once_one_is_taken_and_none_stays_open(
    ends: Ends, file: int, source: int
) -> None:
    hand_over(ends, source)
    received(ends, file, 0, 1)  # has the channel make its pipe
    before = open_files()
    hand_over(ends, source, source, source)
    assert received(ends, file, 0, SIZE) == SIZE
    assert open_files() == before


def test_a_file_that_nobody_wants_is_let_go(ends: Ends, file: int, source: int) -> None:
    before = open_files()
    hand_over(ends, source)
    ends.do(lambda: ends.channel.discard(len(wire.HANDOVER)))
    assert open_files() == before
    hand_over(ends, source)
    assert received(ends, file, 0, 4) == 4


def test_a_full_disk_leaves_the_channel_at_the_next_file(
    ends: Ends, file: int, source: int
) -> None:
    hand_over(ends, source)
    hand_over(ends, source)
    full = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(OSError, match="No space left"):
        received(ends, full, 0, SIZE)
    os.close(full)
    assert received(ends, file, 0, 4) == 4


def test_a_channel_that_ends_has_no_file(ends: Ends, file: int) -> None:
    ends.peer.close()
    assert received(ends, file, 0, SIZE) == 0


# --- lanes ------------------------------------------------------------------------------------


def receive(ends: Ends, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := ends.peer.recv(size - len(data))):
        data += more
    return data


def doubled(frame: memoryview) -> bytes:
    return bytes(frame) * 2


def not_ended() -> None:
    raise AssertionError("the peer has not ended its lane")


@pytest.mark.parametrize("size", [1, 1000, wire.READ_BYTES - 4, wire.READ_BYTES, SIZE])
def test_a_lane_answers_every_frame_and_its_channel_can_be_used_again(
    ends: Ends, file: int, size: int
) -> None:
    contents = [b"a", DATA[:size], b"b" * 5, DATA[:1000]]
    ended, served = threading.Event(), threading.Event()

    def serve() -> None:
        ends.channel.serve(doubled, ended.set)
        served.set()

    ends.channel.add(serve)
    ends.send(b"".join(map(wire.frame, contents)))
    for content in contents:
        answer = wire.frame(content * 2)
        assert receive(ends, len(answer)) == answer
    assert not ended.is_set()
    ends.send(wire.END)
    assert receive(ends, len(wire.END)) == wire.END
    assert ended.is_set()  # before the peer knows, as it may use the channel at once
    assert served.wait(PATIENCE_S)
    ends.send(DATA)
    assert ends.do(lambda: ends.channel.receive(file, 0, SIZE)) == SIZE


def test_a_frame_is_answered_before_the_next_one_comes(ends: Ends) -> None:
    ends.channel.add(lambda: ends.channel.serve(doubled, not_ended))
    for turn in range(10):
        data = wire.frame(b"%d" % turn)
        for at in range(len(data)):
            ends.peer.sendall(data[at : at + 1])
        assert receive(ends, 6) == wire.frame(b"%d" % turn * 2)


@pytest.mark.parametrize("end", [True, False], ids=["ended", "misspelled"])
def test_a_lane_that_is_not_ended_as_it_should_be_is_over(ends: Ends, end: bool) -> None:
    over = threading.Event()

    def serve() -> None:
        ends.channel.serve(doubled, not_ended)
        over.set()

    ends.channel.add(serve)
    ends.send(b"\0\0" if end else b"\xff" * 4, end=end)
    assert over.wait(PATIENCE_S)
    if not end:
        assert receive(ends, 1) == b""
