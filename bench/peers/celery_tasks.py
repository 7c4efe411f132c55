"""The application that Celery's workers load; its Redis is named in the environment."""

from __future__ import annotations

import os

from arguments import command
from celery import Celery

URL = f"redis+socket://{os.environ['BENCH_REDIS']}"
app = Celery("bench", broker=URL, backend=URL)
app.conf.worker_prefetch_multiplier = 64
app.conf.broker_connection_retry_on_startup = True
run = app.task(command)
