"""Tampering, by table: whatever is done to a release, it is refused, by class and by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bundler.archive import tar
from bundler.digest import Digest
from bundler.errors import (
    BundleError,
    ContentError,
    MalformedError,
    NotFoundError,
    UntrustedError,
)
from bundler.jsontext import write_json
from bundler.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest
from bundler.release import open_release, signature_name
from bundler.sign import sign_release
from bundler.signing.keys import PublicKey, new_key_pair, read_private_key
from bundler.sums import MAX_SUMS_BYTES, SUMS_NAME
from bundler.trust import Trust
from bundler.verify import verify_path
from tests.small_release import (
    DATA,
    RELEASE,
    data_key,
    make_release,
    sign_anything,
    sign_manifest_bytes,
    write_small_files,
)

KEY = read_private_key(new_key_pair(None)[0], None, name="test key")
NOW = "2026-11-02T00:00:00Z"
BUNDLE = f"{RELEASE.directory}.tar.gz"
TINY, SHARDED = "tiny_2026.10.tar", "sharded_2026.10.tar"
SHIPPED = data_key(DATA / "format-1")
SIGNATURE = signature_name(SHIPPED.key8)
OUR_SIGNATURE = signature_name(KEY.public.key8)
# Bytes between two flips in an archive: no multiple of a block, so that every kind is hit.
STRIDE = 11


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A copy of the release that lies in the repository, with the signature it has there."""
    return Path(shutil.copytree(DATA / "format-1" / RELEASE.directory, tmp_path / "release"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("made") / "release"
    make_release(directory)
    sign_release(directory, KEY)
    return directory


@pytest.fixture
def ours(made: Path, tmp_path: Path) -> Path:
    """A copy of the same release, signed by a key that a test may sign more with."""
    return Path(shutil.copytree(made, tmp_path / "ours"))


def judge(path: Path, key: PublicKey = SHIPPED) -> None:
    """Do as the command does: raise for whatever is wrong."""
    verify_path(path, Trust.of_keys([key]), now=NOW).raise_for_faults()


def refusal(path: Path, key: PublicKey = SHIPPED) -> BundleError:
    with pytest.raises(BundleError) as caught:
        judge(path, key)
    return caught.value


def flip(path: Path, offset: int, bits: int = 1) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ bits]))


def flips(path: Path, positions: range, bits: int = 1) -> Iterator[int]:
    """Change one byte after another, each one only while its turn lasts."""
    for offset in positions:
        flip(path, offset, bits)
        yield offset
        flip(path, offset, bits)


def test_the_untouched_release_is_well(release: Path, ours: Path) -> None:
    judge(release)
    judge(ours, KEY.public)


@pytest.mark.parametrize("bits", [0x01, 0x80])
@pytest.mark.parametrize(
    ("name", "error"),
    [
        (SUMS_NAME, UntrustedError),
        (SIGNATURE, UntrustedError),
        (MANIFEST_NAME, ContentError),
    ],
)
def test_every_single_byte_of_a_small_file_counts(
    release: Path, name: str, error: type[BundleError], bits: int
) -> None:
    size = (release / name).stat().st_size
    for offset in flips(release / name, range(size), bits):
        with pytest.raises(BundleError) as caught:
            open_release(release, Trust.of_keys([SHIPPED]))
        assert type(caught.value) is error, offset
        assert name in str(caught.value)


@pytest.mark.parametrize("name", [BUNDLE, TINY, SHARDED])
def test_bytes_of_every_kind_in_an_archive_count(release: Path, name: str) -> None:
    size = (release / name).stat().st_size
    for offset in flips(release / name, range(0, size, STRIDE)):
        told = refusal(release / name)
        assert type(told) is ContentError, offset
        assert name in str(told)


def test_a_flipped_byte_of_weights_is_told_with_file_part_and_offset(release: Path) -> None:
    manifest = open_release(release, Trust.of_keys([SHIPPED])).manifest
    for checkpoint in manifest.checkpoints:
        archive = release / checkpoint.archive
        for file in checkpoint.files:
            last = file.offset + file.size - 1
            for _ in flips(
                archive, range(last, file.offset + file.size) if file.size else range(0)
            ):
                [fault] = verify_path(release, Trust.of_keys([SHIPPED]), now=NOW).faults
                assert (fault.archive, fault.path) == (archive.name, file.path)
                assert (fault.part, fault.offset) == (1, file.offset)
                assert fault.expected == str(file.parts[0])


def truncate(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)


def append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)


def link(path: Path) -> None:
    moved = path.rename(path.parent.parent / f"moved-{path.name}")
    path.symlink_to(moved)


def swap(one: Path, other: Path) -> None:
    spare = one.parent / "spare"
    one.rename(spare)
    other.rename(one)
    spare.rename(other)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


Change = Callable[[Path], object]


@pytest.mark.parametrize(
    ("change", "error", "named"),
    [
        pytest.param(lambda r: (r / SUMS_NAME).unlink(), NotFoundError, SUMS_NAME, id="no sums"),
        pytest.param(
            lambda r: (r / MANIFEST_NAME).unlink(), NotFoundError, MANIFEST_NAME, id="no manifest"
        ),
        pytest.param(
            lambda r: (r / SIGNATURE).unlink(), UntrustedError, SUMS_NAME, id="no signature"
        ),
        pytest.param(
            lambda r: truncate(r / SIGNATURE, 0), UntrustedError, SIGNATURE, id="empty signature"
        ),
        pytest.param(
            lambda r: append(r / SIGNATURE, b"\0"), UntrustedError, SIGNATURE, id="long signature"
        ),
        pytest.param(
            lambda r: append(r / SIGNATURE, bytes(2000)), MalformedError, SIGNATURE, id="no sig"
        ),
        pytest.param(
            lambda r: append(r / SUMS_NAME, b"\n"), UntrustedError, SUMS_NAME, id="longer sums"
        ),
        pytest.param(
            lambda r: truncate(r / SUMS_NAME, 40), UntrustedError, SUMS_NAME, id="shorter sums"
        ),
        pytest.param(
            lambda r: truncate(r / SUMS_NAME, MAX_SUMS_BYTES + 1),
            MalformedError,
            SUMS_NAME,
            id="oversized sums",
        ),
        pytest.param(
            lambda r: truncate(r / MANIFEST_NAME, MAX_MANIFEST_BYTES + 1),
            MalformedError,
            MANIFEST_NAME,
            id="oversized manifest",
        ),
        pytest.param(
            lambda r: append(r / MANIFEST_NAME, b"\n"),
            ContentError,
            MANIFEST_NAME,
            id="longer manifest",
        ),
        pytest.param(
            lambda r: truncate(r / MANIFEST_NAME, 0),
            ContentError,
            MANIFEST_NAME,
            id="empty manifest",
        ),
        pytest.param(lambda r: link(r / SUMS_NAME), MalformedError, SUMS_NAME, id="linked sums"),
        pytest.param(
            lambda r: link(r / MANIFEST_NAME), MalformedError, MANIFEST_NAME, id="linked manifest"
        ),
        pytest.param(
            lambda r: link(r / SIGNATURE), MalformedError, SIGNATURE, id="linked signature"
        ),
        pytest.param(
            lambda r: directory(r / SUMS_NAME), MalformedError, SUMS_NAME, id="sums a directory"
        ),
        pytest.param(lambda r: (r / BUNDLE).unlink(), ContentError, BUNDLE, id="no bundle"),
        pytest.param(
            lambda r: swap(r / TINY, r / SHARDED), ContentError, TINY, id="swapped archives"
        ),
        pytest.param(
            lambda r: swap(r / MANIFEST_NAME, r / SUMS_NAME),
            UntrustedError,
            SUMS_NAME,
            id="swapped small files",
        ),
    ],
)
def test_a_changed_release_is_refused(
    release: Path, change: Change, error: type[BundleError], named: str
) -> None:
    change(release)
    told = refusal(release)
    assert type(told) is error
    assert named in str(told)


@pytest.mark.parametrize(
    ("change", "got"),
    [
        pytest.param(lambda path: truncate(path, 0), "got 0 bytes", id="emptied"),
        pytest.param(
            lambda path: truncate(path, path.stat().st_size - 1), "bytes, got ", id="a byte less"
        ),
        pytest.param(
            lambda path: truncate(path, path.stat().st_size - 512), "bytes, got ", id="a block less"
        ),
        pytest.param(lambda path: truncate(path, 4096), "got 4096 bytes", id="cut in the middle"),
        pytest.param(lambda path: append(path, b"\0"), "bytes, got ", id="a byte more"),
        pytest.param(lambda path: append(path, bytes(1024)), "bytes, got ", id="blocks more"),
        pytest.param(
            lambda path: append(path, path.read_bytes()), "bytes, got ", id="twice in a row"
        ),
        pytest.param(link, "expected a file, got a symbolic link", id="a link"),
        pytest.param(directory, "expected a file, got a directory", id="a directory"),
        pytest.param(
            lambda path: path.write_bytes(bytes(path.stat().st_size)), "expected ", id="all zeros"
        ),
    ],
)
@pytest.mark.parametrize("name", [BUNDLE, TINY, SHARDED])
def test_a_changed_archive_is_refused(release: Path, name: str, change: Change, got: str) -> None:
    change(release / name)
    told = refusal(release)
    assert type(told) is ContentError
    assert f"{name}: " in str(told) or f"{name}, slice 1" in str(told)
    assert got in str(told)


def test_a_linked_archive_is_refused_by_itself_too(release: Path) -> None:
    link(release / TINY)
    assert "got a symbolic link" in str(refusal(release / TINY))


def test_another_key_is_refused(release: Path) -> None:
    told = refusal(release, KEY.public)
    assert type(told) is UntrustedError
    assert KEY.public.key8 in str(told)


def test_the_signature_of_another_release_is_refused(release: Path, ours: Path) -> None:
    shutil.copy(ours / signature_name(KEY.public.key8), release / SIGNATURE)
    assert type(refusal(release)) is UntrustedError


@pytest.mark.parametrize(
    ("names", "error", "named"),
    [
        ([SUMS_NAME], UntrustedError, SUMS_NAME),
        ([OUR_SIGNATURE], UntrustedError, SUMS_NAME),
        ([MANIFEST_NAME], ContentError, MANIFEST_NAME),
        ([SUMS_NAME, OUR_SIGNATURE], ContentError, MANIFEST_NAME),
        ([SUMS_NAME, MANIFEST_NAME], UntrustedError, SUMS_NAME),
    ],
)
def test_files_of_two_signed_releases_do_not_mix(
    ours: Path, tmp_path: Path, names: list[str], error: type[BundleError], named: str
) -> None:
    later = tmp_path / "later"
    manifest = make_release(later)
    write_small_files(later, replace(manifest, release=replace(RELEASE, sequence=2)))
    sign_release(later, KEY)
    judge(later, KEY.public)
    for name in names:
        shutil.copy(later / name, ours / name)
    told = refusal(ours, KEY.public)
    assert type(told) is error
    assert named in str(told)


class TestSignedNonsense:
    """What a vendor's key signed is still read strictly: the parser is reached, and refuses."""

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            pytest.param(
                lambda text: text.replace("{\n", '{\n "models": [],\n', 1),
                "key 'models' stands there twice",
                id="duplicate key",
            ),
            pytest.param(
                lambda text: text.replace('"formatVersion": 1', '"formatVersion": 2'),
                "formatVersion 2, expected 1",
                id="newer format",
            ),
            pytest.param(
                lambda text: text.replace('"critical": []', '"critical": ["volumes"]'),
                "critical: names 'volumes', which this version does not know",
                id="critical unknown field",
            ),
            pytest.param(
                lambda text: text.replace('"sequence": 1', '"sequence": 1e3'),
                "not an integer",
                id="float",
            ),
            pytest.param(
                lambda text: text.replace('"config.json"', '"../config.json"', 1),
                "climbs",
                id="climbing path",
            ),
            pytest.param(
                lambda text: text.replace('"config.json"', '"/etc/config.json"', 1),
                "absolute",
                id="absolute path",
            ),
            pytest.param(
                lambda text: text.replace('"name": "tiny_2026.10"', '"name": "a/b"'),
                "not a file name of ours",
                id="name with a slash",
            ),
            pytest.param(lambda text: text + "{}", "not JSON", id="two documents"),
            pytest.param(lambda text: "\ufeff" + text, "not JSON", id="byte order mark"),
            pytest.param(lambda _: "[]", "expected a mapping, got a list", id="a list"),
            pytest.param(lambda _: "", "not JSON", id="nothing"),
        ],
    )
    def test_a_manifest_is_read_strictly(
        self, ours: Path, change: Callable[[str], str], message: str
    ) -> None:
        text = (ours / MANIFEST_NAME).read_text()
        changed = change(text)
        assert changed != text
        sign_manifest_bytes(ours, changed.encode(), KEY)
        told = refusal(ours, KEY.public)
        assert type(told) is MalformedError
        assert MANIFEST_NAME in str(told)
        assert message in str(told)

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda text: text.upper(), id="uppercase"),
            pytest.param(lambda text: text.replace("  ", " *"), id="binary marker"),
            pytest.param(lambda text: text.replace("\n", "\r\n"), id="windows lines"),
            pytest.param(lambda text: text + text, id="twice"),
            pytest.param(lambda text: "".join(reversed(text.splitlines(True))), id="not sorted"),
            pytest.param(lambda text: text + "\n", id="blank line"),
            pytest.param(lambda text: text.rstrip("\n"), id="no last line end"),
            pytest.param(lambda text: text.replace("tiny_", "../tiny_"), id="climbing"),
            pytest.param(lambda text: text.replace("tiny_", "sub/tiny_"), id="in a directory"),
            pytest.param(lambda text: "\\" + text, id="escaped"),
        ],
    )
    def test_sums_are_read_strictly(self, ours: Path, change: Callable[[str], str]) -> None:
        path = ours / SUMS_NAME
        changed = change(path.read_text())
        assert changed != path.read_text()
        path.write_bytes(changed.encode())
        sign_anything(ours, KEY)
        told = refusal(ours, KEY.public)
        assert type(told) is MalformedError
        assert SUMS_NAME in str(told)

    def test_sums_and_manifest_must_name_the_same_archives(self, ours: Path) -> None:
        text = (ours / MANIFEST_NAME).read_text()
        manifest = json.loads(text)
        digest = manifest["checkpoints"][0]["sha256"]
        sign_manifest_bytes(ours, text.replace(digest, "0" * 64).encode(), KEY)
        told = refusal(ours, KEY.public)
        assert type(told) is ContentError
        assert SHARDED in str(told)

    @pytest.mark.parametrize("path", ["README.md", "CONTENTS.sha256"])
    def test_a_bundle_must_hold_what_its_manifest_names_and_nothing_else(
        self, ours: Path, path: str
    ) -> None:
        manifest = json.loads((ours / MANIFEST_NAME).read_bytes())
        files = manifest["bundle"]["files"]
        manifest["bundle"]["files"] = [file for file in files if file["path"] != path]
        sign_manifest_bytes(ours, write_json(manifest), KEY)
        told = refusal(ours / BUNDLE, KEY.public)
        assert type(told) is ContentError
        assert str(told).startswith(f"{BUNDLE}: expected the structure that was signed")
        assert path in str(told)

    @pytest.mark.parametrize(
        ("kind", "name", "message"),
        [
            (b"2", "tiny/config.json", "a symbolic link"),
            (b"1", "tiny/config.json", "a hard link"),
            (b"3", "tiny/config.json", "a character device"),
            (b"6", "tiny/config.json", "a pipe"),
            (b"0", "tiny/../config.json", "climbs"),
            (b"0", "/etc/config.json", "path is empty"),
            (b"0", "tiny/model.json", "file tiny/config.json"),
        ],
    )
    def test_a_member_that_no_archive_of_ours_has(
        self, ours: Path, kind: bytes, name: str, message: str
    ) -> None:
        """Unsigned it is other content; signed as it is, it breaks the format or the manifest."""
        trusted = open_release(ours, Trust.of_keys([KEY.public]))
        checkpoint = trusted.manifest.checkpoint("tiny_2026.10")
        content = bytearray((ours / TINY).read_bytes())
        start = checkpoint.files[0].offset - tar.BLOCK
        content[start : start + 100] = name.encode().ljust(100, b"\0")
        content[start + 156 : start + 157] = kind
        content[start + 148 : start + 156] = b" " * 8
        block = content[start : start + tar.BLOCK]
        content[start + 148 : start + 156] = b"%06o\0 " % sum(block)
        (ours / TINY).write_bytes(content)
        told = refusal(ours, KEY.public)
        assert type(told) is ContentError
        assert f"{TINY}: " in str(told)
        assert message in str(told)
        sign_archive_as_it_is(ours, bytes(content))
        told = refusal(ours, KEY.public)
        assert type(told) in {MalformedError, ContentError}
        assert TINY in str(told)
        assert message in str(told)


def sign_archive_as_it_is(release: Path, content: bytes) -> None:
    """Let the manifest vouch for the archive's size, digest and frame, whatever they are."""
    manifest: Manifest = open_release(release, Trust.of_keys([KEY.public])).manifest
    checkpoint = manifest.checkpoint("tiny_2026.10")
    frame, end = b"", 0
    for file in checkpoint.files:
        frame, end = frame + content[end : file.offset], file.offset + file.size
    frame += content[end:]
    text = (release / MANIFEST_NAME).read_text()
    text = text.replace(checkpoint.digest.hex, Digest.of(content).hex)
    text = text.replace(checkpoint.frame_digest.hex, Digest.of(frame).hex)
    sums = (release / SUMS_NAME).read_text()
    (release / SUMS_NAME).write_text(sums.replace(checkpoint.digest.hex, Digest.of(content).hex))
    sign_manifest_bytes(release, text.encode(), KEY)
