"""Who waits awake, and for how long: with a clock of the test's own."""

from __future__ import annotations

import pytest

from roost import busypoll
from roost.busypoll import BusyPoll
from roost.pace import AT_ONCE_S, STAY_S, Pace

LATE_S = 2 * AT_ONCE_S


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def brisk(pace: Pace | BusyPoll, clock: Clock) -> None:
    pace.waits()
    clock.now += STAY_S / 2
    pace.came()


def in_vain(pace: Pace, clock: Clock) -> None:
    assert pace.waits()
    clock.now += (STAY_S + AT_ONCE_S) / 2
    pace.came()


def test_the_first_message_is_waited_for_at_rest(clock):
    assert not Pace(clock).waits()


def test_after_a_message_that_came_at_once_the_next_is_waited_for_awake(clock):
    pace = Pace(clock)
    brisk(pace, clock)
    assert pace.waits()


def test_after_a_message_that_came_late_the_next_is_waited_for_at_rest(clock):
    pace = Pace(clock)
    brisk(pace, clock)
    pace.waits()
    clock.now += LATE_S
    pace.came()
    assert not pace.waits()


def test_who_waited_awake_in_vain_rests_next_time(clock):
    pace = Pace(clock)
    brisk(pace, clock)
    in_vain(pace, clock)
    assert not pace.waits()


def test_the_more_often_it_was_in_vain_the_longer_nobody_tries(clock):
    pace = Pace(clock)
    brisk(pace, clock)
    for expected in (1, 2, 4, 8, 16, 32, 64, 64):
        in_vain(pace, clock)
        rests = 0
        while not pace.waits():
            clock.now += (STAY_S + AT_ONCE_S) / 2
            pace.came()
            rests += 1
        assert rests == expected + 1  # and one to see that messages follow each other


def test_after_a_message_that_came_at_once_a_try_in_vain_is_the_first_again(clock):
    pace = Pace(clock)
    brisk(pace, clock)
    for _ in range(2):
        in_vain(pace, clock)
        while not pace.waits():
            brisk(pace, clock)
        brisk(pace, clock)
    in_vain(pace, clock)
    brisk(pace, clock)
    brisk(pace, clock)
    assert pace.waits()


def test_a_message_that_nobody_waited_for_is_no_pace(clock):
    pace = Pace(clock)
    pace.came()
    assert not pace.waits()


def test_what_is_there_is_received_at_once(clock):
    assert Pace(clock).receive(lambda: 7) == 7


def test_receiving_ends_when_it_is_time_to_rest(clock):
    def receive() -> int:
        clock.now += STAY_S / 10
        raise BlockingIOError

    began = clock.now
    assert Pace(clock).receive(receive) == -1
    assert STAY_S <= clock.now - began < 2 * STAY_S


def test_failures_of_receiving_are_passed_on(clock):
    def receive() -> int:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        Pace(clock).receive(receive)


class Loop:
    """Turns as often as it is told."""

    def __init__(self) -> None:
        self.due: list[tuple] = []

    def call_soon(self, call, *arguments) -> None:
        self.due.append((call, arguments))

    def turn(self) -> None:
        due, self.due = self.due, []
        for call, arguments in due:
            call(*arguments)

    @property
    def rests(self) -> bool:
        return not self.due


@pytest.fixture
def loop(monkeypatch) -> Loop:
    loop = Loop()
    monkeypatch.setattr(busypoll.asyncio, "get_running_loop", lambda: loop)
    return loop


def test_a_loop_rests_until_messages_follow_each_other(clock, loop):
    BusyPoll(clock).waits()
    assert loop.rests


def test_a_loop_turns_until_it_is_time_to_rest(clock, loop):
    awake = BusyPoll(clock)
    brisk(awake, clock)
    awake.waits()
    for _ in range(5):
        clock.now += STAY_S / 10
        loop.turn()
        assert not loop.rests
    clock.now += STAY_S
    loop.turn()
    assert loop.rests


def test_a_loop_rests_when_something_has_come(clock, loop):
    awake = BusyPoll(clock)
    brisk(awake, clock)
    awake.waits()
    awake.came()
    loop.turn()
    assert loop.rests


def test_who_waits_again_does_not_turn_the_loop_twice(clock, loop):
    awake = BusyPoll(clock)
    brisk(awake, clock)
    awake.waits()
    awake.waits()
    assert len(loop.due) == 1


def test_a_loop_turns_again_after_a_rest(clock, loop):
    awake = BusyPoll(clock)
    for _ in range(2):
        brisk(awake, clock)
        awake.waits()
        assert not loop.rests
        awake.came()
        loop.turn()
        assert loop.rests
