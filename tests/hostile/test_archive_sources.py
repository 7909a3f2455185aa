"""Groups 1 to 30 once more: a checkpoint's archive that a build is to take over as it is."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hostile.limited import Case, Place, require_refused
from tests.hostile.raw_tar import DIRECTORY, END, LINK, member, pax
from tests.hostile.releases import ARCHIVE
from tests.hostile.sources import edit_spec, spoiled

# Behind the last member of the archive.
LAST = b"tiny/zz"
SPARSE = ((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", LAST))
TAKEN: list[tuple[int, str, Callable[[bytes], bytes], str]] = [
    (1, "climbing name", lambda good: good[:-1024] + member(b"../evil") + END, "climbs"),
    (3, "symlink", lambda good: good[:-1024] + member(LAST, LINK, link=b"/") + END, "symbolic"),
    (12, "duplicate", lambda good: good[:-1024] + member(b"tiny/config.json") + END, "twice"),
    (18, "size beyond", lambda good: good[:-1024] + member(LAST, size=b"7" * 11 + b"\0"), "past"),
    (21, "sparse file", lambda good: good[:-1024] + pax(*SPARSE) + member(LAST) + END, "PAX path"),
    (25, "no end", lambda good: good[:-1024], "its two zero blocks"),
    (
        29,
        "directories",
        lambda good: good[:-1024] + member(b"tiny/zz/", DIRECTORY, mode=0o755) + END,
        "empty dir",
    ),
    (30, "gzip", lambda good: gzip.compress(good), "checksum is wrong"),
]


@pytest.mark.parametrize(
    ("group", "what", "change", "says"), TAKEN, ids=[f"{g}-{w}" for g, w, *_ in TAKEN]
)
def test_a_hostile_archive_that_a_build_takes_over_is_refused(
    place: Place,
    good: Path,
    group: int,
    what: str,
    change: Callable[[bytes], bytes],
    says: str,
) -> None:
    def take_over(directory: Path) -> None:
        (directory / "given.tar").write_bytes(change((good / ARCHIVE).read_bytes()))
        edit_spec(directory, lambda spec: spec["checkpoints"][0].update(given))

    given = {"root": "tiny", "source": None, "archive": "given.tar"}
    require_refused(Case(group, what, spoiled(take_over, "lock"), 3, says), place)
