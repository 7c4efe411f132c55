"""How the keeper makes a process: the C library's `posix_spawn`, with everything made ready before.

`os.posix_spawn` converts arguments, environment, descriptors and signals at each call. The keeper
starts a job when another one has just ended, and each line that it touches then is cold; a command
is handed over earlier, together with others. So a `Command` is what C wants to have, and what all
commands have in common is made once.

A process has a session of its own, its output as both of its outputs, and otherwise what its parent
has: the standard input, the folder, the limits.

Standard library only. Knows commands, not runs.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping
from functools import lru_cache
from signal import Signals
from typing import NamedTuple

# The same in glibc and musl; so are the sizes, which are below 400 bytes.
_SETSIGDEF = 0x04
_SETSID = 0x400 if sys.platform == "darwin" else 0x80
_STRUCT_BYTES = 1024
_POINTER_BYTES = ctypes.sizeof(ctypes.c_char_p)


class Command(NamedTuple):
    path: bytes
    argv: ctypes.Array[ctypes.c_char_p]
    environment: ctypes.Array[ctypes.c_char_p]


class Spawner:
    def __init__(self, as_usual: tuple[Signals, ...]) -> None:
        """`as_usual` are signals that no process is to ignore."""
        self._libc = ctypes.CDLL(None)
        self._pid = ctypes.c_int()
        self._attributes = self._make_attributes(as_usual)
        self._onto: dict[int, ctypes.Array[ctypes.c_char]] = {}
        """File actions by the descriptor of the output."""
        self._common: dict[str, bytes] = {}
        self._rest = lru_cache(64)(self._make_rest)

    def _make_attributes(self, as_usual: tuple[Signals, ...]) -> ctypes.Array[ctypes.c_char]:
        attributes = ctypes.create_string_buffer(_STRUCT_BYTES)
        signals = ctypes.create_string_buffer(_STRUCT_BYTES)
        self._libc.sigemptyset(signals)
        for number in as_usual:
            self._libc.sigaddset(signals, number)
        self._libc.posix_spawnattr_init(attributes)
        self._libc.posix_spawnattr_setflags(attributes, ctypes.c_short(_SETSIGDEF | _SETSID))
        self._libc.posix_spawnattr_setsigdefault(attributes, signals)
        return attributes

    def share(self, environment: Mapping[str, str]) -> None:
        """What all later commands have in common, where they do not say otherwise."""
        self._common = _entries(environment)
        self._rest.cache_clear()

    def command(self, argv: list[str], environment: Mapping[str, str]) -> Command:
        """Raises `ValueError` for what no process can be given."""
        words = _texts(argv)
        own = _entries(environment)
        rest = self._rest(frozenset(own.keys() & self._common.keys()))
        pointers = (ctypes.c_char_p * (len(own) + len(rest)))(*own.values())
        ctypes.memmove(ctypes.byref(pointers, len(own) * _POINTER_BYTES), rest, ctypes.sizeof(rest))
        pointers.rest = rest  # type: ignore[attr-defined]  # it has the texts
        return Command(words[0], (ctypes.c_char_p * (len(words) + 1))(*words), pointers)

    def _make_rest(self, overridden: frozenset[str]) -> ctypes.Array[ctypes.c_char_p]:
        """The end of an environment: what is common, but for these, and the null that ends it."""
        texts = [text for name, text in self._common.items() if name not in overridden]
        return (ctypes.c_char_p * (len(texts) + 1))(*texts)

    def spawn(self, command: Command, output: int) -> int:
        """Its process id. Raises `OSError`."""
        actions = self._onto.get(output) or self._make_actions(output)
        error = self._libc.posix_spawn(
            ctypes.byref(self._pid),
            command.path,
            actions,
            self._attributes,
            command.argv,
            command.environment,
        )
        if error:
            raise OSError(error, os.strerror(error), os.fsdecode(command.path))
        return self._pid.value

    def _make_actions(self, output: int) -> ctypes.Array[ctypes.c_char]:
        actions = self._onto[output] = ctypes.create_string_buffer(_STRUCT_BYTES)
        self._libc.posix_spawn_file_actions_init(actions)
        self._libc.posix_spawn_file_actions_adddup2(actions, output, 1)
        self._libc.posix_spawn_file_actions_adddup2(actions, output, 2)
        return actions


def _entries(environment: Mapping[str, str]) -> dict[str, bytes]:
    """The variables as `execve` wants them, by name."""
    if "=" in "".join(environment) or "" in environment:
        raise ValueError("illegal environment variable name")
    texts = _texts([f"{name}={value}" for name, value in environment.items()])
    return dict(zip(environment, texts, strict=True))


def _texts(words: list[str]) -> list[bytes]:
    *texts, _ = os.fsencode("\0".join([*words, ""])).split(b"\0")
    if len(texts) != len(words):
        raise ValueError("embedded null byte")
    return texts
