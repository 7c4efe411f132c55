"""`Node`: one machine of a farm, for scripts and notebooks.

A snapshot, as a `Job` is one: attributes tell what was so when the farm was last asked for it,
`refresh` asks again, and other methods do not change them.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from roost.errors import NotFound
from roost.remote import Remote
from roost.scripting.jobs import Job
from roost.wire import rest


class Node:
    """See the module's text. `Farm.node` and `Farm.nodes` make them."""

    def __init__(self, remote: Remote, details: rest.NodeDetail) -> None:
        self._remote = remote
        self._details = details

    @property
    def id(self) -> int:
        return self._details.id

    @property
    def name(self) -> str:
        """Its label: `hostname`, or `hostname:name` where several run on one machine."""
        return self._details.label

    @property
    def details(self) -> rest.NodeDetail:
        """All that the farm knows of it."""
        return self._details

    @property
    def cpus(self) -> int:
        """How many CPUs it offers to jobs."""
        return self._details.cpus

    @property
    def cpus_busy(self) -> int:
        return self._details.cpus_busy

    @property
    def available(self) -> bool:
        """It may get jobs: there, not drained, and inside its hours."""
        return self._details.available

    @property
    def drained(self) -> bool:
        """It finishes what it runs and gets nothing new."""
        return self._details.disabled

    @property
    def running(self) -> list[Job]:
        """What runs on it."""
        return [Job(self._remote, number) for number in self._details.running]

    def refresh(self) -> Node:
        """Ask for it again. Raises `NotFound` when it has left the farm."""
        self._details = find(self._remote.nodes(), [str(self.id)])[0]
        return self

    def drain(self) -> None:
        """Let it finish what it runs, and get nothing new."""
        self._remote.set_node_disabled(self.id, True)

    def enable(self) -> None:
        """Let it take jobs again."""
        self._remote.set_node_disabled(self.id, False)

    def remove(self) -> None:
        """Take it out of the farm; what it runs is abandoned."""
        self._remote.remove_node(self.id)

    def history(self, limit: int = 50) -> list[Job]:
        """The jobs that most recently ended on it, the latest first."""
        found = self._remote.node_history(self.id, limit)
        return [Job(self._remote, summary.id, summary) for summary in found]

    def errors(self) -> list[rest.FarmError]:
        """The runs that could not be started on it, the latest first."""
        return self._remote.node_errors(self.id).errors

    def notes(self) -> list[rest.NoteDetail]:
        """What people wrote about it, oldest first."""
        return [note for thread in self._remote.notes(node=self.id) for note in thread.notes]

    def add_note(self, text: str) -> None:
        """Write something about it, for people."""
        self._remote.add_note(text, node=self.id)

    def __repr__(self) -> str:
        return f"<Node {self.id} {self.name!r}: {self._standing()}>"

    def _repr_html_(self) -> str:
        """For notebooks."""
        return f"<b>{escape(self.name)}</b> {escape(self._standing())}"

    def _standing(self) -> str:
        state = "drained" if self.drained else "available" if self.available else "unavailable"
        return f"{state}, {self.cpus_busy} of {self.cpus} CPUs busy"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Node):
            return NotImplemented
        return (self._remote.url, self.id) == (other._remote.url, other.id)

    def __hash__(self) -> int:
        return hash((self._remote.url, self.id))


def find(nodes: Sequence[rest.NodeDetail], texts: Sequence[str]) -> list[rest.NodeDetail]:
    """Nodes by label (`hostname` or `hostname:name`, in any case) or else by id.

    Raises `NotFound` naming the first that is not there.
    """
    by_text = {str(node.id): node for node in nodes}
    by_text.update((node.label.casefold(), node) for node in nodes)
    for text in texts:
        if text.casefold() not in by_text:
            raise NotFound(f"There is no node {text!r}; roost nodes lists them.")
    return [by_text[text.casefold()] for text in texts]
