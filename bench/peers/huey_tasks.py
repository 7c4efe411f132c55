"""The tasks that Huey's consumer loads; its Redis is named in the environment."""

from __future__ import annotations

import os

from arguments import command
from huey import RedisHuey

huey = RedisHuey("bench", url=f"unix://{os.environ['BENCH_REDIS']}", blocking=True)
run = huey.task()(command)
