"""Who waits awake, and for how long: with a clock of the test's own."""

from __future__ import annotations

import pytest

from roost import busypoll
from roost.busypoll import BusyPoll
from roost.pace import AT_ONCE_S, CROWDED_S, SLICE_S, STAY_S, Others, Pace

LATE_S = 2 * AT_ONCE_S


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def alone(clock: Clock) -> Others:
    """Nobody else wants the CPU."""
    return Others(clock, lambda: None)


def brisk(pace: Pace | BusyPoll, clock: Clock) -> None:
    pace.waits()
    clock.now += STAY_S / 2
    pace.came()


def in_vain(pace: Pace, clock: Clock) -> None:
    assert pace.waits()
    clock.now += (STAY_S + AT_ONCE_S) / 2
    pace.came()


def test_the_first_message_is_waited_for_at_rest(clock):
    assert not Pace(clock, alone(clock)).waits()


def test_after_a_message_that_came_at_once_the_next_is_waited_for_awake(clock):
    pace = Pace(clock, alone(clock))
    brisk(pace, clock)
    assert pace.waits()


def test_after_a_message_that_came_late_the_next_is_waited_for_at_rest(clock):
    pace = Pace(clock, alone(clock))
    brisk(pace, clock)
    pace.waits()
    clock.now += LATE_S
    pace.came()
    assert not pace.waits()


def test_who_waited_awake_in_vain_rests_next_time(clock):
    pace = Pace(clock, alone(clock))
    brisk(pace, clock)
    in_vain(pace, clock)
    assert not pace.waits()


def test_the_more_often_it_was_in_vain_the_longer_nobody_tries(clock):
    pace = Pace(clock, alone(clock))
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
    pace = Pace(clock, alone(clock))
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
    pace = Pace(clock, alone(clock))
    pace.came()
    assert not pace.waits()


class Neighbour:
    """Has the CPU for so long whenever it is let go first."""

    def __init__(self, clock: Clock, works_s: float) -> None:
        self.clock = clock
        self.works_s = works_s
        self.turns = 0

    def __call__(self) -> None:
        self.turns += 1
        self.clock.now += self.works_s


def nothing_yet() -> int:
    raise BlockingIOError


def test_who_let_somebody_go_first_that_computes_rests(clock):
    neighbour = Neighbour(clock, 3 * SLICE_S)
    assert Pace(clock, Others(clock, neighbour)).receive(nothing_yet) == -1
    assert neighbour.turns == 1


def test_nobody_waits_awake_for_a_while_where_somebody_computes(clock):
    others = Others(clock, Neighbour(clock, 3 * SLICE_S))
    first, second = Pace(clock, others), Pace(clock, others)
    brisk(second, clock)
    first.receive(nothing_yet)
    for _ in range(3):
        assert not second.waits()
        second.came()
    clock.now += CROWDED_S
    brisk(second, clock)
    assert second.waits()


def test_who_takes_part_in_the_exchange_may_work_as_long_as_it_takes(clock):
    others = Others(clock, Neighbour(clock, STAY_S / 4))
    pace = Pace(clock, others)
    brisk(pace, clock)
    assert pace.receive(nothing_yet) == -1
    assert pace.waits()


def test_nobody_waits_awake_where_the_system_lets_nobody_go_first(clock):
    pace = Pace(clock, Others(clock, None))
    brisk(pace, clock)
    assert not pace.waits()


def test_what_is_there_is_received_at_once(clock):
    assert Pace(clock, alone(clock)).receive(lambda: 7) == 7


def test_receiving_ends_when_it_is_time_to_rest(clock):
    def receive() -> int:
        clock.now += STAY_S / 10
        raise BlockingIOError

    began = clock.now
    assert Pace(clock, alone(clock)).receive(receive) == -1
    assert STAY_S <= clock.now - began < 2 * STAY_S


def test_failures_of_receiving_are_passed_on(clock):
    def receive() -> int:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        Pace(clock, alone(clock)).receive(receive)


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
    BusyPoll(clock, alone(clock)).waits()
    assert loop.rests


def test_a_loop_turns_until_it_is_time_to_rest(clock, loop):
    awake = BusyPoll(clock, alone(clock))
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
    awake = BusyPoll(clock, alone(clock))
    brisk(awake, clock)
    awake.waits()
    awake.came()
    loop.turn()
    assert loop.rests


def test_who_waits_again_does_not_turn_the_loop_twice(clock, loop):
    awake = BusyPoll(clock, alone(clock))
    brisk(awake, clock)
    awake.waits()
    awake.waits()
    assert len(loop.due) == 1


def test_a_loop_turns_again_after_a_rest(clock, loop):
    awake = BusyPoll(clock, alone(clock))
    for _ in range(2):
        brisk(awake, clock)
        awake.waits()
        assert not loop.rests
        awake.came()
        loop.turn()
        assert loop.rests
