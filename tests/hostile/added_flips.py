"""Changes of one byte in files that stand beside a signed release, tried in processes of their own.

A flip is *accepted* where the release is trusted with it, and *told* where something is said of it.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bundler.added_files import added_problems
from bundler.errors import BundleError
from bundler.release import open_release
from bundler.signing.keys import read_public_key
from bundler.signing.tuf_roots import read_root
from bundler.trust import Trust
from tests.hostile.flips import NOW


@dataclass(frozen=True)
class AddedFlips:
    """Some bytes of one file.

    Attributes:
        release: A directory, which stays as it is.
        trusted: The PEM of a key, or with ``by_file`` a trust file.
        by_file: Which of the two.
        path: The file, from there.
        first, step: Which bytes of it.
    """

    release: Path
    trusted: bytes
    by_file: bool
    path: str
    first: int
    step: int

    def trust(self) -> Trust:
        """Give what the operator goes by."""
        if self.by_file:
            return Trust.of_root(read_root(self.trusted, name="trust file"), now=NOW)
        return Trust.of_keys([read_public_key(self.trusted, name="key")])


def flip(byte: int, offset: int) -> int:
    """Change one bit of a byte: each bit has its turn at an eighth of the places."""
    return byte ^ 1 << offset % 8


def judged(release: Path, trust: Trust) -> tuple[bool, str]:
    """Say whether a release is trusted, and what is said of what stands beside it."""
    try:
        opened = open_release(release, trust)
    except BundleError as error:
        return False, str(error)
    return True, " ".join(added_problems(opened))


def tried(flips: AddedFlips) -> tuple[int, list[int], list[int]]:
    """Try them on a copy; give how many, which were accepted, and which of these were not told."""
    with TemporaryDirectory() as scratch:
        release = Path(shutil.copytree(flips.release, Path(scratch, flips.release.name)))
        path, trust = release / flips.path, flips.trust()
        good = path.read_bytes()
        accepted, untold = [], []
        places = range(flips.first, len(good), flips.step)
        for offset in places:
            changed = bytes([flip(good[offset], offset)])
            path.write_bytes(good[:offset] + changed + good[offset + 1 :])
            taken, said = judged(release, trust)
            if taken:
                accepted.append(offset)
                if path.name not in said:
                    untold.append(offset)
        return len(places), accepted, untold
