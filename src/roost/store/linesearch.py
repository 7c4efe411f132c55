"""Search lines for a regular expression, in a process that can be stopped.

Reads one question from its standard input, a JSON object:

    pattern      the regular expression
    parts        stretches of a log: [text or null, path, start, stop], offsets in bytes
    first        the number of the line that the first stretch begins with
    matches_max  after how many matching lines to stop

Writes lines as it goes: `match 7` for each line that matches, and now and then `searched 80`: all
lines up to this one have been looked at. Lines are matched as they are shown, without escape
sequences and what was overwritten; their ends are `^` and `$`, not `\\A` and `\\Z`. A pattern
without capital letters matches both cases. Standard library only: it must start quickly.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence

BLOCK_BYTES = 1 << 20
PATTERN_CHARACTERS_MAX = 500

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)|[@-Z\\^_])")
_OVERWRITTEN = re.compile(r"^[^\n]*\r(?=[^\n\r])", re.MULTILINE)
_ESCAPED = re.compile(r"\\.", re.DOTALL)


def compiled(pattern: str) -> re.Pattern[str]:
    """Raises `ValueError`, with a phrase that says what is wrong with the pattern."""
    if len(pattern) > PATTERN_CHARACTERS_MAX:
        raise ValueError(f"longer than {PATTERN_CHARACTERS_MAX} characters")
    try:
        return re.compile(pattern, re.MULTILINE)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(str(error)) from None


def matches_both_cases(pattern: str) -> bool:
    plain = _ESCAPED.sub("", pattern)
    return plain == plain.lower()


def main() -> None:
    question = json.load(sys.stdin)
    pattern, left = compiled(question["pattern"]), question["matches_max"]
    # Ten times as fast as to have the regular expression ignore case.
    lowered = matches_both_cases(question["pattern"])
    line = question["first"]
    latest = 0
    for block in _blocks(question["parts"]):
        text = block.decode("utf-8", "replace").replace("\r\n", "\n")
        if "\x1b" in text:
            text = _ESCAPES.sub("", text)
        if "\r" in text:
            text = _OVERWRITTEN.sub("", text)
        if lowered:
            text = text.lower()
        counted_to = 0
        for start in _matching(pattern, text):
            line += text.count("\n", counted_to, start)
            counted_to = start
            if line > latest:  # a long line comes in several blocks
                latest = line
                print("match", line)
                left -= 1
                if not left:
                    print("searched", line)
                    return
        line += text.count("\n", counted_to)
        print("searched", line if not text.endswith("\n") else line - 1, flush=True)


def _matching(pattern: re.Pattern[str], text: str) -> Iterator[int]:
    """Where the lines begin that match."""
    at = 0
    # Behind the last newline no line begins.
    while at < len(text) and (match := pattern.search(text, at)):
        start = text.rfind("\n", 0, match.start()) + 1
        if start == len(text):
            return
        end = text.find("\n", match.start())
        end = len(text) if end < 0 else end
        # What matched may reach into the next line; this line alone must match.
        if pattern.search(text, start, end):
            yield start
        at = end + 1


def _blocks(parts: Sequence[tuple[str | None, str, int, int]]) -> Iterator[bytes]:
    """The bytes of all parts, in blocks that end with a line, unless a line is longer."""
    rest = b""
    for text, path, start, stop in parts:
        for data in _reads(text, path, start, stop):
            lines, newline, more = data.rpartition(b"\n")
            if newline:
                yield rest + lines + newline
                rest = more
            elif len(rest) > BLOCK_BYTES:
                yield rest
                rest = data
            else:
                rest += data
    if rest:
        yield rest


def _reads(text: str | None, path: str, start: int, stop: int) -> Iterator[bytes]:
    if text is not None:
        yield text.encode("latin-1")[start:stop]
        return
    try:
        with open(path, "rb") as file:  # noqa: PTH123  (pathlib would double the time to start)
            file.seek(start)
            while data := file.read(min(BLOCK_BYTES, stop - file.tell())):
                yield data
    except FileNotFoundError:
        pass  # deleted meanwhile


if __name__ == "__main__":
    main()
