"""Notes: where they belong, which may go, and that they go with their job."""

from __future__ import annotations

import pytest
from play import Play

from roost.core import messages as m
from roost.core.notes import NOTE_CHARS_MAX
from roost.core.records import Thread
from roost.errors import Invalid


def threads(play: Play) -> list[Thread]:
    return list(play.farm.board.threads.values())


def test_a_note_says_something_and_not_too_much(play: Play) -> None:
    for blank in ("", " \n\t"):
        with pytest.raises(Invalid, match="not blank"):
            play.send(m.AddNote(blank))
    with pytest.raises(Invalid, match=f"at most {NOTE_CHARS_MAX} characters"):
        play.send(m.AddNote("x" * (NOTE_CHARS_MAX + 1)))
    assert threads(play) == []
    assert play.farm.board.next_thread_id == 1
    assert play.send(m.AddNote("x" * NOTE_CHARS_MAX)) == 1


def test_a_note_without_a_place_begins_a_thread(play: Play) -> None:
    play.send(m.AddNote("hello"))
    play.send(m.AddNote("to an unknown one", thread=9, job=9, node=9))
    assert threads(play) == [Thread(1, notes=(1,)), Thread(2, notes=(2,))]
    play.send(m.AddNote("a reply", thread=1))
    assert threads(play)[0] == Thread(1, notes=(1, 3))


def test_a_job_and_a_node_have_one_thread_each(play: Play) -> None:
    node, job = play.joins("a"), play.submit()
    for _ in range(2):
        play.send(m.AddNote("about the job", job=job))
        play.send(m.AddNote("about the node", node=node))
    assert threads(play) == [Thread(1, job=job, notes=(1, 3)), Thread(2, node=node, notes=(2, 4))]
    play.send(m.AddNote("a reply", thread=1))
    assert threads(play)[0].notes == (1, 3, 5)


def test_of_several_places_the_first_that_exists_counts_client_job_thread(play: Play) -> None:
    node, job = play.joins("a"), play.submit()
    play.send(m.AddNote("somewhere"))
    play.send(m.AddNote("client", thread=1, job=job, node=node))
    play.send(m.AddNote("job", thread=1, job=job, node=9))
    play.send(m.AddNote("thread", thread=1, job=9, node=9))
    assert threads(play) == [
        Thread(1, notes=(1, 4)), Thread(2, node=node, notes=(2,)), Thread(3, job=job, notes=(3,)),
    ]  # fmt: skip


def test_a_first_note_stays_while_it_has_replies(play: Play) -> None:
    for thread in (None, 1, 1):
        play.send(m.AddNote("note", thread=thread))
    assert play.send(m.RemoveNotes((1, 2, 2, 77))) == (1, 77)
    assert threads(play) == [Thread(1, notes=(1, 3))]
    assert play.send(m.RemoveNotes((3, 1))) == ()
    assert threads(play) == []


def test_a_removed_thread_takes_its_notes_and_frees_what_it_was_about(play: Play) -> None:
    job = play.submit()
    play.send(m.AddNote("one", job=job))
    play.send(m.AddNote("two", job=job))
    assert play.send(m.RemoveThreads((1, 1, 5))) == (5,)
    assert play.send(m.RemoveNotes((1, 2))) == (1, 2)
    play.send(m.AddNote("anew", job=job))
    assert threads(play) == [Thread(2, job=job, notes=(3,))]


def test_a_thread_outlives_the_run_of_its_job_and_goes_when_it_is_deleted(play: Play) -> None:
    play.joins("a")
    job = play.submit()
    play.send(m.AddNote("watch this", job=job))
    play.ends(job)
    assert job not in play.farm.jobs
    play.revive(job)
    play.send(m.AddNote("done well", job=job))
    assert threads(play) == [Thread(1, job=job, notes=(1, 2))]
    play.delete(job)
    assert threads(play) == []


def test_a_node_keeps_its_thread_while_it_is_away(play: Play) -> None:
    node = play.joins("a")
    play.send(m.AddNote("fan is loud", node=node))
    play.send(m.RemoveNodes((node,)))
    assert play.joins("a") == node
    play.send(m.AddNote("fan is new", node=node))
    assert threads(play) == [Thread(1, node=node, notes=(1, 2))]


def test_what_is_made_and_removed_between_two_saves_is_only_deleted(play: Play) -> None:
    farm = play.farm
    for thread in (None, 1, None):
        farm.handle(m.AddNote("note", thread=thread), play.now)
    farm.handle(m.RemoveNotes((2, 3)), play.now)
    changes = farm.take_changes()
    assert changes.threads == [Thread(1, notes=(1,))]
    assert [note.id for note in changes.notes] == [1]
    assert (changes.threads_deleted, changes.notes_deleted) == ([2], [2])
    assert (changes.next_thread_id, changes.next_note_id) == (3, 4)
    assert not farm.take_changes()
