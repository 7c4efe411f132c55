"""Beside the agent link: floods of output, large Chirp files, and lanes for small operations.

All of it on the server's Unix socket, as agents of its machine have it, and all of it on its port.
Floods also on the socket with the agent's folder on another file system than the server's.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from tests.e2e.conftest import Farm, Process
from tests.e2e.test_chirp_transcripts import Waiting, Wire, wires  # noqa: F401

from roost.agent.channel import STRETCH_BYTES_MAX
from roost.server.app import SOCKET_FILE
from roost.wire import channel

pytestmark = pytest.mark.slow

NewFarm = Callable[[], contextlib.AbstractContextManager[Farm]]

OPEN = {"WantIOProxy": True}
OTHER_FILE_SYSTEM = Path("/dev/shm")
MIB = 1024 * 1024
LARGE = 24 * MIB + 17
FLOOD = 150 * MIB
STRETCHES = 16
LINE = b"a line of what a renderer tells\n"
PRINT = f"yes '{LINE.decode().strip()}' | head -c {FLOOD}"


@pytest.fixture(scope="module", params=["socket", "port"])
def way(request: pytest.FixtureRequest) -> str:
    """Where agents get their channels."""
    return str(request.param)


@contextlib.contextmanager
def farm_with(new_farm: NewFarm, way: str) -> Iterator[Farm]:
    with new_farm() as farm:
        if way == "port":
            (socket_of(farm) / "in the way").mkdir(parents=True)
        yield farm


@pytest.fixture
def farm(new_farm: NewFarm, way: str) -> Iterator[Farm]:
    with farm_with(new_farm, way) as farm:
        yield farm


@pytest.fixture(scope="module")
def chirp_farm(new_farm: NewFarm, way: str) -> Iterator[Farm]:
    with farm_with(new_farm, way) as farm:
        farm.start_server()
        farm.start_agent("a", cpus=8)
        yield farm


@pytest.fixture(params=["socket", "port", "copied"])
def every_way_farm(new_farm: NewFarm, request: pytest.FixtureRequest) -> Iterator[Farm]:
    with farm_with(new_farm, request.param) as farm:
        if request.param == "copied":
            if not OTHER_FILE_SYSTEM.is_dir():
                pytest.skip("there is no other file system")
            with tempfile.TemporaryDirectory(dir=OTHER_FILE_SYSTEM) as folder:
                farm.agent_folder("a").symlink_to(folder)
                yield farm
        else:
            yield farm


def socket_of(farm: Farm) -> Path:
    return farm.folder / "server" / SOCKET_FILE


def log_of(farm: Farm, job: int) -> Path | None:
    folder = (farm.folder / "server" / "output").resolve()
    return next(folder.rglob(f"{job}.1.log"), None)


def is_whole(log: Path | None) -> bool:
    assert log is not None
    expected = (LINE * (FLOOD // len(LINE) + 1))[:FLOOD]
    return hashlib.sha256(log.read_bytes()).digest() == hashlib.sha256(expected).digest()


def wait_for_output(farm: Farm, job: int, size: int) -> None:
    def printed() -> bool:
        log = log_of(farm, job)
        return log is not None and log.stat().st_size >= size

    farm.wait_until(job, printed)


def channels_on(farm: Farm, way: str) -> int:
    """How many channels there are on the socket, or on the port."""
    assert farm.server is not None
    server = psutil.Process(farm.server.popen.pid)
    if way == "socket":
        connections = server.net_connections("unix")
        return sum(c.laddr == str(socket_of(farm).resolve()) for c in connections) - 1  # it listens
    agent = psutil.Process(farm.agents["a"].popen.pid)
    port = urlsplit(farm.url).port
    connections = agent.net_connections("tcp")
    return sum(bool(c.raddr) and c.raddr.port == port for c in connections) - 1  # the link


def open_files(process: Process) -> int:
    return len(os.listdir(f"/proc/{process.popen.pid}/fd"))  # noqa: PTH208


# --- output -----------------------------------------------------------------------------------


def test_a_flood_is_stored_whole_before_the_end_is_told(chirp_farm: Farm) -> None:
    job = chirp_farm.submit(f"{PRINT}; echo; echo 'PROGRESS: 1/2'; exit 3")
    assert chirp_farm.wait(job) == "failed"
    log = log_of(chirp_farm, job)
    assert log is not None
    assert log.stat().st_size == FLOOD + len("\nPROGRESS: 1/2\n")
    assert chirp_farm.job(job, "progress")["progress"] == pytest.approx(0.5)


def test_logs_of_one_slot_have_nothing_of_each_other(every_way_farm: Farm) -> None:
    farm = every_way_farm
    farm.start_server()
    farm.start_agent("a", cpus=1)
    jobs = [farm.submit(f"yes {n} | head -c {size}") for n, size in enumerate((30 * MIB, MIB) * 2)]
    for n, job in enumerate(jobs):
        assert farm.wait(job) == "succeeded"
        log = log_of(farm, job)
        assert log is not None and set(log.read_bytes()) == {ord(f"{n}"), ord("\n")}
        assert log.stat().st_size == (30 * MIB, MIB)[n % 2]
    assert {log.stat().st_nlink for job in jobs if (log := log_of(farm, job))} == {1}


def test_a_flood_takes_the_nearest_way_and_leaves_nothing_open(farm: Farm, way: str) -> None:
    farm.start_server()
    agent = farm.start_agent("a")
    assert farm.server is not None
    counts = []
    for _ in range(2):
        flood = farm.submit("yes flood")
        wait_for_output(farm, flood, STRETCHES * STRETCH_BYTES_MAX)
        assert channels_on(farm, way) == 1
        log = log_of(farm, flood)
        assert log is not None and (log.stat().st_nlink == 2) == (way == "socket")
        assert way == "port" or channels_on(farm, "port") == 0
        with farm.rpc as rpc:
            rpc.cancelJobs([flood])
        assert farm.wait(flood) == "cancelled"
        assert farm.wait(farm.submit("true")) == "succeeded"
        counts.append([open_files(process) for process in (farm.server, agent)])
    assert all(later - before < STRETCHES / 2 for before, later in zip(*counts, strict=True))


def test_others_are_heard_during_a_flood(chirp_farm: Farm) -> None:
    flood = chirp_farm.submit("yes flood")
    wait_for_output(chirp_farm, flood, 8 * MIB)
    quiet = chirp_farm.submit("echo heard")
    assert chirp_farm.wait(quiet) == "succeeded"
    assert chirp_farm.output(quiet) == "heard\n"
    with chirp_farm.rpc as rpc:
        rpc.cancelJobs([flood])
    assert chirp_farm.wait(flood) == "cancelled"


@pytest.mark.parametrize("who", ["server", "server, politely", "agent"])
def test_a_flood_goes_on_where_it_was_when_either_side_has_ended(farm: Farm, who: str) -> None:
    farm.start_server()
    farm.start_agent("a")
    job = farm.submit(PRINT)
    for size in (MIB, 40 * MIB):
        wait_for_output(farm, job, size)
        assert farm.server is not None
        match who:
            case "server":
                farm.server.kill()
                farm.start_server()
            case "server, politely":
                assert farm.server.stop() == 0
                farm.start_server()
            case "agent":
                farm.agents["a"].kill()
                farm.start_agent("a")
    assert farm.wait(job) == "succeeded"
    assert is_whole(log_of(farm, job))


def test_a_flood_that_fills_the_disk_goes_on_when_there_is_room(farm: Farm, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    size = f"{FLOOD + 10 * MIB}"
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        server = farm.start_server()  # whose record is new: what is there before is moved aside
        assert server.stop() == 0
        (farm.folder / "server" / "output").symlink_to(disk)
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(FLOOD // 2))
        farm.start_server()
        farm.start_agent("a")
        job = farm.submit(PRINT)
        while "cannot store output" not in (farm.folder / "log").read_text():
            assert farm.status(job) == "running"
        ballast.unlink()
        assert farm.wait(job) == "succeeded"
        assert is_whole(log_of(farm, job))
    finally:
        farm.close()
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_stranger_gets_no_channel(chirp_farm: Farm, way: str) -> None:
    address = urlsplit(chirp_farm.url)
    for asked in (
        channel.request("x", "", "0" * 32, 1),
        channel.REQUEST + b"1 HTTP/1.1\r\n\r\n",
        channel.REQUEST,
    ):
        if way == "socket":
            stranger = socket.socket(socket.AF_UNIX)
            stranger.settimeout(60)
            stranger.connect(str(socket_of(chirp_farm)))
        else:
            stranger = socket.create_connection((address.hostname, address.port), 60)
        with stranger:
            stranger.sendall(asked)
            assert stranger.recv(1000) == channel.STRANGER
            assert stranger.recv(1) == b""


# --- Chirp ------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["htchirp", "roost.htchirp"])
def test_large_files_go_up_and_come_back_the_same(chirp_farm: Farm, module: str) -> None:
    program = (
        f"import os; from {module} import HTChirp\n"
        f"data = os.urandom({LARGE}); open('a', 'wb').write(data)\n"
        "with HTChirp() as chirp:\n"
        "    for _ in range(2):\n"
        "        assert chirp.put('a', 'large') == len(data)\n"
        "        assert chirp.fetch('large', 'b') == len(data)\n"
        "        assert open('b', 'rb').read() == data\n"
        "    assert chirp.stat('large')['size'] == len(data)\n"
    )
    command = f'cd $_CONDOR_SCRATCH_DIR; {sys.executable} -c "{program}"'
    job = chirp_farm.submit(command, attributes=OPEN)
    assert chirp_farm.wait(job) == "succeeded", chirp_farm.final_output(job)


def test_our_client_sends_and_gets_large_files_whole(chirp_farm: Farm) -> None:
    program = (
        "import os, sys; from roost.htchirp import HTChirp\n"
        "class Told(HTChirp):\n"
        "    def _line(self, command, *words):\n"
        "        print(command)\n"
        "        return super()._line(command, *words)\n"
        f"open('a', 'wb').truncate({LARGE})\n"
        "with Told() as chirp:\n"
        "    chirp.put('a', 'large')\n"
        "    chirp.fetch('large', os.devnull)\n"
    )
    command = f'cd $_CONDOR_SCRATCH_DIR; {sys.executable} -c "{program}"'
    job = chirp_farm.submit(command, attributes=OPEN)
    assert chirp_farm.wait(job) == "succeeded", chirp_farm.final_output(job)
    said = chirp_farm.final_output(job).split()
    assert said.count("putfile") == said.count("getfile") == 1
    assert not {"read", "write"} & set(said)


@pytest.fixture
def job(chirp_farm: Farm, tmp_path: Path):  # type: ignore[no-untyped-def]
    waiting = Waiting(chirp_farm, tmp_path, attributes=OPEN)
    yield waiting
    assert waiting.end() == "succeeded"


def folder_of(job: Waiting) -> Path:
    return job.farm.folder / "server" / "jobs" / str(job.id)


def sparse(job: Waiting, size: int) -> Path:
    wire = job.wire()
    assert wire.say("open sparse wc 420") == b"0\n"
    wire.line()
    assert wire.say(f"ftruncate 0 {size}") == b"0\n"
    wire.close()
    return folder_of(job) / "sparse"


def start_fetching(job: Waiting, size: int) -> Wire:
    """And stop reading in the middle, so that all that lies between is full."""
    wire = job.wire()
    assert wire.say("getfile sparse") == b"%d\n" % size
    assert wire.receive(8 * MIB) == bytes(8 * MIB)
    return wire


def test_a_large_file_has_a_connection_of_its_own_until_its_client_goes(
    job: Waiting, way: str
) -> None:
    sparse(job, 1000 * MIB)
    wire = start_fetching(job, 1000 * MIB)
    assert channels_on(job.farm, way)
    other = job.wire()
    assert other.say("stat sparse") == b"0\n"  # nobody waits for it
    other.line()
    wire.close()
    assert other.say("version") == b"2\n"


def test_a_file_that_becomes_shorter_cannot_be_sent_and_is_not_ended_quietly(job: Waiting) -> None:
    file = sparse(job, 1000 * MIB)
    wire = start_fetching(job, 1000 * MIB)
    with file.open("r+b") as cut:
        cut.truncate(9 * MIB)
    with pytest.raises(ConnectionResetError):
        while wire.receive(MIB):
            pass
    assert job.wire().say("version") == b"2\n"


def test_requests_sent_ahead_of_large_files_find_their_place(job: Waiting) -> None:
    wire = job.wire()
    assert wire.say(f"putfile up 420 {LARGE}") == b"0\n"
    wire.send(b"x" * LARGE + b"getfile up\nversion\n")
    assert wire.line() == b"%d\n" % LARGE
    assert wire.line() == b"%d\n" % LARGE
    assert wire.receive(LARGE) == b"x" * LARGE
    assert wire.line() == b"2\n"
    wire.send(b"putfile up 420 %d\n" % LARGE + b"y" * LARGE + b"version\n")
    assert [wire.line() for _ in range(3)] == [b"0\n", b"%d\n" % LARGE, b"2\n"]
    assert (folder_of(job) / "up").read_bytes() == b"y" * LARGE


def test_what_a_folder_may_not_hold_is_taken_and_refused(farm: Farm, tmp_path: Path) -> None:
    farm.start_server(environment={"ROOST_CHIRP_FOLDER_BYTES_MAX": str(LARGE - 1)})
    farm.start_agent("a")
    job = Waiting(farm, tmp_path, attributes=OPEN)
    wire = job.wire()
    for _ in range(2):
        assert wire.say(f"putfile large 420 {LARGE}") == b"0\n"
        wire.send(b"x" * LARGE)
        assert wire.line() == b"-6\n"
    assert wire.say(f"putfile fits 420 {LARGE - 1}") == b"0\n"
    wire.send(b"x" * (LARGE - 1))
    assert wire.line() == b"%d\n" % (LARGE - 1)
    assert job.end() == "succeeded"


def test_a_transfer_under_way_ends_with_the_attempt(chirp_farm: Farm, tmp_path: Path) -> None:
    job = Waiting(chirp_farm, tmp_path, attributes=OPEN)
    sparse(job, 1000 * MIB)
    wire = start_fetching(job, 1000 * MIB)
    up = job.wire()
    assert up.say(f"putfile up 420 {LARGE}") == b"0\n"
    up.send(b"x" * MIB)
    assert job.end() == "succeeded"
    for ending in (wire, up):
        with pytest.raises(ConnectionResetError):
            while ending.receive(MIB):
                pass


# --- lanes ------------------------------------------------------------------------------------


def ask_much(wire: Wire) -> None:
    for _ in range(50):
        assert wire.say("stat .") == b"0\n"
        wire.line()


def test_a_connection_that_asks_much_keeps_its_descriptors_and_its_order(
    job: Waiting, way: str
) -> None:
    wire = job.wire()
    assert wire.say("open f wrct 420") == b"0\n"
    wire.line()
    ask_much(wire)
    assert channels_on(job.farm, way)
    wire.send(b"write 0 3\nabcpread 0 3 0\nset_job_attr A 1\nget_job_attr A\n")
    assert [wire.line() for _ in range(2)] == [b"3\n", b"3\n"]
    assert wire.receive(3) == b"abc"
    assert wire.line() == b"0\n" and wire.line() == b"1\n" and wire.receive(1) == b"1"
    size = 3_000_000
    wire.send(b"write 0 %d\n" % size + b"x" * size + b"lseek 0 3 0\nread 0 %d\n" % size)
    assert [wire.line() for _ in range(3)] == [b"%d\n" % size, b"3\n", b"%d\n" % size]
    assert wire.receive(size) == b"x" * size
    assert wire.say(f"putfile large 420 {LARGE}") == b"0\n"  # not by the same way
    wire.send(b"y" * LARGE + b"stat large\nclose 0\nfsync 0\n")
    assert [wire.line() for _ in range(2)] == [b"%d\n" % LARGE, b"0\n"]
    assert wire.line().split()[7] == b"%d" % LARGE
    assert [wire.line() for _ in range(2)] == [b"0\n", b"-12\n"]
    ask_much(wire)


def read_much(wire: Wire, text: bytes) -> None:
    for _ in range(50):
        assert wire.say("get_job_attr Take") == b"%d\n" % len(text)
        assert wire.receive(len(text)) == text


def test_a_connection_that_often_reads_attributes_reads_what_is_set(job: Waiting, way: str) -> None:
    wire, other = job.wire(), job.wire()
    assert wire.say("set_job_attr Take 1") == b"0\n"
    read_much(wire, b"1")
    assert channels_on(job.farm, way)
    for take in range(2, 20):
        assert other.say(f"set_job_attr Take {take}") == b"0\n"
        read_much(wire, b"%d" % take)
        wire.send(b"set_job_attr Take %d\nget_job_attr Take\nstat .\n" % (take + 1))
        text = b"%d" % (take + 1)
        assert [wire.line(), wire.line()] == [b"0\n", b"%d\n" % len(text)]
        assert wire.receive(len(text)) == text
        assert wire.line() == b"0\n"
        wire.line()
    assert wire.say("get_job_attr NoSuch") == b"9\n"
    assert wire.receive(9) == b"UNDEFINED"
    assert wire.say("get_job_attr_delayed NoSuch") == b"-3\n"


def test_many_connections_that_ask_much_are_all_served(job: Waiting) -> None:
    connections = [job.wire() for _ in range(12)]
    for _ in range(30):
        for wire in connections:
            wire.send(b"stat .\n")
        for wire in connections:
            assert wire.line() == b"0\n"
            wire.line()
    for wire in connections:
        wire.close()
    ask_much(job.wire())


def test_a_gate_that_is_shut_is_shut_for_who_asks_much_too(
    chirp_farm: Farm,
    tmp_path: Path,
) -> None:
    job = Waiting(chirp_farm, tmp_path, attributes={**OPEN, "WantRemoteUpdates": True})
    wire = job.wire()
    ask_much(wire)
    assert wire.say("set_job_attr Other 1") == b"0\n"
    ask_much(wire)
    assert wire.say("set_job_attr WantIOProxy false") == b"0\n"
    assert wire.say("stat .") in (b"-8\n", b"-17\n")  # -17: it was under way
    assert wire.say("stat .") == b"-8\n"
    assert wire.say("set_job_attr Take 1") == b"0\n"
    read_much(wire, b"1")
    assert wire.say("set_job_attr WantRemoteUpdates false") == b"0\n"
    assert wire.say("get_job_attr Take") == b"-8\n"
    assert job.end() == "succeeded"


def test_a_server_that_dies_leaves_nothing_that_was_asked_without_an_answer(
    farm: Farm, tmp_path: Path
) -> None:
    farm.start_server()
    farm.start_agent("a")
    job = Waiting(farm, tmp_path, attributes=OPEN)
    wire = job.wire()
    assert wire.say("open f wc 420") == b"0\n"
    wire.line()
    ask_much(wire)
    assert farm.server is not None
    farm.server.kill()
    wire.send(b"write 0 5\nhellofsync 0\n")
    assert [wire.line() for _ in range(2)] == [b"-17\n"] * 2
    farm.start_server()
    assert farm.wait(farm.submit("true")) == "succeeded"  # so the agent is back
    assert wire.say("fsync 0") == b"-17\n"
    ask_much(wire)
    assert job.end() == "succeeded"
