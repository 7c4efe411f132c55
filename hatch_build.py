"""Build hook: what the web pages borrow goes from npm into `static/vendor`, with licences.

Runs for wheels and editable installs, so an installed Roost contains all it serves and no page
asks another host for anything. Does nothing when `vendor` was made from the present lock file.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

VENDOR = Path("src/roost/web/static/vendor")
STAMP = "made-from"

FILES = {
    "htmx.min.js": "htmx.org/dist/htmx.min.js",
    "uplot.esm.js": "uplot/dist/uPlot.esm.js",
    "uplot.min.css": "uplot/dist/uPlot.min.css",
    "tabler.min.css": "@tabler/core/dist/css/tabler.min.css",
}
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
    recipe = (root / "package-lock.json").read_bytes() + Path(__file__).read_bytes()
    stamp = hashlib.sha256(recipe).hexdigest()
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
    for font in FONTS:
        _write_font(packages / "@fontsource-variable" / font, font, fresh)
    parts = [
        _read(packages / "@radix-ui/colors" / f"{colour}{shade}.css")
        for shade in ("", "-dark")
        for colour in COLOURS
    ]
    (fresh / "radix.css").write_text("\n".join(parts))
    (fresh / "icons.svg").write_text(_sprite(packages / "@tabler/icons/icons/outline"))
    (fresh / STAMP).write_text(stamp)
    shutil.rmtree(vendor, ignore_errors=True)
    fresh.rename(vendor)


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


def _write_font(package: Path, name: str, vendor: Path) -> None:
    """The upright variable font in the subsets that the pages need."""
    faces = re.findall(r"/\* (\S+) \*/\s*(@font-face \{.*?\})", _read(package / "index.css"), re.S)
    wanted = [f"{name}-{subset}-wght-normal" for subset in SUBSETS]
    found = {label: face for label, face in faces if label in wanted}
    (vendor / f"{name}.css").write_text("\n".join(found[label] for label in wanted))
    for label in wanted:
        shutil.copyfile(package / "files" / f"{label}.woff2", vendor / "files" / f"{label}.woff2")


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
