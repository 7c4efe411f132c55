"""Calls of the proxy to the server: what stays of one that was answered."""

from __future__ import annotations

import asyncio
import gc
import weakref

from roost.agent.calls import Calls
from roost.core.messages import ChirpOrder, Gates
from roost.core.records import JobId
from roost.wire.link import ChirpAnswer, ChirpCall


def test_nothing_keeps_the_data_of_an_answer_that_was_taken() -> None:
    async def call() -> weakref.ref[object]:
        calls = Calls((), lambda: None)
        order = ChirpOrder(Gates(True, True, True), "ada", "", JobId(1), "Chirp*")
        future = calls.begin(order, (JobId(1), 1), calls.new_caller(), "getfile", (b"a",), ())
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
