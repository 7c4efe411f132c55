"""Attributes of jobs: what can be set and by whom, what is answered from the job, what is told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from play import Play

from roost.core import attributes, jobspec
from roost.core import messages as m
from roost.core.attributes import (
    ENTRY_BYTES_MAX,
    POINTS_MAX,
    ChirpRules,
    entry,
    gates,
    matches_prefix,
    stride,
)
from roost.core.blackboard import all_of, value_of
from roost.core.messages import Gates
from roost.core.records import AttributePoint, JobId, Moment
from roost.errors import Conflict, Forbidden, Invalid, NotFound, Refused, TooLarge


@pytest.fixture
def play() -> Play:
    """One node with room, on it job 1 of ada."""
    play = Play()
    play.joins("box", cpus=4)
    play.submit(name="sim", submittedBy="ada", attributes={"Begun": 1, "Stage": "first"})
    return play


JOB = JobId(1)


def value(play: Play, name: str, job: int = JOB) -> str | None:
    return value_of(play.farm, JobId(job), name)


def told(play: Play, status: str = "attribute") -> list[str]:
    return [event.message for event in play.events if event.status == status]


def writes(play: Play, line: int, text: str, kind: Any = "ulog", number: int = 1) -> None:
    play.reports("box", m.EntryReported(JOB, number, line, kind, text))


# --- setting ----------------------------------------------------------------------------------


def test_an_attribute_is_found_whatever_the_case_of_its_name(play: Play) -> None:
    play.sets(JOB, "IterationNum", "7")
    assert value(play, "iterationnum") == value(play, "IterationNum") == "7"
    play.sets(JOB, "ITERATIONNUM", "8")
    assert [one.name for one in play.farm.attributes[JOB].values()] == ["IterationNum"]
    assert value(play, "IterationNum") == "8"


def test_the_specification_gives_attributes_that_the_job_may_change(play: Play) -> None:
    assert (value(play, "Begun"), value(play, "stage")) == ("1", '"first"')
    assert not play.farm.attributes
    play.sets(JOB, "stage", '"second"')
    assert value(play, "Stage") == '"second"'
    assert [one.name for one in play.farm.attributes[JOB].values()] == ["Stage"]


def test_text_is_kept_in_one_form(play: Play) -> None:
    play.sets(JOB, "Flag", " TRUE ")
    play.sets(JOB, "Later", " Flag && 1 < 2 ")
    assert (value(play, "Flag"), value(play, "Later")) == ("true", "Flag && 1 < 2")


@pytest.mark.parametrize(
    ("name", "text", "refusal"),
    [
        ("ClusterId", "99", Forbidden),
        ("jobstatus", "5", Forbidden),
        ("owner", '"root"', Forbidden),
        ("OsUser", '"root"', Forbidden),
        ("1Bad", "1", Invalid),
        ("Bad Name", "1", Invalid),
        ("", "1", Invalid),
        ("N" * 256, "1", Invalid),
        ("Good", "1 +", Invalid),
        ("Good", "", Invalid),
        ("Good", '"a\0b"', Invalid),
        ("Good", '"\ud800"', Invalid),
        ("Good", f'"{"x" * attributes.TEXT_BYTES_MAX}"', TooLarge),
        ("Progress", "1.5", Invalid),
        ("Progress", '"half"', Invalid),
        ("Progress", "true", Invalid),
        ("JobPrio", "high", Invalid),
        ("JobPrio", "2.5", Invalid),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    play: Play, name: str, text: str, refusal: type[Refused]
) -> None:
    before = all_of(play.farm, JOB)
    with pytest.raises(refusal) as refused:
        play.sets(JOB, name, text)
    assert str(refused.value).endswith(".")
    assert "\n" not in str(refused.value)
    assert all_of(play.farm, JOB) == before
    assert not play.farm.take_changes()


def test_a_job_has_so_many_attributes_and_no_more(play: Play) -> None:
    names = [f"A{number}" for number in range(attributes.NAMES_MAX - 2)]
    play.send(m.SetAttributes(JOB, dict.fromkeys(names, "1")))
    with pytest.raises(TooLarge):
        play.sets(JOB, "OneMore", "1")
    play.sets(JOB, "a0", "2")
    play.sets(JOB, "BEGUN", "2")
    assert len(play.farm.own_attributes(play.job(JOB))) == attributes.NAMES_MAX


def test_all_attributes_of_a_job_together_have_a_limit_in_bytes(play: Play) -> None:
    text = '"' + "x" * (attributes.TEXT_BYTES_MAX - 2) + '"'
    fits = attributes.ALL_BYTES_MAX // attributes.TEXT_BYTES_MAX - 1
    play.send(m.SetAttributes(JOB, {f"A{number}": text for number in range(fits)}))
    play.sets(JOB, "Last", text[:1000] + '"')
    with pytest.raises(TooLarge, match="keep what is larger in a file"):
        play.sets(JOB, "Last", text)
    assert value(play, "Last") == text[:1000] + '"'
    play.sets(JOB, "A0", text)
    play.sets(JOB, "A0", "1")
    play.sets(JOB, "Last", text)


def test_setting_from_outside_is_all_or_nothing(play: Play) -> None:
    with pytest.raises(Forbidden):
        play.send(m.SetAttributes(JOB, {"Fine": "1", "Owner": '"eve"'}))
    assert value(play, "Fine") is None
    with pytest.raises(NotFound):
        play.send(m.SetAttributes(JobId(99), {"Fine": "1"}))


def test_a_finished_job_can_be_given_attributes_and_keeps_them(play: Play) -> None:
    play.sets(JOB, "Loss", "0.5")
    play.ends(JOB)
    assert JOB not in play.farm.jobs
    assert not play.farm.attributes
    play.revive(JOB)
    assert value(play, "Loss") == "0.5"
    play.send(m.SetAttributes(JOB, {"Rating": "3"}))
    play.revive(JOB)
    assert (value(play, "Loss"), value(play, "Rating")) == ("0.5", "3")


# --- by whom ----------------------------------------------------------------------------------


def test_only_a_live_attempt_on_its_own_node_may_set(play: Play) -> None:
    play.joins("other")
    with pytest.raises(Conflict):
        play.sets(JOB, "A", "1", node="other")
    with pytest.raises(Conflict):
        play.send(m.SetAttribute(play.node_ids["box"], JOB, 2, "A", "1"))
    with pytest.raises(Conflict):
        play.send(m.SetAttribute(play.node_ids["box"], JobId(9), 1, "A", "1"))
    play.cancel(JOB)
    with pytest.raises(Conflict):
        play.send(m.SetAttribute(play.node_ids["box"], JOB, 1, "A", "1"))
    assert value(play, "A") is None


def test_all_nodes_of_a_parallel_job_share_one_blackboard() -> None:
    play = Play()
    play.joins("a")
    play.joins("b")
    job = play.submit(minHosts=2, maxHosts=2)
    play.sets(job, "Left", "1", node="a")
    play.sets(job, "Right", "2", node="b")
    assert (value(play, "Left"), value(play, "Right")) == ("1", "2")
    report = m.AttributesReported(job, 1, (("ChirpDone", "true"),))
    play.reports("b", report)
    assert value(play, "ChirpDone") == "true"


def test_what_comes_with_delay_is_taken_as_far_as_it_is_good(play: Play) -> None:
    reported = (("ChirpA", "1"), ("ChirpB", "1 +"), ("Owner", '"eve"'), ("ChirpC", "ChirpA + 1"))
    play.reports("box", m.AttributesReported(JOB, 1, reported))
    assert (value(play, "ChirpA"), value(play, "ChirpB")) == ("1", None)
    assert (value(play, "Owner"), value(play, "ChirpC")) == ('"ada"', "ChirpA + 1")
    assert told(play) == []


def test_what_a_stale_attempt_reports_is_ignored(play: Play) -> None:
    play.reports("box", m.AttributesReported(JOB, 2, (("ChirpA", "1"),)))
    play.reports("box", m.AttributesReported(JobId(7), 1, (("ChirpA", "1"),)))
    play.joins("other")
    play.reports("other", m.AttributesReported(JOB, 1, (("ChirpA", "1"),)))
    assert value(play, "ChirpA") is None


def test_what_was_set_before_a_cancel_may_come_after_it(play: Play) -> None:
    play.cancel(JOB)
    play.reports("box", m.AttributesReported(JOB, 1, (("ChirpA", "1"),)))
    assert value(play, "ChirpA") == "1"


def test_attributes_outlive_an_attempt_and_a_restart(play: Play) -> None:
    play.sets(JOB, "Checkpoint", '"frame 12"')
    play.eject(JOB)
    play.restarts()
    assert value(play, "Checkpoint") == '"frame 12"'


def test_attributes_go_with_their_job(play: Play) -> None:
    play.sets(JOB, "A", "1")
    play.ends(JOB)
    play.delete(JOB)
    assert not play.farm.attributes
    assert not play.attributes


# --- priority and progress --------------------------------------------------------------------


def test_a_job_sets_its_own_priority(play: Play) -> None:
    play.sets(JOB, "jobprio", "7")
    assert play.job(JOB).priority == 7
    assert value(play, "JobPrio") == "7"
    assert not play.farm.attributes
    assert told(play, "priority changed") == ["from 0 to 7"]
    assert told(play) == []


def test_progress_moves_the_roll_ups(play: Play) -> None:
    root, child, _ = play.submit(
        {"name": "root", "children": [{"name": "a", "command": "true"}] * 2}
    )
    play.sets(child, "Progress", "0.5")
    assert play.job(child).progress == 500_000
    assert play.rollup(root).overall_progress == 250_000
    assert value(play, "Progress", child) == "0.5"


def test_progress_does_not_go_back_while_an_attempt_runs(play: Play) -> None:
    play.beats("box", (JOB, 1, 600_000))
    assert value(play, "Progress") == "0.6"
    play.sets(JOB, "Progress", "0.25")
    assert play.job(JOB).progress == 600_000


def test_the_progress_of_a_job_that_does_not_run_is_only_written_down(play: Play) -> None:
    waiting = play.submit(cpus=4, tags=["single"])
    play.send(m.SetAttributes(waiting, {"Progress": "0.5"}))
    assert (value(play, "Progress", waiting), play.job(waiting).progress) == ("0.5", 0)


# --- standard ones ----------------------------------------------------------------------------


def test_standard_attributes_are_answered_from_the_job(play: Play) -> None:
    play.set_priority(JOB, 3)
    found = all_of(play.farm, JOB)
    assert found == {
        "Begun": "1", "Stage": '"first"', "ClusterId": "1", "ProcId": "0", "Owner": '"ada"',
        "Cmd": '"true"', "JobStatus": "2", "JobPrio": "3", "RequestCpus": "1", "MinHosts": "1",
        "MaxHosts": "1", "CurrentHosts": "1", "NumJobStarts": "1", "RemoteHost": '"box"',
        "QDate": "1000", "JobStartDate": "1000", "JobCurrentStartDate": "1000",
        "CompletionDate": "0", "JobTransferringOutput": "false", "Progress": "0.0",
    }  # fmt: skip
    assert value(play, "NoSuchAttr") is None
    assert value(play, "ClusterId", 77) is None
    assert all_of(play.farm, JobId(77)) == {}


def test_a_tree_is_a_cluster_of_its_root(play: Play) -> None:
    root, child = play.submit({"name": "root", "children": [{"name": "a", "command": "b"}]})
    assert (value(play, "ClusterId", child), value(play, "ProcId", child)) == ("2", "3")
    assert (value(play, "ClusterId", root), value(play, "ProcId", root)) == ("2", "0")


@pytest.mark.parametrize(
    ("act", "number"),
    [(None, "2"), ("pause", "5"), ("cancel", "3"), ("end", "4"), ("fail", "4"), ("wait", "1")],
)
def test_the_status_is_a_number_of_htcondor(play: Play, act: str | None, number: str) -> None:
    job = play.submit(cpus=4, tags=["single"]) if act == "wait" else JOB
    keeper = play.submit({"name": "root", "children": [{"name": "a", "command": "b", "cpus": 9}]})
    assert value(play, "JobStatus", keeper[0]) == "1"
    match act:
        case "pause":
            play.pause(JOB)
            play.pauses(JOB)
        case "cancel":
            play.cancel(JOB)
        case "end":
            play.ends(JOB)
            play.revive(JOB)
        case "fail":
            play.fails(JOB)
            play.revive(JOB)
    assert value(play, "JobStatus", job) == number


def test_the_folder_is_the_job_s_own_or_its_root_s() -> None:
    play = Play(submit_folder="/farm/submit", submit_roots=("/shots",))
    job = play.submit(submitDir="/shots//a/./b/")
    other = play.submit()
    assert (value(play, "Iwd", job), value(play, "Iwd", other)) == (
        '"/shots/a/b"',
        '"/farm/submit/2"',
    )


# --- the story --------------------------------------------------------------------------------


def test_the_story_tells_what_was_set_and_changed(play: Play) -> None:
    play.sets(JOB, "Scene", '"a"')
    play.sets(JOB, "Scene", '"b"')
    play.sets(JOB, "Scene", '"b"')
    assert told(play) == [
        'Setting job attribute Scene to "a"',
        'Changing job attribute Scene from "a" to "b"',
    ]


def test_numbers_that_follow_numbers_are_in_the_history_and_not_in_the_story(play: Play) -> None:
    for loss in ("9.5", "4.0", '"diverged"', "3"):
        play.later(ms=1000)
        play.sets(JOB, "Loss", loss)
    assert told(play) == [
        "Setting job attribute Loss to 9.5",
        'Changing job attribute Loss from 4.0 to "diverged"',
        'Changing job attribute Loss from "diverged" to 3',
    ]
    assert [point.value for point in play.points[JOB, "loss"]] == [9.5, 4.0, 3.0]


def test_long_values_are_cut_in_the_story_only(play: Play) -> None:
    play.sets(JOB, "Long", f'"{"x" * 5000}"')
    assert len(told(play)[0]) < 300
    assert len(value(play, "Long") or "") == 5002


def test_lines_and_phases_are_in_the_story(play: Play) -> None:
    writes(play, 1, "frame 7 done")
    writes(play, 2, "Output", "phase")
    writes(play, 3, "nap", "phase")
    assert (told(play, "ulog"), told(play, "phase")) == (["frame 7 done"], ["Output", "nap"])


def test_a_line_is_told_once_however_often_it_is_reported(play: Play) -> None:
    for line in (1, 2, 1, 2):
        writes(play, line, f"line {line}")
    play.restarts()
    writes(play, 2, "line 2")
    writes(play, 1 << 32, "of another agent")
    assert told(play, "ulog") == ["line 1", "line 2", "of another agent"]


def test_lines_of_a_stale_attempt_or_of_a_stranger_are_not_told(play: Play) -> None:
    writes(play, 1, "another run", number=2)
    play.joins("other")
    play.reports("other", m.EntryReported(JOB, 1, 1, "ulog", "another node"))
    play.reports("box", m.EntryReported(JobId(7), 1, 1, "ulog", "another job"))
    play.ends(JOB)
    writes(play, 2, "after the end")
    assert told(play, "ulog") == []


def test_what_a_job_wrote_before_a_cancel_may_come_after_it(play: Play) -> None:
    play.cancel(JOB)
    writes(play, 1, "the last words")
    assert told(play, "ulog") == ["the last words"]
    play.delete(JOB)
    writes(play, 2, "nobody wants to know")
    assert told(play, "ulog") == ["the last words"]


def test_the_output_phase_holds_for_the_attempt_that_entered_it(play: Play) -> None:
    assert value(play, "JobTransferringOutput") == "false"
    writes(play, 1, "output", "phase")
    assert value(play, "JobTransferringOutput") == "true"
    assert value(play, "JobTransferringOutputTime") == "1000"
    play.later(ms=10)
    play.fails(JOB)
    play.reschedule(JOB)
    assert play.status(JOB) == "running"
    assert value(play, "JobTransferringOutput") == "false"


def test_a_run_that_floods_the_story_is_stopped_and_the_next_may_write(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attributes, "ENTRIES_MAX", 3)
    for line in (1, 2):
        writes(play, line, f"line {line}")
    for text in ('"a"', '"b"', '"c"'):
        play.sets(JOB, "Stage", text)
    assert (len(told(play)), value(play, "Stage")) == (1, '"c"')
    writes(play, 3, "line 3")
    writes(play, 4, "output", "phase")
    assert (told(play, "ulog"), told(play, "phase")) == (["line 1", "line 2"], [])
    with pytest.raises(TooLarge):
        play.sets(JOB, "JobPrio", "5")
    assert (value(play, "JobTransferringOutput"), play.job(JOB).priority) == ("false", 0)
    play.eject(JOB)
    play.ends(JOB, None, cause=m.AttemptCause.EJECTED)
    writes(play, 1, "again", number=2)
    assert told(play, "ulog")[-1] == "again"


@given(st.text(st.characters(codec="utf-8")))
def test_a_line_is_cut_between_characters(text: str) -> None:
    kept = entry(text * 50).encode()
    assert len(kept) <= ENTRY_BYTES_MAX
    assert len(kept) > ENTRY_BYTES_MAX - 4 or kept.decode() == text * 50


# --- history ----------------------------------------------------------------------------------


@given(st.integers(0, 100_000))
def test_a_history_is_short_and_covers_all_of_the_time(count: int) -> None:
    step = stride(count)
    kept = len(range(0, count, step))
    assert kept + 1 <= POINTS_MAX
    assert step == 1 or 2 * kept + 2 >= POINTS_MAX - 1
    assert step >= stride(max(count - 1, 0))


def test_a_long_history_is_thinned_from_the_beginning_to_the_end(play: Play) -> None:
    for number in range(1000):
        play.farm.handle(m.SetAttribute(play.node_ids["box"], JOB, 1, "N", str(number)), play.now)
        if number % 7 == 0:
            play.send(m.Tick())
    play.send(m.Tick())
    kept = play.points[JOB, "n"]
    assert [point.value for point in kept] == list(range(0, 1000, 4))
    latest = play.farm.attributes[JOB]["n"]
    history = attributes.history(latest, kept)
    assert [value for _, value in history] == [*range(0, 1000, 4), 999]


def test_the_present_value_is_in_the_history_once() -> None:
    one = attributes.Attribute(JOB, "N", "5", Moment(9), 2)
    points = [AttributePoint(JOB, "n", number, Moment(number), 4.0) for number in range(2)]
    assert attributes.history(one, points[:1]) == [(0, 4.0), (9, 5.0)]
    assert attributes.history(one, points) == [(0, 4.0), (1, 4.0)]
    assert attributes.history(attributes.Attribute(JOB, "N", '"x"', Moment(9)), ()) == []


@pytest.mark.parametrize(
    "text", ["true", '"7"', "UNDEFINED", "7 + 1", 'real("INF")', 'real("NaN")', "{ 1 }"]
)
def test_what_is_no_plain_number_leaves_no_point(play: Play, text: str) -> None:
    play.sets(JOB, "X", text)
    assert not play.points
    assert value(play, "X") == text


# --- plain data -------------------------------------------------------------------------------


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\\"), max_size=20),
    lambda values: st.lists(values, max_size=3),
    max_leaves=6,
)


@given(plain)
def test_plain_data_comes_back_as_it_went_in(data: Any) -> None:
    text = attributes.text_of("X", data)
    assert attributes.as_data(text) == data
    assert attributes.checked_text("X", text) == text


def test_expressions_are_told_from_strings() -> None:
    assert attributes.text_of("X", "a + 1") == '"a + 1"'
    assert attributes.text_of("X", {"expr": " a + 1"}) == "a + 1"
    assert attributes.as_data("a + 1") == {"expr": "a + 1"}
    for bad in ({}, {"expr": 1}, {"expr": "a", "more": 1}, object(), {"expr": "a +"}):
        with pytest.raises(Invalid):
            attributes.text_of("X", bad)


def test_a_specification_comes_back_with_its_attributes() -> None:
    given = {"Num": 3, "Real": 0.5, "Text": "a b", "Flag": True, "Sum": {"expr": "Num + 1"}}
    spec = {"name": "a", "command": "true", "attributes": given, "submitDir": "/shots"}
    (new,) = jobspec.parse(spec).jobs
    assert new.spec.attributes == {
        "Num": "3", "Real": "0.5", "Text": '"a b"', "Flag": "true", "Sum": "Num + 1",
    }  # fmt: skip
    play = Play(submit_roots=("/",))
    shown = jobspec.unparse(play.job(play.submit(**spec)), ())
    assert (shown["attributes"], shown["submitDir"]) == (given, "/shots")
    assert jobspec.parse(shown).jobs[0].spec == new.spec


@pytest.mark.parametrize(
    ("key", "bad", "says"),
    [
        ("attributes", {"Owner": "eve"}, "Owner tells about the job itself"),
        ("attributes", {"JobPrio": 3}, "JobPrio has a key of its own, priority"),
        ("attributes", {"A": 1, "a": 2}, "a is there twice"),
        ("attributes", {"a b": 1}, '"a b" cannot be the name'),
        ("attributes", {"A": {"expr": "1 +"}}, "ends too early"),
        ("attributes", [1], "must be an object"),
        ("attributes", {f"A{n}": 1 for n in range(1001)}, "1000 attributes"),
        ("attributes", {f"A{n}": "x" * 60_000 for n in range(18)}, "1048576 bytes together"),
        ("submitDir", "shots/a", "must be an absolute path"),
        ("submitDir", "/shots/../etc", "must be an absolute path"),
        ("submitDir", "C:/shots", "must be an absolute path"),
    ],
)
def test_a_bad_specification_is_refused_in_one_sentence(key: str, bad: Any, says: str) -> None:
    with pytest.raises(Invalid) as refused:
        jobspec.parse({"name": "comp", key: bad})
    assert str(refused.value).startswith(f'job "comp": {key} ')
    assert says in str(refused.value)


# --- Chirp ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "rules", "open_"),
    [
        # As HTCondor's documentation and a real starter have it.
        ({}, {}, (False, False, True)),
        ({"WantIOProxy": True}, {}, (True, True, True)),
        ({"wantioproxy": 1}, {}, (True, True, True)),
        ({"WantRemoteUpdates": True}, {}, (False, True, True)),
        ({"WantIOProxy": True, "WantRemoteUpdates": False}, {}, (True, False, True)),
        ({"WantIOProxy": True, "WantDelayedUpdates": False}, {}, (True, True, False)),
        ({"WantDelayedUpdates": False}, {}, (False, False, False)),
        ({"WantIOProxy": {"expr": "Memory > 1"}}, {}, (False, False, True)),
        ({"WantIOProxy": "true"}, {}, (False, False, True)),
        ({"WantIOProxy": True}, {"io": False}, (False, False, True)),
        ({"WantIOProxy": True, "WantRemoteUpdates": True}, {"io": False}, (False, True, True)),
        ({"WantIOProxy": True}, {"updates": False}, (True, False, True)),
        ({"WantIOProxy": True}, {"delayed": False}, (True, True, False)),
        ({"WantIOProxy": True}, {"enabled": False}, (False, False, False)),
    ],
)
def test_gates_follow_the_attributes_and_the_farm(
    wanted: dict[str, Any], rules: dict[str, Any], open_: tuple[bool, bool, bool]
) -> None:
    texts = {name: attributes.text_of(name, data) for name, data in wanted.items()}
    own = attributes.own(JOB, texts, Moment(0), {})
    assert gates(own, ChirpRules(**rules)) == Gates(*open_)


@pytest.mark.parametrize("folder", ["/shot", "/shotsother", "/", "/elsewhere/shots"])
def test_a_submit_folder_is_beneath_one_that_the_farm_allows(folder: str) -> None:
    play = Play(submit_roots=("/shots", "/more/"))
    play.submit(submitDir="/more")
    with pytest.raises(Invalid, match=f'job "a" has the submitDir {folder}: .* /shots and /more/'):
        play.submit({"name": "a", "command": "b", "submitDir": folder})
    with pytest.raises(Invalid, match="the farm allows none"):
        Play().submit(submitDir="/shots")


def order(play: Play) -> m.AttemptOrder:
    return next(e.order for e in play.effects if isinstance(e, m.StartAttempt))


def test_an_order_says_what_chirp_the_attempt_may_use() -> None:
    play = Play(chirp=ChirpRules(delayed_prefix="My*"), submit_roots=("/s/",))
    play.joins("box", cpus=2)
    wanted = {"WantIOProxy": True, "WantVirtualRoot": True}
    below = {"name": "a", "command": "b", "submittedBy": "ada", "submitDir": "/s"}
    _, child = play.submit({"name": "root", "children": [{**below, "attributes": wanted}]})
    assert order(play).chirp == m.ChirpOrder(
        Gates(True, True, True), "ada", "/s", JobId(1), "My*", virtual_root=True
    )
    assert child == 2
    play.submit(attributes={"WantDelayedUpdates": False})
    assert order(play).chirp is None


def test_what_is_set_from_outside_counts_for_the_next_attempt(play: Play) -> None:
    play.send(m.SetAttributes(JOB, {"WantIOProxy": "true"}))
    play.eject(JOB)
    play.ends(JOB, None, cause=m.AttemptCause.EJECTED)
    chirp = order(play).chirp
    assert chirp is not None
    assert chirp.gates.io


@pytest.mark.parametrize(
    ("name", "prefixes", "matches"),
    [
        ("ChirpA", "Chirp*", True),
        ("chirpa", "Chirp*", True),
        ("Chirp", "Chirp*", True),
        ("MyChirp", "Chirp*", False),
        ("Exact", "Other, exact", True),
        ("Exactly", "Other, exact", False),
        ("A_b_End", "A*End", True),
        ("anything", "*", True),
        ("anything", "", False),
        ("aXb", "a.b", False),
    ],
)
def test_names_that_may_be_set_with_delay(name: str, prefixes: str, matches: bool) -> None:
    assert matches_prefix(name, prefixes) is matches
