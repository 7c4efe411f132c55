"""Agent and server of one protocol understand each other when one of them knows more words."""

from __future__ import annotations

import msgspec

from roost.core.messages import AttemptOrder
from roost.core.records import JobId
from roost.wire import link


def without(message: dict[str, object], *names: str) -> bytes:
    return msgspec.msgpack.encode([{k: v for k, v in message.items() if k not in names}])


def test_a_server_that_names_no_socket_has_none() -> None:
    words = {"type": "welcome", "node": 1, "beat_ms": 1000, "ticket": "t"}
    assert link.decode_from_server(without(words)) == [link.Welcome(1, 1000, (), "t")]
    assert link.Welcome(1, 1000).unix_socket == ""


def test_an_agent_that_does_not_say_that_it_hands_over_sends_bytes() -> None:
    [words] = msgspec.msgpack.decode(link.encode([link.OutputAhead(1, 2, 3, 4, 5, True)]))
    assert link.decode_from_agent(without(words, "handed_over")) == [
        link.OutputAhead(1, 2, 3, 4, 5, False)
    ]


def test_words_that_are_not_known_are_passed_over() -> None:
    words = {"type": "welcome", "node": 1, "beat_ms": 1000, "of tomorrow": [1]}
    assert link.decode_from_server(without(words)) == [link.Welcome(1, 1000)]


def test_orders_with_large_environments_are_spread_over_frames() -> None:
    environment = {"LARGE": "x" * 100_000}
    orders: list[link.FromServer] = [
        link.Start(AttemptOrder(JobId(job), 1, "", "true", environment)) for job in range(1, 101)
    ]
    frames = list(link.frames(orders))
    assert [order for frame in frames for order in frame] == orders
    assert max(len(link.encode(frame)) for frame in frames) < link.FRAME_BYTES_MAX
    assert len(frames) < len(orders)
