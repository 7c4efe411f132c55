"""For all tests: they may be run by root, as in a container, and so may the agents they start."""

from __future__ import annotations

import os

os.environ["ROOST_ALLOW_ROOT"] = "true"
