"""Submitted specifications, in every form seen, and what is refused how."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.core import jobspec
from roost.core.messages import NewJob, SubmitJobs
from roost.core.records import Condition, Job, JobId, JobStatus, Moment
from roost.errors import Invalid


def one(**keys: object) -> NewJob:
    (job,) = jobspec.parse({"name": "comp", **keys}).jobs
    return job


def names(submission: SubmitJobs) -> list[str]:
    return [job.spec.name for job in submission.jobs]


@pytest.mark.parametrize(
    "raw",
    [
        {"name": "a"},
        [{"name": "a"}],
        ({"name": "a"},),
        '{"name": "a"}',
        '[{"name": "a"}]',
        b'{"name": "a"}',
        {"name": "a", "colour": "red"},
    ],
)
def test_a_submission_may_be_an_object_a_list_or_json_text(raw: object) -> None:
    assert names(jobspec.parse(raw)) == ["a"]


@pytest.mark.parametrize(
    ("key", "value", "field", "expected"),
    [
        ("command", "echo", "command", "echo"),
        ("command", "", "command", ""),
        ("command", None, "command", ""),
        ("command", {}, "command", ""),
        ("command", {"linux": "", "windows": ""}, "command", ""),
        ("command", {"linux": "l", "macos": "m"}, "command", {"linux": "l", "macosx": "m"}),
        ("command", {"macosx": "x", "macos": "m"}, "command", {"macosx": "x"}),
        ("shell", "bash", "shell", "bash"),
        ("cwd", "shots", "cwd", "shots"),
        ("cleanup", "rm -r x", "cleanup", "rm -r x"),
        ("description", 5, "description", "5"),
        ("submittedBy", "ann", "submitted_by", "ann"),
        ("environment", {"A": 1, "B": None}, "environment", {"A": "1", "B": ""}),
        ("environment", {"C": True}, "environment", {"C": "True"}),
        ("environment", "", "environment", {}),
        ("environment", {}, "environment", {}),
        ("environment", {"JSON": '{"ö": "\n"}'}, "environment", {"JSON": '{"ö": "\n"}'}),
        ("tags", "single", "tags", ("single",)),
        ("tags", "single:1, red", "tags", ("single:1", "red")),
        ("tags", ["a b", "a b", ""], "tags", ("a b",)),
        ("tags", None, "tags", ()),
        ("cpus", "4", "cpus", 4),
        ("cpus", 4.0, "cpus", 4),
        ("cpus", 0, "cpus", 1),
        ("cpus", "", "cpus", 1),
        ("minHosts", "3", "min_hosts", 3),
        ("minHosts", 3, "max_hosts", 3),
        ("maxHosts", 64, "max_hosts", 64),
        ("maxHosts", 0, "max_hosts", 1),
        ("maxTime", 60, "max_time_ms", 60_000),
        ("maxTime", -1, "max_time_ms", None),
        ("maxTime", None, "max_time_ms", None),
        ("resources", {"licence": "2"}, "resources", {"licence": 2}),
        ("resources", None, "resources", {}),
        ("onError", "mail", "on_error", "mail"),
        ("onCancel", "mail", "on_cancel", "mail"),
        ("onSuccess", "mail", "on_success", "mail"),
        ("onChildError", "mail", "on_child_error", "mail"),
        ("emailTo", "a@b,c@d", "email_to", "a@b,c@d"),
        ("emailReasons", ["failed", "running"], "email_reasons", "failed,running"),
        ("conditions", [], "conditions", ()),
        ("host", "A1, a2;a3 a4", "conditions", (Condition("hostname", "in", "A1,a2,a3,a4"),)),
        ("host", "", "conditions", ()),
        ("hostgroup", "Big ones", "conditions", (Condition("group", "in", "Big ones"),)),
        (
            "conditions",
            [{"type": "client", "name": "os", "op": "any", "value": "linux;windows"}],
            "conditions",
            (Condition("os", "any", "linux;windows"),),
        ),
        (
            "conditions",
            [{"name": "hostname", "op": "!=", "value": ""}],
            "conditions",
            (Condition("hostname", "!=", ""),),
        ),
    ],
)  # fmt: skip
def test_values_are_read_in_the_forms_callers_send(
    key: str, value: object, field: str, expected: object
) -> None:
    assert getattr(one(**{key: value}).spec, field) == expected


@pytest.mark.parametrize(
    ("given_value", "expected"), [(5, 5), ("5", 5), ("5 (Medium)", 5), (" 7: high", 7), (-3, 0)]
)
def test_priority_is_the_leading_integer_and_never_below_zero(
    given_value: object, expected: int
) -> None:
    assert one(priority=given_value).priority == expected


def test_host_is_added_to_the_conditions_given() -> None:
    spec = one(
        conditions=[{"type": "client", "name": "os", "op": "==", "value": "linux"}], host="a"
    ).spec
    assert spec.conditions == (Condition("os", "==", "linux"), Condition("hostname", "in", "a"))


def test_jobs_come_breadth_first() -> None:
    submission = jobspec.parse(
        [
            {"name": "a", "children": [{"name": "a1", "children": [{"name": "a11"}]}]},
            {"name": "b", "children": [{"name": "b1"}, {"name": "b2"}]},
        ]
    )
    assert names(submission) == ["a", "b", "a1", "b1", "b2", "a11"]
    assert [job.parents for job in submission.jobs] == [(), (), (0,), (1,), (1,), (2,)]


def test_stubs_may_refer_forward_and_give_several_parents() -> None:
    submission = jobspec.parse(
        [
            {"name": "all", "stubId": "/out/all", "childStubIds": ["/out/x", "/out/y"]},
            {"name": "x", "stubId": "/out/x", "childStubIds": []},
            {"name": "clean", "childStubIds": ["/out/x"]},
            {"name": "y", "stubId": "/out/y"},
        ]
    )
    assert [job.parents for job in submission.jobs] == [(), (0, 2), (), (0,)]


def test_existing_relatives_are_given_as_ids_or_numeric_text() -> None:
    job = one(parentIds=["12", 13], childrenIds=[4, "5"])
    assert (job.parent_ids, job.child_ids) == ((12, 13), (4, 5))


def test_parent_and_children_of_the_call_go_to_jobs_without_a_parent_of_their_own() -> None:
    submission = jobspec.parse(
        {"name": "a", "parentIds": [9], "children": [{"name": "b"}]}, JobId(7), [JobId(1)]
    )
    assert [job.parent_ids for job in submission.jobs] == [(7, 9), ()]
    assert [job.child_ids for job in submission.jobs] == [(1,), ()]


def test_submitter_comes_from_the_nearest_parent_that_has_one() -> None:
    submission = jobspec.parse(
        [
            {"name": "x", "stubId": "x"},
            {"name": "a", "submittedBy": "ann", "childStubIds": ["x"], "children": [
                {"name": "b", "children": [{"name": "c"}]},
                {"name": "d", "submittedBy": "dan", "children": [{"name": "e"}]},
            ]},
            {"name": "f"},
        ]
    )  # fmt: skip
    by = {job.spec.name: job.spec.submitted_by for job in submission.jobs}
    assert by == {
        "x": "ann", "a": "ann", "b": "ann", "c": "ann", "d": "dan", "e": "dan", "f": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        ([], "the submission holds no job"),
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        ("[" * 100_000, "nested too deeply"),
        (7, "job must be an object, not 7"),
        ([{"name": "a"}, None], "job 2 must be an object, not nothing"),
        ({}, "job: name must be given"),
        ({"name": ""}, "job: name must be given"),
        ({"name": ["a"]}, "job: name must be text, not a list"),
        ({"name": "a", "cpus": -1}, 'job "a": cpus must be 0 or more, not -1'),
        ({"name": "a", "cpus": 1.5}, 'job "a": cpus must be a whole number, not 1.5'),
        ({"name": "a", "cpus": "1.5"}, 'cpus must be a whole number, not "1.5"'),
        ({"name": "a", "cpus": True}, "cpus must be a whole number, not True"),
        ({"name": "a", "cpus": 10**30}, "cpus must be a number up to"),
        ({"name": "a", "cpus": float("nan")}, "cpus must be a whole number, not nan"),
        ({"name": "a", "triesLeft": -1}, "triesLeft must be 0 or more"),
        ({"name": "a", "command": ["ls"]}, "command must be text, not a list"),
        ({"name": "a", "command": {"beos": "x"}}, 'command has no platform "beos"'),
        ({"name": "a", "environment": "A=1"}, "environment must be an object"),
        ({"name": "a", "environment": {"A=B": "1"}}, 'cannot hold a variable named "A=B"'),
        ({"name": "a", "environment": {"A": [1]}}, 'variable "A" must be text, not a list'),
        ({"name": "a", "shell": "a\0b"}, "shell must not hold a NUL character"),
        ({"name": "a", "shell": "\ud800"}, "must be valid Unicode"),
        ({"name": "a", "tags": 7}, "tags must be a list, not 7"),
        ({"name": "a", "children": {"name": "b"}}, "children must be a list, not an object"),
        ({"name": "a", "childrenIds": [0]}, "childrenIds must be a job id, not 0"),
        ({"name": "a", "conditions": ["x"]}, "conditions must hold objects"),
        ({"name": "a", "conditions": [{"name": "cpu", "op": "=="}]}, 'no name "cpu"'),
        ({"name": "a", "conditions": [{"name": "os", "op": "~"}]}, 'no op "~"'),
        (
            {"name": "a", "conditions": [{"name": "hostname", "op": "in", "value": ["b"]}]},
            "conditions have a value that must be text, not a list",
        ),
        ({"name": "a", "conditions": [{"type": "job", "name": "os", "op": "in"}]}, 'no type "job"'),
        ([{"name": "a", "childStubIds": ["x"]}], 'childStubIds names "x", which is no stubId'),
        (
            [{"name": "a", "stubId": "x"}, {"name": "b", "stubId": "x"}],
            'job 2 ("b"): stubId "x" is already that of job 1 ("a")',
        ),
        (
            {"name": "comp", "children": [{"name": "f1"}, {"name": "f2", "cpus": "many"}]},
            'child 2 ("f2") of job "comp": cpus must be a whole number, not "many"',
        ),
    ],
)
def test_a_refusal_names_the_job_and_the_key(raw: object, sentence: str) -> None:
    with pytest.raises(Invalid) as caught:
        jobspec.parse(raw)
    assert sentence in str(caught.value)


def test_nesting_and_number_of_jobs_have_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    def nested(levels: int) -> dict[str, Any]:
        spec: dict[str, Any] = {"name": "leaf"}
        for _ in range(levels):
            spec = {"name": "box", "children": [spec]}
        return spec

    assert len(jobspec.parse(nested(jobspec.DEPTH_MAX)).jobs) == jobspec.DEPTH_MAX + 1
    with pytest.raises(Invalid, match="levels deep"):
        jobspec.parse(nested(jobspec.DEPTH_MAX + 1))
    monkeypatch.setattr(jobspec, "JOBS_PER_SUBMISSION_MAX", 2)
    with pytest.raises(Invalid, match="at most 2 jobs"):
        jobspec.parse({"name": "a", "children": [{"name": "b"}, {"name": "c"}]})


@pytest.mark.parametrize("character", ["x", "é", "😀"])
def test_a_text_may_be_as_long_as_a_process_can_be_given(character: str) -> None:
    most = character * (jobspec.TEXT_BYTES_MAX // len(character.encode()))
    assert one(command=most).spec.command == most
    with pytest.raises(Invalid, match='job "comp": command must be at most 131071 bytes long'):
        one(command=most + character)


@pytest.mark.parametrize("character", ["x", "😀"])
def test_an_environment_has_a_bound_of_its_own(character: str) -> None:
    most = character * (100_000 // len(character.encode()))
    variables = {f"V{number}": most for number in range(10)}
    assert one(environment=variables).spec.environment == variables
    with pytest.raises(Invalid, match="environment must be at most 1048576 bytes"):
        one(environment=variables | {"MORE": most})
    with pytest.raises(Invalid, match="environment must be at most 1048576 bytes"):
        one(environment={most + str(number): "" for number in range(11)})


def test_equal_parts_of_many_jobs_are_kept_once() -> None:
    child = {"name": "f", "tags": ["single"], "environment": {"A": "1"}, "host": "a"}
    jobs = jobspec.parse({"name": "a", "children": [dict(child), dict(child)]}).jobs
    first, second = jobs[1].spec, jobs[2].spec
    assert first.tags is second.tags
    assert first.environment is second.environment
    assert first.conditions is second.conditions


def test_what_is_read_back_can_be_submitted_again() -> None:
    new = one(
        command={"linux": "a", "windows": "b"},
        environment={"A": "1"},
        host="x,y",
        cpus=3,
        minHosts=2,
        maxTime=9,
        resources={"licence": 1},
        tags="single",
        priority=4,
        triesLeft=2,
        submittedBy="ann",
        onError="mail",
    )
    job = Job(
        JobId(1),
        new.spec,
        JobStatus.RUNNABLE,
        Moment(0),
        priority=new.priority,
        tries_left=new.tries_left,
    )
    (again,) = jobspec.parse(json.dumps(jobspec.unparse(job, new.spec.conditions))).jobs
    assert again == new


def test_runcmd_makes_a_nameless_job() -> None:
    (job,) = jobspec.anonymous("ls").jobs
    assert (job.spec.name, job.spec.command) == ("", "ls")
    with pytest.raises(Invalid):
        jobspec.anonymous("")


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
KEYS = st.sampled_from([*jobspec.PROPERTIES, "type", "op", "value", "linux"]) | st.text()
JSON_LIKE = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=20,
)


@given(JSON_LIKE | st.builds(lambda d: {"name": "a", **d}, st.dictionaries(KEYS, JSON_LIKE)))
def test_the_parser_raises_only_invalid(raw: object) -> None:
    try:
        submission = jobspec.parse(raw)
    except Invalid as error:
        assert "\n" not in str(error)
    else:
        assert all(job.spec.name for job in submission.jobs)
