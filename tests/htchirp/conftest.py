"""Starters to talk to, and the environment of a job that finds them."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_spec = importlib.util.spec_from_file_location(
    "stock_starter", Path(__file__).with_name("stock_starter.py")
)
assert _spec
assert _spec.loader
stock_starter = importlib.util.module_from_spec(_spec)
sys.modules["stock_starter"] = stock_starter
_spec.loader.exec_module(stock_starter)


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Starts a starter on a directory of its own; the last one is what the job finds."""
    started: list[Any] = []

    def start(**options: Any) -> Any:
        root = tmp_path / f"submit{len(started)}"
        root.mkdir()
        starter = stock_starter.StockStarter(root, **options)
        started.append(starter)
        monkeypatch.setenv("_CONDOR_CHIRP_CONFIG", str(starter.contact))
        return starter

    yield start
    for starter in started:
        starter.stop()


@pytest.fixture(params=["new", "old"])
def starter(request: pytest.FixtureRequest, start: Callable[..., Any]) -> Any:
    """As of 25.11 and later, and as before."""
    return start(new=request.param == "new")
