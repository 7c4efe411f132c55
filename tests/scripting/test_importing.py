"""`import roost`: what it costs, and what type checkers see of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import roost

ROOT = Path(__file__).parents[2]


def test_importing_roost_imports_nothing_else() -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r}); before = set(sys.modules)"
    code += "; import roost; print(*set(sys.modules) - before)"
    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["roost"]


def test_what_is_announced_is_there() -> None:
    assert set(roost.__all__) <= set(dir(roost))
    for name in roost.__all__:
        assert getattr(roost, name).__name__ == name
    with pytest.raises(AttributeError, match="'conect'"):
        roost.conect  # noqa: B018


@pytest.mark.slow
def test_type_checkers_understand_it() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "tests/scripting/typed.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
