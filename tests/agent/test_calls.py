"""What the proxy asks of others: what stays of an answer, and when a line for a story is taken."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from roost.agent import calls as module
from roost.agent.calls import Calls
from roost.core.messages import ChirpOrder, EntryKind, Gates
from roost.core.records import AttemptKey, JobId
from roost.submitfolder import Answer
from roost.wire.chirp import Code
from roost.wire.link import ChirpAnswer, ChirpCall

ORDER = ChirpOrder(Gates(True, True, True), "ada", "", JobId(1), "Chirp*")
KEY = (JobId(1), 1)


class Desk:
    """Takes lines over as long as there is room."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.lines: list[tuple[EntryKind, str]] = []
        self.calls = Calls((), lambda: None, self._enter)

    def _enter(self, key: AttemptKey, kind: EntryKind, text: str) -> int:
        if len(self.lines) >= self.room:
            return Code.OFFLINE
        self.lines.append((kind, text))
        return 0

    def write(self, line: bytes, command: str = "ulog") -> asyncio.Future[Answer]:
        return self.calls.begin(ORDER, KEY, self.calls.new_caller(), command, (line,), ())


def test_nothing_keeps_the_data_of_an_answer_that_was_taken() -> None:
    async def call() -> weakref.ref[object]:
        calls = Calls((), lambda: None, lambda key, kind, text: 0)
        future = calls.begin(ORDER, KEY, calls.new_caller(), "getfile", (b"a",), ())
        [message] = calls.pull(1)
        assert isinstance(message, ChirpCall)
        calls.answered(ChirpAnswer(message.call, 5, b"hello"))
        assert (await future).data == b"hello"
        calls.close()
        return weakref.ref(future)

    async def main() -> None:
        taken = await call()
        gc.collect()
        assert taken() is None

    asyncio.run(main())


def test_a_line_is_answered_once_it_is_taken_over_and_goes_to_nobody_else() -> None:
    async def main() -> None:
        desk = Desk(room=9)
        answers = [
            desk.write("é漢".encode()),
            desk.write(b"output", "phase"),
            desk.write(b"x" * 5000),
            desk.write(b"latin \xe9"),
        ]
        assert [answer.result().result for answer in answers] == [0, 0, 0, Code.INVALID_REQUEST]
        assert desk.lines == [("ulog", "é漢"), ("phase", "output"), ("ulog", "x" * 1023)]
        assert desk.calls.pull(1) == []

    asyncio.run(main())


def test_lines_for_which_there_is_no_room_wait_in_their_order() -> None:
    async def main() -> None:
        desk = Desk(room=1)
        answers = [desk.write(b"%d" % number) for number in range(4)]
        assert [answer.done() for answer in answers] == [True, False, False, False]
        desk.room = 3
        answers.append(desk.write(b"4"))
        desk.calls.enter_waiting()
        assert [answer.done() for answer in answers] == [True, True, True, False, False]
        desk.room = 9
        desk.calls.enter_waiting()
        assert [text for _, text in desk.lines] == ["0", "1", "2", "3", "4"]
        assert {answer.result().result for answer in answers} == {0}

    asyncio.run(main())


def test_a_line_that_has_waited_too_long_is_refused_and_not_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LINK_S_MAX", 0.01)

    async def main() -> None:
        desk = Desk(room=0)
        assert (await desk.write(b"late")).result == Code.OFFLINE
        desk.room = 9
        desk.calls.enter_waiting()
        assert desk.write(b"next").result().result == 0
        assert desk.lines == [("ulog", "next")]

    asyncio.run(main())
