"""For how long nobody has used this machine: what idle rules go by (API page, `idleTime`).

On Linux no program may ask for the last key press of all people at once, so it is pieced together
from what any account can read:

* *Terminals.* Typing in one sets the access time of its device, which is what `w` shows. Which
  terminals people are signed in on is told by utmp and by the session files of logind.
* *Devices.* The kernel counts the interrupts of PS/2 and I2C keyboards, mice and touchpads, and
  what each USB keyboard and mouse has sent. A count that has grown since the last look is somebody
  at the desk, whatever desktop it runs. When it grew before the first look cannot be told, so the
  first look counts as use, unless nothing has ever been counted.

The latest sign of either counts. With none since the machine was started it has been idle since
then: a render node without screen, keyboard or visitors satisfies every idle rule. Two cases are
unknown, and idle rules do not hold then: somebody is signed in on a screen and may use a keyboard
that shows in no count, such as one by Bluetooth; and a machine that tells nothing at all, such as a
container without utmp, logind and devices. (logind's idle hint would help, but it is told over
D-Bus only, and not every desktop sets it.)

Reads a dozen small files, once per beat. Elsewhere than on Linux only terminals are looked at.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import psutil

_INPUT_INTERRUPT = re.compile(r"i8042|hid|elan|synaptics", re.IGNORECASE)
_BOOT_KEYBOARD, _BOOT_MOUSE = "01", "02"
_HID_CLASS = "03"
_TERMINAL = re.compile(r"pts/\d+|tty[sS]?\d+")


def signed_in() -> Iterable[str]:
    """Terminals of people that utmp knows: `pts/3`, `tty1`, or a screen such as `:0`."""
    return [user.terminal or "" for user in psutil.users()]


class Idleness:
    """Asked once per beat. `root` is where /proc, /sys, /dev and /run are."""

    def __init__(
        self,
        root: Path = Path("/"),
        users: Callable[[], Iterable[str]] = signed_in,
        booted_at: Callable[[], float] = psutil.boot_time,
    ) -> None:
        self._root = root
        self._users = users
        self._booted_at = booted_at
        self._counted: dict[str, int] | None = None
        self._moved_at = 0.0
        """When a device was last seen to have been used."""

    def minutes(self, now: float) -> int:
        """Whole minutes until `now` (seconds since 1970), or -1 when unknown."""
        terminals, screens, is_told = self._people()
        counts = dict(self._counts())
        if self._counted is None:
            self._moved_at = now if any(counts.values()) else 0.0
        elif any(count != self._counted.get(name) for name, count in counts.items()):
            self._moved_at = now
        self._counted = counts
        if (not counts and not is_told) or (screens and (not counts or self._has_bluetooth())):
            return -1
        signs = [self._moved_at, *map(self._typed_at, terminals)]
        with contextlib.suppress(Exception):  # whatever psutil makes of the platform's files
            signs.append(self._booted_at())
        latest = max(signs)
        return int(max(0.0, now - latest) // 60) if latest else -1

    def _people(self) -> tuple[set[str], bool, bool]:
        """Terminals in use, whether anybody is signed in on a screen here, and whether this
        machine tells such things at all."""
        terminals: set[str] = set()
        screens = False
        is_told = any((self._root / path).exists() for path in ("run/utmp", "var/run/utmp"))
        with contextlib.suppress(Exception):  # as above
            for name in self._users():
                is_told = True
                if _TERMINAL.fullmatch(name):
                    terminals.add(name)
                else:
                    screens = True
        with contextlib.suppress(OSError):
            for file in (self._root / "run/systemd/sessions").iterdir():
                is_told = True
                if file.name.endswith(".ref"):
                    continue
                session = _variables(file)
                if session.get("CLASS", "user") != "user" or session.get("STATE") == "closing":
                    continue
                if session.get("TYPE") in ("x11", "wayland", "mir"):
                    screens = screens or session.get("REMOTE") != "1"
                elif _TERMINAL.fullmatch(session.get("TTY", "")):
                    terminals.add(session["TTY"])
        return terminals, screens, is_told

    def _has_bluetooth(self) -> bool:
        """Is there an input device on the bus whose number is that of Bluetooth?"""
        return "Bus=0005" in _text(self._root / "proc/bus/input/devices")

    def _typed_at(self, terminal: str) -> float:
        with contextlib.suppress(OSError):
            return (self._root / "dev" / terminal).stat().st_atime
        return 0.0

    def _counts(self) -> Iterator[tuple[str, int]]:
        """What keyboards and mice have sent so far, by device."""
        with contextlib.suppress(OSError):
            for line in (self._root / "proc/interrupts").read_text("utf-8", "replace").splitlines():
                if _INPUT_INTERRUPT.search(line):
                    number, *rest = line.split()
                    yield number, sum(int(word) for word in rest if word.isdecimal())
        with contextlib.suppress(OSError):
            for interface in (self._root / "sys/bus/usb/devices").glob("*:*"):
                if _text(interface / "bInterfaceClass") != _HID_CLASS:
                    continue
                if _text(interface / "bInterfaceProtocol") in (_BOOT_KEYBOARD, _BOOT_MOUSE):
                    # Of the device as a whole (Documentation/ABI/stable/sysfs-bus-usb).
                    device = interface.name.partition(":")[0]
                    sent = _text(interface.parent / device / "urbnum")
                    if sent.isdecimal():
                        yield device, int(sent)


def _text(file: Path) -> str:
    with contextlib.suppress(OSError):
        return file.read_text("ascii", "replace").strip()
    return ""


def _variables(file: Path) -> dict[str, str]:
    lines = (line.partition("=") for line in _text(file).splitlines())
    return {name: value for name, _, value in lines}
