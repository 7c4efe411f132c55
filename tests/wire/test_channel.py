"""How a data channel is asked for, and what goes over one that is a lane."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.errors import ProtocolError
from roost.wire import channel
from roost.wire.channel import READ_BYTES, Asked, FrameReader

TICKET = "0123456789abcdef" * 2


def test_what_is_asked_is_understood() -> None:
    asked = channel.request("farm:5000", "", TICKET, 7)
    assert asked.startswith(channel.REQUEST)
    assert channel.parse(asked) == Asked(TICKET, 7)
    assert channel.request("farm", "/behind/a/proxy", TICKET, 7).startswith(b"GET /behind/a/proxy/")


def test_names_of_headers_are_of_any_case() -> None:
    asked = channel.request("farm:5000", "", TICKET, 7)
    lowered = asked.replace(b"Authorization", b"authorization").replace(b"Upgrade:", b"UPGRADE:")
    assert channel.parse(lowered) == Asked(TICKET, 7)


@pytest.mark.parametrize(
    ("part", "instead"),
    [
        (b"/7 ", b"/ "),
        (b"/7 ", b"/x "),
        (b"/7 ", b"/1234567890 "),
        (TICKET.encode(), b"guess"),
        (b"Bearer", b"Basic"),
        (b"Upgrade: roost-channel\r\n", b""),
        (b"\r\n\r\n", b"\r\n\r\nand more"),
        (b"\r\n\r\n", b"\r\n"),
        (b"Host:", b"X: " + b"x" * channel.REQUEST_BYTES_MAX + b"\r\nHost:"),
    ],
)
def test_anything_else_is_not(part: bytes, instead: bytes) -> None:
    asked = channel.request("farm:5000", "", TICKET, 7)
    assert part in asked
    assert channel.parse(asked.replace(part, instead)) is None


def test_only_an_upgrade_is_a_yes() -> None:
    assert channel.accepted(channel.ACCEPTED)
    assert not channel.accepted(channel.REFUSED)
    assert not channel.accepted(channel.STRANGER)
    assert not channel.accepted(b"HTTP/1.1 101 Switching")


def read(reader: FrameReader, data: bytes) -> list[bytes]:
    """The frames that are whole with that."""
    frames: list[bytes] = []
    while data:
        room = reader.room()
        size = min(len(room), len(data))
        room[:size] = data[:size]
        reader.received(size)
        data = data[size:]
        while (frame := reader.next_frame()) is not None:
            frames.append(bytes(frame))
    return frames


LENGTHS = st.one_of(
    st.integers(0, 20),
    st.integers(READ_BYTES - 10, READ_BYTES + 10),
    st.integers(0, 3 * READ_BYTES),
)


@given(st.lists(LENGTHS, max_size=8), st.one_of(st.integers(1, 30), st.integers(1, 3 * READ_BYTES)))
def test_frames_come_out_as_they_went_in_whatever_the_pieces(lengths: list[int], size: int) -> None:
    size = max(size, sum(lengths) // 500)
    contents = [bytes([at + 1]) * length for at, length in enumerate(lengths)]
    data = b"".join(map(channel.frame, contents))
    reader = FrameReader()
    frames: list[bytes] = []
    for start in range(0, len(data), size):
        frames += read(reader, data[start : start + size])
    assert frames == contents


def test_frames_that_came_together_are_all_good_until_more_is_received() -> None:
    reader = FrameReader()
    data = channel.frame(b"one") + channel.frame(b"two") + channel.frame(b"three")[:5]
    reader.room()[: len(data)] = data
    reader.received(len(data))
    assert [reader.next_frame(), reader.next_frame(), reader.next_frame()] == [b"one", b"two", None]


def test_no_frame_is_longer_than_any_may_be() -> None:
    with pytest.raises(ProtocolError):
        read(FrameReader(), b"\xff\xff\xff\xff")
