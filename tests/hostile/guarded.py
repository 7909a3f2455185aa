"""Runs the ``bundle`` command in little memory, where the first call to a network ends it."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

ADDRESS_SPACE = 512 << 20
# What no command that refuses its input may come to.
NETWORK_STATUS = 99
# The descriptor to which it writes, at its end, for how long no processor was free for it.
WAITED = "WAITED_FOR_PROCESSOR"
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

    tell_to = int(os.environ.pop(WAITED))
    try:
        command()
    finally:
        os.write(tell_to, str(_waited()).encode())


def _waited() -> float:
    """Give the seconds for which no processor was free; threads and programs wait as main does."""
    ran, waited, _ = map(int, Path("/proc/self/schedstat").read_text().split())
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return waited / ran * sum(each.ru_utime + each.ru_stime for each in used)


if __name__ == "__main__":
    main()
