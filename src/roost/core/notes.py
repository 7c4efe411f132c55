"""What people ask of the notice board: to add notes, and to remove notes and threads.

Knows where a note belongs (decision 46) and what may go. Adding is refused for a text that says
nothing or too much. Removing is never refused: the answer names what is still there, as HQueue's
methods do, since whoever clears a list wants the rest of it gone.
"""

from __future__ import annotations

from roost.core.messages import AddNote, RemoveNotes, RemoveThreads
from roost.core.records import NoteId, Thread, ThreadId
from roost.core.state import State
from roost.errors import Invalid

NOTE_CHARS_MAX = 20_000
"""Longer texts are no notes but logs, and every listing of notes would carry them."""


def on_add_note(farm: State, command: AddNote) -> NoteId:
    """Raises `Invalid` for a blank text and for one above `NOTE_CHARS_MAX`."""
    if not command.text.strip():
        raise Invalid("A note needs a text that is not blank.")
    if len(command.text) > NOTE_CHARS_MAX:
        raise Invalid(
            f"A note has at most {NOTE_CHARS_MAX} characters, this one has {len(command.text)}."
        )
    return farm.board.add(_thread_for(farm, command), command.text, farm.now)


def _thread_for(farm: State, command: AddNote) -> Thread:
    """The first that is given and exists, in the order client, job, thread; else a new one."""
    board = farm.board
    if command.node is not None and command.node in farm.nodes:
        thread = board.thread_of_node.get(command.node)
        return board.new_thread(node=command.node) if thread is None else board.threads[thread]
    if command.job is not None and command.job in farm.jobs:
        thread = board.thread_of_job.get(command.job)
        return board.new_thread(job=command.job) if thread is None else board.threads[thread]
    if command.thread is not None and command.thread in board.threads:
        return board.threads[command.thread]
    return board.new_thread()


def on_remove_notes(farm: State, command: RemoveNotes) -> tuple[NoteId, ...]:
    """One by one in the order given: a thread's first note stays while it has replies."""
    left: list[NoteId] = []
    for note in dict.fromkeys(command.ids):
        thread = farm.board.thread_of_note.get(note)
        notes = () if thread is None else farm.board.threads[thread].notes
        if not notes or (notes[0] == note and len(notes) > 1):
            left.append(note)
        else:
            farm.board.remove_note(note)
    return tuple(left)


def on_remove_threads(farm: State, command: RemoveThreads) -> tuple[ThreadId, ...]:
    left: list[ThreadId] = []
    for thread_id in dict.fromkeys(command.ids):
        thread = farm.board.threads.get(thread_id)
        if thread is None:
            left.append(thread_id)
        else:
            farm.board.remove_thread(thread)
    return tuple(left)
