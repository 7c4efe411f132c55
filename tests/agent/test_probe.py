"""What a machine says of itself. The graphics cards are files here, as drivers lay them out."""

from __future__ import annotations

from pathlib import Path

from roost.agent import probe

NVIDIA = """Model: \t\t NVIDIA RTX A6000
IRQ:   \t\t 91
GPU UUID: \t GPU-1f5d2a39-9a68
Bus Type: \t PCIe
"""


def test_graphics_processors_are_named_by_their_drivers(tmp_path: Path) -> None:
    for bus in ("0000:17:00.0", "0000:65:00.0"):
        card = tmp_path / "proc/driver/nvidia/gpus" / bus
        card.mkdir(parents=True)
        (card / "information").write_text(NVIDIA)
    device = tmp_path / "sys/class/drm/card2/device"
    device.mkdir(parents=True)
    (device / "product_name").write_text("Radeon PRO W7800\n")
    found = probe.gpus(tmp_path / "proc", tmp_path / "sys")
    assert found == ("NVIDIA RTX A6000", "NVIDIA RTX A6000", "Radeon PRO W7800")


def test_a_machine_without_them_has_none(tmp_path: Path) -> None:
    assert probe.gpus(tmp_path, tmp_path) == ()
