from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundler.archive.bundle import Entry, open_bundle, write_bundle
from bundler.archive.bundle_base import CONTENTS_NAME
from bundler.archive.stored_gzip import BLOCK_BYTES, StoredGzipWriter
from bundler.archive.tar import header
from bundler.digest import Digest
from bundler.errors import BundleError, ContentError, MalformedError, NotFoundError, WorldError
from bundler.events import Advanced, Event, Started
from bundler.manifest import SLICE_BYTES, Bundle, BundleFile
from bundler.parts import MIB
from bundler.sums import read_sums, write_sums
from tests.tars import MTIME, tar_of

ENTRIES = (
    Entry("README.md", b"# read me\n"),
    Entry("scripts/upload.sh", b"#!/bin/bash\n", executable=True),
    Entry("charts/inference/Chart.yaml", b""),
    Entry("containers/atlas__1.tar", bytes(range(256)) * 600),
)


def write(directory: Path, entries: tuple[Entry, ...] = ENTRIES) -> tuple[Path, Bundle]:
    directory.mkdir(parents=True, exist_ok=True)
    out = directory / "tiny-1.tar.gz"
    return out, write_bundle(out, root="tiny-1", entries=entries, mtime=MTIME)


def plain_tar(files: Mapping[str, bytes], root: str = "tiny-1") -> bytes:
    return tar_of({f"{root}/{path}": content for path, content in files.items()})


def signed(out: Path, plain: bytes, bundle: Bundle) -> Bundle:
    """Sign an archive of any plain content, as a careless or hostile builder could."""
    archive = bytearray()
    writer = StoredGzipWriter(archive.extend)
    writer.write(plain)
    writer.close()
    out.write_bytes(archive)
    digest = Digest.of(bytes(archive))
    return replace(bundle, size=len(archive), digest=digest, slices=(digest,))


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@settings(max_examples=25)
@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,3}(/[a-z]{1,3}){0,2}", fullmatch=True).map(lambda p: f"d/{p}.x"),
        st.tuples(st.binary(max_size=2000), st.booleans()),
        max_size=5,
    )
)
def test_what_goes_in_comes_out_in_every_way(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, tuple[bytes, bool]]
) -> None:
    entries = tuple(Entry(path, content, flag) for path, (content, flag) in files.items())
    out, bundle = write(tmp_path_factory.mktemp("case"), entries)
    content = out.read_bytes()
    assert (bundle.size, bundle.digest) == (len(content), Digest.of(content))
    assert bundle.slices == (bundle.digest,)
    plain = gzip.decompress(content)
    with open_bundle(out, bundle) as reader:
        reader.check_structure()
        assert reader.check_slices() == []
        for file in bundle.files:
            if file.path != CONTENTS_NAME:
                assert (reader.read(file, limit=2000), file.executable) == files[file.path]
            assert file.digest == Digest.of(plain[file.offset : file.offset + file.size])
        sums = (
            read_sums(reader.read(bundle.file(CONTENTS_NAME), limit=9999), name="x")
            if files
            else {}
        )
    assert sums == {path: Digest.of(content) for path, (content, _) in files.items()}
    with tarfile.open(out) as theirs:
        for info in theirs:
            assert info.mode == (
                0o755 if info.isdir() or files.get(info.name[7:], (0, 0))[1] else 0o644
            )


def test_an_archive_is_the_same_bytes_at_any_time_and_place(tmp_path: Path) -> None:
    files = []
    for entry in reversed(ENTRIES):
        real = tmp_path / "sources" / entry.path
        real.parent.mkdir(parents=True, exist_ok=True)
        assert isinstance(entry.content, bytes)
        real.write_bytes(entry.content)
        os.utime(real, (1, 1))
        files.append(Entry(entry.path, real, entry.executable))
    one, bundle = write(tmp_path / "one")
    two, again = write(tmp_path / "elsewhere", tuple(files))
    assert one.read_bytes() == two.read_bytes()
    assert bundle == again


def test_blocks_are_stored_and_slices_are_64_mib(tmp_path: Path) -> None:
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(SLICE_BYTES + 5)
    events: list[Event] = []
    out = tmp_path / "tiny-1.tar.gz"
    bundle = write_bundle(
        out, root="tiny-1", entries=[Entry("big", big)], mtime=MTIME, emit=events.append
    )
    content = out.read_bytes()
    assert bundle.block_bytes == BLOCK_BYTES
    assert bundle.slices == (Digest.of(content[:SLICE_BYTES]), Digest.of(content[SLICE_BYTES:]))
    assert len(content) < (SLICE_BYTES + 9000) * 1.0001
    assert Started("write", out.name, bundle.file("big").size + 70) in events
    total = 2 * bundle.file("big").size + 70
    assert sum(event.step for event in events if isinstance(event, Advanced)) == total
    flip(out, SLICE_BYTES + 1000)
    with open_bundle(out, bundle) as reader:
        first, second = reader.check_slices()
        assert (first.path, first.part, first.offset) == (None, 2, SLICE_BYTES)
        assert (second.path, second.part) == ("big", None)
        with pytest.raises(ContentError, match="big: expected sha256"):
            reader.extract(bundle.file("big"), tmp_path / "copy")
        flip(out, SLICE_BYTES + 1000)
        flip(out, 1044)
        with pytest.raises(ContentError, match=r"CONTENTS\.sha256: expected sha256"):
            reader.read(bundle.file(CONTENTS_NAME), limit=999)
    assert not (tmp_path / "copy").exists()


def test_an_executable_is_extracted_as_one(tmp_path: Path) -> None:
    out, bundle = write(tmp_path)
    with open_bundle(out, bundle) as reader:
        for entry in ENTRIES:
            copy = tmp_path / "copy"
            reader.extract(bundle.file(entry.path), copy)
            assert copy.read_bytes() == entry.content
            assert copy.stat().st_mode & 0o777 == (0o755 if entry.executable else 0o644)


def test_a_file_beyond_the_readers_limit_is_refused(tmp_path: Path) -> None:
    out, bundle = write(tmp_path)
    with open_bundle(out, bundle) as reader:
        assert reader.read(bundle.file("README.md"), limit=10) == b"# read me\n"
        with pytest.raises(MalformedError, match=r"README\.md: expected at most 9 bytes, got 10"):
            reader.read(bundle.file("README.md"), limit=9)


def use_all(out: Path, bundle: Bundle, scratch: Path) -> None:
    """Do everything that a receiver does with a bundle."""
    with open_bundle(out, bundle) as reader:
        reader.check_structure()
        for file in bundle.files:
            reader.extract(file, scratch / "copy")
        for fault in reader.check_slices():
            raise ContentError(str(fault))


def test_every_flipped_byte_is_found_and_names_the_archive(tmp_path: Path) -> None:
    entries = (Entry("a/b", b"12345"), Entry("c", b"x" * 600, executable=True))
    out, bundle = write(tmp_path, entries)
    content = out.read_bytes()
    for at in range(0, len(content), 29):
        out.write_bytes(content[:at] + bytes([content[at] ^ 0x20]) + content[at + 1 :])
        with pytest.raises(ContentError, match=r"tiny-1\.tar\.gz"):
            use_all(out, bundle, tmp_path)
        try:
            reader = open_bundle(out, bundle)
        except ContentError:
            continue
        with reader:
            faults = reader.check_slices()
        hit = [f.path for f in bundle.files if f.offset <= at - 15 < f.offset + f.size]
        assert [fault.path for fault in faults] == [None, *hit]
        assert faults[0].part == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: os.truncate(path, path.stat().st_size - 1),
        lambda path: os.truncate(path, 0),
        lambda path: path.write_bytes(path.read_bytes() + b"\0"),
        lambda path: path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()))),
        lambda path: flip(path, 0),
        lambda path: flip(path, path.stat().st_size - 1),
    ],
)
def test_an_archive_of_another_shape_is_not_opened(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    out, bundle = write(tmp_path)
    damage(out)
    with pytest.raises(ContentError, match=r"tiny-1\.tar\.gz") as caught:
        open_bundle(out, bundle)
    assert caught.value.hint is not None


def test_an_absent_archive_and_a_link_are_not_opened(tmp_path: Path) -> None:
    out, bundle = write(tmp_path)
    (tmp_path / "link").symlink_to(out)
    with pytest.raises(MalformedError, match="symbolic link"):
        open_bundle(tmp_path / "link", bundle)
    with pytest.raises(NotFoundError):
        open_bundle(tmp_path / "absent", bundle)


def test_a_tar_that_is_not_what_the_manifest_lists_is_refused(tmp_path: Path) -> None:
    out, bundle = write(tmp_path, (Entry("a", b"1"), Entry("b", b"2")))
    sums = write_sums({"a": Digest.of(b"1"), "b": Digest.of(b"2")})
    good = {"a": b"1", "b": b"2", CONTENTS_NAME: sums}
    evil = header("tiny-1", mtime=MTIME, directory=True)
    cases: list[tuple[bytes, type[BundleError], str]] = [
        (plain_tar({**good, "c": b""}), ContentError, "expected the end, got file tiny-1/c"),
        (plain_tar({"a": b"1", CONTENTS_NAME: sums}), ContentError, "tiny-1/b of .*got the end"),
        (plain_tar({}), MalformedError, "lies beyond the content"),
        (plain_tar({**good, "a": b"12"}), ContentError, "expected file tiny-1/a of 1 bytes"),
        (plain_tar(good, "other"), ContentError, "expected directory tiny-1, got directory other"),
        (evil + plain_tar(good), MalformedError, "stands there twice"),
    ]
    for plain, kind, complaint in cases:
        with pytest.raises(kind, match=complaint):
            use_all(out, signed(out, plain, bundle), tmp_path)


def test_sums_that_are_not_the_manifests_are_refused(tmp_path: Path) -> None:
    out, bundle = write(tmp_path, (Entry("a", b"1"),))
    files = {"a": b"1", CONTENTS_NAME: write_sums({"a": Digest.of(b"2")})}
    plain = plain_tar(files)
    places = tuple(
        BundleFile(
            path=path, offset=plain.index(content), size=len(content), digest=Digest.of(content)
        )
        for path, content in sorted(files.items())
    )
    lying = replace(
        signed(out, plain, bundle),
        files=tuple(replace(file, offset=bundle.file(file.path).offset) for file in places),
    )
    with (
        open_bundle(out, lying) as reader,
        pytest.raises(MalformedError, match=r"CONTENTS\.sha256 does not name the files"),
    ):
        reader.check_structure()


@pytest.mark.parametrize(
    ("paths", "complaint"),
    [
        (["../a"], "climbs"),
        (["/a"], "path is absolute"),
        (["a", "A"], "stands there 2 times"),
        (["a/b", "a"], "is a file and a directory"),
        ([CONTENTS_NAME], "stands there 2 times"),
        (["contents.sha256"], "stands there 2 times"),
    ],
)
def test_paths_that_break_a_rule_are_refused(
    tmp_path: Path, paths: list[str], complaint: str
) -> None:
    with pytest.raises(MalformedError, match=complaint):
        write(tmp_path, tuple(Entry(path, b"") for path in paths))
    assert list(tmp_path.iterdir()) == []


def test_a_root_that_is_no_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MalformedError, match="not a file name of ours"):
        write_bundle(tmp_path / "a", root="a/b", entries=[], mtime=MTIME)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"x" * 9),
        lambda path: path.write_bytes(b"x" * 11),
        lambda path: path.write_bytes(b"y" * 10),
        lambda path: path.write_bytes(b""),
    ],
)
def test_an_entry_that_changes_while_it_is_packed_is_refused(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    real = tmp_path / "real"
    real.write_bytes(b"x" * 10)

    def emit(event: Event) -> None:
        if isinstance(event, Started) and event.verb == "write":
            change(real)

    with pytest.raises(ContentError, match="entry: expected 10 bytes of sha256"):
        write_bundle(
            tmp_path / "a.tar.gz", root="a", entries=[Entry("entry", real)], mtime=1, emit=emit
        )
    assert [path.name for path in tmp_path.iterdir()] == ["real"]


def test_an_entry_that_is_missing_or_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="absent"):
        write(tmp_path, (Entry("a", tmp_path / "absent"),))
    with pytest.raises(MalformedError, match="got a directory"):
        write(tmp_path, (Entry("a", tmp_path),))


def test_a_full_disk_is_one_clear_line_and_leaves_nothing(small_disk: Path) -> None:
    with pytest.raises(WorldError, match=r"tiny-1\.tar\.gz: no space left"):
        write(small_disk, (Entry("a", bytes(6 * MIB)),))
    assert list(small_disk.iterdir()) == []


def test_a_whole_bundle_is_read_by_python(tmp_path: Path) -> None:
    out, bundle = write(tmp_path)
    with tarfile.open(fileobj=io.BytesIO(out.read_bytes()), mode="r:gz") as theirs:
        names = [info.name for info in theirs if info.isfile()]
    assert names == [f"tiny-1/{file.path}" for file in bundle.files]
