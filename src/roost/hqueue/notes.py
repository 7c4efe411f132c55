"""HQueue's methods about notes, which form message threads about a job, a client, or neither.

Knows the attributes of a note and of a thread, and HQueue's way of answering removals: True or
False for one, the ids that are left for several. Must not decide where a note belongs or which
may go; the farm does.

Always holds: where there is no client, its id is None and its names are empty text; where there is
no job, its id is None. An unknown thread is left out of a list (decision 4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from roost.core.messages import AddNote, RemoveNotes, RemoveThreads
from roost.core.records import JobId, NodeFacts, NodeId, Note, NoteId, ThreadId
from roost.errors import RoostError
from roost.gateway import Gateway, ThreadView
from roost.wire.xmlrpc import UtcTime


class Subject(Struct, frozen=True):
    """What a thread is about, in the attributes that it shares with its notes."""

    job: JobId | None
    client: NodeId | None
    hostname: str
    label: str


SHARED: dict[str, Callable[[Subject], object]] = {
    "clientHostname": lambda subject: subject.hostname,
    "clientId": lambda subject: subject.client,
    "clientLabel": lambda subject: subject.label,
    "jobId": lambda subject: subject.job,
}

NOTE_ATTRIBUTES: dict[str, Callable[[Note], object]] = {
    "date": lambda note: UtcTime(note.at),
    "id": lambda note: note.id,  # Roost's own (decision 21): removing a note needs it.
    "text": lambda note: note.text,
}


def _note(note: Note, subject: Subject, attribs: Sequence[str] | None) -> dict[str, object]:
    shape: dict[str, object] = {}
    for name in (*SHARED, *NOTE_ATTRIBUTES) if attribs is None else attribs:
        if name in SHARED:
            shape[name] = SHARED[name](subject)
        elif name in NOTE_ATTRIBUTES:
            shape[name] = NOTE_ATTRIBUTES[name](note)
    return shape


def _thread(
    thread: ThreadView,
    subject: Subject,
    attribs: Sequence[str] | None,
    note_attribs: Sequence[str] | None,
) -> dict[str, object]:
    shape: dict[str, object] = {}
    for name in (*SHARED, "id", "notes") if attribs is None else attribs:
        if name in SHARED:
            shape[name] = SHARED[name](subject)
        elif name == "id":
            shape[name] = thread.id
        elif name == "notes":
            shape[name] = [_note(note, subject, note_attribs) for note in thread.notes]
    return shape


async def _with_subjects(
    gateway: Gateway, threads: Sequence[ThreadView]
) -> list[tuple[ThreadView, Subject]]:
    facts: dict[NodeId, NodeFacts] = {}
    if any(thread.node is not None for thread in threads):
        views = await gateway.nodes(with_former=True)
        facts = {view.node.id: view.node.facts for view in views}
    nobody = NodeFacts("")
    pairs: list[tuple[ThreadView, Subject]] = []
    for thread in threads:
        client = nobody if thread.node is None else facts.get(thread.node, nobody)
        subject = Subject(thread.job, thread.node, client.hostname, client.label)
        pairs.append((thread, subject))
    return pairs


# --- asking --------------------------------------------------------------------------------------


async def get_latest_notes(
    gateway: Gateway, thread_ids: Sequence[ThreadId] | None, attribs: Sequence[str] | None
) -> object:
    """Return a list of dictionaries of attributes, one for the latest note of each given thread.

    Without thread_ids the latest notes of all threads are returned; unknown ones are left out.
    """
    threads = await gateway.threads(thread_ids, latest_only=True)
    pairs = await _with_subjects(gateway, threads)
    return [_note(thread.notes[-1], subject, attribs) for thread, subject in pairs]


async def get_note_thread_ids(gateway: Gateway) -> object:
    """Return a list of ids for all threads."""
    return await gateway.thread_ids()


async def get_note_threads(
    gateway: Gateway,
    thread_ids: Sequence[ThreadId] | None,
    thread_attribs: Sequence[str] | None,
    note_attribs: Sequence[str] | None,
) -> object:
    """Return a list of dictionaries of attributes, one for each specified thread.

    The attribute `notes` is a list of dictionaries of note_attribs, oldest first. Without
    thread_ids all threads are returned; unknown ones are left out.
    """
    pairs = await _with_subjects(gateway, await gateway.threads(thread_ids))
    return [_thread(thread, subject, thread_attribs, note_attribs) for thread, subject in pairs]


async def thread_exists(gateway: Gateway, thread_id: ThreadId) -> object:
    """Return whether a thread with the given id exists, or None when that cannot be told."""
    try:
        return bool(await gateway.threads((thread_id,), latest_only=True))
    except RoostError:
        return None


# --- changing ------------------------------------------------------------------------------------


async def add_note(
    gateway: Gateway,
    text: str,
    thread_id: ThreadId | None,
    job_id: JobId | None,
    client_id: NodeId | None,
) -> object:
    """Add a note to the thread of the client, of the job, or to the given thread. Return True.

    Of several ids, the first that exists counts, in that order; without any, a new thread is made
    (decision 46). A blank text adds nothing. One that is too long is a fault, lest it be lost.
    """
    if text.strip():
        await gateway.ask(AddNote(text, thread_id, job_id, client_id))
    return True


async def remove_notes(gateway: Gateway, note_ids: tuple[NoteId, ...]) -> object:
    """Remove the specified notes, in their order. Return a list of ids for those that are left.

    A thread's first note stays while it has replies, so give it last; the thread goes with it.
    """
    return await gateway.ask(RemoveNotes(note_ids))


async def remove_single_note(gateway: Gateway, note_id: NoteId) -> object:
    """Remove the specified note. Return whether that was possible.

    False for an unknown note, and for a thread's first while it has replies.
    """
    return not await gateway.ask(RemoveNotes((note_id,)))


async def remove_single_thread(gateway: Gateway, thread_id: ThreadId) -> object:
    """Remove the specified thread and all its notes. Return whether there was one."""
    return not await gateway.ask(RemoveThreads((thread_id,)))


async def remove_threads(gateway: Gateway, thread_ids: tuple[ThreadId, ...]) -> object:
    """Remove the specified threads and all their notes. Return a list of ids of unknown ones."""
    return await gateway.ask(RemoveThreads(thread_ids))
