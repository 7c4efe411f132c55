"""An attempt that may use Chirp: what it may do, and the attributes that it has set with delay.

These are kept until the daemon takes them along with a beat or with the attempt's last output; the
answer to the job does not wait for that. Names and texts are checked here as the core will check
them, so that what was taken is not refused later.
"""

from __future__ import annotations

import os

from msgspec import Struct, field

from roost.core import attributes
from roost.core.classad import canonical
from roost.core.messages import ChirpOrder
from roost.core.records import AttemptKey
from roost.errors import Forbidden, Invalid
from roost.wire.chirp import Code

FILE = ".chirp.config"
"""In the scratch folder: host, port and cookie."""


class Contact(Struct, eq=False):
    order: ChirpOrder
    key: AttemptKey
    slot: int
    scratch: str
    digest: bytes
    """Hash of its cookie."""
    delayed: dict[str, tuple[str, str]] = field(default_factory=dict)
    """What was set with delay in this attempt: folded name → name and text."""
    unsent: dict[str, tuple[str, str]] = field(default_factory=dict)
    """The part of that which the server has not been told yet."""

    @property
    def environment(self) -> dict[str, str]:
        """What a job finds."""
        return {
            "_CONDOR_CHIRP_CONFIG": f"{self.scratch}{os.sep}{FILE}",
            "_CONDOR_SCRATCH_DIR": self.scratch,
            "_CHIRP_DELAYED_UPDATE_PREFIX": self.order.prefix,
        }

    def set_delayed(self, name_bytes: bytes, text_bytes: bytes) -> int:
        """Taken, or refused by a code that every client notices (Chirp decisions 6 to 8)."""
        if len(text_bytes) > attributes.DELAYED_BYTES_MAX:
            return Code.TOO_BIG
        try:
            name = name_bytes.decode()
            attributes.check_name(name)
            text = attributes.checked_text(name, canonical(text_bytes.decode(), "new"))
        except (UnicodeDecodeError, Invalid):
            return Code.INVALID_REQUEST
        except Forbidden:
            return Code.NOT_AUTHORIZED
        folded = attributes.fold(name)
        known = self.delayed
        if not attributes.matches_prefix(name, self.order.prefix) or (
            folded not in known and len(known) >= attributes.DELAYED_NAMES_MAX
        ):
            return Code.NOT_AUTHORIZED
        known[folded] = self.unsent[folded] = (name, text)
        return 0

    def get_delayed(self, name: bytes) -> str | None:
        """The text that this attempt has set."""
        known = self.delayed.get(attributes.fold(name.decode("utf-8", "replace")))
        return known[1] if known else None

    def take_delayed(self) -> tuple[tuple[str, str], ...]:
        """Names and texts set since the last time."""
        unsent, self.unsent = self.unsent, {}
        return tuple(unsent.values())
