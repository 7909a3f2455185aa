"""Checkpoint archives that are there already: taken over byte for byte, or refused with reason."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bundler.archive.checkpoint import SourceFile, write_checkpoint
from bundler.archive.existing import MAX_FILES, read_existing
from bundler.archive.sharing import share
from bundler.archive.tar import END, header, padding
from bundler.errors import MalformedError, NotFoundError
from bundler.jsontext import write_json
from bundler.manifest import MAX_MANIFEST_BYTES, Checkpoint
from bundler.manifest_codec import from_checkpoint
from bundler.parts import SMALLEST_PART
from tests.tars import MTIME, tar_of

FILES = {
    "tiny/config.json": b"{}",
    "tiny/model.safetensors": bytes(range(256)) * 20,
    "tiny/tokenizer/" + "n" * 120: b"long name",
}


def take(path: Path, out: Path | None, *, root: str = "tiny") -> Checkpoint:
    found = read_existing(path, root=root)
    return write_checkpoint(out, name="t", root=root, sources=found.files, mtime=found.mtime)


def archive(directory: Path, content: bytes) -> Path:
    path = directory / "given.tar"
    path.write_bytes(content)
    return path


def test_an_archive_of_ours_is_written_again_byte_for_byte(tmp_path: Path) -> None:
    given = archive(tmp_path, tar_of(FILES))
    out = tmp_path / "t.tar"
    made = take(given, out)
    assert out.read_bytes() == given.read_bytes()
    found = read_existing(given, root="tiny")
    assert (found.mtime, found.size) == (MTIME, given.stat().st_size)
    measured = take(given, None)
    assert measured == made
    assert sorted(path.name for path in tmp_path.iterdir()) == ["given.tar", "t.tar"]


def test_a_file_of_several_parts_is_found_in_its_archive(tmp_path: Path) -> None:
    real = tmp_path / "model.safetensors"
    with real.open("wb") as file:
        for place in (0, SMALLEST_PART - 1, SMALLEST_PART + 5):
            file.seek(place)
            file.write(b"weights")
    given = tmp_path / "given.tar"
    made = write_checkpoint(
        given,
        name="t",
        root="tiny",
        sources=[SourceFile("model.safetensors", real), SourceFile("x", real)],
        mtime=7,
    )
    assert take(given, None) == made
    assert len(made.files[0].parts) == 2


def other(files: dict[str, bytes], **more: object) -> Callable[[], bytes]:
    """Write a tar with the standard library, as another program would."""

    def make() -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for path, content in files.items():
                member = tarfile.TarInfo(path)
                for name, value in more.items():
                    setattr(member, name, value)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        return out.getvalue()

    return make


def with_empty_directory() -> bytes:
    content = header("tiny", mtime=1, directory=True) + header("tiny/a", mtime=1, directory=True)
    return content + header("tiny/b", mtime=1, size=1) + b"x" + padding(1) + END


def executable() -> bytes:
    return tar_of({"tiny/run": b"x"}, executable={"tiny/run"})


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: b"", "ends at 0"),
        (lambda: END, "expected 'tiny' alone at its top, got nothing"),
        (lambda: tar_of({"an other/config.json": b"{}"}), "alone at its top, got an other"),
        (lambda: tar_of({**FILES, "beside/x": b""}), "alone at its top, got beside, tiny"),
        (lambda: tar_of({"tiny": b"x"}), "expected a directory, got a file"),
        (lambda: tar_of(FILES)[:-512], "without its two zero blocks"),
        (lambda: tar_of(FILES) + b"more", "4 bytes behind the end"),
        (with_empty_directory, "'tiny/a': expected no empty directory"),
        (executable, "'tiny/run': expected mode 0644"),
        (other({"tiny/x": b"x"}, uid=1000), "is not the one that this format writes"),
        (other({"tiny/x": b""}, type=tarfile.SYMTYPE, linkname="/etc/passwd"), "a symbolic link"),
        (other({"tiny/x": b""}, type=tarfile.LNKTYPE, linkname="tiny/y"), "a hard link"),
        (other({"tiny/x": b""}, type=tarfile.CHRTYPE), "a character device"),
        (other({"../tiny/x": b"x"}), "climbs"),
        (other({"/tiny/x": b"x"}), "path is empty"),
    ],
)
def test_an_archive_that_is_not_ours_is_refused_with_the_reason(
    make: Callable[[], bytes], problem: str, tmp_path: Path
) -> None:
    given = archive(tmp_path, make())
    with pytest.raises(MalformedError, match=problem) as caught:
        read_existing(given, root="tiny")
    assert str(given) in str(caught.value)
    assert "unpack it" in str(caught.value.hint)


def test_an_archive_with_another_root_is_refused_with_the_line_that_cures_it(
    tmp_path: Path,
) -> None:
    given = archive(tmp_path, tar_of({"big/config.json": b"{}"}))
    with pytest.raises(MalformedError, match="expected 'tiny' alone at its top, got big") as caught:
        read_existing(given, root="tiny")
    line = (caught.value.hint or "").rpartition("spec: ")[2]
    assert line == "root: big"
    assert read_existing(given, root=line.removeprefix("root: ")).files


def test_more_files_than_a_manifest_holds_are_refused_before_all_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bundler.archive.existing.MAX_FILES", 3)
    assert len(read_existing(archive(tmp_path, tar_of(FILES)), root="tiny").files) == 3
    given = archive(tmp_path, tar_of({**FILES, "tiny/x": b"x"})[: -len(END)])
    with pytest.raises(MalformedError, match="expected at most 3 files, got more") as caught:
        read_existing(given, root="tiny")
    assert "several checkpoints" in str(caught.value.hint)
    deep = archive(tmp_path, tar_of({"tiny/a/b/c/d": b""})[: -len(END)])
    with pytest.raises(MalformedError, match="expected at most 3 directories, got more"):
        read_existing(deep, root="tiny")


def test_no_manifest_has_room_for_more_files_than_the_limit(tmp_path: Path) -> None:
    made = take(archive(tmp_path, tar_of({f"tiny/{n:x}": b"" for n in range(1000)})), None)
    written = len(write_json(from_checkpoint(made)))
    assert written * MAX_FILES // len(made.files) > MAX_MANIFEST_BYTES


def test_a_link_to_an_archive_is_followed_and_an_absent_one_named(tmp_path: Path) -> None:
    given = archive(tmp_path, tar_of(FILES))
    link = tmp_path / "link.tar"
    link.symlink_to(given.name)
    assert read_existing(link, root="tiny").path == given
    with pytest.raises(NotFoundError, match=r"absent\.tar"):
        read_existing(tmp_path / "absent.tar", root="tiny")


def test_a_link_is_made_only_where_it_will_do(tmp_path: Path) -> None:
    given = archive(tmp_path, b"content")
    assert share(given, tmp_path / "no", link=False) in {None, "cloned"}
    how = share(given, tmp_path / "yes", link=True)
    assert how is not None
    assert (tmp_path / "yes").read_bytes() == b"content"
    assert (given.stat().st_nlink == 2) is (how == "linked")


def test_a_file_of_another_file_system_is_not_shared(tmp_path: Path, small_disk: Path) -> None:
    given = archive(tmp_path, b"content")
    assert share(given, small_disk / "no", link=True) is None
    assert list(small_disk.iterdir()) == []


def test_a_clone_is_a_file_of_its_own(tmp_path: Path, need: Callable[[str], str]) -> None:
    if os.geteuid() != 0:
        pytest.skip("root is missing, to mount a file system")
    image, disk = tmp_path / "image", tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(320 << 20)
    disk.mkdir()
    subprocess.run([need("mkfs.xfs"), "-q", "-m", "reflink=1", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, disk], check=True)
    try:
        given = archive(disk, os.urandom(1 << 20))
        assert share(given, disk / "clone", link=True) == "cloned"
        content = given.read_bytes()
        assert (disk / "clone").read_bytes() == content
        given.write_bytes(b"changed")
        assert (disk / "clone").read_bytes() == content
    finally:
        subprocess.run(["umount", disk], check=True)
