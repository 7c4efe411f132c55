"""What has been done and can be taken back: the inverse commands, each under a token.

They are in memory only: to undo is for the minute after, and after a restart people are told that
it is too late. The core made each of them when it did the thing itself (`messages.Inverse`), so
that it names exactly what was changed, and how that was before.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from typing import get_args

from roost.core.messages import Inverse, SetPriorities
from roost.errors import NotFound

COMMANDS_MAX = 200
IDS_MAX = 400_000
"""Named by all of them together."""

_KINDS = get_args(Inverse)


class Inverses:
    """See the module's text."""

    def __init__(self) -> None:
        self._commands: OrderedDict[str, Inverse] = OrderedDict()
        self._ids = 0

    def keep(self, reply: object) -> str:
        """A token for the inverse that a handler has replied; empty when it is none."""
        if not isinstance(reply, _KINDS):
            return ""
        # In hex, as `roost undo` would take one that begins with a dash for an option.
        token = secrets.token_hex(8)
        self.put_back(token, reply)
        return token

    def put_back(self, token: str, command: Inverse) -> None:
        """One that was taken and refused: it can be tried again."""
        self._commands[token] = command
        self._ids += _size(command)
        while len(self._commands) > 1 and (
            len(self._commands) > COMMANDS_MAX or self._ids > IDS_MAX
        ):
            self._ids -= _size(self._commands.popitem(last=False)[1])

    def take(self, token: str) -> Inverse:
        """The command, once. Raises `NotFound`."""
        command = self._commands.pop(token, None)
        if command is None:
            raise NotFound("That cannot be undone any more: it is undone already, or too long ago.")
        self._ids -= _size(command)
        return command


def _size(command: Inverse) -> int:
    if isinstance(command, SetPriorities):
        return len(command.priorities)
    return max(len(getattr(command, name, ())) for name in ("ids", "nodes"))
