"""Finding the server, getting in, and everything that can happen to a connection."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from roost.htchirp import ConnectionBroken, HTChirp, client

COOKIE = "abcdefghijklmnopqrstuvwxyzabcde"
STAT = b"0\n1 2 33188 4 5 6 7 100 9 10 11 12 13\n"
Script = Callable[[socket.socket], None]


class Scripted:
    """A server that lets everybody in, and then does what the script says with each request."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.script: Script = lambda _: None
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                with connection, contextlib.suppress(OSError):
                    connection.recv(100)
                    connection.sendall(b"0\n")
                    if connection.recv(10_000):
                        self.script(connection)
                        while connection.recv(10_000):
                            pass

    def client(self, timeout: float = 10) -> HTChirp:
        chirp = HTChirp("127.0.0.1", self.port, cookie=COOKIE, timeout=timeout)
        chirp.connect()
        return chirp


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    server = Scripted()
    yield server
    with contextlib.suppress(OSError):
        server.listener.shutdown(socket.SHUT_RDWR)
    server.listener.close()
    server.thread.join(10)


def says(data: bytes) -> Script:
    return lambda connection: connection.sendall(data)


def says_and_ends(data: bytes) -> Script:
    def script(connection: socket.socket) -> None:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)

    return script


def says_and_resets(data: bytes) -> Script:
    def script(connection: socket.socket) -> None:
        connection.sendall(data)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    return script


CALLS: dict[str, tuple[Callable[[HTChirp], object], list[bytes]]] = {
    "a number": (lambda chirp: chirp.unlink("a"), [b"", b"-"]),
    "bytes": (lambda chirp: chirp.get_job_attr("A"), [b"", b"1", b"10\n", b"10\nabc"]),
    "a stat": (lambda chirp: chirp.stat("a"), [b"", b"0", b"0\n", STAT[:20]]),
    "an open": (lambda chirp: chirp.read("a", 5), [b"", b"4", b"4\n", b"4\n" + STAT[2:20]]),
    "a listing": (lambda chirp: chirp.getdir("a"), [b"", b"10\none\n"]),
    "a file": (lambda chirp: chirp.fetch("a", os.devnull), [b"", STAT]),
}


@pytest.mark.parametrize("ends", [says_and_ends, says_and_resets], ids=["FIN", "RST"])
@pytest.mark.parametrize(
    ("call", "data"),
    [pytest.param(call, data, id=f"{name} {data!r}") for name, (call, all_) in CALLS.items()
     for data in all_],
)  # fmt: skip
def test_a_connection_cut_at_any_place_is_noticed_at_once_and_stays_closed(
    scripted: Scripted,
    call: Callable[[HTChirp], object],
    data: bytes,
    ends: Callable[[bytes], Script],
) -> None:
    scripted.script = ends(data)
    chirp = scripted.client()
    with pytest.raises(ConnectionBroken) as caught:
        call(chirp)
    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value, RuntimeError)
    assert "connection" in str(caught.value)
    assert not chirp.is_connected()
    with pytest.raises(RuntimeError, match=r"not connected to a Chirp server.* Use connect\(\)"):
        chirp.stat("a")


def test_after_a_break_connect_begins_anew(scripted: Scripted) -> None:
    scripted.script = says_and_ends(b"")
    chirp = scripted.client()
    with pytest.raises(ConnectionBroken):
        chirp.stat("a")
    scripted.script = says(STAT)
    chirp.connect()
    assert chirp.stat("a")["size"] == 100


def test_a_server_that_does_nothing_is_given_up_and_its_late_answer_never_read(
    scripted: Scripted,
) -> None:
    late = threading.Event()

    def script(connection: socket.socket) -> None:
        late.wait()
        connection.sendall(STAT)

    scripted.script = script
    chirp = scripted.client(timeout=0.05)
    with pytest.raises(TimeoutError, match=r"did nothing for 0\.05 seconds"):
        chirp.stat("a")
    late.set()
    assert not chirp.is_connected()
    with pytest.raises(RuntimeError, match=r"did nothing for 0\.05 seconds"):
        chirp.unlink("b")


@pytest.mark.parametrize("answer", [b"hello\n", b"\n", b"x" * 6000, b"0\n1 2 3\n", b"1.5\n"])
def test_what_is_not_chirp_ends_the_connection(scripted: Scripted, answer: bytes) -> None:
    scripted.script = says(answer)
    chirp = scripted.client()
    with pytest.raises(ConnectionBroken):
        chirp.stat("a")
    assert not chirp.is_connected()


def test_more_than_was_asked_for_ends_the_connection(scripted: Scripted) -> None:
    def script(connection: socket.socket) -> None:
        connection.sendall(b"4\n" + STAT[2:])
        connection.recv(1000)
        connection.sendall(b"3000000\n")

    scripted.script = script
    chirp = scripted.client()
    with pytest.raises(ConnectionBroken, match="more than was asked for"):
        chirp.read("a", 2_000_000)
    assert not chirp.is_connected()


def test_less_written_than_there_was_is_told_in_the_way_of_htchirp(
    scripted: Scripted, tmp_path: Path
) -> None:
    def script(connection: socket.socket) -> None:
        connection.sendall(b"4\n" + STAT[2:])
        connection.recv(1000)
        connection.sendall(b"2\n0\n0\n")

    scripted.script = script
    local = tmp_path / "local"
    local.write_bytes(b"hello")
    assert scripted.client().write(b"hello", "a") == 2
    with pytest.raises(UserWarning, match="Only 2 bytes of 5 bytes"):
        scripted.client().put(local, "a", "wca")
    with pytest.raises(RuntimeWarning, match="Only 2 bytes of 5 bytes"):
        scripted.client().putfile(local, "a")


def test_a_server_with_64_bits_is_asked_once_and_then_believed(scripted: Scripted) -> None:
    asked: list[bytes] = []
    answers = {b"lseek": b"2147483648\n", b"pwrite": b"2\n", b"open": b"4\n\n"}

    def script(connection: socket.socket) -> None:
        connection.sendall(answers[b"open"])
        with connection.makefile("rb") as lines:
            for line in lines:
                asked.append(line.split()[0])
                if asked[-1] == b"pwrite":
                    lines.read(2)
                connection.sendall(answers.get(asked[-1], b"0\n"))

    scripted.script = script
    chirp = scripted.client()
    for _ in range(2):
        assert chirp.write(b"ab", "a", offset=2**33) == 2
    assert asked.count(b"lseek") == 2
    assert asked.count(b"pwrite") == 2


def test_a_call_that_was_left_in_the_middle_breaks_the_connection(start: Any) -> None:
    start()
    chirp = HTChirp()
    chirp.connect()
    assert chirp._connection
    chirp._connection.send(b"stat .\n")
    assert not chirp.is_connected()
    with pytest.raises(RuntimeError, match="in the middle of an answer"):
        chirp.unlink("a")


def test_memory_stays_flat_whatever_the_size(start: Any, tmp_path: Path) -> None:
    starter = start()
    size = 96 * 1024 * 1024
    with (starter.root / "sparse").open("wb") as file:
        file.truncate(size)
    with HTChirp() as chirp:
        tracemalloc.start()
        try:
            assert chirp.fetch("sparse", os.devnull) == size
            assert chirp.put(starter.root / "sparse", "copy") == size
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    # The fake starter's pieces are in it too.
    assert peak < 16 * 1024 * 1024


# --- getting in -----------------------------------------------------------------------------------


def test_making_and_connecting_a_client_is_one_connection(start: Any) -> None:
    starter = start()
    with HTChirp() as chirp:
        assert chirp.whoami() == "CONDOR"
    assert starter.connections == 1
    with chirp:
        assert chirp.whoami() == "CONDOR"
    assert starter.connections == 2


def test_a_new_client_is_not_connected_and_knows_how_it_got_in(start: Any) -> None:
    starter = start()
    chirp = HTChirp()
    assert not chirp.is_connected()
    assert (chirp.host, chirp.port, chirp.cookie) == ("127.0.0.1", starter.port, COOKIE)
    assert (chirp.timeout, chirp.authentication, chirp.fds) == (10, "cookie", {})
    assert repr(chirp) == f"HTChirp(127.0.0.1, {starter.port}) using cookie authentication"
    with pytest.raises(
        RuntimeError, match=r"^The Chirp client is not connected to a Chirp server\.$"
    ):
        chirp.whoami()
    chirp.disconnect()
    chirp.disconnect()
    chirp.connect("cookie")
    chirp.connect()
    assert chirp.is_connected()
    chirp.disconnect()
    assert not chirp.is_connected()


def test_a_connection_is_not_shared_with_a_forked_process(start: Any) -> None:
    starter = start()
    chirp = HTChirp()
    assert chirp._spare
    chirp._spare = (os.getpid() + 1, *chirp._spare[1:])
    with chirp:
        assert chirp.whoami() == "CONDOR"
    assert starter.connections == 2


def test_a_connection_that_was_kept_too_long_or_has_ended_is_made_anew(start: Any) -> None:
    starter = start()
    chirp = HTChirp()
    assert chirp._spare
    chirp._spare = (chirp._spare[0], chirp._spare[1] - 60, chirp._spare[2])
    with chirp:
        chirp.whoami()
    chirp = HTChirp()
    (theirs,) = starter._open
    theirs.shutdown(socket.SHUT_RDWR)
    with chirp:
        chirp.whoami()
    assert starter.connections == 4


def test_many_short_connections_in_a_row(start: Any) -> None:
    starter = start(io=False, updates=False)
    for number in range(300):
        with HTChirp() as chirp:
            chirp.set_job_attr_delayed("ChirpElapsed", number)
    assert starter.pending == {"ChirpElapsed": "299"}


def test_a_wrong_cookie_and_none_are_not_authenticated(start: Any) -> None:
    starter = start()
    for cookie in ("x" * 31, None):
        with pytest.raises(HTChirp.NotAuthenticated, match=r"with methods \['cookie'\]"):
            HTChirp("127.0.0.1", starter.port, cookie=cookie)
    assert starter.connections == 1, "nothing is asked without a cookie"


def test_unknown_ways_to_authenticate_are_refused(start: Any) -> None:
    starter = start()
    with pytest.raises(ValueError, match="Unknown authentication method 'kerberos'"):
        HTChirp("127.0.0.1", starter.port, auth=["kerberos"], cookie=COOKIE)
    with pytest.raises(ValueError, match=r"\.chirp\.config"):
        HTChirp(auth=["kerberos"])


def test_nobody_there_is_an_os_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        HTChirp("127.0.0.1", port, cookie=COOKIE)


# --- finding it -----------------------------------------------------------------------------------


def test_the_contact_file_is_found_where_any_starter_puts_it(
    start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starter = start()
    assert HTChirp().port == starter.port, "in the file that the environment names"
    monkeypatch.delenv("_CONDOR_CHIRP_CONFIG")
    here, scratch = tmp_path / "here", tmp_path / "scratch"
    here.mkdir()
    scratch.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.delenv("_CONDOR_SCRATCH_DIR", raising=False)
    with pytest.raises(ValueError, match=r"\.chirp\.config must be present"):
        HTChirp()
    monkeypatch.setenv("_CONDOR_SCRATCH_DIR", str(scratch))
    (scratch / client.CONTACT_FILE).write_text(starter.contact.read_text())
    assert HTChirp().port == starter.port, "in the scratch directory"
    (here / client.CONTACT_FILE).write_text("elsewhere 1")
    with pytest.raises(ValueError, match="must say host, port and cookie; it says 2 words"):
        HTChirp()


def test_an_empty_variable_switches_chirp_off(
    start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starter = start()
    monkeypatch.chdir(tmp_path)
    Path(client.CONTACT_FILE).write_text(starter.contact.read_text())
    for value in ("", str(tmp_path / "absent")):
        monkeypatch.setenv("_CONDOR_CHIRP_CONFIG", value)
        with pytest.raises(ValueError, match=r"\.chirp\.config must be present"):
            HTChirp()


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        (f"127.0.0.1 9 {COOKIE} more", "4 words"),
        (f"127.0.0.1 {COOKIE} 9", "second word is no port"),
    ],
)
def test_a_broken_contact_file_does_not_show_its_cookie(start: Any, line: str, wrong: str) -> None:
    start().contact.write_text(line)
    with pytest.raises(ValueError, match=wrong) as caught:
        HTChirp()
    assert COOKIE not in str(caught.value)


def test_small_writes_do_not_wait_for_a_slow_acknowledgement(start: Any) -> None:
    start()
    with HTChirp() as chirp:
        assert chirp._connection
        connection = chirp._connection.socket
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
