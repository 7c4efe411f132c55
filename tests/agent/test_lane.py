"""Calls of one caller, from the link to a lane and back; the server says what the test says.

What is checked is what always holds: calls are done in order, each is answered once, and what was
under way on a lane that is lost is not done again elsewhere.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.agent.test_calls import KEY, ORDER, PATIENCE_S, make_calls

from roost.agent.calls import LANE_CALLS, LANE_IDLE_S, LANES_MAX, Caller
from roost.agent.channel import Channel, Channels
from roost.core.messages import Gates
from roost.submitfolder import Answer
from roost.wire import channel as wire
from roost.wire import link
from roost.wire.chirp import GETS, Code
from roost.wire.link import LANE, ChirpAnswer, ChirpCall, ChirpCallerGone, FromAgent, FromServer


class HandedOut(Channels):
    """Channels whose other ends the test has."""

    def __init__(self) -> None:
        super().__init__("http://nowhere", lambda: None)
        self.peers: dict[int, socket.socket] = {}
        self.given_back: list[tuple[int, bool]] = []
        self.changed = asyncio.Event()
        self._out: dict[int, socket.socket] = {}

    @property
    def may_open(self) -> bool:
        return True

    async def take(self) -> Channel | None:
        own, peer = socket.socketpair()
        own.setblocking(False)
        peer.setblocking(False)
        number = len(self.peers) + 1
        self.peers[number] = peer
        self._out[number] = own
        return Channel(number, own)

    def give_back(self, channel: Channel, *, clean: bool) -> None:
        self.given_back.append((channel.number, clean))
        self._out.pop(channel.number).close()
        self.changed.set()

    def close(self) -> None:
        for end in (*self._out.values(), *self.peers.values()):
            end.close()


class World:
    def __init__(self) -> None:
        self.channels = HandedOut()
        self.woken = asyncio.Event()
        self.calls = make_calls(self.channels, self.woken.set)
        self.caller = self.calls.new_caller(KEY, ORDER)
        self.answers: list[tuple[str, int]] = []
        self.answered = asyncio.Event()

    def begin(self, *names: str, command: str = "stat", numbers: tuple[int, ...] = ()) -> None:
        for name in names:
            self.begin_for(self.caller, name, command, numbers)
        self.calls.flush(self.caller)

    def begin_for(
        self, caller: Caller, name: str, command: str, numbers: tuple[int, ...] = (), **more: int
    ) -> None:
        def answered(answer: Answer) -> None:
            self.answers.append((name, answer.result))
            self.answered.set()

        words = () if numbers else (name.encode(),)
        self.calls.begin(caller, answered, command, words, numbers, **more)

    def pull(self) -> list[FromAgent]:
        self.woken.clear()
        return self.calls.pull(1_000_000)

    def pull_calls(self) -> list[ChirpCall]:
        return [message for message in self.pull() if isinstance(message, ChirpCall)]

    def answer(self, call: ChirpCall, result: int = 0) -> None:
        self.calls.answered(ChirpAnswer(call.call, result))

    async def busy(self, command: str = "stat") -> ChirpCall:
        """Ask until a lane is asked for; gives that call, which is the last to have left."""
        for turn in range(LANE_CALLS):
            self.begin(f"before {turn}", command=command)
        for call in self.pull_calls():
            self.answer(call)
        async with asyncio.timeout(PATIENCE_S):
            while not (calls := self.pull_calls()):
                await self.woken.wait()
        assert [call.command for call in calls] == [LANE]
        self.answers.clear()
        return calls[0]

    async def with_lane(self) -> socket.socket:
        """The server's end of it."""
        call = await self.busy()
        self.answer(call)
        return self.channels.peers[call.channel]

    async def until_answered(self, count: int) -> list[tuple[str, int]]:
        async with asyncio.timeout(PATIENCE_S):
            while len(self.answers) < count:
                self.answered.clear()
                await self.answered.wait()
        return self.answers

    async def until_given_back(self) -> tuple[int, bool]:
        async with asyncio.timeout(PATIENCE_S):
            await self.channels.changed.wait()
        return self.channels.given_back[-1]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    world.calls.close()
    world.channels.close()


async def receive(peer: socket.socket) -> list[str]:
    """The names in the next frames, "" for the end."""
    loop, reader = asyncio.get_running_loop(), wire.FrameReader()
    names: list[str] = []
    async with asyncio.timeout(PATIENCE_S):
        while not names:
            reader.received(await loop.sock_recv_into(peer, reader.room()))
            while (frame := reader.next_frame()) is not None:
                for call in link.decode_from_agent(frame) if frame else [None]:
                    assert call is None or isinstance(call, ChirpCall)
                    names.append(call.words[0].decode() if call else "")
    return names


async def say(peer: socket.socket, *results: int) -> None:
    answers: list[FromServer] = [ChirpAnswer(0, result) for result in results]
    frames = b"".join(wire.frame(link.encode([answer])) for answer in answers)
    await asyncio.get_running_loop().sock_sendall(peer, frames)


async def test_a_caller_that_asks_much_gets_a_lane_and_what_it_asks_meanwhile_goes_there(
    world: World,
) -> None:
    call = await world.busy()
    world.begin("while it begins")
    assert world.pull() == []
    world.answer(call)
    peer = world.channels.peers[call.channel]
    assert await receive(peer) == ["while it begins"]
    world.begin("one", "two")
    assert await receive(peer) == ["one", "two"]
    await say(peer, 1, 2)
    await say(peer, 3)
    assert await world.until_answered(3) == [("while it begins", 1), ("one", 2), ("two", 3)]
    assert world.pull() == []


async def test_what_is_begun_together_leaves_together(world: World) -> None:
    peer = await world.with_lane()
    world.begin_for(world.caller, "one", "stat")
    world.begin_for(world.caller, "two", "stat")
    with pytest.raises(BlockingIOError):
        peer.recv(1)
    world.calls.flush(world.caller)
    assert await receive(peer) == ["one", "two"]


@pytest.mark.parametrize("command", sorted(GETS))
async def test_attributes_are_read_over_the_lane_and_set_over_the_link(
    world: World, command: str
) -> None:
    peer = await world.with_lane()
    world.begin("name", command=command)
    assert await receive(peer) == ["name"]
    await say(peer, 1)
    assert await world.until_answered(1) == [("name", 1)]
    world.begin("set", command="set_job_attr")
    [call] = world.pull_calls()
    assert call.command == "set_job_attr"


@pytest.mark.parametrize("root", [None, Path("/shared")], ids=["relayed", "shared"])
async def test_who_often_reads_attributes_gets_a_lane_wherever_its_files_are(
    world: World, root: Path | None
) -> None:
    world.caller.root = root
    call = await world.busy(command="get_job_attr")
    world.answer(call)
    world.begin("name", command="get_job_attr")
    assert await receive(world.channels.peers[call.channel]) == ["name"]


async def test_who_may_not_use_files_reads_attributes_over_the_link(world: World) -> None:
    order = replace(ORDER, gates=Gates(False, True, True))
    caller = world.calls.new_caller(KEY, order)
    for _ in range(2 * LANE_CALLS):
        world.begin_for(caller, "name", "get_job_attr")
    await asyncio.sleep(0)  # a lane would be asked for now
    assert [call.command for call in world.pull_calls()] == ["get_job_attr"] * 2 * LANE_CALLS
    assert not world.channels.peers


async def test_who_was_refused_a_lane_does_not_ask_again_but_who_could_not_have_one_does(
    world: World,
) -> None:
    call = await world.busy()
    world.answer(call, Code.OFFLINE)
    call = await world.busy()
    world.answer(call, Code.INVALID_REQUEST)
    for _ in range(2 * LANE_CALLS):
        world.begin("name", command="get_job_attr")
        world.begin("name")
    await asyncio.sleep(0)  # a lane would be asked for now
    assert [call.command for call in world.pull_calls()] == [
        "get_job_attr",
        "stat",
    ] * 2 * LANE_CALLS
    assert len(world.channels.peers) == len(world.channels.given_back) == 2


async def test_a_lane_that_is_refused_leaves_everything_on_the_link(world: World) -> None:
    call = await world.busy()
    world.begin("meanwhile")
    world.answer(call, Code.INVALID_REQUEST)
    assert world.channels.given_back == [(call.channel, False)]
    [other] = world.pull_calls()
    assert other.words == (b"meanwhile",)
    world.answer(other, 7)
    assert world.answers == [("meanwhile", 7)]


async def test_what_is_under_way_on_a_lane_that_is_lost_is_answered_offline_and_not_repeated(
    world: World,
) -> None:
    peer = await world.with_lane()
    world.begin("one", "two", "three")
    await receive(peer)
    await say(peer, 1)
    peer.close()
    assert await world.until_answered(3) == [("one", 1), ("two", -17), ("three", -17)]
    assert world.channels.given_back == [(1, False)]
    world.begin("after")
    [call] = world.pull_calls()
    assert call.words == (b"after",)


async def test_bulk_waits_for_the_end_of_the_lane_and_what_follows_waits_for_bulk(
    world: World,
) -> None:
    peer = await world.with_lane()
    world.begin("before")
    world.begin_for(world.caller, "bulk", "pread", (0, 5_000_000, 0), channel=9)
    world.begin("after")
    names = await receive(peer)
    while names[-1]:
        names += await receive(peer)
    assert names == ["before", ""]
    assert world.pull() == []
    await say(peer, 1)
    peer.send(wire.END)
    assert await world.until_given_back() == (1, True)
    assert world.answers == [("before", 1)]
    bulk, after = world.pull_calls()
    assert (bulk.channel, after.words) == (9, (b"after",))


async def test_who_goes_ends_the_lane_and_then_takes_leave(world: World) -> None:
    peer = await world.with_lane()
    world.begin("last")
    world.calls.gone(world.caller)
    names = await receive(peer)
    while names[-1]:
        names += await receive(peer)
    assert names == ["last", ""]
    assert world.pull() == []
    await say(peer, 0)
    peer.send(wire.END)
    assert await world.until_given_back() == (1, True)
    assert world.pull() == [ChirpCallerGone(world.caller.number)]


async def test_who_goes_while_a_lane_begins_leaves_none(world: World) -> None:
    call = await world.busy()
    world.calls.gone(world.caller)
    assert world.pull() == []
    world.answer(call)
    peer = world.channels.peers[call.channel]
    assert await receive(peer) == [""]
    peer.send(wire.END)
    assert await world.until_given_back() == (1, True)
    assert world.pull() == [ChirpCallerGone(world.caller.number)]


async def test_lanes_end_with_the_link_and_only_names_without_descriptors_wait_for_the_next(
    world: World,
) -> None:
    peer = await world.with_lane()
    world.begin("under way")
    world.begin_for(world.caller, "bulk", "pread", (0, 5_000_000, 0), channel=9)
    world.begin("name")
    world.begin_for(world.caller, "descriptor", "fsync", (0,))
    await receive(peer)
    world.calls.link_down()
    assert sorted(world.answers) == [("bulk", -17), ("descriptor", -17), ("under way", -17)]
    [call] = world.pull_calls()
    assert call.words == (b"name",)
    assert world.channels.given_back == [(1, False)]


async def test_a_lane_that_was_asked_for_when_the_link_broke_is_forgotten(world: World) -> None:
    call = await world.busy()
    world.begin("name")
    world.begin_for(world.caller, "descriptor", "fsync", (0,))
    world.calls.link_down()
    assert world.answers == [("descriptor", -17)]
    assert [kept.words for kept in world.pull_calls()] == [(b"name",)]
    assert world.channels.given_back == [(call.channel, False)]


async def test_an_idle_lane_is_ended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roost.agent.calls.LANE_IDLE_S", LANE_IDLE_S / 1000)
    peer = await world.with_lane()
    assert await receive(peer) == [""]
    world.begin("meanwhile")
    peer.send(wire.END)
    assert await world.until_given_back() == (1, True)
    [call] = world.pull_calls()
    assert call.words == (b"meanwhile",)


async def test_only_so_many_have_a_lane_at_a_time(world: World) -> None:
    callers = [world.calls.new_caller(KEY, ORDER) for _ in range(LANES_MAX + 1)]
    for _ in range(LANE_CALLS):
        for caller in callers:
            world.begin_for(caller, "name", "stat")
    world.pull()
    asked: list[ChirpCall] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(asked) < LANES_MAX:
            await world.woken.wait()
            asked += world.pull_calls()
    assert len(asked) == len(world.channels.peers) == LANES_MAX
    world.begin_for(callers[-1], "another", "stat")
    assert [call.command for call in world.pull_calls()] == ["stat"]
