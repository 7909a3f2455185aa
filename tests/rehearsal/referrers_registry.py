"""A registry that answers the referrers API: crane's own, which keeps everything in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tests.rehearsal import go_build
from tests.rehearsal.daemon import Daemon
from tests.rehearsal.go_programs import REFERRERS
from tests.rehearsal.serving import LOOPBACK, free_ports, running, scratch_state


@contextlib.contextmanager
def referrers_registry() -> Iterator[str]:
    """Run an empty one while the block lasts, and give its ``host:port``.

    Raises:
        RehearsalError: It did not start, or is not compiled.
    """
    executable = str(go_build.find(REFERRERS))
    with scratch_state("referrers") as state:
        [port] = free_ports(1)
        address = f"{LOOPBACK}:{port}"
        argv = [executable, address]
        with running([Daemon(name="registry", argv=argv, ready=f"tcp://{address}")], state):
            yield address
