"""Runs the ``bundle`` command in little memory, where the first call to a network ends it."""

from __future__ import annotations

import os
import resource
import sys

ADDRESS_SPACE = 512 << 20
# What no command that refuses its input may come to.
NETWORK_STATUS = 99
_CALLS = frozenset(
    f"socket.{call}"
    for call in (
        "connect",
        "getaddrinfo",
        "gethostbyaddr",
        "gethostbyname",
        "sendmsg",
        "sendto",
    )
)


def _refuse_network(event: str, args: tuple[object, ...]) -> None:
    if event in _CALLS:
        os.write(2, f"network: {event}{args[1:]!r}\n".encode())
        os._exit(NETWORK_STATUS)


def main() -> None:
    """Set the limits, then be the command; programs that it starts may take more memory."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, hard))
    # As many threads as on the smallest machine: each reserves some megabytes.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    sys.addaudithook(_refuse_network)
    from bundler.cli import main as command

    command()


if __name__ == "__main__":
    main()
