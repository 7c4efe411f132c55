"""Every exception Roost raises, as one tree.

    RoostError
    ├── Refused            somebody asked for what cannot be; raised before anything changed
    │   ├── NotFound       404, exit code 4
    │   ├── Invalid        400, exit code 2
    │   ├── Conflict       409, exit code 3
    │   ├── Forbidden      403, exit code 5
    │   ├── TooLarge       413, exit code 2
    │   └── Unavailable    503, exit code 6
    ├── ProtocolError      a peer broke the protocol (or we were about to)
    │   └── Unsendable     of `roost.wire.chirp`: no line can carry this request
    ├── Unreachable        a peer did not answer
    ├── JobFailed, NotFinished   of `roost.scripting`: what waiting for jobs came to
    └── StoreFailure       the record could not be saved: the server must stop taking work
        └── Unreadable     it, or a file of output, cannot be read: whoever asked is refused

A refusal's number is its XML-RPC fault code and its HTTP status at once. A message is one
sentence that names the thing, what was wanted and what to do. Bugs are `assert`s, not exceptions
of this tree; failures of the outside world are data (see `roost.core.messages`).
"""


class RoostError(Exception):
    """Root of the tree; `str(error)` is the sentence to show."""

    exit_code = 1


class Refused(RoostError):
    """A request that cannot be granted. Nothing has changed."""

    status = 400
    exit_code = 2


class NotFound(Refused):
    status = 404
    exit_code = 4


class Invalid(Refused):
    """The request itself is wrong: a bad specification, a wrong type, an unknown name."""

    status = 400
    exit_code = 2


class Conflict(Refused):
    """The request is fine, the present state does not allow it."""

    status = 409
    exit_code = 3


class Forbidden(Refused):
    status = 403
    exit_code = 5


class TooLarge(Refused):
    status = 413
    exit_code = 2


class Unavailable(Refused):
    """The server cannot take this now: full, stopping, or out of disk."""

    status = 503
    exit_code = 6


class ProtocolError(RoostError):
    """A frame, line or document that the protocol does not allow."""


class Unreachable(RoostError):
    """A peer did not answer, or went away."""

    exit_code = 6


class StoreFailure(RoostError):
    """The durable record could not be written."""

    exit_code = 7


class Unreadable(StoreFailure, Unavailable):
    """What is on disk cannot be read, now at least."""
