"""What the proxy asks of others: what stays of an answer, and when a line for a story is taken."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable

import pytest

from roost.agent import calls as module
from roost.agent.calls import Calls
from roost.agent.channel import Channels
from roost.core.messages import ChirpOrder, EntryKind, Gates
from roost.core.records import AttemptKey, JobId
from roost.submitfolder import Answer
from roost.wire.chirp import Code
from roost.wire.link import ChirpAnswer, ChirpCall

PATIENCE_S = 60
ORDER = ChirpOrder(Gates(True, True, True), "ada", "", JobId(1), "Chirp*")
KEY = (JobId(1), 1)


class Taken(list[Answer]):
    """What was answered; can be referred to weakly."""


class Desk:
    """Takes lines over as long as there is room."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.lines: list[tuple[EntryKind, str]] = []
        self.calls = make_calls(enter=self._enter)
        self._caller = self.calls.new_caller(KEY, ORDER)

    def _enter(self, key: AttemptKey, kind: EntryKind, text: str) -> int:
        if len(self.lines) >= self.room:
            return Code.OFFLINE
        self.lines.append((kind, text))
        return 0

    def write(self, line: bytes, command: str = "ulog") -> asyncio.Future[int]:
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def answered(given: Answer) -> None:
            answer.set_result(given.result)

        known = self.calls.begin(self._caller, answered, command, (line,))
        if known is not None:
            answered(known)
        return answer


def make_calls(
    channels: Channels | None = None,
    wake: Callable[[], None] = lambda: None,
    enter: Callable[[AttemptKey, EntryKind, str], int] = lambda key, kind, text: 0,
) -> Calls:
    return Calls((), channels or Channels("http://nowhere", lambda: None), wake, enter)


def test_nothing_keeps_the_data_of_an_answer_that_was_taken() -> None:
    async def call() -> weakref.ref[Taken]:
        calls, taken = make_calls(), Taken()
        caller = calls.new_caller(KEY, ORDER)
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


def test_a_line_is_answered_once_it_is_taken_over_and_goes_to_nobody_else() -> None:
    async def main() -> None:
        desk = Desk(room=9)
        answers = await asyncio.gather(
            desk.write("é漢".encode()),
            desk.write(b"output", "phase"),
            desk.write(b"x" * 5000),
            desk.write(b"latin \xe9"),
        )
        assert answers == [0, 0, 0, Code.INVALID_REQUEST]
        assert desk.lines == [("ulog", "é漢"), ("phase", "output"), ("ulog", "x" * 1023)]
        assert desk.calls.pull(1) == []

    asyncio.run(main())


def test_lines_for_which_there_is_no_room_wait_in_their_order() -> None:
    async def main() -> None:
        desk = Desk(room=1)
        answers = [desk.write(b"%d" % number) for number in range(4)]
        await answers[0]
        assert [answer.done() for answer in answers] == [True, False, False, False]
        desk.room = 3
        answers.append(desk.write(b"4"))
        desk.calls.enter_waiting()
        assert [answer.done() for answer in answers] == [True, True, True, False, False]
        desk.room = 9
        desk.calls.enter_waiting()
        assert [text for _, text in desk.lines] == ["0", "1", "2", "3", "4"]
        assert {answer.result() for answer in answers} == {0}

    asyncio.run(main())


def test_a_line_that_has_waited_too_long_is_refused_and_not_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LINK_S_MAX", 0.01)

    async def main() -> None:
        desk = Desk(room=0)
        assert await desk.write(b"late") == Code.OFFLINE
        desk.room = 9
        desk.calls.enter_waiting()
        assert await desk.write(b"next") == 0
        assert desk.lines == [("ulog", "next")]

    asyncio.run(main())


def test_what_waits_too_long_for_a_link_is_answered_and_never_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LINK_S_MAX", 0.001)

    async def main() -> None:
        calls, done = (
            make_calls(),
            asyncio.Event(),
        )
        answers: list[Answer] = []

        def answered(answer: Answer) -> None:
            answers.append(answer)
            done.set()

        caller = calls.new_caller(KEY, ORDER)
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
        calls = make_calls()
        answers: dict[str, Answer] = {}
        caller = calls.new_caller(KEY, ORDER)

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
