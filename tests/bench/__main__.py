"""Runs benchmarks by their names: ``python -m tests.bench [NAME [ARGUMENT…]]``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from tests.bench import build, bundle, ecr_native, fetch, push, size, upload, verify

BENCHMARKS: dict[str, Callable[[Sequence[str]], int]] = {
    "build": build.main,
    "verify": verify.main,
    "bundle": bundle.main,
    "upload": upload.main,
    "fetch": fetch.main,
    "size": size.main,
    "push": push.main,
    "ecr-native": ecr_native.main,
}


def main(argv: Sequence[str]) -> int:
    """Run the named benchmark with its arguments, or all of them without any."""
    if not argv:
        return max(run([]) for run in BENCHMARKS.values())
    name, *rest = argv
    if name in {"-h", "--help"}:
        print(f"usage: scripts/bench [NAME [ARGUMENT…]], NAME of {', '.join(BENCHMARKS)}")
        print("NAME --help tells more; without a NAME, all of them")
        return 0
    if name not in BENCHMARKS:
        print(f"bench: expected {', '.join(BENCHMARKS)}, got {name}", file=sys.stderr)
        return 2
    return BENCHMARKS[name](rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
