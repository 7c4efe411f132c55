"""From one command to a job for each frame, as specifications under HQueue's key names.

Pure. The command line, Python scripts and the page for submitting make the same of the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

Spec = dict[str, Any]
"""A job specification under HQueue's key names, as `newjob` takes it."""

NAME_LENGTH_MAX = 60
"""A job without a name is called by so much of its command."""

_FRAME = re.compile(r"(?<!\$)\{frame\}")
_ON_THE_PARENT = ("name", "priority", "submittedBy", "description")
_ON_THE_PARENT_ONLY = ("emailTo", "emailReasons")
"""One mail about all frames, not one for each."""


def command_spec(line: str) -> Spec:
    """A job that runs this line, and is called like it."""
    short = line if len(line) <= NAME_LENGTH_MAX else line[: NAME_LENGTH_MAX - 1] + "…"
    return {"name": short, "command": line}


def frame_spec(spec: Spec, frames: Sequence[int]) -> Spec:
    """A parent without command, and beneath it the given job once for each frame.

    The frame is in `$FRAME` of each child's environment, and in place of `{frame}` in its command.
    """
    environment = spec.get("environment") or {}
    each = {key: value for key, value in spec.items() if key not in _ON_THE_PARENT_ONLY}
    children = [
        {
            **each,
            "name": f"{spec['name']} [{frame}]",
            "command": _FRAME.sub(str(frame), spec["command"]),
            "environment": {**environment, "FRAME": str(frame)},
        }
        for frame in frames
    ]
    keys = (*_ON_THE_PARENT, *_ON_THE_PARENT_ONLY)
    return {**{key: spec[key] for key in keys if key in spec}, "children": children}
