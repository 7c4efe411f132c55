"""What calls cost: single submissions, large ones, large answers, and the smallest call there is.

Clients here send bodies made beforehand and read to the last byte, so that what is measured is the
server and not Python's own XML. Each has its limit beside it: a row committed by SQLite alone, or
by a server that does nothing else; the same bytes parsed or written by `xmlrpc.client` alone,
served by a bare route.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from farms import farm_without_nodes
from limits import parse
from report import Row

PINGS_MS_EVERY = 5
ANSWER_ROUNDS = 9
"""One large answer alone takes from one to two times as long as the one before it."""
BARE_ROUTE = Path(__file__).with_name("bare_route.py")
BARE_COMMIT = Path(__file__).with_name("bare_commit.py")


def body_of(method: str, *arguments: object) -> bytes:
    return xmlrpc.client.dumps(arguments, method).encode()


class Caller:
    """One kept connection that sends bodies made beforehand."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host = parts.netloc
        self._address = (parts.hostname, parts.port)
        self._socket = self._connection()

    def _connection(self) -> socket.socket:
        connection = socket.create_connection(self._address)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def request(self, body: bytes) -> bytes:
        """What `call` sends."""
        head = f"POST / HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: text/xml\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def get(self, path: str) -> bytes:
        """A request for `send`."""
        return f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode()

    def call(self, body: bytes) -> bytes:
        return self.send(self.request(body))

    def send(self, request: bytes) -> bytes:
        """The body of the answer. Raises `RuntimeError` for a fault or another status than 200."""
        self._socket.sendall(request)
        data = self._socket.recv(65536)
        if not data:  # the server has let go of it meanwhile, as nothing was asked for seconds
            self._socket.close()
            self._socket = self._connection()
            self._socket.sendall(request)
            data = self._piece(65536)
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._piece(65536)
        head = data[:end].lower()
        size = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        pieces, have = [data[end + 4 :]], len(data) - end - 4
        while have < size:
            pieces.append(self._piece(1 << 20))
            have += len(pieces[-1])
        answer = b"".join(pieces)
        if b" 200 " not in head.split(b"\r\n")[0] or b"<fault>" in answer[:200]:
            raise RuntimeError(f"the server answered {(head + answer)[:500]!r}")
        return answer

    def _piece(self, size_max: int) -> bytes:
        if data := self._socket.recv(size_max):
            return data
        raise RuntimeError("the server closed the connection in the middle of an answer")

    def close(self) -> None:
        self._socket.close()


def single_submissions(folder: Path, sizes: Any, repetitions: int) -> list[Row]:
    """Jobs submitted one by one, each answered when it is on disk; and by eight callers at once."""
    body = body_of("newjob", {"name": "single", "command": "true"})
    one: list[float] = []
    eight: list[float] = []
    commits: list[float] = []
    bare: list[float] = []
    with farm_without_nodes(folder) as server, tempfile.TemporaryDirectory(dir=folder) as place:
        answer = Caller(server.url).call(body)
        with _bare_server(BARE_COMMIT, place, answer.decode()) as url:
            for _ in range(repetitions):
                commits.append(_commit_rate(folder, sizes.singles))
                bare.append(_call_rate_of_one(url, body, sizes.singles))
                one.append(_call_rate_of_one(server.url, body, sizes.singles))
                eight.append(asyncio.run(_call_rate(server.url, body, sizes.singles, 8)))
                server.server.getJob(1)  # has the rows written now, not beside the next commits
    limit = "beside single-row commits of SQLite"
    bare_limit = "beside a server that only commits a row"
    return [
        Row("h", f"newjob one by one, {limit}", "jobs/s", one, commits),
        Row("h", f"newjob one by one, {bare_limit}", "jobs/s", one, bare),
        Row("h", "the same over 8 connections, beside one", "jobs/s", eight, one),
    ]


def _commit_rate(folder: Path, count: int) -> float:
    """Rows a second with a commit each, as durable as ours."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        database = sqlite3.connect(Path(place) / "limit.db", isolation_level=None)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, text TEXT)")
        before = time.perf_counter()
        for number in range(count):
            database.execute("INSERT INTO rows VALUES (?, ?)", (number, "x" * 200))
        took = time.perf_counter() - before
        database.close()
    return count / took


def _call_rate_of_one(url: str, body: bytes, count: int) -> float:
    """Calls a second of a script that does nothing else, over its one kept connection."""
    caller = Caller(url)
    request = caller.request(body)
    before = time.perf_counter()
    for _ in range(count):
        caller.send(request)
    took = time.perf_counter() - before
    caller.close()
    return count / took


async def _call_rate(url: str, body: bytes, count: int, connections: int) -> float:
    """Calls a second over so many kept connections, each waiting for its answer."""
    parts = urlsplit(url)
    request = (
        f"POST / HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: text/xml\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body

    async def call(times: int) -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        for _ in range(times):
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            answer = await reader.readexactly(size)
            if b"<fault>" in answer[:200]:
                raise RuntimeError(f"the server answered {answer[:500]!r}")
        writer.close()

    before = time.perf_counter()
    await asyncio.gather(*(call(count // connections) for _ in range(connections)))
    return count / (time.perf_counter() - before)


def pings(folder: Path, sizes: Any, repetitions: int) -> list[Row]:
    """The smallest call, beside a bare route of the same web server that answers the same bytes."""
    body = body_of("ping")
    ours: list[float] = []
    bare: list[float] = []
    with farm_without_nodes(folder) as server:
        answer = Caller(server.url).call(body)
        with _bare_server(BARE_ROUTE, answer.decode()) as url:
            for _ in range(repetitions):
                bare.append(asyncio.run(_call_rate(url, body, sizes.pings, 4)))
                ours.append(asyncio.run(_call_rate(server.url, body, sizes.pings, 4)))
    return [Row("i", "ping over 4 connections, beside a bare route", "calls/s", ours, bare)]


@contextlib.contextmanager
def _bare_server(program: Path, *arguments: str) -> Iterator[str]:
    """Its address."""
    process = subprocess.Popen(
        [sys.executable, program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stdin
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.terminate()
        process.wait()
        process.stdout.close()


def large_submissions(folder: Path, sizes: Any, repetitions: int) -> list[Row]:
    """A tree in one call, as XML and as JSON text, and what others wait meanwhile."""
    children = [{"name": f"job {number}", "command": "true"} for number in range(sizes.children)]
    tree = {"name": "tree", "children": children}
    as_xml, as_json = body_of("newjob", tree), body_of("newjob", json.dumps(tree))
    xml: list[float] = []
    parsing: list[float] = []
    text: list[float] = []
    waits: list[float] = []
    with farm_without_nodes(folder) as server:
        caller = Caller(server.url)
        for _ in range(repetitions):
            parsing.append(parse(as_xml))
            with _pinging(server.url, waits):
                xml.append(_seconds(caller, as_xml))
                text.append(sizes.children / _seconds(caller, as_json))
        caller.close()
    late = sorted(waits)[int(len(waits) * 0.99)]
    name = f"newjob with {sizes.children:,} children"
    return [
        Row("d", f"{name}, beside parsing it", "s", xml, parsing, False),
        Row("d", f"{name} as JSON", "children/s", text),
        Row("d", "a ping meanwhile, median", "ms", [statistics.median(waits)]),
        Row("d", "a ping meanwhile, 99th percentile", "ms", [late]),
    ]


def _seconds(caller: Caller, body: bytes) -> float:
    before = time.perf_counter()
    caller.call(body)
    return time.perf_counter() - before


@contextlib.contextmanager
def _pinging(url: str, waits: list[float]) -> Iterator[None]:
    """Somebody else's pings, in milliseconds, one every few milliseconds."""
    ended = threading.Event()

    def ping() -> None:
        caller, body = Caller(url), body_of("ping")
        is_over = False
        while not is_over:  # one at least, however short the time is
            waits.append(_seconds(caller, body) * 1000)
            is_over = ended.wait(PINGS_MS_EVERY / 1000)
        caller.close()

    thread = threading.Thread(target=ping)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def large_answers(folder: Path, sizes: Any, repetitions: int) -> list[Row]:
    """`getJobs` of many jobs with all attributes, beside writing the same answer as XML."""
    ours: list[float] = []
    writing: list[float] = []
    with farm_without_nodes(folder) as server:
        children = [{"name": f"job {n}", "command": "true"} for n in range(sizes.answers)]
        server.newjob({"name": "tree", "children": children})
        ids = server.server.getJobIdsByStatus(["runnable"])[: sizes.answers]
        caller, body = Caller(server.url), body_of("getJobs", ids)
        for _ in range(repetitions):
            times: list[tuple[float, float]] = []
            for _ in range(ANSWER_ROUNDS):
                before = time.perf_counter()
                answer = caller.call(body)
                took = time.perf_counter() - before
                value = xmlrpc.client.loads(answer)[0]
                before = time.perf_counter()
                xmlrpc.client.dumps(value, methodresponse=True, allow_none=True)
                times.append((took, time.perf_counter() - before))
            ours.append(statistics.median(took for took, _ in times))
            writing.append(statistics.median(took for _, took in times))
        caller.close()
    name = f"getJobs of {sizes.answers:,} jobs, all attributes, beside writing the answer"
    return [Row("j", name, "s", ours, writing, False)]
