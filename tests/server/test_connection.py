"""What callers are sent, and in how many pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from roost.server.connection import LARGE_BYTES, JoiningTransport


class Below(asyncio.Transport):
    """Remembers what is sent at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.closed = False

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.sent.append(b"".join(list_of_data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


@pytest.fixture
def turn() -> list[Callable[[], None]]:
    """What the loop has been asked to do in its next turn."""
    return []


@pytest.fixture
def below() -> Below:
    return Below()


@pytest.fixture
def transport(below: Below, turn: list[Callable[[], None]]) -> JoiningTransport:
    return JoiningTransport(below, turn.append)


def test_a_head_leaves_together_with_its_body_and_at_once(
    transport: JoiningTransport, below: Below
) -> None:
    transport.write(b"head ")
    assert below.sent == []
    transport.write(b"body")
    assert below.sent == [b"head body"]


def test_what_is_followed_by_nothing_leaves_when_the_turn_ends(
    transport: JoiningTransport, below: Below, turn: list[Callable[[], None]]
) -> None:
    transport.write(b"alone")
    turn.pop()()
    transport.write(b"next")
    turn.pop()()
    assert below.sent == [b"alone", b"next"]


def test_large_pieces_are_not_kept_back(transport: JoiningTransport, below: Below) -> None:
    transport.write(b"x" * LARGE_BYTES)
    assert below.sent == [b"x" * LARGE_BYTES]


def test_everything_is_sent_before_the_end(transport: JoiningTransport, below: Below) -> None:
    transport.write(b"bye")
    transport.close()
    assert below.sent == [b"bye"] and below.closed


def test_nothing_is_sent_to_who_has_gone(
    transport: JoiningTransport, below: Below, turn: list[Callable[[], None]]
) -> None:
    transport.write(b"late")
    below.close()
    turn.pop()()
    assert below.sent == []
