"""`import roost` against the served API: what is sent, what a snapshot is, what is shown."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

import roost
from roost.core.messages import (
    AddNote,
    CancelJobs,
    DeleteJobs,
    EjectJobs,
    PauseJobs,
    RemoveNodes,
    RescheduleJobs,
    ResumeJobs,
    SetAttributes,
    SetConditions,
    SetNodesDisabled,
    SetPriority,
)
from roost.core.records import Attempt, AttemptCause, Note
from roost.errors import Invalid, NotFound
from roost.gateway import ThreadView
from roost.scripting import jobs as scripting
from roost.wire import rest


@pytest.fixture
def client(served: Any) -> Iterator[roost.Farm]:
    with roost.connect(served.url) as client:
        yield client


def spec_sent(farm: Any) -> Any:
    """The specification of the first job of the latest submission."""
    return farm.asked[-1].jobs[0].spec


# --- connecting ----------------------------------------------------------------------------------


def test_without_an_address_it_is_the_farm_of_the_command_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ROOST_CONFIG", os.devnull)
    monkeypatch.delenv("ROOST_SERVER", raising=False)
    monkeypatch.setenv("HQSERVER", "http://inside:1")
    assert roost.connect().url == "http://inside:1"
    monkeypatch.setenv("ROOST_SERVER", "http://told:1")
    assert roost.connect().url == "http://told:1"
    assert repr(roost.connect("http://ann:secret@farm:5000")) == "<Farm http://farm:5000>"
    with pytest.raises(Invalid, match="no address"):
        roost.connect("farm")


# --- submitting ----------------------------------------------------------------------------------


def test_a_command_with_properties_is_a_job(farm: Any, client: roost.Farm) -> None:
    job = client.submit("render scene", name="film", cpus=4, priority=5, max_time=90)
    assert (job.id, job.name, repr(job)) == (1, "film", "<Job 1 'film'>")
    sent = farm.asked[-1].jobs[0]
    assert (sent.spec.command, sent.spec.cpus, sent.priority) == ("render scene", 4, 5)
    assert (sent.spec.max_time_ms, sent.spec.submitted_by) == (90_000, getpass.getuser())


def test_words_of_a_command_are_kept_as_they_are(farm: Any, client: roost.Farm) -> None:
    job = client.submit(["echo", "a b", "$HOME"])
    assert spec_sent(farm).command == "echo 'a b' '$HOME'"
    assert job.name == "echo 'a b' '$HOME'"


def test_a_specification_is_sent_as_it_is_but_for_what_is_said_besides(
    farm: Any, client: roost.Farm
) -> None:
    spec = {"name": "a", "command": "x", "cpus": 2, "submittedBy": "ann"}
    job = client.submit(spec, cpus=3, parent=5)
    assert (job.name, spec["cpus"]) == ("a", 2)
    assert (spec_sent(farm).cpus, spec_sent(farm).submitted_by) == (3, "ann")
    assert farm.asked[-1].jobs[0].parent_ids == (5,)


def test_a_list_of_specifications_is_a_list_of_jobs(farm: Any, client: roost.Farm) -> None:
    tree = roost.job_spec(name="a", children=[roost.job_spec("x"), roost.job_spec("y")])
    one, other = client.submit([tree, {"name": "b"}], parent=client.submit("parent"))
    assert [(job.id, job.name) for job in (one, other)] == [(2, "a"), (3, "b")]
    assert [new.parent_ids for new in farm.asked[-1].jobs] == [(1,), (1,), (), ()]
    with pytest.raises(Invalid, match="each specification"):
        client.submit([tree], cpus=2)  # type: ignore[call-overload]


def test_children_are_specifications_or_existing_jobs(farm: Any, client: roost.Farm) -> None:
    first = client.submit("first")
    client.submit("last", children=[roost.job_spec("middle", cpus=2), first, 77])
    last, middle = farm.asked[-1].jobs
    assert (last.spec.command, last.child_ids) == ("last", (1, 77))
    assert (middle.spec.cpus, middle.parents) == (2, (0,))


def test_frames_are_jobs_beneath_one(farm: Any, client: roost.Farm) -> None:
    mail = {"email_to": "ann@example.org", "email_reasons": ["failed"]}
    job = client.submit_frames(["render", "{frame}"], range(1, 4), name="film", **mail)
    top, *frames = farm.asked[-1].jobs
    assert (job.id, job.name) == (1, "film")
    assert (top.spec.command, top.spec.email_to) == ("", "ann@example.org")
    assert [new.spec.command for new in frames] == [f"render '{n}'" for n in (1, 2, 3)]
    assert [new.spec.environment["FRAME"] for new in frames] == ["1", "2", "3"]
    assert {new.spec.email_to for new in frames} == {""}
    client.submit_frames("render", "1-9x4")
    assert [new.spec.environment["FRAME"] for new in farm.asked[-1].jobs[1:]] == ["1", "5", "9"]
    with pytest.raises(Invalid, match="no frames"):
        client.submit_frames("render", [])


@pytest.mark.parametrize(
    ("what", "properties", "said"),
    [
        ("x", {"cpu": 2}, "no property 'cpu'"),
        ("x", {"cpus": "many"}, "cpus"),
        ({"name": "a", "command": object()}, {}, "plain JSON"),
        (["render", 7], {}, "mixture"),
        ([{"name": "a"}, "b"], {}, "mixture"),
        ([], {}, "mixture"),
        (None, {}, "name must be given"),
    ],
)
def test_what_cannot_be_a_job_is_refused(
    farm: Any, client: roost.Farm, what: Any, properties: dict[str, Any], said: str
) -> None:
    with pytest.raises(Invalid, match=said):
        client.submit(what, **properties)
    assert farm.asked == []


# --- jobs ----------------------------------------------------------------------------------------


def test_a_job_tells_what_the_farm_knows_of_it(farm: Any, client: roost.Farm) -> None:
    view = farm.add_rich_job(7)
    farm.add_node(1, "a")
    job = client.job(7)
    assert (job.name, job.status, job.progress, job.priority) == ("comp", "running", 0.75, 5)
    assert (job.tasks_total, job.tasks_done, job.tasks_failed) == (4, 2, 1)
    assert job.nodes == ["a", "node 99"]
    assert [parent.id for parent in job.parents] == [3]
    assert job.waiting_for == "No node is free. It is late."
    assert job.why() == ["No node is free. (a)", "It is late."]
    assert job.submitted_at == datetime.fromtimestamp(view.job.queued_at / 1000, UTC)
    assert (job.started_at is None, job.ended_at) == (False, None)
    assert (job.spec["cpus"], job.exit_code) == (4, 0)
    assert job.events()[0].message == "submitted"
    assert job.url.endswith("/api/v1/jobs/7")
    with pytest.raises(NotFound, match="no job 8"):
        client.job(8)


def test_the_exit_code_is_of_the_latest_run_that_has_ended(farm: Any, client: roost.Farm) -> None:
    def run(number: int, code: int | None, purpose: str = "command") -> Attempt:
        cause = None if code is None else AttemptCause.EXITED
        return Attempt(7, number, (1,), 0, purpose, cause=cause, exit_code=code)

    farm.add_job(7, "running", attempts=(run(1, 3), run(2, 9, "child error"), run(3, None)))
    assert client.job(7).exit_code == 3
    farm.add_job(8)
    assert client.job(8).exit_code is None


def test_a_job_is_as_it_was_when_last_looked_at(farm: Any, served: Any, client: roost.Farm) -> None:
    farm.add_job(1, "running")
    job, other = client.job(1), client.job(1)
    served.do(farm.change(1, "succeeded"))
    assert (job.status, job.finished, job.succeeded) == ("running", False, False)
    assert job.refresh() is job
    assert (job.status, job.finished, job.succeeded) == ("succeeded", True, True)
    assert other.status == "running"
    assert job == other and hash(job) == hash(other) and job != client.submit("x")
    elsewhere = roost.Job(roost.connect("http://elsewhere:1").remote, 1)
    assert job != elsewhere and job != 1


def test_jobs_are_listed_page_by_page_as_they_are_asked_for(
    farm: Any, client: roost.Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripting, "PAGE_JOBS", 2)
    for number in range(1, 8):
        farm.add_job(number, "failed" if number % 2 else "running")
    asked: list[object] = []
    one_page = client.remote.jobs
    monkeypatch.setattr(
        client.remote, "jobs", lambda **which: asked.append(which) or one_page(**which)
    )
    jobs = client.jobs()
    assert asked == []
    assert next(jobs).id == 7
    assert len(asked) == 1
    assert [job.id for job in jobs] == [6, 5, 4, 3, 2, 1]
    assert [job.id for job in client.jobs(status="failed", limit=3)] == [7, 5, 3]
    assert [job.id for job in client.jobs(status=["failed", "running"], limit=1)] == [7]
    assert list(client.jobs(limit=0)) == []
    with pytest.raises(Invalid, match="lazy"):
        next(client.jobs(status="lazy"))


def test_a_listed_job_knows_its_row_and_looks_up_the_rest(farm: Any, client: roost.Farm) -> None:
    farm.add_rich_job(7)
    farm.parts_asked.clear()
    (job,) = client.jobs(roots_only=False)
    assert (job.name, job.status, job.submitted_by) == ("comp", "running", "ann")
    assert farm.parts_asked == []
    assert job.waiting_for
    assert len(farm.parts_asked) == 1


def test_actions_reach_the_farm(farm: Any, client: roost.Farm) -> None:
    farm.add_job(3)
    job = client.job(3)
    for act in (job.cancel, job.pause, job.resume, job.reschedule, job.eject, job.delete):
        act()
    job.set_priority(9)
    job.permit(None)
    job.add_note("slow")
    kinds = (CancelJobs, PauseJobs, ResumeJobs, RescheduleJobs, EjectJobs, DeleteJobs)
    assert farm.asked == [
        *(kind((3,)) for kind in kinds),
        SetPriority((3,), 9),
        SetConditions(3, ()),
        AddNote("slow", job=3),
    ]


def test_only_what_failed_is_rescheduled_where_that_is_wanted(
    farm: Any, client: roost.Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    farm.add_job(3)
    told: list[object] = []
    monkeypatch.setattr(client.remote, "act", lambda *wish: told.append(wish))
    client.job(3).reschedule(failed=True)
    assert told == [("reschedule_failed", [3])]


def test_attributes_are_read_with_the_job_and_set_by_name(farm: Any, client: roost.Farm) -> None:
    farm.add_rich_job(7)
    job = client.job(7)
    assert job.attributes == {"Loss": 0.5, "Stage": "a b", "Twice": {"expr": "Loss * 2"}}
    job.set_attribute("Rating", 3)
    job.set_attribute("Late", {"expr": "Loss > 1"})
    assert farm.asked == [SetAttributes(7, {"Rating": "3"}), SetAttributes(7, {"Late": "Loss > 1"})]
    history = job.attribute_history("loss")
    assert [value for _, value in history] == [2.0, 2.0, 0.5]
    assert all(at.tzinfo is not None for at, _ in history)
    assert job.attribute_history("Stage") == job.attribute_history("nothing") == []


def test_a_job_is_submitted_with_attributes(farm: Any, client: roost.Farm) -> None:
    client.submit("true", attributes={"Num": 3}, submit_dir=Path("/shots"))
    spec = farm.asked[-1].jobs[0].spec
    assert (spec.attributes, spec.submit_dir) == ({"Num": "3"}, "/shots")


def test_notes_of_a_job_are_in_one_list(farm: Any, client: roost.Farm) -> None:
    notes = (Note(20, 2, 0, "slow"), Note(21, 2, 0, "why?"))
    farm.thread_views = {2: ThreadView(2, 3, None, notes)}
    farm.add_job(3, latest_note=notes[1])
    assert [note.text for note in client.job(3).notes()] == ["slow", "why?"]
    assert [thread.id for thread in client.notes()] == [2]


# --- output --------------------------------------------------------------------------------------


def test_output_is_text_or_bytes(farm: Any, client: roost.Farm) -> None:
    farm.add_job(1, "succeeded")
    farm.logs[1] = "grün".encode() + b"\xff"
    job = client.job(1)
    assert job.output() == "grün\ufffd"
    assert job.output(last=3) == "\ufffdn\ufffd"
    assert job.output_bytes() == farm.logs[1]
    assert job.output_bytes(2) == b"n\xff"


def test_a_character_that_comes_in_two_pieces_is_one(
    farm: Any, served: Any, client: roost.Farm
) -> None:
    whole = "ü".encode()
    farm.add_job(1, "running")
    farm.logs[1] = b"gr" + whole[:1]
    pieces = client.job(1).output(follow=True)
    assert next(pieces) == "gr"
    served.do(farm.change(1, "running", whole[1:]))
    assert next(pieces) == "ü"
    served.do(farm.change(1, "succeeded", whole[:1]))
    assert list(pieces) == ["\ufffd"]


# --- waiting -------------------------------------------------------------------------------------


def test_waiting_returns_the_job_as_it_ended(farm: Any, served: Any, client: roost.Farm) -> None:
    farm.add_job(1, "succeeded")
    job = client.submit("x")
    served.do(farm.change(job.id, "cancelled"))
    assert job.wait() is job
    assert job.status == "cancelled"
    waited = client.wait(client.jobs(), progress=False)
    assert [each.status for each in waited] == ["cancelled", "succeeded"]
    assert client.wait([]) == []


def test_more_jobs_than_can_be_followed_at_once_are_waited_for_in_turns(
    farm: Any, client: roost.Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rest, "FOLLOWED_JOBS_MAX", 2)
    for number in range(1, 6):
        farm.add_job(number, "succeeded")
    assert all(job.succeeded for job in client.wait(client.jobs(), progress=False))


def test_a_failure_is_raised_only_when_asked_for_and_carries_its_output(
    farm: Any, client: roost.Farm
) -> None:
    ended = Attempt(1, 1, (1,), 0, cause=AttemptCause.EXITED, exit_code=3)
    farm.add_job(1, "failed", attempts=(ended,))
    farm.logs[1] = b"x" * scripting.TAIL_BYTES + b"no such scene\n"
    job = client.job(1)
    assert not job.wait().succeeded
    with pytest.raises(roost.JobFailed, match=r"(?s)exit code 3.*no such scene") as failure:
        job.wait(check=True)
    assert failure.value.job == failure.value.culprit == job
    assert len(failure.value.output) == scripting.TAIL_BYTES
    assert isinstance(failure.value, roost.RoostError)


def test_a_cancelled_job_did_not_succeed(farm: Any, client: roost.Farm) -> None:
    farm.add_job(1, "cancelled")
    with pytest.raises(roost.JobFailed, match=r"Job 1 \(job 1\) was cancelled\."):
        client.job(1).wait(check=True)


def test_after_the_timeout_it_is_told_which_jobs_go_on(farm: Any, client: roost.Farm) -> None:
    farm.add_job(1, "running")
    farm.add_job(2, "succeeded")
    with pytest.raises(roost.NotFinished, match=r"Job 1 has not finished after 0\.01") as late:
        client.wait(client.jobs(), timeout=0.01)
    assert isinstance(late.value, TimeoutError)
    assert [job.id for job in late.value.jobs] == [1]
    assert farm.asked == []


def test_a_job_that_is_deleted_meanwhile_is_not_waited_for(
    farm: Any, served: Any, client: roost.Farm
) -> None:
    farm.add_job(1, "running")
    job = client.job(1)

    async def delete() -> None:
        async with farm.changed:
            del farm.views[1]
            farm.changed.notify_all()

    told = client.remote.follow

    def follow(ids: Any, **more: Any) -> Any:
        changes = told(ids, **more)
        yield next(changes)
        served.do(delete())
        yield from changes

    client.remote.follow = follow  # type: ignore[method-assign]
    with pytest.raises(NotFound, match="no job 1"):
        job.wait(progress=False)


def test_without_a_terminal_progress_is_told_only_when_asked_for(
    farm: Any, client: roost.Farm, capfd: pytest.CaptureFixture[str]
) -> None:
    farm.add_job(1, "succeeded")
    client.job(1).wait()
    assert capfd.readouterr() == ("", "")
    client.job(1).wait(progress=True)
    assert capfd.readouterr() == ("", "job 1:   0%  succeeded\n")


# --- showing -------------------------------------------------------------------------------------


def test_showing_a_job_asks_nothing_and_escapes_everything(farm: Any, client: roost.Farm) -> None:
    view = farm.add_rich_job(7)
    spec = msgspec.structs.replace(view.job.spec, name="<b>film</b>")
    farm.add_job(7, "running", spec=spec, rollup=view.rollup, reasons=view.reasons)
    job = client.job(7)
    asked = len(farm.parts_asked)
    assert repr(job) == "<Job 7 '<b>film</b>': running, 75%>"
    page = job._repr_html_()
    assert "&lt;b&gt;film&lt;/b&gt;" in page and "<b>" not in page
    assert "running, 2/4 tasks done, 1 failed" in page and "It is late." in page
    assert repr(client.submit("x")) == "<Job 8 'x'>"
    assert "<tr><th>job</th><td>9  x</td></tr>" in client.submit("x")._repr_html_()
    assert len(farm.parts_asked) == asked


# --- machines ------------------------------------------------------------------------------------


def test_nodes_are_found_by_label_or_id_and_changed(farm: Any, client: roost.Farm) -> None:
    farm.add_node(1, "render1", "gpu")
    farm.add_node(2, "render2", disabled=True)
    farm.add_job(7)
    farm.history[1] = [7]
    farm.unstarted[1] = [Attempt(7, 1, (1,), 5, text="no such folder")]
    assert [node.name for node in client.nodes()] == ["render1:gpu", "render2"]
    node = client.node("RENDER1:gpu")
    assert node == client.node(1) and node != client.node("render2")
    assert (node.cpus, node.cpus_busy, node.available, node.drained) == (8, 4, True, False)
    assert [job.id for job in node.running] == [7]
    assert repr(client.node(2)) == "<Node 2 'render2': drained, 4 of 8 CPUs busy>"
    assert [job.name for job in node.history()] == ["job 7"]
    assert node.errors()[0].text.endswith("no such folder")
    assert node.notes() == []
    node.drain()
    node.enable()
    node.add_note("hot")
    node.remove()
    assert farm.asked == [
        SetNodesDisabled((1,), True),
        SetNodesDisabled((1,), False),
        AddNote("hot", node=1),
        RemoveNodes((1,)),
    ]
    del farm.node_views[1]
    with pytest.raises(NotFound, match="no node"):
        node.refresh()


def test_groups_and_resources_are_listed(farm: Any, client: roost.Farm) -> None:
    assert client.groups() == []
    assert [one.name for one in client.resources()] == ["nuke", "houdini"]
