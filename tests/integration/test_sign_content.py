"""``bundle sign --content``: nothing is signed that was not read and compared first."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.integration.signing import Done, bundle, names_in
from tests.small_release import DATA, RELEASE

ARCHIVE = "tiny_2026.10.tar"


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DATA / "format-1" / RELEASE.directory, tmp_path / "release"))


@pytest.fixture
def key(tmp_path: Path) -> Path:
    assert bundle("keygen", tmp_path / "own", "--no-passphrase").returncode == 0
    return tmp_path / "own.key"


def sign(release: Path, key: Path, *words: str | Path) -> Done:
    return bundle("sign", release, "--key", key, *words)


def test_what_is_whole_is_signed(release: Path, key: Path) -> None:
    before = names_in(release)
    done = sign(release, key, "--content")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).name in names_in(release) - before


def test_a_flipped_byte_is_found_and_not_signed(release: Path, key: Path) -> None:
    archive = release / ARCHIVE
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    archive.write_bytes(content)
    before = names_in(release)
    done = sign(release, key, "--content", "--json")
    assert done.returncode == 5
    assert ARCHIVE in json.loads(done.stdout)["error"]
    assert names_in(release) == before
    assert sign(release, key).returncode == 0  # which is why there is --content


def test_an_archive_that_is_not_there_is_not_signed_for(
    release: Path, key: Path, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    (release / ARCHIVE).rename(tmp_path / "disk" / ARCHIVE)
    before = names_in(release)
    done = sign(release, key, "--content")
    assert done.returncode == 5
    assert ARCHIVE in done.stderr
    assert names_in(release) == before
    assert sign(release, key, "--content", "--volumes", tmp_path / "disk").returncode == 0


def test_volumes_are_for_content_only(release: Path, key: Path, tmp_path: Path) -> None:
    assert sign(release, key, "--volumes", tmp_path).returncode == 2


def test_what_contradicts_itself_is_not_signed(release: Path, key: Path) -> None:
    sums = release / "SHA256SUMS"
    lines = sums.read_text().splitlines(keepends=True)
    sums.write_text("".join(line for line in lines if ARCHIVE not in line))
    before = names_in(release)
    done = sign(release, key)
    assert done.returncode == 5
    assert ARCHIVE in done.stderr
    assert names_in(release) == before
