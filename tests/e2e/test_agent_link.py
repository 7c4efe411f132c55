"""The server's end of the agent link, to agents of all sorts."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.conftest import Farm
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.sync.client import ClientConnection, connect

from roost.core.messages import AttemptEnded
from roost.core.records import AttemptCause, NodeFacts
from roost.wire import channel as wire
from roost.wire import link

pytestmark = pytest.mark.slow

PATIENCE_S = 10.0
FACTS = NodeFacts("render1", installation="one", cpus=2)
HELLO = link.Hello(link.PROTOCOL, FACTS)


@pytest.fixture
def server(farm: Farm) -> Farm:
    farm.start_server()
    return farm


@pytest.fixture
def agent(server: Farm) -> Iterator[ClientConnection]:
    """One that has not said anything yet."""
    with opened(server) as agent:
        yield agent


def opened(server: Farm) -> ClientConnection:
    return connect(server.url.replace("http:", "ws:") + link.PATH, proxy=None)


def say(agent: ClientConnection, *messages: link.FromAgent) -> None:
    agent.send(link.encode(list(messages)))


def heard(agent: ClientConnection) -> list[link.FromServer]:
    """The messages of the next frame."""
    frame = agent.recv(PATIENCE_S)
    assert isinstance(frame, bytes)
    return link.decode_from_server(frame)


def wait_until_closed(agent: ClientConnection) -> int | None:
    with pytest.raises(ConnectionClosed):
        while True:
            agent.recv(PATIENCE_S)
    return agent.close_code


def test_an_agent_that_says_hello_is_welcomed(agent: ClientConnection) -> None:
    say(agent, HELLO)
    [welcome] = heard(agent)
    assert isinstance(welcome, link.Welcome)
    assert welcome.ticket


def test_what_follows_the_hello_is_taken_once_the_agent_has_joined(
    server: Farm, agent: ClientConnection
) -> None:
    job = server.submit()
    say(agent, HELLO, link.Beat(0.5))
    say(agent, link.Output(job, 1, 0, b"what nobody wants"))
    messages: list[link.FromServer] = []
    while len(messages) < 3:
        messages += heard(agent)
    assert isinstance(messages[0], link.Welcome)
    kinds = {type(message) for message in messages}
    assert kinds == {link.Welcome, link.Start, link.OutputSaved}


def test_reports_are_answered_for_and_jobs_end(server: Farm, agent: ClientConnection) -> None:
    say(agent, HELLO)
    heard(agent)
    job = server.submit()
    [start] = heard(agent)
    assert isinstance(start, link.Start)
    ended = AttemptEnded(start.order.job, start.order.number, AttemptCause.EXITED, 0)
    say(agent, link.Reports(1, (ended,)))
    assert heard(agent) == [link.ReportsSaved(1)]
    assert server.status(job) == "succeeded"


def test_whoever_does_not_begin_with_a_hello_is_let_go(agent: ClientConnection) -> None:
    say(agent, link.Beat())
    assert wait_until_closed(agent) == CloseCode.NORMAL_CLOSURE


def test_whoever_says_hello_twice_is_let_go(server: Farm, agent: ClientConnection) -> None:
    say(agent, HELLO)
    heard(agent)
    say(agent, HELLO)
    wait_until_closed(agent)
    with opened(server) as again:
        say(again, HELLO)
        assert isinstance(heard(again)[0], link.Welcome)


def test_what_is_no_frame_of_the_link_ends_the_connection(agent: ClientConnection) -> None:
    agent.send(b"\x93never")
    assert wait_until_closed(agent) == CloseCode.NORMAL_CLOSURE


def test_text_ends_the_connection(agent: ClientConnection) -> None:
    agent.send("hello")
    assert wait_until_closed(agent) == CloseCode.UNSUPPORTED_DATA


def test_a_frame_beyond_the_limit_ends_the_connection(agent: ClientConnection) -> None:
    agent.send([bytes(link.FRAME_BYTES_MAX), b"+"])
    assert wait_until_closed(agent) == CloseCode.MESSAGE_TOO_BIG


def test_an_agent_of_another_version_is_told_why_it_may_not_join(
    agent: ClientConnection,
) -> None:
    say(agent, link.Hello(link.PROTOCOL + 1, FACTS))
    [refusal] = heard(agent)
    assert isinstance(refusal, link.Refusal)
    assert "install the same Roost on both" in refusal.text
    assert not refusal.kill
    assert wait_until_closed(agent) == CloseCode.NORMAL_CLOSURE


def test_a_new_connection_of_a_node_takes_the_place_of_its_old_one(
    server: Farm, agent: ClientConnection
) -> None:
    say(agent, HELLO)
    heard(agent)
    with opened(server) as again:
        say(again, HELLO)
        assert isinstance(heard(again)[0], link.Welcome)
        wait_until_closed(agent)
        server.submit()
        assert isinstance(heard(again)[0], link.Start)


def test_agents_are_let_go_when_the_server_stops(server: Farm, agent: ClientConnection) -> None:
    say(agent, HELLO)
    heard(agent)
    assert server.server is not None
    server.server.stop()
    assert wait_until_closed(agent) in (CloseCode.NORMAL_CLOSURE, CloseCode.SERVICE_RESTART)


# --- files handed over on a data channel ------------------------------------------------------

DATA = os.urandom(1_000_000)


class Handing:
    """An agent that has joined, has a job and a channel on the server's socket."""

    def __init__(self, server: Farm, agent: ClientConnection, folder: Path) -> None:
        self.agent = agent
        say(agent, HELLO)
        [welcome] = heard(agent)
        assert isinstance(welcome, link.Welcome)
        self.job = server.submit()
        [start] = heard(agent)
        assert isinstance(start, link.Start)
        self.log = server.folder / "server" / "output" / "000" / "0000" / f"{self.job}.1.log"
        self.source = folder / "source"
        self.source.write_bytes(DATA)
        self.peer = socket.socket(socket.AF_UNIX)
        self.peer.settimeout(PATIENCE_S)
        self.peer.connect(welcome.unix_socket)
        self.peer.sendall(wire.request("x", "", welcome.ticket, 1))
        assert self.peer.recv(1000) == wire.ACCEPTED

    def hand_over(
        self, source: Path, offset: int = 0, size: int = len(DATA), *, job: int = 0
    ) -> int:
        """How much of the output is stored then."""
        file = os.open(source, os.O_RDONLY | os.O_NONBLOCK)
        socket.send_fds(self.peer, [wire.HANDOVER], [file])
        os.close(file)
        say(self.agent, link.OutputAhead(1, job or self.job, 1, offset, size, handed_over=True))
        [saved] = heard(self.agent)
        assert isinstance(saved, link.OutputSaved) and saved.ahead
        return saved.size


@pytest.fixture
def handing(server: Farm, agent: ClientConnection, tmp_path: Path) -> Iterator[Handing]:
    handing = Handing(server, agent, tmp_path)
    yield handing
    handing.peer.close()


def test_a_file_that_is_handed_over_is_output_and_is_let_go_before_the_answer(
    handing: Handing,
) -> None:
    assert handing.hand_over(handing.source, 0, 400_000) == 400_000
    assert handing.hand_over(handing.source, 400_000, 600_000) == len(DATA)
    with handing.source.open("r+b") as mine:
        fcntl.fcntl(mine, fcntl.F_SETLEASE, fcntl.F_WRLCK)  # only while it is open nowhere else
    assert handing.log.read_bytes() == DATA


def test_a_file_that_was_cut_is_stored_as_far_as_it_goes_and_repeated(handing: Handing) -> None:
    os.truncate(handing.source, 300_000)
    assert handing.hand_over(handing.source) == 300_000
    handing.source.write_bytes(DATA)
    assert handing.hand_over(handing.source, 300_000, 700_000) == len(DATA)
    assert handing.log.read_bytes() == DATA


def test_what_is_no_file_is_refused_and_what_nobody_wants_is_let_go(
    handing: Handing, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert handing.hand_over(tmp_path) == 0
    assert handing.hand_over(tmp_path / "pipe") == 0
    assert handing.hand_over(handing.source, job=handing.job + 1) == len(DATA)
    assert handing.hand_over(handing.source, 10, 10) == 0, "there would be a gap"
    with handing.source.open("r+b") as mine:
        fcntl.fcntl(mine, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    assert handing.hand_over(handing.source) == len(DATA)
    assert handing.log.read_bytes() == DATA
