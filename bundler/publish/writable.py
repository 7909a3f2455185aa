"""Whether results can be written where they are to go."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from bundler.archive.trouble import blaming
from bundler.errors import WorldError

# More than values file and receipt together take, unless the CA is a long list.
_PROBE_BYTES = 256 << 10


def require_writable(*directories: Path) -> None:
    """Find out at the start, not after hours, that a result could not be written.

    Raises:
        WorldError: A directory takes no file, or the disk is full.
    """
    for directory in dict.fromkeys(directories):
        try:
            with blaming(directory), tempfile.NamedTemporaryFile(dir=directory) as file:
                file.write(bytes(_PROBE_BYTES))
                file.flush()
                os.fsync(file.fileno())
        except WorldError as error:
            raise type(error)(
                f"{error}; the values file and receipt go there",
                hint="name another directory: --values FILE, --receipts DIR",
            ) from error
