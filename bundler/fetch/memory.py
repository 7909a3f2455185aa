"""Whether what is fetched stays in memory: whoever reads it next reads it from there.

A model server reads every byte of its checkpoint as soon as the fetch has ended. If all of it
fits, pages that stay save that second read of the disk. If it does not, keeping them is worse than
useless: the last files push out the first, which the server reads first, and with them what others
on the node have in memory. So it is all or nothing, by what the machine has free at the start and
by the limit of the container: beyond that the kernel takes back what was fetched before. And where
memory itself is dear (a virtual machine whose host has to find each page first), reading the disk
once more costs less: the first bytes tell.
"""

from __future__ import annotations

import re
import threading
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
# Source: Linux, cgroup v2: the limit of the container that this runs in; "max" for none.
_LIMIT = Path("/sys/fs/cgroup/memory.max")
_AVAILABLE = re.compile(r"^MemAvailable: +(\d+) kB$", re.MULTILINE)
# The other half is for the server itself, which pins buffers on the way to the GPUs.
_SHARE = 2
# A disk that reads 2 GB/s gives a byte back in that time, and few are faster.
_TRIAL_BYTES, _MOST_SECONDS_A_BYTE = 64 << 20, 0.5e-9


class Keeping:
    """Whether what is written stays in memory; given up where the first bytes show that it is dear.

    Any thread may use it.

    Attributes:
        wanted: Whether it still is.
    """

    def __init__(self, *, wanted: bool) -> None:
        self.wanted = wanted
        self._lock = threading.Lock()
        self._bytes = 0
        self._seconds = 0.0

    def wrote(self, count: int, seconds: float) -> None:
        """Tell of bytes that were kept, and of the processor time that it took."""
        with self._lock:
            if not self.wanted or self._bytes >= _TRIAL_BYTES:
                return
            self._bytes += count
            self._seconds += seconds
            if self._bytes >= _TRIAL_BYTES:
                self.wanted = self._seconds <= self._bytes * _MOST_SECONDS_A_BYTE


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
