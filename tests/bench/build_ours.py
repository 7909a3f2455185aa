"""Writes a checkpoint's archive with the library alone: what ``bundle build`` does of it.

Run as ``python -m tests.bench.build_ours DIRECTORY OUT``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bundler.errors import BundleError
from tests.bench.checkpoints import build


def main() -> int:
    """Build as the command line says; gives an exit status."""
    source, out = map(Path, sys.argv[1:])
    try:
        build(source, out)
    except BundleError as error:
        print(f"build: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
