"""Processes as the keeper makes them."""

import os
import signal
import sys

import pytest

from roost.agent.spawn import Spawner

SHOW = "import os, sys; print(ascii(sorted(os.environb.items())), os.getsid(0) == os.getpid())"


@pytest.fixture
def spawner():
    return Spawner((signal.SIGPIPE, signal.SIGXFSZ))


@pytest.fixture
def run(spawner, tmp_path):
    """What a command writes to either of its outputs."""

    def run(argv, environment):
        path = tmp_path / "output"
        output = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        pid = spawner.spawn(spawner.command(argv, environment), output)
        os.close(output)
        assert os.waitpid(pid, 0)[1] == 0
        return path.read_text()

    return run


def test_an_environment_is_what_is_common_and_what_is_its_own(spawner, run):
    show = [sys.executable, "-S", "-E", "-c", SHOW]
    spawner.share({"LC_ALL": "C.UTF-8", "A": "common", "B": ""})
    found = run(show, {"A": "own=1", "C": "\udcff"})
    assert (
        found
        == ascii([(b"A", b"own=1"), (b"B", b""), (b"C", b"\xff"), (b"LC_ALL", b"C.UTF-8")])
        + " True\n"
    )
    spawner.share({"LC_ALL": "C.UTF-8", "D": "later"})
    found = run(show, {"A": "own"})
    assert found == ascii([(b"A", b"own"), (b"D", b"later"), (b"LC_ALL", b"C.UTF-8")]) + " True\n"


def test_both_outputs_are_one(run):
    assert run(["/bin/sh", "-c", "echo out; echo err >&2"], {}) == "out\nerr\n"


def test_signals_that_we_ignore_do_their_usual_thing(run):
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN  # as Python sets it
    ignored = run(["/bin/grep", "SigIgn", "/proc/self/status"], {}).split()[1]
    assert not int(ignored, 16) & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1)


@pytest.mark.parametrize("environment", [{"A": "a\0b"}, {"A\0B": "a"}, {"A=B": "a"}, {"": "a"}])
def test_what_no_process_can_be_given_is_refused(spawner, environment):
    with pytest.raises(ValueError):
        spawner.command(["/bin/true"], environment)
    with pytest.raises(ValueError):
        spawner.command(["/bin/true", "a\0b"], {})


def test_an_error_names_the_file(spawner):
    with pytest.raises(FileNotFoundError, match="/no/such"):
        spawner.spawn(spawner.command(["/no/such"], {}), 1)
