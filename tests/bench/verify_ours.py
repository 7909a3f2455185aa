"""Verifies a checkpoint's archive with the library alone: what ``bundle verify`` does of it.

Run as ``python -m tests.bench.verify_ours DIRECTORY``, where MANIFEST.json and the archive lie. The
signature is not asked for.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bundler.archive.checkpoint import check_parts, check_structure
from bundler.errors import BundleError
from tests.bench.checkpoints import read


def main() -> int:
    """Verify as the command line says; gives an exit status."""
    release = Path(sys.argv[1])
    [checkpoint] = read(release).checkpoints
    archive = release / checkpoint.archive
    try:
        check_structure(archive, checkpoint)
        faults = check_parts(archive, checkpoint)
    except BundleError as error:
        print(f"verify: {error}", file=sys.stderr)
        return 1
    for fault in faults:
        print(f"verify: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
