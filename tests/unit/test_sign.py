"""Making keys and signing: what is written, and what is never overwritten."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bundler.errors import ConflictError, ContentError, MalformedError, NotFoundError
from bundler.manifest import MANIFEST_NAME
from bundler.release import signature_name
from bundler.sign import create_keys, sign_release
from bundler.signing.keys import PublicKey, read_private_key, read_public_key
from bundler.sums import SUMS_NAME
from tests.unit.small_files import new_key, write_small_files

KEY = new_key()


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write_small_files(tmp_path / "release")


def content_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_signature_is_added_and_nothing_else_changes(release: Path) -> None:
    before = content_of(release)
    path = sign_release(release, KEY)
    assert path == release / signature_name(KEY.public.key8)
    assert KEY.public.verify(path.read_bytes(), before[SUMS_NAME])
    assert content_of(release) == before | {path.name: path.read_bytes()}


def test_several_sign_side_by_side(release: Path) -> None:
    keys = [KEY, new_key(), new_key()]
    paths = {sign_release(release, key) for key in keys}
    assert len(paths) == len(keys)


def test_a_signature_that_holds_is_left_as_it_is(release: Path) -> None:
    first = sign_release(release, KEY).read_bytes()
    assert sign_release(release, KEY).read_bytes() == first


def test_another_signature_is_never_overwritten(release: Path) -> None:
    path = release / signature_name(KEY.public.key8)
    path.write_bytes(new_key().sign((release / SUMS_NAME).read_bytes()))
    before = path.read_bytes()
    with pytest.raises(ConflictError, match=path.name):
        sign_release(release, KEY)
    assert path.read_bytes() == before


def test_a_link_in_the_place_of_the_signature_is_not_followed(
    release: Path, tmp_path: Path
) -> None:
    path = release / signature_name(KEY.public.key8)
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MalformedError, match="symbolic link"):
        sign_release(release, KEY)
    assert not (tmp_path / "elsewhere").exists()


def test_what_does_not_agree_is_not_signed(release: Path) -> None:
    (release / MANIFEST_NAME).write_bytes((release / MANIFEST_NAME).read_bytes() + b" ")
    with pytest.raises(ContentError, match=MANIFEST_NAME):
        sign_release(release, KEY)
    assert not list(release.glob("*.sig"))


@pytest.mark.parametrize("name", [SUMS_NAME, MANIFEST_NAME])
def test_signing_needs_both_small_files(release: Path, name: str) -> None:
    (release / name).unlink()
    with pytest.raises(NotFoundError, match=name):
        sign_release(release, KEY)


def test_the_private_half_is_encrypted_and_for_its_owner_only(tmp_path: Path) -> None:
    private, public = tmp_path / "release.key", tmp_path / "release.pub"
    old = os.umask(0)
    try:
        made = create_keys(private, public, b"passphrase")
    finally:
        os.umask(old)
    assert private.stat().st_mode & 0o777 == 0o600
    assert public.stat().st_mode & 0o777 == 0o644
    assert b"ENCRYPTED" in private.read_bytes()
    key = read_private_key(private.read_bytes(), b"passphrase", name="release.key")
    assert key.public == made == read_public_key(public.read_bytes(), name="release.pub")
    assert isinstance(made, PublicKey)


@pytest.mark.parametrize("taken", ["release.key", "release.pub"])
def test_keys_are_never_overwritten(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_bytes(b"old")
    with pytest.raises(ConflictError, match=taken):
        create_keys(tmp_path / "release.key", tmp_path / "release.pub", None)
    assert content_of(tmp_path) == {taken: b"old"}
