"""What tells that somebody uses a machine, on machines that are folders."""

from __future__ import annotations

import os
from pathlib import Path

from roost.agent import probe
from roost.agent.idleness import Idleness

BOOTED, NOW = 1_000_000.0, 1_000_000.0 + 6_000
MINUTE = 60.0


class Machine:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.users: list[str] = []
        self.idleness = Idleness(root, lambda: self.users, lambda: BOOTED)

    def file(self, path: str, text: str = "") -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def typed(self, terminal: str, at: float) -> None:
        os.utime(self.file(f"dev/{terminal}"), (at, at))

    def interrupts(self, keyboard: int, disk: int = 5) -> None:
        self.file(
            "proc/interrupts",
            "            CPU0       CPU1\n"
            f"   1:          2     {keyboard}  IO-APIC    1-edge      i8042\n"
            f"  16:          0     {disk}  IO-APIC   16-fasteoi  nvme0q1\n"
            "NMI:          0     7   Non-maskable interrupts\n",
        )

    def usb(self, device: str, kind: str, protocol: str, sent: int) -> None:
        folder = f"sys/bus/usb/devices/{device}"
        self.file(f"{folder}/urbnum", f"{sent}\n")
        self.file(f"{folder}:1.0/bInterfaceClass", f"{kind}\n")
        self.file(f"{folder}:1.0/bInterfaceProtocol", f"{protocol}\n")

    def session(self, name: str, **variables: str) -> None:
        lines = [f"{key}={value}" for key, value in variables.items()]
        self.file(f"run/systemd/sessions/{name}", "\n".join(["# private", *lines, ""]))

    def idle(self, after_minutes: float = 0) -> int:
        return self.idleness.minutes(NOW + after_minutes * MINUTE)


def test_a_machine_that_nobody_has_used_is_idle_since_it_started(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.file("run/utmp")
    assert machine.idle() == 100


def test_a_machine_that_tells_nothing_is_unknown(tmp_path: Path) -> None:
    assert Machine(tmp_path).idle() == -1


def test_the_terminal_that_was_typed_in_last_counts(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.users = ["pts/0", "tty1", "pts/7"]
    machine.typed("pts/0", NOW - 30 * MINUTE)
    machine.typed("tty1", NOW - 4.5 * MINUTE)
    assert machine.idle() == 4
    machine.typed("pts/0", NOW + 60)  # a clock that is ahead
    assert machine.idle() == 0


def test_terminals_that_only_logind_knows_count_too(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.session("4", CLASS="user", TYPE="tty", REMOTE="1", TTY="pts/3", STATE="active")
    machine.session("5", CLASS="manager", TYPE="unspecified", STATE="active")
    machine.typed("pts/3", NOW - 9 * MINUTE)
    assert machine.idle() == 9


def test_a_terminal_nobody_is_signed_in_on_does_not_count(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.session("4", CLASS="user", TYPE="tty", TTY="pts/3", STATE="closing")
    machine.typed("pts/3", NOW)
    assert machine.idle() == 100


def test_a_key_of_a_keyboard_is_use_and_a_disk_is_not(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.interrupts(keyboard=40)
    assert machine.idle() == 0  # it may have been a moment ago
    machine.interrupts(keyboard=40, disk=99)
    assert machine.idle(10) == 10
    machine.interrupts(keyboard=41)
    assert machine.idle(11) == 0
    assert machine.idle(13) == 2


def test_usb_keyboards_and_mice_count_and_other_devices_do_not(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.session("2", CLASS="user", TYPE="wayland", REMOTE="0", STATE="active")
    machine.usb("1-2", "03", "02", sent=10)
    machine.usb("1-3", "08", "50", sent=10)
    machine.usb("1-4", "03", "00", sent=10)
    assert machine.idle() == 0
    machine.usb("1-3", "08", "50", sent=90)
    machine.usb("1-4", "03", "00", sent=90)
    assert machine.idle(20) == 20
    machine.usb("1-2", "03", "02", sent=11)
    assert machine.idle(21) == 0


def test_a_keyboard_never_touched_since_the_start_is_no_use(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.usb("1-2", "03", "01", sent=0)
    assert machine.idle() == 100


def test_somebody_at_a_screen_whose_keyboard_is_not_counted_is_unknown(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.session("2", CLASS="user", TYPE="x11", REMOTE="0", STATE="active")
    assert machine.idle() == -1
    machine.session("2", CLASS="user", TYPE="x11", REMOTE="1", STATE="active")
    assert machine.idle() == 100
    machine.users = [":0"]
    assert machine.idle() == -1


def test_a_bluetooth_mouse_makes_somebody_at_a_screen_unknown(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.interrupts(keyboard=40)
    bus = "I: Bus={} Vendor=046d Product=b023 Version=0011\nH: Handlers=event5 mouse1\n"
    machine.file("proc/bus/input/devices", bus.format("0003") + bus.format("0005"))
    assert machine.idle() == 0
    machine.users = [":0"]
    assert machine.idle(10) == -1
    machine.file("proc/bus/input/devices", bus.format("0003"))
    assert machine.idle(10) == 10


def test_a_device_that_is_plugged_in_is_use(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.file("run/utmp")
    assert machine.idle() == 100
    machine.usb("1-2", "03", "01", sent=3)
    assert machine.idle(1) == 0


def test_this_machine_answers() -> None:
    assert Idleness().minutes(NOW) >= -1
    assert 0 <= probe.cpu_speed_mhz() < 20_000
    assert probe.memory_kb() > 100_000
    assert all(probe.gpus())
    assert probe.load() >= 0
