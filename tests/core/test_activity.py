"""What people did is told in a line each, and nothing else is."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from roost.core import messages as m
from roost.core.activity import JOBS_KEPT, told
from roost.core.records import (
    AvailabilityRule,
    Condition,
    GroupId,
    JobId,
    JobSpec,
    Moment,
    NodeId,
    NoteId,
    ThreadId,
)

JOBS = (JobId(7), JobId(8))
OF_THE_RECORD = {m.SubmitJobs, m.ExpireJobs, m.SetAttribute, m.NoticesDone}
"""Told by jobs themselves, or nobody's deed."""
DEEDS: list[tuple[Any, str, str, tuple[JobId, ...], int | None]] = [
    (m.CancelJobs(JOBS), "cancel", "", JOBS, None),
    (m.PauseJobs(JOBS), "pause", "", JOBS, None),
    (m.ResumeJobs(JOBS), "resume", "", JOBS, None),
    (m.RescheduleJobs(JOBS), "reschedule", "", JOBS, None),
    (m.DeleteJobs(JOBS), "delete", "", JOBS, None),
    (m.EjectJobs(JOBS), "eject", "", JOBS, None),
    (m.SetPriority(JOBS, 5), "set priority", "to 5", JOBS, None),
    (
        m.SetPriorities(((JOBS[0], 1), (JOBS[1], 2))),
        "set priority", "each to what it was before", JOBS, None,
    ),
    (
        m.SetConditions(JOBS[0], (Condition("os", "==", "linux"),)),
        "set conditions", "os == linux", JOBS[:1], None,
    ),
    (m.SetBlockedWarning(JOBS[0], False), "hide warning", "", JOBS[:1], None),
    (m.SetAttributes(JOBS[0], {"Token": '"secret"'}), "set attributes", "Token", JOBS[:1], None),
    (m.SetNodesDisabled((NodeId(3),), True), "drain", "", (), 3),
    (m.SetNodesDisabled((NodeId(3),), False), "enable", "", (), 3),
    (m.SetAvailability(NodeId(3), (AvailabilityRule(),)), "set hours", "", (), 3),
    (m.SetNodeDescription(NodeId(3), "rack 2"), "describe", "rack 2", (), 3),
    (m.RemoveNodes((NodeId(3),)), "remove client", "", (), 3),
    (m.CreateGroup("gpu"), "create group", "gpu", (), None),
    (m.DeleteGroup(GroupId(1)), "delete group", "group 1", (), None),
    (m.AddToGroup(GroupId(1), (NodeId(3),)), "add to group", "group 1", (), 3),
    (m.RemoveFromGroup(GroupId(1), (NodeId(3),)), "take out of group", "group 1", (), 3),
    (m.SetGroupNodes(GroupId(1), (NodeId(3), NodeId(5))), "set group", "group 1: 2 clients: 3, 5",
     (), None),
    (m.SetNodeGroups(NodeId(3), (GroupId(1),)), "set groups", "group 1", (), 3),
    (m.RemoveNodes((NodeId(3), NodeId(5))), "remove client", "2 clients: 3, 5", (), None),
    (m.SetResource("nuke", 4), "set resource", "nuke: 4", (), None),
    (m.RemoveResource("nuke"), "remove resource", "nuke", (), None),
    (m.AddNote("look", job=JOBS[0]), "add note", "look", JOBS[:1], None),
    (m.AddNote("look", node=NodeId(3)), "add note", "look", (), 3),
    (m.RemoveNotes((NoteId(1),)), "remove notes", "", (), None),
    (m.RemoveThreads((ThreadId(1),)), "remove notes", "", (), None),
]  # fmt: skip


@pytest.mark.parametrize(("command", "action", "text", "jobs", "node"), DEEDS)
def test_a_deed_is_told(
    command: Any, action: str, text: str, jobs: tuple[JobId, ...], node: int | None
) -> None:
    deed = told(command, "page from here", Moment(5))
    assert deed is not None
    assert (deed.action, deed.text, deed.jobs, deed.node) == (action, text, jobs, node)
    assert (deed.by, deed.at, deed.jobs_total) == ("page from here", 5, len(jobs))


def test_every_command_is_a_deed_or_known_to_be_none() -> None:
    assert {type(deed[0]) for deed in DEEDS} | OF_THE_RECORD == set(get_args(m.Command))
    for kind in (m.ExpireJobs, m.NoticesDone):
        assert told(kind(()), "somebody", Moment(5)) is None


def test_a_submission_is_one_deed_that_names_its_roots() -> None:
    new = [m.NewJob(JobSpec(name), "", parents=parents) for name, parents in
           (("film", ()), ("frame 1", (0,)), ("frame 2", (0,)), ("other", ()))]  # fmt: skip
    ids = [JobId(number) for number in (7, 8, 9, 10)]
    deed = told(m.SubmitJobs(tuple(new)), "page from here", Moment(5), ids)
    assert deed is not None
    assert (deed.action, deed.text) == ("submit", "film, with 2 below")
    assert (deed.jobs, deed.jobs_total) == ((7, 10), 2)
    assert told(m.SubmitJobs(()), "page from here", Moment(5), []) is None


def test_of_many_jobs_the_first_are_named_and_all_counted() -> None:
    deed = told(m.CancelJobs(tuple(map(JobId, range(1, 10_001)))), "x", Moment(5))
    assert deed is not None
    assert (len(deed.jobs), deed.jobs_total) == (JOBS_KEPT, 10_000)


def test_nothing_done_to_nobody_is_no_deed() -> None:
    assert told(m.CancelJobs(()), "x", Moment(5)) is None
