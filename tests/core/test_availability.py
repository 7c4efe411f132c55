"""When nodes take jobs: by the clock, also where it is put forward and back, or when nobody uses
them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from play import Play

from roost.core import messages as m
from roost.core.availability import DAYS, is_available, next_change, parse, show, why_off_duty
from roost.core.records import AvailabilityRule, Moment, NodeId
from roost.errors import Invalid, NotFound

BERLIN, NEW_YORK = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York")
MINUTE_MS = 60_000


def moment(text: str, zone: ZoneInfo = BERLIN, *, again: bool = False) -> Moment:
    """`2025-03-30 01:59` by the zone's clocks; `again` when they show that for the second time."""
    local = datetime.fromisoformat(text).replace(tzinfo=zone, fold=int(again))
    return Moment(int(local.timestamp()) * 1000)


def clock(at: Moment | None, zone: ZoneInfo = BERLIN) -> str:
    assert at is not None
    return f"{datetime.fromtimestamp(at / 1000, zone):%a %d %H:%M %Z}"


def available(text: str, at: str, idle: int = -1) -> bool:
    return is_available([parse(text)], moment(at), BERLIN, idle)


# --- the clock --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "inside", "outside"),
    [  # 2025-10-06 is a Monday
        ("any", "06 00:00 09 23:59", ""),
        ("any 18:00-24:00", "06 18:00 06 23:59", "06 17:59 07 00:00"),
        ("any 10:00-10:00", "06 09:59 06 10:00 08 03:00", ""),
        ("weekdays", "06 00:00 10 23:59", "11 00:00 12 23:59"),
        ("weekends", "11 00:00 12 23:59", "10 23:59 13 00:00"),
        ("weekdays 20:00-07:00", "06 20:00 07 06:59 10 20:00 11 06:59",
         "06 06:59 06 19:59 07 07:00 11 20:00 12 03:00"),
        ("friday 20:00-06:00", "10 20:00 11 05:59", "10 05:59 10 19:59 11 06:00 11 20:00"),
        ("sunday 22:00-02:00", "12 22:00 13 01:59", "12 01:00 13 02:00"),
        ("monday 10:00-10:00", "06 10:00 07 09:59", "06 09:59 07 10:00"),
    ],
)  # fmt: skip
def test_a_rule_lasts_until_the_clock_next_shows_its_end(
    rule: str, inside: str, outside: str
) -> None:
    for texts, expected in ((inside, True), (outside, False)):
        words = texts.split()
        for day, time in zip(words[::2], words[1::2], strict=True):
            assert available(rule, f"2025-10-{day} {time}") is expected, (day, time)


def test_any_enabled_rule_is_enough_and_none_is_always() -> None:
    noon = moment("2025-10-06 12:00")
    night, midday = parse("any 20:00-06:00"), parse("any 11:00-13:00")
    assert is_available([], noon, BERLIN, -1)
    assert is_available([night, midday], noon, BERLIN, -1)
    assert not is_available([night, replace(midday, enabled=False)], noon, BERLIN, -1)
    assert not is_available([replace(parse("any"), enabled=False)], noon, BERLIN, 99)


def test_an_idle_rule_needs_so_many_minutes_that_are_known() -> None:
    for idle, expected in ((-1, False), (0, False), (14, False), (15, True), (900, True)):
        assert available("idle 15", "2025-10-06 12:00", idle) is expected


def test_an_hour_that_is_left_out_never_comes() -> None:
    lost, overlapping = [parse("any 02:10-02:50")], [parse("any 02:30-04:00")]
    before = moment("2025-03-30 01:59")
    assert clock(next_change(lost, before, BERLIN)) == "Mon 31 02:10 CEST"
    assert clock(next_change(overlapping, before, BERLIN)) == "Sun 30 03:00 CEST"
    assert is_available([parse("any 02:00-03:30")], moment("2025-03-30 03:10"), BERLIN, -1)
    sunday = [parse("sunday 02:10-02:50")]
    assert clock(next_change(sunday, before, BERLIN)) == "Sun 06 02:10 CEST"


def test_an_hour_that_comes_twice_counts_twice() -> None:
    rules, at = [parse("any 02:30-03:30")], moment("2025-10-26 01:00")
    changes = []
    for _ in range(4):
        found = next_change(rules, at, BERLIN)
        assert found is not None
        changes.append(clock(found))
        at = found
    assert changes == [
        "Sun 26 02:30 CEST",
        "Sun 26 02:00 CET",
        "Sun 26 02:30 CET",
        "Sun 26 03:30 CET",
    ]


def test_rules_that_the_clock_does_not_move_have_no_next_change() -> None:
    now = moment("2025-10-06 12:00")
    off = replace(parse("any 20:00-06:00"), enabled=False)
    for rules in ([], [parse("any")], [parse("idle 5")], [off], [parse("any 03:00-03:00")]):
        assert next_change(rules, now, BERLIN) is None


def naive(rule: AvailabilityRule, wall: datetime) -> bool:
    """By calendar dates: the rule begins today or began yesterday."""
    for begun in (wall.date(), wall.date() - timedelta(days=1)):
        if begun.weekday() in DAYS[rule.day]:
            midnight = datetime.combine(begun, datetime.min.time())
            start = midnight + timedelta(minutes=rule.start)
            end = midnight + timedelta(days=rule.end <= rule.start, minutes=rule.end)
            if start <= wall < end:
                return True
    return False


minutes = st.integers(0, 1439) | st.sampled_from((0, 59, 60, 90, 119, 120, 150, 179, 180, 210))
time_rules = st.builds(
    AvailabilityRule, st.just(1), st.just("time"), st.booleans(), st.sampled_from(tuple(DAYS)),
    minutes, minutes,
)  # fmt: skip
changes_of_clocks = (
    (BERLIN, date(2025, 3, 30)),
    (BERLIN, date(2025, 10, 26)),
    (NEW_YORK, date(2025, 3, 9)),
    (NEW_YORK, date(2025, 11, 2)),
    (ZoneInfo("Australia/Lord_Howe"), date(2025, 4, 6)),
    (BERLIN, date(2025, 7, 1)),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(time_rules, min_size=1, max_size=3),
    st.sampled_from(changes_of_clocks),
    st.integers(-1440, 1440),
)
@example([parse("sunday 02:30-02:30")], changes_of_clocks[0], 0)
@example([parse("any 02:00-03:00")], changes_of_clocks[3], 60)
def test_the_clock_agrees_with_looking_at_it_every_minute(
    rules: list[AvailabilityRule], when: tuple[ZoneInfo, date], first: int
) -> None:
    zone, day = when
    noon = datetime.combine(day, datetime.min.time(), UTC)
    now = Moment(int(noon.timestamp()) * 1000 + first * MINUTE_MS)

    def wall(at: int) -> datetime:
        return datetime.fromtimestamp(at // 1000, zone).replace(tzinfo=None, fold=0)

    def expected(at: int) -> bool:
        return any(naive(rule, wall(at)) for rule in rules if rule.enabled)

    later = [now + minute * MINUTE_MS for minute in range(2 * 1440)]
    answer = expected(now)
    change = next((at for at in later if expected(at) != answer), None)
    assert is_available(rules, now, zone, -1) is answer
    found = next_change(rules, now, zone)
    if change is not None:
        assert found == change
    else:
        assert found is None or found > later[-1]
    for at in later[:: 7 * 13]:
        assert is_available(rules, Moment(at), zone, -1) is expected(at)


# --- as text ----------------------------------------------------------------------------------

idle_rules = st.builds(
    AvailabilityRule, type=st.just("idle"), idle_minutes=st.integers(1, 7 * 1440)
)


@given(time_rules | idle_rules)
def test_what_is_shown_reads_back_as_the_same_rule(rule: AvailabilityRule) -> None:
    assert parse(show(rule)) == replace(rule, id=0, enabled=True)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ANY", "any"),
        (" Mon  8:00-9:05 ", "monday 08:00-09:05"),
        ("20:00-07:00", "any 20:00-07:00"),
        ("weekends 0:00-24:00", "weekends"),
        ("fri 20:00-0:00", "friday 20:00-24:00"),
        ("idle 090", "idle 90"),
    ],
)
def test_rules_may_be_written_shorter(text: str, shown: str) -> None:
    assert show(parse(text)) == shown


@pytest.mark.parametrize(
    "text",
    ["", "someday", "idle", "idle x", "weekdays 20:00", "any 1-2", "any 8:00-9:00 x", "wee",
     "any 25:00-26:00", "any 24:01-02:00", "any 08:60-09:00", "idle 0", "idle 99999999999"],
)  # fmt: skip
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse(text)


# --- the farm ---------------------------------------------------------------------------------


def farm_at(text: str) -> Play:
    play = Play(zone=BERLIN)
    play.now = moment(text)
    play.joins("n", cpus=2)
    return play


def keep_alive(play: Play, minutes: int, idle: int = -1) -> None:
    for _ in range(minutes // 4):
        play.later(minutes=4)
        play.beats("n", idle=idle)


def test_a_node_off_duty_gets_nothing_and_says_until_when() -> None:
    play = farm_at("2025-10-06 12:00")
    play.rules("n", "weekdays 20:00-07:00", "weekends")
    job = play.submit()
    assert play.status(job) == "runnable"
    assert play.why(job) == "n is outside its availability rules until Mon 20:00."


def test_what_runs_when_a_node_goes_off_duty_goes_on() -> None:
    play = farm_at("2025-10-06 12:00")
    job = play.submit()
    play.rules("n", "weekends")
    assert play.status(job) == "running"
    assert play.status(play.submit()) == "runnable"


def test_a_node_comes_on_duty_to_the_minute() -> None:
    play = farm_at("2025-10-06 19:00")
    play.rules("n", "any 20:00-20:30")
    job = play.submit()
    keep_alive(play, 56)
    play.later(minutes=4, ms=-1)
    assert play.status(job) == "runnable"
    play.later(ms=1)
    assert play.status(job) == "running"
    keep_alive(play, 28)
    play.later(minutes=2)
    assert play.status(play.submit()) == "runnable"


def test_a_waiting_job_starts_at_once_when_rules_allow_it() -> None:
    play = farm_at("2025-10-06 12:00")
    play.rules("n", "any 20:00-20:30")
    job = play.submit()
    play.rules("n")
    assert play.status(job) == "running"


def test_a_node_in_use_takes_jobs_once_it_is_idle() -> None:
    play = farm_at("2025-10-06 12:00")
    play.rules("n", "idle 15")
    job = play.submit()
    assert "cannot tell" in play.why(job)
    play.beats("n", idle=3)
    assert play.why(job) == "n is in use: idle for 3 minutes, and it takes jobs after 15."
    play.beats("n", idle=15)
    assert play.status(job) == "running"
    play.beats("n", idle=0)
    assert play.status(job) == "running"
    assert play.status(play.submit()) == "runnable"


def test_how_idle_a_node_is_has_to_be_told_again_after_it_was_away() -> None:
    play = farm_at("2025-10-06 12:00")
    play.rules("n", "idle 15")
    play.beats("n", idle=60)
    play.disconnects("n")
    play.joins("n", cpus=2)
    job = play.submit()
    assert play.status(job) == "runnable"
    play.beats("n", idle=61)
    assert play.status(job) == "running"


def test_rules_and_duty_survive_a_restart() -> None:
    play = farm_at("2025-10-06 12:00")
    play.rules("n", "any 20:00-21:00", "idle 15")
    play.restarts()
    play.joins("n", cpus=2)
    job = play.submit()
    play.beats("n", idle=1)
    assert play.why(job) == (
        "n is outside its availability rules until Mon 20:00, or until it is idle for 15 minutes."
    )
    play.now = moment("2025-10-06 20:00")
    play.joins("n", cpus=2)
    assert play.status(job) == "running"


def test_only_disabled_rules_keep_a_node_off_duty_for_ever() -> None:
    play = farm_at("2025-10-06 12:00")
    rule = replace(parse("any"), enabled=False)
    play.send(m.SetAvailability(play.node_ids["n"], (rule,)))
    job = play.submit()
    assert play.why(job) == "n has availability rules, and all of them are disabled."


def test_holds_are_lost_when_a_node_goes_off_duty() -> None:
    play = farm_at("2025-10-06 12:00")
    play.joins("other", cpus=1)
    busy = play.submit(conditions=[{"type": "client", "name": "hostname", "op": "==",
                                    "value": "other"}])  # fmt: skip
    wide = play.submit(minHosts=2, maxHosts=2)
    assert list(play.farm.floor.holds[wide]) == [play.node_ids["n"]]
    play.rules("n", "any 20:00-21:00")
    assert not play.farm.floor.holds
    play.ends(busy)
    play.rules("n")
    assert play.nodes_of(wide) == ["n"]


def test_rules_get_numbers_that_stay() -> None:
    play = farm_at("2025-10-06 12:00")
    play.rules("n", "any", "idle 5")
    node = play.node_ids["n"]
    first, second = play.farm.nodes[node].availability
    assert (first.id, second.id) == (1, 2)
    play.send(m.SetAvailability(node, (first, parse("weekends"))))
    assert [rule.id for rule in play.farm.nodes[node].availability] == [1, 3]


def test_rules_that_make_no_sense_are_refused_and_nothing_changes() -> None:
    play = farm_at("2025-10-06 12:00")
    node, rule = play.node_ids["n"], parse("any")
    play.rules("n", "weekends")
    (kept,) = play.farm.nodes[node].availability
    for rules in (
        (kept, kept),
        (replace(rule, id=4),),
        (replace(rule, id=-1),),
        (replace(rule, day="someday"),),
        (replace(rule, start=1440),),
        (replace(rule, type="idle"),),
        (rule,) * 101,
    ):
        with pytest.raises(Invalid):
            play.send(m.SetAvailability(node, rules))
    with pytest.raises(NotFound):
        play.send(m.SetAvailability(NodeId(9), ()))
    assert play.farm.nodes[node].availability == (kept,)


def test_a_node_is_described() -> None:
    play = farm_at("2025-10-06 12:00")
    node = play.node_ids["n"]
    play.send(m.SetNodeDescription(node, " under the stairs "))
    assert play.farm.nodes[node].description == "under the stairs"
    with pytest.raises(Invalid):
        play.send(m.SetNodeDescription(node, "x" * 1001))
    with pytest.raises(NotFound):
        play.send(m.SetNodeDescription(NodeId(9), "x"))


def test_looking_at_nodes_does_not_pile_up() -> None:
    play = farm_at("2025-10-06 12:00")
    play.rules("n", "any 12:00-12:01", "any 12:02-12:03", "any 12:04-12:05")
    for _ in range(20):
        play.joins("n", cpus=2)
        play.later(minutes=1)
    keep_alive(play, 8)
    assert len(play.farm._deadlines) <= 3


def test_the_reason_names_the_day_and_time_of_the_farm() -> None:
    now = moment("2025-10-10 21:00", NEW_YORK)
    rules = [parse("friday 20:00-20:30")]
    assert why_off_duty(rules, now, NEW_YORK, -1) == (
        "is outside its availability rules until Fri 20:00"
    )
