"""Changes of one byte, tried in processes of their own."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bundler.errors import BundleError
from bundler.signing.keys import read_public_key
from bundler.trust import Trust
from bundler.verify import verify_path

NOW = "2026-11-02T00:00:00Z"


@dataclass(frozen=True)
class Flips:
    """Some bytes of one file of a release, each of which is changed by itself.

    Attributes:
        release: Its directory, which stays as it is.
        key: The PEM of whom to trust.
        name: The file.
        first, step: Which bytes of it.
        judged: What is looked at: the file alone, or with "" the whole release.
    """

    release: Path
    key: bytes
    name: str
    first: int
    step: int
    judged: str = ""


def accepted(release: Path, key: bytes, judged: str = "") -> bool:
    """Say whether verify accepts a release, or one file of it; any error but ours goes on."""
    trust = Trust.of_keys([read_public_key(key, name="key")])
    try:
        report = verify_path(release / judged, trust, now=NOW, release_dir=release)
    except BundleError:
        return False
    return bool(report)


def survivors(flips: Flips) -> tuple[int, list[int]]:
    """Try them on a copy; give how many were tried, and those that were accepted."""
    with TemporaryDirectory() as scratch:
        release = Path(shutil.copytree(flips.release, Path(scratch, flips.release.name)))
        path = release / flips.name
        good = path.read_bytes()
        kept = []
        places = range(flips.first, len(good), flips.step)
        with path.open("r+b", buffering=0) as file:
            for offset in places:
                # Each bit has its turn at an eighth of the places.
                _put(file.fileno(), offset, good[offset] ^ 1 << offset % 8)
                if accepted(release, flips.key, flips.judged):
                    kept.append(offset)
                _put(file.fileno(), offset, good[offset])
        return len(places), kept


def _put(descriptor: int, offset: int, byte: int) -> None:
    os.pwrite(descriptor, bytes([byte]), offset)
