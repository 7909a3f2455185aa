"""Opening a release: signature, then sums, then manifest; each refusal by its class and path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bundler.digest import Digest
from bundler.errors import (
    BundleError,
    ContentError,
    MalformedError,
    NotFoundError,
    UntrustedError,
)
from bundler.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES
from bundler.manifest_codec import encode_manifest
from bundler.release import (
    find_release,
    is_additive,
    open_release,
    signature_name,
)
from bundler.sign import sign_release
from bundler.sums import MAX_SUMS_BYTES, SUMS_NAME, write_sums
from bundler.trust import Trust
from tests.unit.small_files import SOME, new_key, small_manifest, write_small_files

KEY = new_key()
OTHER = new_key()
KEYS = Trust.of_keys([KEY.public])


@pytest.fixture
def release(tmp_path: Path) -> Path:
    directory = write_small_files(tmp_path / "release")
    sign_release(directory, KEY)
    return directory


def force_sign(directory: Path) -> Path:
    """Sign whatever SHA256SUMS holds, so that a test reaches what comes behind the signature."""
    content = (directory / SUMS_NAME).read_bytes()
    (directory / signature_name(KEY.public.key8)).write_bytes(KEY.sign(content))
    return directory


def with_manifest(directory: Path, content: bytes) -> Path:
    return force_sign(write_small_files(directory, manifest_bytes=content))


def test_a_signed_release_opens(release: Path) -> None:
    opened = open_release(release, KEYS)
    assert opened.manifest == small_manifest()
    assert opened.manifest_bytes == (release / MANIFEST_NAME).read_bytes()
    assert opened.sums_bytes == (release / SUMS_NAME).read_bytes()
    assert opened.sums[MANIFEST_NAME] == Digest.of(opened.manifest_bytes)
    assert opened.signatures == (KEY.public.key8,)
    assert opened.directory == release


def test_no_key_trusts_nothing(release: Path) -> None:
    with pytest.raises(UntrustedError, match="no public key was given"):
        open_release(release, Trust.of_keys([]))


def test_another_key_is_not_trusted(release: Path) -> None:
    with pytest.raises(UntrustedError, match=OTHER.public.key8) as caught:
        open_release(release, Trust.of_keys([OTHER.public]))
    assert SUMS_NAME in str(caught.value)
    assert signature_name(KEY.public.key8) in str(caught.value)


def test_one_of_several_keys_is_enough(release: Path) -> None:
    trust = Trust.of_keys([OTHER.public, KEY.public])
    assert open_release(release, trust).signatures == (KEY.public.key8,)


def test_a_key_given_twice_counts_once(release: Path) -> None:
    twice = Trust.of_keys([KEY.public, KEY.public])
    assert open_release(release, twice).signatures == (KEY.public.key8,)


def test_every_signer_is_named(release: Path) -> None:
    sign_release(release, OTHER)
    expected = tuple(sorted((KEY.public.key8, OTHER.public.key8)))
    assert open_release(release, Trust.of_keys([OTHER.public, KEY.public])).signatures == expected


def test_the_name_of_a_signature_file_proves_nothing(release: Path) -> None:
    right = release / signature_name(KEY.public.key8)
    right.rename(release / signature_name("00000000"))
    right.write_bytes(OTHER.sign((release / SUMS_NAME).read_bytes()))
    assert open_release(release, KEYS).signatures == (KEY.public.key8,)
    (release / signature_name("00000000")).unlink()
    with pytest.raises(UntrustedError):
        open_release(release, KEYS)


def test_without_a_signature_nothing_is_trusted(release: Path) -> None:
    (release / signature_name(KEY.public.key8)).unlink()
    with pytest.raises(UntrustedError, match=f"{SUMS_NAME}: expected .*, got no signature"):
        open_release(release, KEYS)


def test_what_nobody_signed_is_not_parsed(release: Path) -> None:
    (release / SUMS_NAME).write_bytes(b"not sums")
    (release / MANIFEST_NAME).write_bytes(b"not JSON")
    with pytest.raises(UntrustedError):
        open_release(release, KEYS)


@pytest.mark.parametrize("name", [SUMS_NAME, MANIFEST_NAME])
def test_a_missing_small_file_is_named(release: Path, name: str) -> None:
    (release / name).unlink()
    with pytest.raises(NotFoundError, match=name):
        open_release(release, KEYS)


@pytest.mark.parametrize(
    "name", [SUMS_NAME, MANIFEST_NAME, signature_name(KEY.public.key8)], ids=["sums", "json", "sig"]
)
def test_a_link_in_the_place_of_a_small_file_is_refused(release: Path, name: str) -> None:
    (release / name).rename(release.parent / "elsewhere")
    (release / name).symlink_to(release.parent / "elsewhere")
    with pytest.raises(MalformedError, match=f"{name}: expected a regular file, got a symbolic"):
        open_release(release, KEYS)


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        (SUMS_NAME, MAX_SUMS_BYTES),
        (MANIFEST_NAME, MAX_MANIFEST_BYTES),
        (signature_name(KEY.public.key8), 1024),
    ],
    ids=["sums", "json", "sig"],
)
def test_a_small_file_that_is_large_is_not_read(release: Path, name: str, limit: int) -> None:
    with (release / name).open("r+b") as file:
        file.truncate(limit + 1)
    with pytest.raises(MalformedError, match=f"{name}: expected at most {limit} bytes"):
        open_release(release, KEYS)


def test_too_many_signature_files_are_refused(release: Path) -> None:
    for number in range(64):
        (release / signature_name(f"{number:08}")).write_bytes(b"")
    with pytest.raises(MalformedError, match="at most 64 signature files, got 65"):
        open_release(release, KEYS)


def test_another_manifest_is_refused(release: Path) -> None:
    path = release / MANIFEST_NAME
    path.write_bytes(path.read_bytes().replace(b'"Tiny"', b'"Tinx"'))
    with pytest.raises(ContentError, match=rf"{MANIFEST_NAME}: expected sha256:\w+, got sha256:"):
        open_release(release, KEYS)


def test_sums_that_name_no_manifest_are_refused(release: Path) -> None:
    (release / SUMS_NAME).write_bytes(write_sums({"demo-1.0.0.tar.gz": SOME}))
    with pytest.raises(MalformedError, match=f"expected a line for {MANIFEST_NAME}"):
        open_release(force_sign(release), KEYS)


def test_sums_that_are_not_ours_are_refused(release: Path) -> None:
    (release / SUMS_NAME).write_bytes(b"\n")
    with pytest.raises(MalformedError, match=f"{SUMS_NAME}:1: "):
        open_release(force_sign(release), KEYS)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        pytest.param({"tiny_1.tar": Digest.of(b"x")}, "tiny_1.tar", id="another digest"),
        pytest.param({"more.tar": SOME}, "more.tar", id="one more"),
        pytest.param({"tiny_1.tar": None}, "tiny_1.tar", id="one less"),
        pytest.param({"demo-1.0.0.tar.gz": None}, "demo-1.0.0.tar.gz", id="no bundle"),
    ],
)
def test_sums_and_manifest_must_agree(
    release: Path, change: dict[str, Digest | None], name: str
) -> None:
    sums = dict(open_release(release, KEYS).sums) | change
    kept = {key: digest for key, digest in sums.items() if digest is not None}
    force_sign(write_small_files(release, sums=kept))
    with pytest.raises(ContentError, match=f"{SUMS_NAME}: {name}: expected .*, got "):
        open_release(release, KEYS)


def _twice(content: bytes) -> bytes:
    return content.replace(b"{\n", b'{\n "formatVersion": 1,\n', 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(_twice, "key 'formatVersion' stands there twice", id="duplicate key"),
        pytest.param(
            lambda content: content.replace(b'"formatVersion": 1', b'"formatVersion": 2'),
            "formatVersion 2, expected 1",
            id="newer format",
        ),
        pytest.param(
            lambda content: content.replace(b'"critical": []', b'"critical": ["volumes"]'),
            "names 'volumes', which this version does not know",
            id="critical field",
        ),
        pytest.param(lambda content: content[:-20], "not JSON as we write it", id="cut short"),
        pytest.param(lambda content: b"[" * 5000, "nested too deep", id="nested"),
        pytest.param(
            lambda content: content.replace(b'"sequence": 3', b'"sequence": 3.0'),
            "not an integer",
            id="not an integer",
        ),
        pytest.param(
            lambda content: content.replace(b"model.safetensors", b"../model.safetensors"),
            "climbs",
            id="climbing path",
        ),
    ],
)
def test_a_signed_manifest_is_still_read_strictly(
    tmp_path: Path, change: Callable[[bytes], bytes], message: str
) -> None:
    content = change(encode_manifest(small_manifest()))
    release = with_manifest(tmp_path / "release", content)
    with pytest.raises(MalformedError, match=message) as caught:
        open_release(release, KEYS)
    assert MANIFEST_NAME in str(caught.value)


def test_an_unknown_field_that_is_not_critical_is_ignored(tmp_path: Path) -> None:
    content = encode_manifest(small_manifest()).replace(b"{\n", b'{\n "addedLater": {},\n', 1)
    assert open_release(with_manifest(tmp_path / "r", content), KEYS).manifest == small_manifest()


def test_the_small_files_are_found_in_and_beside_a_path(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = release / "tiny_1.tar"
    archive.write_bytes(b"")
    inside = release / "demo-1.0.0"
    inside.mkdir()
    assert find_release(release) == release
    assert find_release(archive) == release
    assert find_release(inside) == release
    assert find_release(tmp_path, release) == release
    monkeypatch.chdir(inside)
    assert find_release(Path()).samefile(release)


@pytest.mark.parametrize(
    ("path", "release_dir", "message"),
    [
        ("nowhere", None, "nowhere: no such file"),
        (".", None, rf"no {SUMS_NAME} in \S+, nor beside it"),
        ("release", "empty", rf"no {SUMS_NAME} in \S+/empty$"),
    ],
)
def test_small_files_that_are_not_there_are_said_to_be_missing(
    release: Path, tmp_path: Path, path: str, release_dir: str | None, message: str
) -> None:
    assert release.exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match=message) as caught:
        find_release(tmp_path / path, tmp_path / release_dir if release_dir else None)
    assert isinstance(caught.value, NotFoundError)


@pytest.mark.parametrize(
    ("name", "directory", "additive"),
    [
        ("SHA256SUMS.01234567.sig", False, True),
        ("SHA256SUMS.01234567.sigstore.json", False, True),
        ("provenance.01234567.sigstore.json", False, True),
        ("tiny_1.01234567.oms.json", False, True),
        ("VOLUMES.json", False, True),
        ("trust", True, True),
        ("trust", False, False),
        ("VOLUMES.json", True, False),
        ("README.txt", False, False),
        ("tiny.sig", False, False),
    ],
)
def test_additive_names_are_the_ones_of_the_format(
    name: str, directory: bool, additive: bool
) -> None:
    assert is_additive(name, directory=directory) is additive


def test_a_name_on_the_medium_cannot_move_a_cursor(release: Path) -> None:
    hostile = release.rename(release.parent / "usb\x1b[2J")
    (hostile / signature_name(KEY.public.key8)).unlink()
    with pytest.raises(UntrustedError) as caught:
        open_release(hostile, KEYS)
    assert "\x1b" not in str(caught.value)
    assert "usb\\u001b[2J" in str(caught.value)
