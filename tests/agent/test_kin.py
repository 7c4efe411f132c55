"""What the keeper asks of /proc."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from roost.agent import kin


@pytest.fixture
def children() -> Iterator[list[int]]:
    """Ten processes of our own, in the order of their starts."""
    processes = [subprocess.Popen(["sleep", "1000"]) for _ in range(10)]
    yield [process.pid for process in processes]
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize("piece_bytes", [40, 4096])
def test_children_are_listed_afresh_and_in_full(
    monkeypatch: pytest.MonkeyPatch, children: list[int], piece_bytes: int
) -> None:
    monkeypatch.setattr(kin, "_PIECE_BYTES", piece_bytes)
    listed = kin.Children()
    before = listed.read()
    assert before is not None and [pid for pid in before if pid in children] == children
    os.kill(children[3], 9)
    os.waitpid(children[3], 0)
    after = listed.read()
    assert after == [pid for pid in before if pid != children[3]]
