"""The bytes of Chirp: what a running HTCondor was measured to answer, asked of a job's proxy.

`chirp/operations.txt` has every operation. `chirp/htchirp-3.0.txt` has every call of PyPI's htchirp
that says something, in the order in which it was measured. `>` is sent, `<` must come. Where Roost
decided otherwise, `< ` is its answer and `stock <` what HTCondor gave, with the reason after `--`.
`{fd}` is the descriptor of the last `open`, `{n}` any count, `<13 numbers>` a stat line; names of a
listing come in any order.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.e2e.conftest import PATIENCE_S, Farm

FOLDER = Path(__file__).parent / "chirp"
ATTRIBUTES = {
    "WantIOProxy": True,
    "ProbeInt": 41,
    "ProbeStr": "a string",
    "ProbeExpr": {"expr": "ProbeInt + 1"},
    "ProbeBool": True,
    "ProbeList": {"expr": '{ 1,"two",3.0 }'},
    "ProbeReal": 2.5,
    "ProbeUndef": None,
}


class Wire:
    """A connection to the proxy of a running job, as its contact file says."""

    opened: list[Wire] = []

    def __init__(self, contact: Path) -> None:
        host, port, self.cookie = contact.read_text().split()
        self.socket = socket.create_connection((host, int(port)), PATIENCE_S)
        Wire.opened.append(self)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes, *, slowly: bool = False) -> None:
        for start in range(0, len(data), 1 if slowly else len(data) or 1):
            self.socket.sendall(data[start : start + (1 if slowly else len(data))])

    def receive(self, size: int) -> bytes:
        data = b""
        while len(data) < size and (more := self.socket.recv(size - len(data))):
            data += more
        return data

    def line(self) -> bytes:
        data = b""
        while not data.endswith(b"\n") and (more := self.socket.recv(1)):
            data += more
        return data

    def say(self, request: str) -> bytes:
        """A request, and the first line of its answer."""
        self.send(request.encode() + b"\n")
        return self.line()

    def authenticate(self) -> Wire:
        assert self.say(f"cookie {self.cookie}") == b"0\n"
        return self

    def close(self) -> None:
        self.socket.close()


class Waiting:
    """A job that waits, so that a test may speak for it."""

    def __init__(self, farm: Farm, folder: Path, **spec: object) -> None:
        self.farm = farm
        self.gate = folder / "gate"
        os.mkfifo(self.gate)
        self.hold = os.open(self.gate, os.O_RDWR)
        contact = folder / "contact"
        command = f'echo "$_CONDOR_CHIRP_CONFIG" > {contact}.new; mv {contact}.new {contact}'
        self.id = farm.submit(f"{command}; echo ready; read line < {self.gate}", **spec)
        farm.wait_until(self.id, lambda: "ready" in farm.output(self.id))
        self.contact = Path(contact.read_text().strip())

    def wire(self) -> Wire:
        return Wire(self.contact).authenticate()

    def end(self) -> str:
        os.write(self.hold, b"\n")
        status = self.farm.wait(self.id)
        os.close(self.hold)
        return status


@pytest.fixture(autouse=True)
def wires() -> Iterator[None]:
    """What a test leaves open is closed after it."""
    yield
    while Wire.opened:
        Wire.opened.pop().close()


@pytest.fixture(scope="module")
def chirp_farm(new_farm: Callable[[], contextlib.AbstractContextManager[Farm]]) -> Iterator[Farm]:
    with new_farm() as farm:
        farm.start_server()
        farm.start_agent("a", cpus=8)
        yield farm


def bytes_of(text: str) -> bytes:
    return re.sub(
        rb"\\(x[0-9a-f]{2}|.)",
        lambda found: (
            bytes.fromhex(found[1][1:].decode())
            if found[1][:1] == b"x"
            else {b"n": b"\n", b"t": b"\t"}.get(found[1], found[1])
        ),
        text.encode(),
    )


Step = tuple[str, str]


def transcript(name: str) -> list[tuple[str, list[Step]]]:
    cases: list[tuple[str, list[Step]]] = []
    for line in (FOLDER / name).read_text().splitlines():
        if line.startswith("# "):
            cases.append((line[2:], []))
        elif line.startswith(("> ", "< ")):
            cases[-1][1].append((line[0], line[2:]))
    return cases


def matches(pattern: str, answer: bytes) -> bool:
    expression = re.escape(bytes_of(pattern))
    for name, width in ((b"13", 13), (b"7", 7)):
        numbers = b" ".join([rb"\d+"] * width)
        expression = expression.replace(re.escape(b"<%b numbers>" % name), numbers)
    expression = expression.replace(re.escape(b"{fd}"), rb"\d+")
    expression = expression.replace(re.escape(b"{n}"), rb"\d+")
    found, wanted = (
        answer.split(b"\n"),
        expression.split(
            rb"\
"
        ),
    )
    if len(found) != len(wanted):
        return False
    return all(any(re.fullmatch(line, one) for one in found) for line in wanted)


END = b"this-is-the-end"


def play(wire: Wire, steps: list[Step], *, slowly: bool) -> str:
    """What did not come as it should; then the rest of the call is not made."""
    descriptor = ""
    for number, (side, text) in enumerate(steps, 1):
        if side == ">":
            wire.send(bytes_of(text.replace("{fd}", descriptor)), slowly=slowly)
            continue
        answer = rest(wire) if number == len(steps) else part(wire, bytes_of(text))
        if "{fd}" in text:
            descriptor = answer.split(b"\n")[0].decode()
        if not matches(text, answer):
            return f"{text!r} should have come, {answer!r} came"
    return ""


def rest(wire: Wire) -> bytes:
    """All that is answered to what was sent, found by asking for something more."""
    wire.send(b"lookup " + END + b"\n")
    answer = b""
    while not answer.endswith(END):
        answer += wire.receive(1)
    url = answer[answer.rindex(b"remote:") :]
    return answer.removesuffix(b"%d\n%b" % (len(url), url))


def part(wire: Wire, pattern: bytes) -> bytes:
    """An answer in the middle of a call: a number, then a line or as many bytes as it says."""
    answer = wire.line()
    if answer.startswith(b"-"):
        return answer
    if b" numbers>" in pattern:
        return answer + wire.line()
    body = pattern.partition(b"\n")[2]
    return answer + (wire.receive(int(answer)) if body else b"")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["operations.txt", "htchirp-3.0.txt"])
@pytest.mark.parametrize("slowly", [False, True], ids=["whole", "byte by byte"])
def test_every_measured_call_is_answered_as_by_htcondor_but_where_decided(
    chirp_farm: Farm, tmp_path: Path, slowly: bool, name: str
) -> None:
    job = Waiting(chirp_farm, tmp_path, attributes=ATTRIBUTES)
    wire = job.wire()
    wire.say("mkdir f 511")
    wrong = []
    for title, steps in transcript(name):
        if problem := play(wire, steps, slowly=slowly):
            wrong.append(f"{title}: {problem}")
            wire.close()
            wire = job.wire()
    wire.close()
    assert job.end() == "succeeded"
    assert not wrong, "\n".join(wrong)
