"""Releases of every format that was ever shipped verify for ever, byte for byte as they are.

Never make the data of a shipped format again: a failure here means that the reader or the writer
changed, and that releases which people hold already would no longer verify, or build again.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bundler.describe import describe_path
from bundler.digest import Digest
from bundler.manifest import FORMAT_VERSION
from bundler.release import open_release
from bundler.sums import SUMS_NAME
from bundler.trust import Trust
from bundler.verify import verify_path
from tests.small_release import DATA, data_key, make_release

FORMAT_1 = "tiny-inference-2026.11.0"
FORMAT_1_SUMS = Digest("a6f46a24b3db03eb04ae57563e69d9cdc9b027dedc71567bbee19abed09f0401")
NOW = "2026-11-02T00:00:00Z"
MAX_BYTES = 200 << 10


@pytest.mark.parametrize("number", range(1, FORMAT_VERSION + 1))
def test_a_release_of_every_format_verifies(number: int) -> None:
    directory = DATA / f"format-{number}"
    [release] = (path for path in directory.iterdir() if path.is_dir())
    key = data_key(directory)
    report = verify_path(release, Trust.of_keys([key]), now=NOW, strict=True, require_all=True)
    assert report.faults == ()
    assert {item.name for item in report.checked} == set(describe_path(release).present)


@pytest.mark.parametrize("number", range(1, FORMAT_VERSION + 1))
def test_the_data_stays_small(number: int) -> None:
    files = (path for path in (DATA / f"format-{number}").rglob("*") if path.is_file())
    assert sum(path.stat().st_size for path in files) < MAX_BYTES


def test_format_1_is_the_one_that_was_shipped() -> None:
    directory = DATA / "format-1"
    sums = (directory / FORMAT_1 / SUMS_NAME).read_bytes()
    assert Digest.of(sums) == FORMAT_1_SUMS
    manifest = open_release(directory / FORMAT_1, Trust.of_keys([data_key(directory)])).manifest
    assert len(manifest.checkpoints) == 2
    assert [str(image.tag) for image in manifest.images] == ["atlas:1.0.0"]


def test_the_writers_still_give_the_archives_of_format_1(tmp_path: Path) -> None:
    manifest = make_release(tmp_path / "again")
    for name in manifest.archives:
        shipped = (DATA / "format-1" / FORMAT_1 / name).read_bytes()
        assert (tmp_path / "again" / name).read_bytes() == shipped, name
