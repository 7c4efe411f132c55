"""The notice board: which threads there are, what each is about, and the order of its notes.

A thread is about one job, about one node, or about nothing in particular; a job or node has one
thread at most. Only ids are kept here. What a note says goes straight into the changes and is
read back from the record, so a farm with many notes costs the server a few words for each.

Always holds: a thread has notes, oldest first; the last one to go takes the thread along. Ids are
never used twice.
"""

from __future__ import annotations

from msgspec.structs import replace

from roost.core.messages import Changes, LiveRecords
from roost.core.records import JobId, Moment, NodeId, Note, NoteId, Thread, ThreadId


class Board:
    """See the module's text."""

    def __init__(self) -> None:
        self.threads: dict[ThreadId, Thread] = {}
        self.thread_of_job: dict[JobId, ThreadId] = {}
        self.thread_of_node: dict[NodeId, ThreadId] = {}
        self.thread_of_note: dict[NoteId, ThreadId] = {}
        self.next_thread_id = 1
        self._saved_next_thread_id = 1
        self.next_note_id = 1
        self._saved_next_note_id = 1
        self._new_threads: dict[ThreadId, None] = {}
        self._new_notes: dict[NoteId, Note] = {}
        self._threads_deleted: list[ThreadId] = []
        self._notes_deleted: list[NoteId] = []

    def load(self, records: LiveRecords) -> None:
        self.next_thread_id = self._saved_next_thread_id = records.next_thread_id
        self.next_note_id = self._saved_next_note_id = records.next_note_id
        for thread in records.threads:
            self._set(thread)
            self.thread_of_note.update(dict.fromkeys(thread.notes, thread.id))

    def hand_out(self, changes: Changes) -> None:
        """Add what has to be saved since the last time."""
        if self._new_threads or self._new_notes:
            changes.threads.extend(self.threads[thread] for thread in self._new_threads)
            changes.notes.extend(self._new_notes.values())
            self._new_threads, self._new_notes = {}, {}
        if self._threads_deleted or self._notes_deleted:
            changes.threads_deleted.extend(self._threads_deleted)
            changes.notes_deleted.extend(self._notes_deleted)
            self._threads_deleted, self._notes_deleted = [], []
        if self.next_thread_id != self._saved_next_thread_id:
            changes.next_thread_id = self._saved_next_thread_id = self.next_thread_id
        if self.next_note_id != self._saved_next_note_id:
            changes.next_note_id = self._saved_next_note_id = self.next_note_id

    # --- changing it ----------------------------------------------------------------------

    def new_thread(self, job: JobId | None = None, node: NodeId | None = None) -> Thread:
        """One that still needs its first note."""
        thread = Thread(ThreadId(self.next_thread_id), job, node)
        self.next_thread_id += 1
        self._set(thread)
        self._new_threads[thread.id] = None
        return thread

    def add(self, thread: Thread, text: str, at: Moment) -> NoteId:
        note = Note(NoteId(self.next_note_id), thread.id, at, text)
        self.next_note_id += 1
        self._set(replace(thread, notes=(*thread.notes, note.id)))
        self.thread_of_note[note.id] = thread.id
        self._new_notes[note.id] = note
        return note.id

    def remove_note(self, note: NoteId) -> None:
        thread = self.threads[self.thread_of_note[note]]
        if thread.notes == (note,):
            self.remove_thread(thread)
            return
        self._set(replace(thread, notes=tuple(one for one in thread.notes if one != note)))
        self._forget_note(note)
        self._notes_deleted.append(note)

    def remove_thread(self, thread: Thread) -> None:
        del self.threads[thread.id]
        if thread.job is not None:
            del self.thread_of_job[thread.job]
        if thread.node is not None:
            del self.thread_of_node[thread.node]
        for note in thread.notes:
            self._forget_note(note)
        self._new_threads.pop(thread.id, None)
        self._threads_deleted.append(thread.id)

    def forget_job(self, job: JobId) -> None:
        """The job is deleted: what was said about it goes too."""
        thread = self.thread_of_job.get(job)
        if thread is not None:
            self.remove_thread(self.threads[thread])

    def _set(self, thread: Thread) -> None:
        self.threads[thread.id] = thread
        if thread.job is not None:
            self.thread_of_job[thread.job] = thread.id
        if thread.node is not None:
            self.thread_of_node[thread.node] = thread.id

    def _forget_note(self, note: NoteId) -> None:
        del self.thread_of_note[note]
        self._new_notes.pop(note, None)
