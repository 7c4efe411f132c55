"""For all tests: they may be run by root, as in a container, and so may the agents they start."""

from __future__ import annotations

import os
import signal

os.environ["ROOST_ALLOW_ROOT"] = "true"

# A shell starts its background jobs with Ctrl-C ignored, and every process of a test inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)
