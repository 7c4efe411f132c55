"""Which Roost this is, to the byte: server and nodes compare what they run, and pass it on.

The release number stays the same while files are changed, so what is compared is a hash over
them (decision 38). The archive of a package is the same to the byte wherever it is made.
"""

from __future__ import annotations

import functools
import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import roost

PATH = "/api/v1/package"
"""Where a server offers its archive."""
FOLDER = "roost"
"""The folder in an archive that a package's files are in."""


@functools.cache
def version() -> str:
    """A hash over the files of this package: equal on machines that run the same Roost."""
    return version_of(_here())


def version_of(package: Path) -> str:
    """The same for another copy of the package, in this folder."""
    digest = hashlib.sha256()
    for file in _files(package):
        digest.update(file.relative_to(package).as_posix().encode() + b"\0")
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


@functools.cache
def archive() -> bytes:
    """This package as a ZIP file."""
    package = _here()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for source in _files(package):
            name = f"{FOLDER}/{source.relative_to(package).as_posix()}"
            entry = zipfile.ZipInfo(name)  # of 1980, and with nobody's rights
            entry.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(entry, source.read_bytes())
    return packed.getvalue()


@functools.cache
def archive_digest() -> str:
    """SHA-256 of `archive()`, in hex."""
    return hashlib.sha256(archive()).hexdigest()


def _here() -> Path:
    return Path(roost.__file__ or "").parent


def _files(package: Path) -> Iterator[Path]:
    """All but what Python makes of them; in the same order everywhere."""
    found = (file for file in package.rglob("*") if file.is_file() and file.suffix != ".pyc")
    return iter(sorted(found, key=lambda file: file.relative_to(package).as_posix()))
