"""Whether what is fetched stays in memory: whoever reads it next reads it from there.

A model server reads every byte of its checkpoint as soon as the fetch has ended. If all of it
fits, pages that stay save that second read of the disk. If it does not, keeping them is worse than
useless: the last files push out the first, which the server reads first, and with them what others
on the node have in memory. So it is all or nothing, by what the machine has free at the start and
by the limit of the container: beyond that the kernel takes back what was fetched before.
"""

from __future__ import annotations

import re
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
# Source: Linux, cgroup v2: the limit of the container that this runs in; "max" for none.
_LIMIT = Path("/sys/fs/cgroup/memory.max")
_AVAILABLE = re.compile(r"^MemAvailable: +(\d+) kB$", re.MULTILINE)
# The other half is for the server itself, which pins buffers on the way to the GPUs.
_SHARE = 2


def stays_in_memory(size: int, *, meminfo: Path = _MEMINFO, limit: Path = _LIMIT) -> bool:
    """Say whether ``size`` bytes fit into half of the memory that is free or can be freed."""
    try:
        found = _AVAILABLE.search(meminfo.read_text())
    except OSError:
        return False
    return found is not None and size * _SHARE <= int(found[1]) * 1024 and _allowed(size, limit)


def _allowed(size: int, limit: Path) -> bool:
    try:
        most = limit.read_text().strip()
    except OSError:
        return True  # no such limits here
    return not most.isdecimal() or size <= int(most)
