"""What browsers load comes from npm by the lock file, with licences, and is in the wheel."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STATIC = ROOT / "src/roost/web/static"
VENDOR = STATIC / "vendor"


def test_every_borrowed_package_has_its_licence_beside_it() -> None:
    lock = json.loads((ROOT / "package-lock.json").read_text())
    borrowed = lock["packages"][""]["dependencies"]
    licences = {file.stem for file in (VENDOR / "licences").iterdir()}
    words = {"htmx.org": "htmx", "@tabler/core": "tabler", "@tabler/icons": "tabler",
             "@radix-ui/colors": "radix-colors"}  # fmt: skip
    assert {words.get(name, name.rpartition("/")[2]) for name in borrowed} == licences


def test_versions_are_exact_and_the_lock_names_no_host_to_load_from() -> None:
    package = json.loads((ROOT / "package.json").read_text())
    for versions in (package["dependencies"], package["devDependencies"]):
        assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions.values())
    lock = json.loads((ROOT / "package-lock.json").read_text())
    for name, entry in lock["packages"].items():
        if name:
            assert entry["integrity"].startswith("sha512-"), name
            assert "resolved" not in entry, name


def test_the_style_sheet_was_made_for_the_pages_as_they_are() -> None:
    sys.path.insert(0, str(ROOT))
    try:
        from hatch_build import used_of_tabler
    finally:
        sys.path.remove(str(ROOT))
    wanted = used_of_tabler(ROOT, ROOT / "node_modules")
    assert wanted in (VENDOR / "styles.css").read_text(), "run: make install"


def test_the_style_sheet_has_of_tabler_what_pages_use_and_no_more() -> None:
    sheet = (VENDOR / "styles.css").read_text()
    assert ".btn-primary{" in sheet and "[data-bs-theme=dark]" in sheet and ".carousel" not in sheet
    assert "Copyright 2018-2026 The Tabler Authors" in sheet


def test_every_icon_that_a_template_names_is_in_the_sprite() -> None:
    icons = set(re.findall(r'<symbol id="([^"]+)"', (VENDOR / "icons.svg").read_text()))
    templates = "".join(f.read_text() for f in (ROOT / "src/roost/web/templates").glob("*.html"))
    named = set(re.findall(r'icon\("([a-z0-9-]+)"', templates))
    assert named and named <= icons, named - icons


def test_no_file_of_ours_asks_for_one_that_is_not_there() -> None:
    for script in STATIC.glob("*.js"):
        for path in re.findall(r'from "(\./[^"]+)"|import "(\./[^"]+)"', script.read_text()):
            assert (STATIC / (path[0] or path[1])).exists(), (script.name, path)


@pytest.mark.slow
def test_the_wheel_contains_all_that_browsers_load(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if name.startswith("roost/web/")}
    ours = {f.relative_to(ROOT / "src").as_posix() for f in STATIC.rglob("*") if f.is_file()}
    assert ours <= inside
    assert "roost/web/templates/jobs.html" in inside
