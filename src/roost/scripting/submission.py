"""From a command, and properties under Python's names, to a job specification under HQueue's.

Knows how the properties are called on both sides.
Must not know which values make sense: every rule is the server's, every refusal its sentence.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypedDict, Unpack

from roost.errors import Invalid
from roost.frames import Spec, command_spec

Command = str | Sequence[str]
"""A line for the shell, or the words of a command, each kept as it is."""


class HasId(Protocol):
    """A job that the farm has already, such as `roost.Job`."""

    @property
    def id(self) -> int: ...


class Properties(TypedDict, total=False):
    """What a job may be told besides its command. What is left out, the farm chooses."""

    name: str
    """What people see. Else the command."""
    description: str
    submitted_by: str
    """Else the name of the user who runs the script."""
    priority: int
    """Higher goes first; 0 unless told."""
    cpus: int
    """How many the command needs; 1 unless told."""
    min_hosts: int
    max_hosts: int
    """Machines that it runs on at once."""
    host: str | Sequence[str]
    """Only on one of these machines."""
    group: str | Sequence[str]
    """Only on a machine of one of these client groups."""
    conditions: Sequence[Mapping[str, str]]
    """Rules such as `{"name": "os", "op": "==", "value": "linux"}`; all must hold."""
    tags: Sequence[str]
    """`single`: alone on its machine."""
    resources: Mapping[str, int]
    """What it takes of the farm's table of resources, such as licences."""
    tries: int
    """Automatic runs after a failure."""
    max_time: int
    """Seconds after which it is cancelled."""
    cwd: str | os.PathLike[str]
    """Folder to run in, on the machine that runs it. Else one of the farm's own."""
    shell: str
    """Interpreter of the command."""
    environment: Mapping[str, str | int | float | os.PathLike[str]]
    on_success: str
    on_error: str
    on_cancel: str
    on_child_error: str
    cleanup: str
    """Scripts that run on the machine when the command has ended so, or in any case."""
    email_to: str | Sequence[str]
    email_reasons: str | Sequence[str]
    """Statuses to be told of by mail."""
    attributes: Mapping[str, Any]
    """What the job can read and set while it runs: numbers, bools, None, texts, lists of these,
    and `{"expr": "..."}` for an expression."""
    submit_dir: str | os.PathLike[str]
    """Folder on the server's side that its Chirp files are relative to."""
    children: Sequence[Spec | HasId | int]
    """Jobs that must have succeeded before: specifications (see `job_spec`), or existing jobs."""


KEYS = {
    "name": "name",
    "description": "description",
    "submitted_by": "submittedBy",
    "priority": "priority",
    "cpus": "cpus",
    "min_hosts": "minHosts",
    "max_hosts": "maxHosts",
    "host": "host",
    "group": "hostgroup",
    "conditions": "conditions",
    "tags": "tags",
    "resources": "resources",
    "tries": "triesLeft",
    "max_time": "maxTime",
    "cwd": "cwd",
    "shell": "shell",
    "environment": "environment",
    "on_success": "onSuccess",
    "on_error": "onError",
    "on_cancel": "onCancel",
    "on_child_error": "onChildError",
    "cleanup": "cleanup",
    "email_to": "emailTo",
    "email_reasons": "emailReasons",
    "attributes": "attributes",
    "submit_dir": "submitDir",
}
"""Each property under HQueue's name. `children` become `children` and `childrenIds`."""


def job_spec(command: Command | None = None, **properties: Unpack[Properties]) -> Spec:
    """A job specification, for `Farm.submit` or as one of the `children` of another.

    Raises `Invalid` for a property that does not exist.
    """
    spec = {} if command is None else command_spec(line_of(command))
    return with_properties(spec, properties)


def line_of(command: Command) -> str:
    """Words are quoted for a POSIX shell, so that the command sees them as they are."""
    if isinstance(command, str):
        return command
    return shlex.join(os.fspath(word) for word in command)


def with_properties(spec: Spec, properties: Properties) -> Spec:
    """A copy in which the given properties say what the job is like. Raises `Invalid`."""
    made = dict(spec)
    for name, value in properties.items():
        if name == "children":
            continue
        if name not in KEYS:
            known = ", ".join([*KEYS, "children"])
            raise Invalid(f"A job has no property {name!r}: it can be one of {known}.")
        made[KEYS[name]] = _plain(value)
    children = properties.get("children", ())
    if specs := [dict(child) for child in children if isinstance(child, Mapping)]:
        made["children"] = [*(made.get("children") or ()), *specs]
    ids = [
        child if isinstance(child, int) else child.id
        for child in children
        if not isinstance(child, Mapping)
    ]
    if ids:
        made["childrenIds"] = [*(made.get("childrenIds") or ()), *ids]
    return made


def _plain(value: object) -> object:
    """As JSON can say it: paths become text, also within a mapping."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value
