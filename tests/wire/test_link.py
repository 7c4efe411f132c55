"""Agent and server of one protocol understand each other when one of them knows more words."""

from __future__ import annotations

import msgspec

from roost.core import jobspec
from roost.core.farm import Farm
from roost.core.messages import AttemptOrder, NodeJoined, StartAttempt, Tick
from roost.core.records import JobId, Moment, NodeFacts
from roost.errors import Invalid
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


def keeps(key: str, text: str) -> bool:
    """Whether this property of a job may be any text, and is kept as it is."""
    try:
        [job] = jobspec.parse({"name": "large", key: text}).jobs
    except Invalid:
        return False
    return getattr(job.spec, jobspec.PROPERTIES[key][0], None) == text


def test_the_largest_order_that_can_be_submitted_fits_into_a_frame() -> None:
    text = "x" * jobspec.TEXT_BYTES_MAX
    spec: dict[str, object] = {key: text for key in jobspec.PROPERTIES if keeps(key, text)}
    assert {"command", "cwd", "onError"} <= set(spec)
    spec["environment"] = {f"V{number}": "x" * 131_000 for number in range(8)}
    farm, now = Farm(), Moment(1)
    farm.handle(jobspec.parse(spec), now)
    farm.handle(NodeJoined(NodeFacts("render1")), now)
    [effect] = farm.handle(Tick(), now).effects
    assert isinstance(effect, StartAttempt)
    frame = link.encode([link.Start(effect.order)])
    assert 2 * 1024 * 1024 < len(frame) < link.FRAME_BYTES_MAX - link.FRAME_BYTES_SOFT
