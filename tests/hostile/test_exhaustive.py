"""All that can be done to the files of a small signed release without its key."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from bundler.manifest import MANIFEST_NAME
from bundler.release import signature_name
from bundler.signing.keys import new_key_pair, read_private_key
from bundler.sums import SUMS_NAME
from bundler.trust import Trust
from bundler.verify import verify_path
from tests import small_release
from tests.hostile.flips import NOW, Flips, accepted, survivors
from tests.hostile.releases import ARCHIVE, BUNDLE, KEY, OUR_SIGNATURE, PUBLIC_PEM, good_release

OTHER_ARCHIVE = "sharded_2026.10.tar"
ARCHIVES = (ARCHIVE, OTHER_ARCHIVE, BUNDLE)
SMALL = (SUMS_NAME, OUR_SIGNATURE, MANIFEST_NAME)
WORKERS = 2
TRUST = Trust.of_keys([KEY.public])


def shown(name: object) -> str | None:
    """Name a parameter: keys are made anew each time, and tests have the same names each time."""
    return "signature" if name == OUR_SIGNATURE else None


@pytest.fixture
def release(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "release"))


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give another release of the same name by the same key: every file of it is another."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        earlier = replace(small_release.RELEASE, sequence=2, created="2026-10-01T00:00:00Z")
        monkeypatch.setattr(small_release, "RELEASE", earlier)
        monkeypatch.setattr(small_release, "MTIME", small_release.MTIME - 86400)
        return good_release(tmp_path_factory.mktemp("older") / "release")


def try_all(flips: list[Flips]) -> tuple[int, list[int]]:
    """Try them on several cores; give how many were tried, and all that were accepted."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(WORKERS, mp_context=spawn) as pool:
        results = list(pool.map(survivors, flips))
    kept = [offset for _, some in results for offset in some]
    return sum(tried for tried, _ in results), kept


def test_the_untouched_releases_are_accepted(good: Path, older: Path) -> None:
    for release in (good, older):
        assert accepted(release, PUBLIC_PEM)
        assert all(accepted(release, PUBLIC_PEM, name) for name in ARCHIVES)
    assert all((good / name).read_bytes() != (older / name).read_bytes() for name in ARCHIVES)


@pytest.mark.parametrize("name", [*SMALL, *ARCHIVES], ids=shown)
def test_every_flipped_byte_of_a_signed_file_is_refused(good: Path, name: str) -> None:
    judged = name if name in ARCHIVES else ARCHIVE
    flips = [Flips(good, PUBLIC_PEM, name, first, WORKERS, judged) for first in range(WORKERS)]
    tried, kept = try_all(flips)
    assert tried == (good / name).stat().st_size
    assert kept == []


def test_no_flipped_byte_of_an_additive_file_makes_anything_accepted(
    good: Path, tmp_path: Path
) -> None:
    """Somebody else's signature, under our key's name and its own, stays somebody else's."""
    release = Path(shutil.copytree(good, tmp_path / "release"))
    stranger = read_private_key(new_key_pair(None)[0], None, name="a stranger's key")
    signature = stranger.sign((release / SUMS_NAME).read_bytes())
    names = [OUR_SIGNATURE, signature_name(stranger.public.key8)]
    for name in names:
        (release / name).write_bytes(signature)
    others = [f"{SUMS_NAME}.{KEY.public.key8}.sigstore.json", "provenance.00000000.sigstore.json"]
    for name in others:
        (release / name).write_bytes((good / OUR_SIGNATURE).read_bytes())
    assert not accepted(release, PUBLIC_PEM)
    flips = [Flips(release, PUBLIC_PEM, name, 0, 1, ARCHIVE) for name in (*names, *others)]
    tried, kept = try_all(flips)
    assert tried > 4 * 64
    assert kept == []


@pytest.mark.parametrize("name", ARCHIVES, ids=shown)
def test_every_truncation_around_a_block_is_refused(release: Path, name: str) -> None:
    content = (release / name).read_bytes()
    ends = {at + by for at in range(0, len(content) + 1, 512) for by in (-1, 0, 1)}
    for end in sorted(end for end in ends if 0 <= end < len(content)):
        (release / name).write_bytes(content[:end])
        assert not accepted(release, PUBLIC_PEM, name), end


@pytest.mark.parametrize("name", [*SMALL, BUNDLE], ids=shown)
def test_a_removed_file_is_missed(release: Path, name: str) -> None:
    (release / name).unlink()
    assert not accepted(release, PUBLIC_PEM)


@pytest.mark.parametrize("name", [*SMALL, BUNDLE], ids=shown)
def test_a_renamed_file_is_missed(release: Path, name: str) -> None:
    (release / name).rename(release / f"{name}.old")
    # Signatures are found by what they are: under another name that a signature may have, too.
    assert not accepted(release, PUBLIC_PEM)


@pytest.mark.parametrize("change", ["removed", "renamed"])
@pytest.mark.parametrize("name", [ARCHIVE, OTHER_ARCHIVE], ids=shown)
def test_an_absent_checkpoint_is_named_and_is_a_fault_where_all_is_asked_for(
    release: Path, name: str, change: str
) -> None:
    """A release may be delivered in pieces; nothing is read of what has another name."""
    (release / name).rename(release / "renamed.tar")
    if change == "removed":
        (release / "renamed.tar").unlink()
    report = verify_path(release, TRUST, now=NOW)
    assert report.absent == (name,)
    assert report.extra == (("renamed.tar",) if change == "renamed" else ())
    assert not verify_path(release, TRUST, now=NOW, require_all=True)


@pytest.mark.parametrize("name", [*SMALL, *ARCHIVES], ids=shown)
def test_a_second_copy_is_named_not_read_and_a_fault_where_that_is_asked_for(
    release: Path, name: str
) -> None:
    shutil.copy(release / name, release / f"copy-of-{name}")
    report = verify_path(release, TRUST, now=NOW)
    assert report.extra == (f"copy-of-{name}",)
    assert not verify_path(release, TRUST, now=NOW, strict=True)


def mixtures() -> Iterator[tuple[str, ...]]:
    """Give every choice of files but none and all."""
    files = (*SMALL, *ARCHIVES)
    for count in range(1, len(files)):
        yield from itertools.combinations(files, count)


def test_no_mixture_of_two_signed_releases_is_accepted(
    good: Path, older: Path, tmp_path: Path
) -> None:
    tried = 0
    for number, names in enumerate(mixtures()):
        release = Path(shutil.copytree(good, tmp_path / str(number)))
        for name in names:
            shutil.copy(older / name, release / name)
        assert not accepted(release, PUBLIC_PEM), names
        tried += 1
    assert tried == 2**6 - 2


def swap(release: Path, one: str, other: str) -> None:
    (release / one).rename(release / "spare")
    (release / other).rename(release / one)
    (release / "spare").rename(release / other)


@pytest.mark.parametrize(
    ("one", "other"), list(itertools.combinations((*SMALL, *ARCHIVES), 2)), ids=shown
)
def test_no_two_files_of_a_release_can_change_places(release: Path, one: str, other: str) -> None:
    swap(release, one, other)
    assert not accepted(release, PUBLIC_PEM)


Plant = Callable[[Path], object]


@pytest.mark.parametrize(
    "plant",
    [
        pytest.param(lambda path: path.symlink_to(f"../{path.name}"), id="link"),
        pytest.param(lambda path: path.mkdir(), id="directory"),
        pytest.param(os.mkfifo, id="pipe"),
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
    ],
)
@pytest.mark.parametrize("name", [*SMALL, *ARCHIVES], ids=shown)
def test_what_is_no_plain_file_of_that_content_is_refused(
    release: Path, name: str, plant: Plant
) -> None:
    (release / name).rename(release.parent / name)
    plant(release / name)
    assert not accepted(release, PUBLIC_PEM)
