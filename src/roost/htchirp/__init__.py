"""Chirp for jobs: files and attributes of the submit machine, from inside a running job.

    from roost.htchirp import HTChirp

    with HTChirp() as chirp:
        i = chirp.get_job_value("IterationNum") or 0
        chirp.set_job_attr("IterationNum", i + 1)
        chirp.put("result.exr", "frames/result.exr")

It has the names, arguments, results and exceptions of `htcondor.htchirp` and PyPI's `htchirp`, and
works in jobs of Roost and of HTCondor 10 to 25. What it does differently on purpose is listed in
docs/reference/chirp.md. Standard library only, and nothing of the server is imported.
"""

from roost.core.classad import Expression, quote
from roost.htchirp.client import HTChirp
from roost.htchirp.command import condor_chirp
from roost.htchirp.connection import ConnectionBroken

__all__ = ["ConnectionBroken", "Expression", "HTChirp", "condor_chirp", "quote"]
