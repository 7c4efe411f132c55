"""Calls of the proxy to the server: answered once, whatever becomes of the link."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from roost.agent.calls import Calls
from roost.agent.channel import Channels
from roost.core.messages import ChirpOrder, Gates
from roost.core.records import JobId
from roost.submitfolder import Answer
from roost.wire.chirp import Code
from roost.wire.link import ChirpAnswer, ChirpCall

PATIENCE_S = 60


def order() -> ChirpOrder:
    return ChirpOrder(Gates(True, True, True), "ada", "", JobId(1), "Chirp*")


class Taken(list[Answer]):
    """What was answered; can be referred to weakly."""


def test_nothing_keeps_the_data_of_an_answer_that_was_taken() -> None:
    async def call() -> weakref.ref[Taken]:
        calls, taken = Calls((), Channels("http://nowhere", lambda: None), lambda: None), Taken()
        caller = calls.new_caller((JobId(1), 1), order())
        calls.begin(caller, taken.append, "getfile", (b"a",))
        [message] = calls.pull(1)
        assert isinstance(message, ChirpCall)
        calls.answered(ChirpAnswer(message.call, 5, b"hello"))
        assert taken == [Answer(5, b"hello")]
        calls.close()
        return weakref.ref(taken)

    async def main() -> None:
        taken = await call()
        gc.collect()
        assert taken() is None

    asyncio.run(main())


def test_what_waits_too_long_for_a_link_is_answered_and_never_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("roost.agent.calls.LINK_S_MAX", 0.001)

    async def main() -> None:
        calls, done = (
            Calls((), Channels("http://nowhere", lambda: None), lambda: None),
            asyncio.Event(),
        )
        answers: list[Answer] = []

        def answered(answer: Answer) -> None:
            answers.append(answer)
            done.set()

        caller = calls.new_caller((JobId(1), 1), order())
        calls.begin(caller, answered, "mkdir", (b"a",), (511,))
        async with asyncio.timeout(PATIENCE_S):
            await done.wait()
        assert answers == [Answer(Code.OFFLINE)]
        assert calls.pull(1_000_000) == []
        done.clear()
        calls.begin(caller, answered, "mkdir", (b"b",), (511,))
        async with asyncio.timeout(PATIENCE_S):
            await done.wait()
        assert answers == [Answer(Code.OFFLINE)] * 2
        calls.close()

    asyncio.run(main())


def test_when_the_link_breaks_only_what_has_left_or_names_a_descriptor_is_lost() -> None:
    async def main() -> None:
        calls = Calls((), Channels("http://nowhere", lambda: None), lambda: None)
        answers: dict[str, Answer] = {}
        caller = calls.new_caller((JobId(1), 1), order())

        def begin(name: str, command: str, words: tuple[bytes, ...], *numbers: int) -> None:
            calls.begin(
                caller, lambda answer: answers.update({name: answer}), command, words, numbers
            )

        begin("left", "stat", (b"a",))
        [left] = calls.pull(1_000_000)
        begin("descriptor", "fsync", (), 0)
        begin("waits", "stat", (b"b",))
        calls.link_down()
        assert answers == {"left": Answer(Code.OFFLINE), "descriptor": Answer(Code.OFFLINE)}
        [call] = calls.pull(1_000_000)
        assert isinstance(call, ChirpCall) and call.words == (b"b",)
        assert isinstance(left, ChirpCall)
        calls.answered(ChirpAnswer(left.call, 0))
        calls.answered(ChirpAnswer(call.call, 0, b"numbers"))
        assert answers["waits"] == Answer(0, b"numbers")
        assert answers["left"] == Answer(Code.OFFLINE)
        calls.close()

    asyncio.run(main())
