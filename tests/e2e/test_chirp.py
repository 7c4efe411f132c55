"""Running jobs reach their submit machine: foreign clients, gates, faults, and what survives.

Every job here is real, on a real agent of a real server. `Waiting` is a job that waits while the
test speaks for it, byte by byte, through the contact that the job was given.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import sys
import xmlrpc.client
from pathlib import Path

import pytest
from tests.e2e.conftest import Farm
from tests.e2e.test_chirp_transcripts import Waiting, Wire, chirp_farm, wires  # noqa: F401

pytestmark = pytest.mark.slow

EVERY_METHOD = Path(__file__).parent / "jobs" / "every_method.py"
OPEN = {"WantIOProxy": True}


def ends(wire: Wire) -> bool:
    """The connection is over: closed or reset."""
    try:
        return wire.receive(1) == b""
    except ConnectionResetError:
        return True


def folder_of(farm: Farm, job: int) -> Path:
    return farm.folder / "server" / "jobs" / str(job)


def story(farm: Farm, job: int) -> list[dict[str, str]]:
    entries: list[dict[str, str]] = farm.job(job, "logs")["logs"]
    return entries


# --- clients ----------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["htchirp", "roost.htchirp"])
def test_every_method_of_a_client_works_in_a_job(chirp_farm: Farm, module: str) -> None:  # noqa: F811
    command = f"{sys.executable} {EVERY_METHOD} {module}"
    job = chirp_farm.submit(command, attributes={**OPEN, "Given": "text"})
    chirp_farm.wait(job)
    assert chirp_farm.final_output(job) == f"every method of {module} did what it should\n"
    attributes = chirp_farm.job(job, "attributes")["attributes"]
    assert attributes["IterationNum"] == 8
    assert attributes["ChirpLater"] == 2.5
    assert "a line, it's said & done?" in str(chirp_farm.job(job, "logs"))


def test_an_older_htchirp_works_in_a_job(chirp_farm: Farm) -> None:  # noqa: F811
    folder = os.environ.get("ROOST_HTCHIRP_2")
    if not folder:
        assert "ROOST_REQUIRE_PEERS" not in os.environ, "ROOST_HTCHIRP_2 names no folder"
        pytest.skip("ROOST_HTCHIRP_2 names no folder with htchirp 2.0; .ci/run makes one")
    command = f"PYTHONPATH={folder} {sys.executable} {EVERY_METHOD} htchirp"
    job = chirp_farm.submit(command, attributes={**OPEN, "Given": "text"})
    chirp_farm.wait(job)
    assert "did what it should" in chirp_farm.final_output(job)


def test_condor_chirp_works_in_a_job(chirp_farm: Farm) -> None:  # noqa: F811
    tool = "condor_chirp"
    job = chirp_farm.submit(
        f"set -e; cd $_CONDOR_SCRATCH_DIR; echo content > one; {tool} put one two; "
        f"{tool} fetch two three; cmp one three; {tool} set_job_attr Done 7; "
        f"{tool} get_job_attr Done; {tool} ulog 'all is well'; ! {tool} fetch none here",
        shell="/bin/bash",
        attributes=OPEN,
    )
    assert chirp_farm.wait(job) == "succeeded", chirp_farm.final_output(job)
    assert chirp_farm.final_output(job).startswith("7\n")
    assert (folder_of(chirp_farm, job) / "two").read_text() == "content\n"


def test_condor_chirp_needs_nothing_of_what_a_job_says_of_python(chirp_farm: Farm) -> None:  # noqa: F811
    job = chirp_farm.submit(
        "cd $_CONDOR_SCRATCH_DIR; mkdir roost; echo 'raise SystemExit(7)' | tee socket.py stat.py "
        "> roost/__init__.py; export PYTHONHOME=/opt/other PYTHONPATH=$PWD; condor_chirp whoami",
        shell="/bin/bash",
        attributes=OPEN,
    )
    assert chirp_farm.wait(job) == "succeeded", chirp_farm.final_output(job)
    assert chirp_farm.final_output(job) == "CONDOR\n"


def test_the_condor_chirp_of_htcondor_works_in_a_job(chirp_farm: Farm) -> None:  # noqa: F811
    tree = Path(__file__).parents[2] / ".htcondor"
    tool = tree / "usr/libexec/condor/condor_chirp"
    if not tool.exists():
        assert "ROOST_REQUIRE_HTCONDOR" not in os.environ, "`make htcondor` makes one"
        pytest.skip("there is no HTCondor; `make htcondor` makes one")
    # In a system that is another one than this, so with the loader and the libraries of that.
    (loader,) = tree.glob("usr/lib/*/ld-linux-*")
    libraries = f"{loader.parent}:{loader.parent / 'condor'}"
    job = chirp_farm.submit(
        f'set -e; t() {{ {loader} --library-path {libraries} {tool} "$@"; }}; '
        "cd $_CONDOR_SCRATCH_DIR; seq 300000 > numbers; : > empty; "
        "t put numbers n; t put empty e; t fetch n back; cmp numbers back; t fetch e nothing; "
        "test ! -s nothing; echo a line | t put -mode cwa - log; echo more | t put -mode wa - log; "
        "t write -offset 2 log empty; t truncate n 10; t access n rw; t link -s n soft; "
        "t set_job_attr Done '\"it is\"'; t get_job_attr Done; t set_job_attr_delayed ChirpA 1; "
        "t get_job_attr_delayed ChirpA; ! t set_job_attr_delayed Other 1; t ulog 'all is well'; "
        "! t fetch ../../roost.db out 2> /dev/null; ! t fetch none out 2> /dev/null; t remove e; "
        "t read log 3 || echo $?; t getdir . || true",
        shell="/bin/bash",
        attributes=OPEN,
    )
    assert chirp_farm.wait(job) == "succeeded", chirp_farm.final_output(job)
    done, delayed, refusal, part, code, *names = chirp_farm.final_output(job).split("\n")
    assert (done, delayed, part, code) == ('"it is"', "1", "a l", "3")
    assert refusal == "\tError: 13 (Permission denied)"
    assert sorted(filter(None, names)) == ["log", "n", "soft"]
    folder = folder_of(chirp_farm, job)
    assert (folder / "log").read_text() == "a line\nmore\n"
    assert (folder / "n").stat().st_size == 10
    assert "all is well" in str(story(chirp_farm, job))


def test_the_tools_of_debian_work_in_a_job(chirp_farm: Farm) -> None:  # noqa: F811
    if shutil.which("chirp") is None:
        assert "ROOST_REQUIRE_PEERS" not in os.environ, "coop-computing-tools is not installed"
        pytest.skip("coop-computing-tools is not installed")
    job = chirp_farm.submit(
        "set -e; cd $_CONDOR_SCRATCH_DIR; seq 100000 > numbers; : > empty; "
        "chirp CONDOR whoami; chirp CONDOR mkdir /d; chirp CONDOR put numbers /d/n; "
        "chirp_put numbers CONDOR /d/m; chirp_put empty CONDOR /d/empty; "
        "chirp_get CONDOR /d/n back; cmp numbers back; chirp CONDOR ls /d; "
        "chirp CONDOR mv /d/n /d/moved; chirp CONDOR rm /d/moved; chirp CONDOR stat /d/m; "
        "chirp CONDOR df -k",
        attributes={**OPEN, "WantVirtualRoot": True},
    )
    assert chirp_farm.wait(job) == "succeeded", chirp_farm.final_output(job)
    names = {path.name for path in (folder_of(chirp_farm, job) / "d").iterdir()}
    assert names == {"m", "empty"}


# --- what a job finds -------------------------------------------------------------------------


def test_the_contact_is_for_the_job_s_account_alone(chirp_farm: Farm, tmp_path: Path) -> None:  # noqa: F811
    job = Waiting(chirp_farm, tmp_path)
    assert job.contact.stat().st_mode & 0o777 == 0o600
    assert job.contact.parent.stat().st_mode & 0o777 == 0o700
    host, port, cookie = job.contact.read_text().split(" ")
    assert host == "127.0.0.1" and port.isdigit()
    assert len(cookie) == 32 and cookie.endswith("\n") and cookie[:-1].isalpha()
    contact = job.contact.read_text()
    job.end()
    (tmp_path / "after").mkdir()
    after = Waiting(chirp_farm, tmp_path / "after")
    assert after.contact.read_text() != contact, "the next job's cookie is another one"
    after.end()


@pytest.mark.parametrize(
    ("attributes", "files", "updates", "delayed"),
    [
        ({}, False, False, True),
        ({"WantRemoteUpdates": True}, False, True, True),
        ({"WantIOProxy": True}, True, True, True),
        (
            {"WantIOProxy": True, "WantRemoteUpdates": False, "WantDelayedUpdates": False},
            True, False, False,
        ),
    ],
)  # fmt: skip
def test_attributes_of_the_job_open_the_gates(
    chirp_farm: Farm,  # noqa: F811
    tmp_path: Path,
    attributes: dict[str, bool],
    files: bool,
    updates: bool,
    delayed: bool,
) -> None:
    job = Waiting(chirp_farm, tmp_path, attributes=attributes)
    wire = job.wire()
    assert (wire.say("mkdir d 511") == b"0\n") == files
    assert (wire.say("set_job_attr A 1") == b"0\n") == updates
    assert (wire.say("set_job_attr_delayed ChirpA 1") == b"0\n") == delayed
    assert wire.say("version") == b"2\n" if updates else b"-8\n"
    assert job.end() == "succeeded"


def test_a_job_with_every_gate_shut_finds_no_chirp(chirp_farm: Farm) -> None:  # noqa: F811
    job = chirp_farm.submit(
        'echo "[$_CONDOR_CHIRP_CONFIG]"', attributes={"WantDelayedUpdates": False}
    )
    chirp_farm.wait(job)
    assert chirp_farm.final_output(job) == "[]\n"


def test_the_jobs_of_a_tree_share_the_folder_of_their_root(chirp_farm: Farm) -> None:  # noqa: F811
    tool = f"{sys.executable} -m roost.htchirp"
    first = "cd $_CONDOR_SCRATCH_DIR; echo data > f"
    with chirp_farm.rpc as rpc:
        (root,) = rpc.newjob(
            {
                "name": "root",
                "command": f"{tool} fetch shared - ",
                "attributes": OPEN,
                "children": [
                    {"name": "c", "command": f"{first}; {tool} put f shared", "attributes": OPEN}
                ],
            }
        )[:1]
    assert chirp_farm.wait(root) == "succeeded"
    assert chirp_farm.final_output(root) == "data\n"


def test_a_submit_folder_must_be_beneath_what_the_administrator_allows(
    farm: Farm, tmp_path: Path
) -> None:
    allowed, other = tmp_path / "projects", tmp_path / "private"
    for folder in (allowed / "shot", other):
        folder.mkdir(parents=True)
        (folder / "input").write_text("frames")
    (allowed / "way-out").symlink_to(other)
    farm.start_server(environment={"ROOST_SUBMIT_ROOTS": str(allowed)})
    farm.start_agent()
    tool = f"{sys.executable} -m roost.htchirp"

    def fetched(folder: Path) -> str:
        job = farm.submit(f"{tool} fetch input -", attributes=OPEN, submitDir=str(folder))
        return farm.wait(job)

    assert fetched(allowed / "shot") == "succeeded"
    assert fetched(allowed / "way-out") == "failed"
    with pytest.raises(xmlrpc.client.Fault, match=f"submitDir {other}.*allows {allowed}"):
        fetched(other)


def test_files_that_the_machine_sees_itself_need_no_server(
    farm: Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    monkeypatch.setenv("ROOST_SUBMIT_ROOTS", str(shared))
    monkeypatch.setenv("ROOST_SHARED_ROOTS", str(shared))
    server = farm.start_server()
    farm.start_agent()
    job = farm.submit(
        f"{sys.executable} {EVERY_METHOD} htchirp",
        attributes={**OPEN, "Given": "text"},
        submitDir=str(shared),
    )
    assert farm.wait(job) == "succeeded", farm.final_output(job)
    waiting = Waiting(farm, tmp_path, attributes=OPEN, submitDir=str(shared))
    wire = waiting.wire()
    server.kill()
    assert wire.say("mkdir made-without-a-server 511") == b"0\n"
    assert (shared / "made-without-a-server").is_dir()
    farm.start_server()
    assert waiting.end() == "succeeded"


# --- faults -----------------------------------------------------------------------------------


@pytest.fixture
def job(chirp_farm: Farm, tmp_path: Path):  # type: ignore[no-untyped-def]  # noqa: F811
    waiting = Waiting(chirp_farm, tmp_path, attributes=OPEN)
    yield waiting
    assert waiting.end() == "succeeded"


def test_nothing_is_answered_but_the_cookie_before_it(job: Waiting) -> None:
    wire = Wire(job.contact)
    for line in ("version", "unix", "globus", "mkdir d 511", "", "cookie", f"cookie {'x' * 31}"):
        assert wire.say(line) == b"-1\n"
    assert wire.say(f"cookie {wire.cookie} and more") == b"0\n"
    assert wire.say(f"cookie {wire.cookie}") == b"-8\n"


def test_a_connection_that_guesses_cookies_is_reset(job: Waiting) -> None:
    wire = Wire(job.contact)
    other = job.wire()
    for turn in range(4):
        wire.send(b"cookie %d\n" % turn)
        assert other.say("version") == b"2\n"  # nobody waits for the guesser
        assert wire.line() == b"-1\n"
    wire.send(b"cookie 5\n")
    assert ends(wire)


def test_a_request_cut_short_is_not_executed(job: Waiting) -> None:
    for reset in (False, True):
        wire = job.wire()
        wire.send(b"mkdir cut 511"[: 9 if reset else 13])
        if reset:
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wire.close()
    assert job.wire().say("stat cut") == b"-3\n"


@pytest.mark.parametrize("sent", [0, 1, 5, 9])
def test_a_payload_cut_short_leaves_the_proxy_well(job: Waiting, sent: int) -> None:
    wire = job.wire()
    assert wire.say("open cut wc 420") == b"0\n"
    wire.line()
    wire.send(b"write 0 10\n" + b"x" * sent)
    wire.close()
    wire = job.wire()
    assert wire.say("putfile cut2 420 10") == b"0\n"
    wire.send(b"x" * sent)
    wire.close()
    assert job.wire().say("version") == b"2\n"


def test_lines_have_a_limit_and_one_too_long_is_said_to_be(job: Waiting) -> None:
    for length, answer in ((5119, b"-5\n"), (5120, b"-5\n")):
        wire = job.wire()  # such a name is too long for the file system
        assert wire.say("stat " + "x" * (length - 5)) == answer
        assert wire.say("version") == b"2\n"
    wire = job.wire()
    assert wire.say("stat " + "x" * (5121 - 5)) == b"-5\n"
    assert ends(wire)


def test_every_request_has_one_answer_even_in_one_segment(job: Waiting) -> None:
    wire = job.wire()
    wire.send(b"version\n" * 50 + b"\n" + b"what\n" + b"write 7 5\nhello" + b"version\n")
    assert [wire.line() for _ in range(54)] == [b"2\n"] * 50 + [b"-8\n", b"-8\n", b"-12\n", b"2\n"]


def test_requests_sent_ahead_are_done_and_answered_in_their_order(job: Waiting) -> None:
    wire = job.wire()
    assert wire.say("open ahead wrct 420") == b"0\n"
    wire.line()
    turns = 40
    for turn in range(turns):
        wire.send(
            b"pwrite 0 2 0\n%02dread 7 1\npread 0 2 0\nset_job_attr Turn %d\nget_job_attr Turn\n"
            b"access nowhere 0\n" % (turn, turn)
        )
    wire.send(b"close 0\npread 0 2 0\nopen ahead r 0\n")
    for turn in range(turns):
        assert [wire.line() for _ in range(3)] == [b"2\n", b"-12\n", b"2\n"]
        assert wire.receive(2) == b"%02d" % turn
        assert wire.line() == b"0\n"
        assert wire.receive(int(wire.line())) == b"%d" % turn
        assert wire.line() == b"-3\n"
    assert [wire.line() for _ in range(3)] == [b"0\n", b"-12\n", b"0\n"]


def test_what_was_sent_ahead_is_done_and_answered_when_the_client_says_no_more(
    job: Waiting,
) -> None:
    wire = job.wire()
    wire.send(b"".join(b"mkdir d%d 511\n" % number for number in range(20)))
    wire.socket.shutdown(socket.SHUT_WR)
    assert wire.receive(1000) == b"0\n" * 20


def test_names_may_be_any_bytes_but_lf_and_nul(job: Waiting) -> None:
    wire = job.wire()
    for name in (b"v\\\vt", b"f\\\ff", b"latin-\xe9", "漢".encode(), b"c\\\rr", b"100%"):
        wire.send(b"mkdir " + name + b" 511\n")
        assert wire.line() == b"0\n"
    wire.send(b"mkdir n\0l 511\nmkdir l\\\nf 511\n")
    assert [wire.line() for _ in range(3)] == [b"-8\n"] * 3
    assert wire.say("getdir .") == b"%d\n" % len(
        b"v\vt\nf\ff\nlatin-\xe9\n" + "漢\n".encode() + b"c\rr\n100%\n\n"
    )


def test_lengths_of_nothing_and_less_do_no_harm(job: Waiting) -> None:
    wire = job.wire()
    assert wire.say("open f wrct 420") == b"0\n"
    wire.line()
    for nothing in ("write 0 0", "pwrite 0 0 5", "swrite 0 0 0 1 1", "read 0 0"):
        assert wire.say(nothing) == b"0\n", nothing
    for bad in ("read 0 -1", "pread 0 -1 0", "write 0 -1", "sread 0 5 0 0 1", "lseek 0 0 7"):
        assert wire.say(bad) == b"-8\n", bad
    assert wire.say("sread 0 100 0 5 10") == b"0\n"
    assert wire.say("lseek 0 5000000000 0") == b"5000000000\n"
    assert wire.say("whoami 5") == b"-6\n"


def test_strides_of_any_number_pass_in_both_directions(job: Waiting) -> None:
    wire = job.wire()
    assert wire.say("open f wrct 420") == b"0\n"
    wire.line()
    for stride, skip, size in ((1, 3, 20_000), (3, 3, 200_000), (700_000, 900_000, 2_500_000)):
        data = os.urandom(size)
        assert wire.say("ftruncate 0 0") == b"0\n"
        wire.send(b"swrite 0 %d 5 %d %d\n" % (size, stride, skip) + data)
        assert wire.line() == b"%d\n" % size
        assert wire.say(f"sread 0 {2 * size} 5 {stride} {skip}") == b"%d\n" % size
        assert wire.receive(size) == data
        assert wire.say("version") == b"2\n"


def test_a_job_that_reads_by_single_bytes_holds_nobody_up(job: Waiting) -> None:
    other = job.wire()
    assert other.say("open f wc 420") == b"0\n"
    other.line()
    assert other.say("ftruncate 0 1000000000000") == b"0\n"
    for _ in range(8):  # more than there are threads
        wire = job.wire()
        wire.send(b"open f r 0\nsread 0 100000000 0 1 4096\n")
        assert wire.line() == b"0\n"
        wire.line()
    for _ in range(3):
        assert job.wire().say("stat f") == b"0\n"


def test_descriptors_are_a_connection_s_own(job: Waiting) -> None:
    one, two = job.wire(), job.wire()
    assert one.say("open f wc 420") == b"0\n"
    one.line()
    assert two.say("fstat 0") == b"-12\n"
    one.send(b"write 0 2\nhi")
    assert one.line() == b"2\n"
    assert one.say("close 0") == b"0\n" and one.say("close 0") == b"-12\n"
    for number in range(256):
        assert two.say("open f r 0") == b"%d\n" % number
        two.line()
    assert two.say("open f r 0") == b"-9\n"


def test_appends_of_two_connections_do_not_mix(job: Waiting) -> None:
    writers = [job.wire() for _ in range(4)]
    for wire in writers:
        assert wire.say("open log wca 420") == b"0\n"
        wire.line()
    for number, wire in enumerate(writers):
        wire.send(b"write 0 200000\n" + b"%d" % number * 200000)
    assert [wire.line() for wire in writers] == [b"200000\n"] * 4
    content = (folder_of(job.farm, job.id) / "log").read_bytes()
    blocks = {content[start : start + 200000] for start in range(0, 800000, 200000)}
    assert blocks == {b"%d" % number * 200000 for number in range(4)}


def test_who_has_too_many_connections_is_told_so_and_not_that_the_cookie_is_wrong(
    job: Waiting,
) -> None:
    others = [job.wire() for _ in range(512)]
    late = Wire(job.contact)
    for _ in range(10):
        assert late.say(f"cookie {late.cookie}") == b"-9\n"
    others.pop().close()
    while (answer := late.say(f"cookie {late.cookie}")) == b"-9\n":
        pass
    assert answer == b"0\n"
    assert late.say("version") == b"2\n"


def test_who_says_nothing_keeps_nobody_out(job: Waiting) -> None:
    for _ in range(600):
        Wire(job.contact)
    assert job.wire().say("version") == b"2\n"


def test_a_thousand_short_connections_are_served(job: Waiting) -> None:
    for _ in range(1000):
        wire = job.wire()
        assert wire.say("set_job_attr_delayed ChirpA 1") == b"0\n"
        wire.close()


def test_a_file_of_4_gib_passes_with_flat_memory(job: Waiting) -> None:
    sparse = folder_of(job.farm, job.id) / "sparse"
    wire = job.wire()
    assert wire.say("open sparse wrc 420") == b"0\n"
    wire.line()
    assert wire.say("ftruncate 0 4294967300") == b"0\n"
    assert wire.say("pread 0 10 4294967295") == b"5\n" and wire.receive(5) == bytes(5)
    assert sparse.stat().st_size == 4294967300
    assert wire.say("getfile sparse") == b"4294967300\n"
    # What is read ahead is bounded: the job stops reading, and nothing piles up.
    assert wire.receive(8 * 1024 * 1024) == bytes(8 * 1024 * 1024)
    wire.close()


def test_a_job_s_folder_may_hold_only_so_much(farm: Farm, tmp_path: Path) -> None:
    farm.start_server(environment={"ROOST_CHIRP_FOLDER_BYTES_MAX": "100000"})
    farm.start_agent()
    job = Waiting(farm, tmp_path, attributes=OPEN)
    wire = job.wire()
    assert wire.say("putfile fits 420 90000") == b"0\n"
    wire.send(b"x" * 90000)
    assert wire.line() == b"90000\n"
    assert wire.say("putfile not 420 20000") == b"0\n"
    wire.send(b"x" * 20000)
    assert wire.line() == b"-6\n"
    assert wire.say("unlink fits") == b"0\n"
    assert wire.say("putfile now 420 20000") == b"0\n"
    wire.send(b"x" * 20000)
    assert wire.line() == b"20000\n"
    assert job.end() == "succeeded"


PHASES = {
    "nothing": b"",
    "half a cookie": b"cookie abc",
    "a cookie": b"COOKIE",
    "half a line": b"COOKIEget_job_attr Clus",
    "a request": b"COOKIEstat .\n",
    "many requests": b"COOKIE" + b"stat .\nget_job_attr ClusterId\n" * 500,
    "half a payload": b"COOKIEopen cut wct 420\nwrite 0 1000000\n" + b"x" * 500_000,
    "half a file": b"COOKIEputfile cut 420 1000000\n" + b"x" * 500_000,
    "a large answer": b"COOKIEgetfile large\n",
}


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("phase", PHASES)
def test_clients_may_go_at_any_moment(job: Waiting, phase: str, reset: bool) -> None:
    first = job.wire()
    assert first.say("open large wc 420") == b"0\n"
    first.line()
    assert first.say("ftruncate 0 50000000") == b"0\n"
    for _ in range(5):
        wire = Wire(job.contact)
        cookie = f"cookie {wire.cookie}\n".encode()
        wire.send(PHASES[phase].replace(b"COOKIE", cookie))
        if reset:
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wire.close()
    assert first.say("version") == b"2\n"
    assert job.wire().say("get_job_attr ClusterId") == b"%d\n" % len(str(job.id))


def test_a_client_that_closes_its_side_is_still_answered(job: Waiting) -> None:
    wire = job.wire()
    wire.send(b"mkdir d 511\nstat nothing\n")
    wire.socket.shutdown(socket.SHUT_WR)
    assert (wire.line(), wire.line()) == (b"0\n", b"-3\n")
    assert ends(wire)


def test_a_full_disk_is_said_and_what_is_freed_is_used(farm: Farm, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        farm.start_server(environment={"ROOST_SUBMIT_ROOTS": str(disk)})
        farm.start_agent()
        job = Waiting(farm, tmp_path, attributes=OPEN, submitDir=str(disk))
        wire = job.wire()
        assert wire.say("putfile large 420 8000000") == b"0\n"
        wire.send(b"x" * 8_000_000)
        assert wire.line() == b"-6\n"
        assert wire.say("open large wta 420") == b"0\n"
        wire.line()
        wire.send(b"write 0 8000000\n" + b"x" * 8_000_000)  # of which the first pieces fit
        assert wire.line() == b"-6\n"
        assert wire.say("unlink large") == wire.say("close 0") == b"0\n"
        assert wire.say("putfile small 420 5") == b"0\n"
        wire.send(b"fits!")
        assert wire.line() == b"5\n"
        assert job.end() == "succeeded"
        assert farm.wait(farm.submit("true")) == "succeeded"
    finally:
        farm.close()
        subprocess.run(["umount", str(disk)], check=True)


def test_the_nodes_of_a_parallel_job_share_its_attributes(farm: Farm, tmp_path: Path) -> None:
    farm.start_server()
    farm.start_agent("a")
    farm.start_agent("b")
    job = Waiting(farm, tmp_path, attributes=OPEN, minHosts=2, maxHosts=2)
    one, two = job.wire(), job.wire()
    assert one.say("set_job_attr Found 42") == b"0\n"
    assert two.say("get_job_attr Found") == b"2\n" and two.receive(2) == b"42"
    assert one.say("get_job_attr CurrentHosts") == b"1\n" and one.receive(1) == b"2"
    assert job.end() == "succeeded"


# --- what survives what -----------------------------------------------------------------------


def test_a_server_that_returns_goes_on_serving_the_job(farm: Farm, tmp_path: Path) -> None:
    farm.start_server()
    farm.start_agent()
    job = Waiting(farm, tmp_path, attributes=OPEN)
    wire = job.wire()
    assert wire.say("set_job_attr Kept 1") == b"0\n"
    assert wire.say("open f wc 420") == b"0\n"
    wire.line()
    assert farm.server is not None
    farm.server.kill()
    wire.send(b"write 0 5\nhello")
    wire.send(b"set_job_attr Later 2\n")
    farm.start_server()
    assert wire.line() == b"-17\n"  # its descriptor went with the server
    assert wire.line() in (b"0\n", b"-17\n")  # if the server was back in time
    assert farm.wait(farm.submit("true")) == "succeeded"  # so the agent is back
    assert wire.say("get_job_attr Kept") == b"1\n" and wire.receive(1) == b"1"
    assert wire.say("open f wc 420") == b"1\n"
    wire.line()
    assert wire.say("fsync 1") == b"0\n" and wire.say("fsync 0") == b"-17\n"
    assert wire.say("close 1") == b"0\n" and wire.say("close 1") == b"-12\n"
    assert wire.say("fsync 0") == b"-17\n"
    assert job.end() == "succeeded"


def test_lines_of_a_job_are_told_once_in_order_and_before_its_end(
    chirp_farm: Farm,  # noqa: F811
    tmp_path: Path,
) -> None:
    job = Waiting(chirp_farm, tmp_path, attributes=OPEN)
    one, two = job.wire(), job.wire()
    for number in range(300):
        assert (one, two)[number % 2].say(f"ulog {number}") == b"0\n"
    one.send(b"ulog before\nset_job_attr Stage 1\nulog after\nphase output\n")
    assert [one.line() for _ in range(4)] == [b"0\n"] * 4
    assert job.end() == "succeeded"
    told = [(entry["status"], entry["message"]) for entry in story(chirp_farm, job.id)]
    assert [text for word, text in told if word == "ulog"][:300] == list(map(str, range(300)))
    assert told[-5:-1] == [
        ("ulog", "before"),
        ("attribute", "Setting job attribute Stage to 1"),
        ("ulog", "after"),
        ("phase", "output"),
    ]
    assert told[-1][0] == "succeeded"


def test_no_line_is_lost_or_told_twice_when_the_server_dies(farm: Farm, tmp_path: Path) -> None:
    farm.start_server()
    farm.start_agent()
    job = Waiting(farm, tmp_path, attributes=OPEN)
    wire = job.wire()
    written = []
    for turn in range(3):
        for number in range(200):
            written.append(f"{turn} {number}")
            assert wire.say(f"ulog {turn}\\ {number}") == b"0\n"
            if number == 100:
                assert farm.server is not None
                farm.server.kill()  # in the middle of what it saves
        farm.start_server()
    assert job.end() == "succeeded"
    told = story(farm, job.id)
    assert [entry["message"] for entry in told if entry["status"] == "ulog"] == written
    assert told[-1]["status"] == "succeeded"


def test_lines_are_told_after_another_agent_has_taken_over(farm: Farm, tmp_path: Path) -> None:
    farm.start_server()
    agent = farm.start_agent("a")
    job = Waiting(farm, tmp_path, attributes=OPEN)
    for text in ("first", "second", "third"):
        assert job.wire().say(f"ulog {text}") == b"0\n"
        farm.wait_until(job.id, lambda: story(farm, job.id)[-1]["message"] == text)  # noqa: B023
        agent.kill()
        agent = farm.start_agent("a")
    assert job.end() == "succeeded"
    told = [entry["message"] for entry in story(farm, job.id) if entry["status"] == "ulog"]
    assert told == ["first", "second", "third"]


def test_a_transfer_that_a_dying_server_cuts_is_noticed_at_once(farm: Farm, tmp_path: Path) -> None:
    farm.start_server()
    farm.start_agent()
    job = Waiting(farm, tmp_path, attributes=OPEN)
    wire = job.wire()
    assert wire.say("open large wc 420") == b"0\n"
    wire.line()
    assert wire.say("ftruncate 0 1000000000") == b"0\n"
    down, up = job.wire(), job.wire()
    assert down.say("getfile large") == b"1000000000\n"
    down.receive(1_000_000)
    assert up.say("putfile new 420 100000000") == b"0\n"
    up.send(b"x" * 1_000_000)
    assert farm.server is not None
    farm.server.kill()
    with pytest.raises(ConnectionResetError):
        while down.receive(1_000_000):
            pass
    up.send(b"x" * 99_000_000)
    assert up.line() == b"-17\n"
    farm.start_server()
    assert farm.wait(farm.submit("true")) == "succeeded"  # so the agent is back
    assert job.wire().say("stat large") == b"0\n"
    assert job.end() == "succeeded"


def test_an_agent_that_returns_is_found_at_the_same_contact(farm: Farm, tmp_path: Path) -> None:
    farm.start_server()
    agent = farm.start_agent("a")
    job = Waiting(farm, tmp_path, attributes=OPEN)
    contact = job.contact.read_text()
    wire = job.wire()
    left_behind = job.contact.parent.parent / "4711.1"
    left_behind.mkdir()
    agent.kill()
    with pytest.raises(ConnectionResetError):  # htchirp waits for ever at a quiet end
        wire.receive(1)
    farm.start_agent("a")
    assert job.contact.read_text() == contact
    assert job.wire().say("set_job_attr A 1") == b"0\n"
    assert job.end() == "succeeded"
    farm.agents["a"].stop()
    assert not left_behind.exists()


def test_connections_end_with_the_attempt(chirp_farm: Farm, tmp_path: Path) -> None:  # noqa: F811
    job = Waiting(chirp_farm, tmp_path, attributes=OPEN)
    wire = job.wire()
    assert job.end() == "succeeded"
    assert ends(wire)
    with pytest.raises((AssertionError, OSError)):
        job.wire()


def test_the_folder_of_a_deleted_job_goes_with_it(farm: Farm, tmp_path: Path) -> None:
    farm.start_server()
    farm.start_agent()
    job = Waiting(farm, tmp_path, attributes=OPEN)
    assert job.wire().say("mkdir d 511") == b"0\n"
    assert job.end() == "succeeded"
    folder = folder_of(farm, job.id)
    assert (folder / "d").is_dir()
    with farm.rpc as rpc:
        rpc.deleteJobs([job.id])
    farm.server.stop()  # type: ignore[union-attr]
    assert not folder.exists()
