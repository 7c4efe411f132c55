"""What happened in a world: one line per event, and one digest over all of them.

The digest is how two runs of a seed are compared: equal digests, equal histories. Lines name jobs
as `#12`, so the story of a job is found again by its mark.
"""

from __future__ import annotations

import hashlib
import re


class Trace:
    def __init__(self, *, echo: bool = False) -> None:
        self.lines: list[str] = []
        self._echo = echo
        self._hash = hashlib.blake2b(digest_size=12)

    def note(self, now: int, text: str) -> None:
        line = f"{now / 1000:10.3f}  {text}"
        self._hash.update(line.encode() + b"\n")
        self.lines.append(line)
        if self._echo:
            print(line)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def story(self, job: int) -> list[str]:
        """The lines that mention the job."""
        mark = re.compile(rf"#{job}\b")
        return [line for line in self.lines if mark.search(line)]
