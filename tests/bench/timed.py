"""Runs commands one after the other and says what they cost; a program of its own.

Small on purpose, and started with ``-I -S``: what a process had in memory when it started another
one counts in that one's peak. Reads ``{"commands": [[…]], "scratch": DIRECTORY, "log": FILE}``
from standard input, writes one line of JSON; the commands write to the log.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time

_TICK = 0.02
_BLOCK = 512  # what getrusage(2) and stat(2) count in


def held(directory: str) -> int:
    """Sum up what the files below a directory take on the disk, while it changes."""
    total = 0
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    total += held(entry.path)
                else:
                    total += entry.stat(follow_symlinks=False).st_blocks * _BLOCK
    except FileNotFoundError:
        pass
    return total


def watch(directory: str, ended: threading.Event, peak: list[int]) -> None:
    """Remember the most that a directory held."""
    while not ended.wait(_TICK):
        peak[0] = max(peak[0], held(directory))


def run(argv: list[str], log: int) -> tuple[int, float, int, int]:
    """Run one command; gives its status, CPU seconds, peak KiB and blocks written."""
    null = os.open(os.devnull, os.O_RDONLY)
    actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, log, 1)]
    actions += [(os.POSIX_SPAWN_DUP2, log, 2)]
    pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=actions)
    os.close(null)
    _, status, used = os.wait4(pid, 0)
    cpu = used.ru_utime + used.ru_stime
    return os.waitstatus_to_exitcode(status), cpu, used.ru_maxrss, used.ru_oublock


def main() -> None:
    """Run what standard input names, up to the first that fails."""
    asked = json.load(sys.stdin)
    log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    ended, peak = threading.Event(), [0]
    watcher = threading.Thread(target=watch, args=(asked["scratch"], ended, peak))
    watcher.start()
    costs = []
    begun = time.monotonic()
    for argv in asked["commands"]:
        costs.append(run(argv, log))
        if costs[-1][0]:
            break
    wall = time.monotonic() - begun
    ended.set()
    watcher.join()
    result = {
        "status": costs[-1][0],
        "wall_seconds": wall,
        "cpu_seconds": sum(cost[1] for cost in costs),
        "peak_bytes": max(cost[2] for cost in costs) * 1024,
        "scratch_bytes": peak[0],
        "written_bytes": sum(cost[3] for cost in costs) * _BLOCK,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
