"""Starters to talk to, fake and real, and the environment of a job that finds them."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


def _module(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module


stock_starter = _module(Path(__file__).with_name("stock_starter.py"))
POOL = Path(__file__).parents[2] / "bench" / "condor_pool.py"


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


@pytest.fixture
def new_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Any]]:
    """Starts a pool of HTCondor that is gone with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda: _pool(stack, tmp_path_factory)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A pool of HTCondor."""
    with contextlib.ExitStack() as stack:
        yield _pool(stack, tmp_path_factory)


def _pool(stack: contextlib.ExitStack, folders: pytest.TempPathFactory) -> Any:
    try:
        return stack.enter_context(_module(POOL).pool(folders.mktemp("htcondor")))
    except LookupError as error:
        assert "ROOST_REQUIRE_HTCONDOR" not in os.environ, error
        pytest.skip(str(error))
