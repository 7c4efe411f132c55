"""The same farm in memory as the tests of the HQueue API use."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_FILE = Path(__file__).parents[1] / "hqueue" / "conftest.py"
_spec = importlib.util.spec_from_file_location("fake_gateway_of_hqueue", _FILE)
assert _spec and _spec.loader
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)

farm = _module.farm
