"""Rules of the house that no other tool checks."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SKIPPED = {".venv", ".git", "demo-farm", "build", "dist", "node_modules"}
PYTHON = sorted(
    file
    for folder in ("src", "tests", "bench", "docs")
    for file in (ROOT / folder).rglob("*.py")
    if not SKIPPED & set(file.relative_to(ROOT).parts)
)
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


def has_code(file: Path) -> bool:
    return bool(file.read_text(encoding="utf-8").strip())


def texts() -> list[Path]:
    """Every file of the project that a person may read, as far as git knows or would add it."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:  # an unpacked archive
        return PYTHON
    files = [ROOT / line for line in listed.stdout.splitlines()]
    return [file for file in files if file.is_file() and file.suffix not in {".png", ".gz"}]


@pytest.mark.parametrize("file", PYTHON, ids=name_of)
def test_files_are_named_after_what_they_are(file: Path) -> None:
    assert file.stem not in BANNED_NAMES


@pytest.mark.parametrize("file", [f for f in PYTHON if has_code(f)], ids=name_of)
def test_a_module_opens_with_its_theory(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), f"{name_of(file)} has no docstring"


@pytest.mark.parametrize("file", [f for f in PYTHON if "tests" in f.parts], ids=name_of)
def test_no_test_sleeps(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called.endswith("asyncio.sleep"):
            # Giving way to the loop once is not sleeping.
            assert ast.unparse(node.args[0]) == "0", f"{name_of(file)}:{node.lineno} sleeps"
        assert called != "time.sleep", f"{name_of(file)}:{node.lineno} sleeps"


def test_no_file_names_a_place_on_somebodys_machine() -> None:
    # In pieces, so that this file does not name them either.
    places = re.compile("|".join(["/" + "work/", "/" + "home/[a-z]+/", "/" + "Users/[A-Za-z]+/"]))
    found = [
        f"{name_of(file)}:{number}"
        for file in texts()
        for number, line in enumerate(
            file.read_text(encoding="utf-8", errors="replace").splitlines(), 1
        )
        if places.search(line)
    ]
    assert not found


def test_the_locks_name_no_host() -> None:
    for lock in (ROOT / "requirements").glob("*.txt"):
        assert "://" not in lock.read_text(encoding="utf-8"), f"{lock.name} names a host"
