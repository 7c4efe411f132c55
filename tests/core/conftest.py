"""Makes `play` importable for the tests beside it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from play import Play


@pytest.fixture
def play() -> Play:
    """A farm without nodes, with HQueue's timeouts."""
    return Play()
