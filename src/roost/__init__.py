"""Roost: a compute and render farm manager that speaks HQueue and Chirp.

    import roost

    farm = roost.connect("http://farm:5000")
    job = farm.submit("echo hello", name="hello")
    print(job.wait(check=True).output())

Importing this package imports nothing else, so that tools inside running jobs start fast. What the
lines above need is loaded when it is first asked for.
"""

__version__ = "0.1.0"

__all__ = [
    "Farm",
    "Job",
    "JobFailed",
    "Node",
    "NotFinished",
    "RoostError",
    "connect",
    "job_spec",
]

TYPE_CHECKING = False
"""Type checkers take it for True; `typing` itself would be an import."""

if TYPE_CHECKING:
    from roost.errors import RoostError
    from roost.scripting.farm import Farm, connect
    from roost.scripting.jobs import Job, JobFailed, NotFinished
    from roost.scripting.nodes import Node
    from roost.scripting.submission import job_spec
else:
    _HOMES = {
        "Farm": "roost.scripting.farm",
        "Job": "roost.scripting.jobs",
        "JobFailed": "roost.scripting.jobs",
        "Node": "roost.scripting.nodes",
        "NotFinished": "roost.scripting.jobs",
        "RoostError": "roost.errors",
        "connect": "roost.scripting.farm",
        "job_spec": "roost.scripting.submission",
    }

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)

    def __dir__():
        return [*globals(), *_HOMES]
