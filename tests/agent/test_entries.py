"""What jobs write into their stories or set with delay, from the job's socket to the server's."""

from __future__ import annotations

import asyncio
import contextlib
import xmlrpc.client
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from roost.agent import daemon
from roost.core.attributes import DELAYED_BYTES_MAX, DELAYED_NAMES_MAX, NAME_CHARACTERS_MAX
from roost.core.messages import (
    AttemptEnded,
    AttributesReported,
    ChirpOrder,
    EntryReported,
    Gates,
)
from roost.wire import link

TELL = "echo $_CONDOR_CHIRP_CONFIG"
CHIRP = ChirpOrder(Gates(True, True, True), "ada", "", 1, "Chirp*")


class Wire:
    """A connection to the proxy of job 1, which waits meanwhile."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, *requests: str) -> None:
        self._writer.write("".join(f"{request}\n" for request in requests).encode())

    async def answer(self) -> bytes:
        return await self._reader.readline()

    async def say(self, request: str) -> bytes:
        self.send(request)
        return await self.answer()


def read(contact: str) -> list[str]:
    return Path(contact.strip()).read_text().split()


@contextlib.asynccontextmanager
async def wire_of(server, folder: Path, job: int = 1) -> AsyncIterator[Wire]:
    """Start a job that waits until the block is over."""
    go = folder / "go"
    await server.order(f"{TELL}; until [ -e {go} ]; do sleep 0.02; done", job, chirp=CHIRP)
    async with connected(server, job) as wire:
        yield wire
    go.touch()


@contextlib.asynccontextmanager
async def connected(server, job: int) -> AsyncIterator[Wire]:
    """To the proxy, as a job that runs and told its contact."""
    host, port, cookie = read(await server.printed("\n", job))
    reader, writer = await asyncio.open_connection(host, int(port))
    wire = Wire(reader, writer)
    assert await wire.say(f"cookie {cookie}") == b"0\n"
    yield wire
    writer.close()


def lines(server) -> list[EntryReported]:
    return [report for report in server.reports if isinstance(report, EntryReported)]


async def test_lines_are_reported_in_order_and_before_the_end(server, agent, tmp_path):
    async with wire_of(server, tmp_path) as wire:
        for number in range(50):
            assert await wire.say(f"ulog line\\ {number}") == b"0\n"
        assert await wire.say("phase output") == b"0\n"
    await server.ended()
    kinds = [*["ulog"] * 50, "phase"]
    texts = [*(f"line {number}" for number in range(50)), "output"]
    assert [(one.kind, one.text) for one in lines(server)] == list(zip(kinds, texts, strict=True))
    assert [one.entry for one in lines(server)] == list(range(1, 52))
    assert isinstance(server.reports[-1], AttemptEnded)


async def test_lines_wait_for_each_other_also_while_others_leave(
    server, agent, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(daemon, "ENTRIES_COLLECTED_S", 0.03)
    async with wire_of(server, tmp_path) as wire:
        for number in range(600):
            assert await wire.say(f"ulog {number}") == b"0\n"
    await server.ended()
    frames = [m for m in server.messages if isinstance(m, link.Reports)]
    assert len(lines(server)) == 600
    assert len(frames) < 300


async def test_what_cannot_be_a_line_is_refused(server, agent, tmp_path):
    async with wire_of(server, tmp_path) as wire:
        assert await wire.say("ulog ") == b"-8\n"
        assert await wire.say("phase") == b"-8\n"
        assert await wire.say("ulog " + "x" * 5000) == b"0\n"
    await server.ended()
    assert [one.text for one in lines(server)] == ["x" * 1023]


async def test_lines_need_no_server_and_go_out_again_after_a_break(server, agent, tmp_path):
    server.saves = False
    async with wire_of(server, tmp_path) as wire:
        assert await wire.say("ulog before") == b"0\n"
        await server.until(lambda: lines(server))
        server.takes_nobody = True
        server.drop()
        assert await wire.say("ulog meanwhile") == b"0\n"
        server.takes_nobody, server.saves = False, True
        await server.until(lambda: len(lines(server)) == 3)
        assert await wire.say("ulog after") == b"0\n"
    await server.ended()
    numbered = [(1, "before"), (1, "before"), (2, "meanwhile"), (3, "after")]
    assert [(one.entry, one.text) for one in lines(server)] == numbered
    assert isinstance(server.reports[-1], AttemptEnded)


async def test_a_call_does_not_overtake_earlier_lines(server, agent, tmp_path):
    async with wire_of(server, tmp_path) as wire:
        wire.send("ulog one", "ulog two", "set_job_attr A 1")
        await server.until(lambda: any(isinstance(m, link.ChirpCall) for m in server.messages))
        told = [m for m in server.messages if isinstance(m, link.Reports | link.ChirpCall)]
        assert isinstance(told.pop(), link.ChirpCall)
        told = [report for message in told for report in message.reports]
        assert [one.text for one in told if isinstance(one, EntryReported)] == ["one", "two"]


async def test_a_line_waits_while_the_server_has_too_many_to_save(
    server, agent, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    async with wire_of(server, tmp_path) as wire:
        await server.until(lambda: server.reports)
        server.saves = False
        monkeypatch.setattr(daemon, "UNSAVED_MAX", 2)
        assert await wire.say("ulog 1") == b"0\n"
        assert await wire.say("ulog 2") == b"0\n"
        wire.send("ulog 3", "version")
        await server.until(lambda: len(lines(server)) == 2)
        server.saves = True
        await server.send(link.ReportsSaved(server.through))
        assert [await wire.answer() for _ in range(2)] == [b"0\n", b"2\n"]
    await server.ended()
    assert [one.text for one in lines(server)] == ["1", "2", "3"]


async def test_frames_stay_below_the_limit_however_much_many_jobs_set_with_delay(
    server, make_agent
):
    jobs, size = 40, NAME_CHARACTERS_MAX + DELAYED_BYTES_MAX
    assert jobs * DELAYED_NAMES_MAX * size > link.FRAME_BYTES_MAX
    text = '"' + "x" * (DELAYED_BYTES_MAX - 2) + '"'
    names = [f"Chirp{n:0{NAME_CHARACTERS_MAX - 5}}" for n in range(DELAYED_NAMES_MAX)]
    ready = await make_agent(cpus=jobs).start()
    await server.joined()
    for job in range(1, jobs + 1):
        await server.order(f"{TELL}; sleep 1000", job, chirp=CHIRP)
    for job in range(1, jobs + 1):
        async with connected(server, job) as wire:
            wire.send(*(f"set_job_attr_delayed {name} {text}" for name in names))
            assert [await wire.answer() for _ in names] == [b"0\n"] * len(names)
    with xmlrpc.client.ServerProxy(ready.url) as node:
        await asyncio.to_thread(node.wakeup)
    await server.until(lambda: len(delayed(server)) == jobs)
    expected = {job: tuple((name, text) for name in names) for job in range(1, jobs + 1)}
    assert {one.job: one.attributes for one in delayed(server)} == expected
    assert len(server.hellos) == 1, "a frame beyond the limit ends the connection"


def delayed(server) -> list[AttributesReported]:
    return [report for report in server.reports if isinstance(report, AttributesReported)]
