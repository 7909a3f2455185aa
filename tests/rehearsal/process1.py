"""Process 1 of a rehearsal: makes its mounts and network, then supervises its programs.

Run by the keeper as ``python -m tests.rehearsal.process1 STATE``, in namespaces of its own. When
it ends, however it ends, the kernel kills every process and removes every mount in them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.rehearsal import namespaces
from tests.rehearsal.errors import RehearsalError
from tests.rehearsal.supervisor import say, supervise


def main() -> int:
    """Run until the keeper ends or a program does not start; gives an exit status."""
    state = Path(sys.argv[1])
    try:
        namespaces.prepare_mounts(state)
        namespaces.prepare_network()
    except RehearsalError as error:
        say(f"failed: {error}", state / "process1.log")
        return 1
    return supervise(state)


if __name__ == "__main__":
    sys.exit(main())
