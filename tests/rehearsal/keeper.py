"""The process that keeps one rehearsal: sets it up, waits for its owner's end, takes it down.

Run as ``python -m tests.rehearsal.keeper NAME STATE KUBE attached|detached``. Standard input is
the leash that the owner holds (attached only); on standard output goes the one line of process 1.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

from tests.rehearsal import aws, cgroups, namespaces, programs, records, teardown
from tests.rehearsal.composition import compose, new_site
from tests.rehearsal.errors import RehearsalError
from tests.rehearsal.supervisor import say


def keep(name: str, state: Path, kube: Path, *, leashed: bool) -> None:
    """Hold a rehearsal up until its owner ends, or its process 1 does.

    Raises:
        RehearsalError: It could not be set up.
    """
    node = teardown.node_name(name)
    teardown.destroy(name)
    records.own(name, state).write()
    try:
        teardown.create_state(state)
        compose(new_site(name, node, state), kube, aws.ECR_PASSWORD)
        cgroups.create(node)
        namespaces.create_network(node)
        _run(node, state, leashed=leashed)
    finally:
        teardown.destroy(name)


def _run(node: str, state: Path, *, leashed: bool) -> None:
    argv = [programs.find("setpriv"), "--pdeathsig", "KILL", "--", *namespaces.enter_argv(node)]
    argv += [sys.executable, "-m", "tests.rehearsal.process1", str(state)]
    # Standard output is passed on: what process 1 says goes straight to the owner.
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as process:
        ended = os.pidfd_open(process.pid)
        try:
            select.select([ended, 0] if leashed else [ended], [], [])
        finally:
            os.close(ended)
            process.kill()  # unshare, and with it process 1 and all that is in there


def main() -> int:
    """Keep one rehearsal; gives an exit status."""
    name, state, kube, leash = sys.argv[1:]
    try:
        keep(name, Path(state), Path(kube), leashed=leash == "attached")
    except RehearsalError as error:
        say(f"failed: {error}", Path(os.devnull))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
