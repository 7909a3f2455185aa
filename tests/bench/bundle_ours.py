"""Writes a deployment bundle with the library alone: what ``bundle build`` does of it.

Run as ``python -m tests.bench.bundle_ours OUT.tar.gz ARCHIVE…``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bundler.archive.bundle import Entry, write_bundle
from bundler.errors import BundleError
from tests.bench.checkpoints import MTIME, NAME


def main() -> int:
    """Write as the command line says; gives an exit status."""
    out, *archives = map(Path, sys.argv[1:])
    entries = [Entry(f"containers/{path.name}", path) for path in archives]
    try:
        write_bundle(out, root=NAME, entries=entries, mtime=MTIME)
    except BundleError as error:
        print(f"bundle: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
