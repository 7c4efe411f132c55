"""Build hook: what the web pages borrow goes from npm into `static/vendor`, with licences.

Runs for wheels and editable installs, so an installed Roost contains all it serves and no page
asks another host for anything. Of Tabler's style sheet only what our pages use is taken, a
twentieth: a browser has to read all of it before it draws anything. So `vendor` is made from the
lock file and from our pages; when it was made from the present ones nothing is done.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

WEB = Path("src/roost/web")
VENDOR = WEB / "static/vendor"
STAMP = "made-from"
USERS_OF_STYLES = ("templates/*.html", "static/*.js", "fragments.py")
"""Where each class and element that our pages have is written."""

FILES = {
    "htmx.esm.min.js": "htmx.org/dist/htmx.esm.min.js",
    "uplot.esm.js": "uplot/dist/uPlot.esm.js",
    "uplot.min.css": "uplot/dist/uPlot.min.css",
}
TABLER = "@tabler/core/dist/css/tabler.min.css"
LICENCES = {
    "htmx.txt": "htmx.org/LICENSE",
    "uplot.txt": "uplot/LICENSE",
    # Tabler's core has no licence file of its own; its package says MIT, as that of its icons.
    "tabler.txt": "@tabler/icons/LICENSE",
    "inter.txt": "@fontsource-variable/inter/LICENSE",
    "jetbrains-mono.txt": "@fontsource-variable/jetbrains-mono/LICENSE",
    "radix-colors.txt": "@radix-ui/colors/LICENSE",
}
FONTS = ("inter", "jetbrains-mono")
SUBSETS = ("latin", "latin-ext")
COLOURS = ("blue", "bronze", "cyan", "green", "orange", "red", "slate", "violet")
_ICONS = """
    activity alert-triangle arrow-back-up arrow-bar-to-right arrow-right arrow-up bell ban bolt
    calendar chart-line check chevron-down chevron-right circle-check clock command copy cpu
    dots-vertical download eye file-text filter folder home key keyboard license link list
    message moon note pencil player-eject player-pause player-play player-stop plug plus refresh
    rotate-clockwise search send server settings sitemap sun table terminal-2 trash user users x
"""


class Pages(BuildHookInterface):
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        make_vendor(Path(self.root))


def make_vendor(root: Path) -> None:
    vendor = root / VENDOR
    stamp = _stamp(root)
    made_from = vendor / STAMP
    if made_from.exists() and made_from.read_text() == stamp:
        return
    packages = _install(root)
    fresh = vendor.with_name("vendor.new")
    shutil.rmtree(fresh, ignore_errors=True)
    (fresh / "files").mkdir(parents=True)
    (fresh / "licences").mkdir()
    for name, source in FILES.items():
        # Maps are not shipped, and a browser that asks for one gets an error into its console.
        text = re.sub(r"(?m)^(//|/\*)# sourceMappingURL=.*$", "", _read(packages / source))
        (fresh / name).write_text(text)
    for name, source in LICENCES.items():
        shutil.copyfile(packages / source, fresh / "licences" / name)
    sheets = [used_of_tabler(root, packages), *_colours(packages)]
    sheets += [_font(packages / "@fontsource-variable" / font, font, fresh) for font in FONTS]
    # One file, because a browser draws nothing before it has them all.
    (fresh / "styles.css").write_text("\n".join(sheets))
    (fresh / "icons.svg").write_text(_sprite(packages / "@tabler/icons/icons/outline"))
    (fresh / STAMP).write_text(stamp)
    shutil.rmtree(vendor, ignore_errors=True)
    fresh.rename(vendor)


def _stamp(root: Path) -> str:
    """What `vendor` is made from, as a hash."""
    users = [user for pattern in USERS_OF_STYLES for user in sorted((root / WEB).glob(pattern))]
    recipe = hashlib.sha256()
    for file in (root / "package-lock.json", Path(__file__), *users):
        recipe.update(file.read_bytes())
    return recipe.hexdigest()


def _install(root: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise SystemExit(
            "Roost's web pages are put together with npm, and there is none. Install it "
            "(Debian: apt install npm) and try again, or install a wheel, which contains them."
        )
    # Whatever the build is run from may have set what npm is to do; the lock decides.
    environment = {k: v for k, v in os.environ.items() if k != "NODE_ENV"}
    done = subprocess.run([npm, "ci"], cwd=root, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"npm ci failed; the web pages cannot be put together:\n{done.stderr}")
    return root / "node_modules"


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def used_of_tabler(root: Path, packages: Path) -> str:
    """The rules of Tabler for classes and elements that our pages have, and what these need."""
    command = [packages / ".bin/purgecss", "--css", packages / TABLER, "--content"]
    command += [root / WEB / pattern for pattern in USERS_OF_STYLES]
    command += ["--font-face", "--keyframes", "--variables"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    [sheet] = json.loads(done.stdout)
    return str(sheet["css"])


def _colours(packages: Path) -> list[str]:
    return [
        _read(packages / "@radix-ui/colors" / f"{colour}{shade}.css")
        for shade in ("", "-dark")
        for colour in COLOURS
    ]


def _font(package: Path, name: str, vendor: Path) -> str:
    """The style sheet of the upright variable font, in the subsets that the pages need."""
    faces = re.findall(r"/\* (\S+) \*/\s*(@font-face \{.*?\})", _read(package / "index.css"), re.S)
    wanted = [f"{name}-{subset}-wght-normal" for subset in SUBSETS]
    for label in wanted:
        shutil.copyfile(package / "files" / f"{label}.woff2", vendor / "files" / f"{label}.woff2")
    found = {label: face for label, face in faces if label in wanted}
    return "\n".join(found[label] for label in wanted)


def _sprite(folder: Path) -> str:
    """One SVG with a symbol for each icon, to be used as `icons.svg#name`."""
    symbols = []
    for name in _ICONS.split():
        inner = re.search(r"<svg[^>]*>(.*)</svg>", _read(folder / f"{name}.svg"), re.S)
        assert inner, name
        strokes = re.sub(r"\s*<path[^>]*M0 0h24v24H0z[^>]*/>", "", inner[1]).strip()
        symbols.append(
            f'<symbol id="{name}" viewBox="0 0 24 24" fill="none" stroke="currentColor" '
            f'stroke-width="2" stroke-linecap="round" stroke-linejoin="round">{strokes}</symbol>'
        )
    return '<svg xmlns="http://www.w3.org/2000/svg">\n' + "\n".join(symbols) + "\n</svg>\n"


if __name__ == "__main__":
    make_vendor(Path(__file__).parent)
