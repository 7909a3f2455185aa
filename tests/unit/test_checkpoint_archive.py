from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundler.archive.checkpoint import (
    SourceFile,
    check_parts,
    check_structure,
    write_checkpoint,
)
from bundler.digest import Digest
from bundler.errors import (
    ContentError,
    MalformedError,
    NotFoundError,
    WorldError,
)
from bundler.events import Advanced, Event, Finished, Started
from bundler.manifest import Checkpoint
from bundler.parts import MIB, SMALLEST_PART
from tests.unit.threads import no_thread_left

MTIME = 1_793_491_200
FILES = {
    "config.json": b"{}",
    "model.safetensors": bytes(range(256)) * 20,
    "tokenizer/vocab.txt": b"",
    "tokenizer/naïve.txt": b"x" * 512,
}


def sources(directory: Path, files: Mapping[str, bytes]) -> list[SourceFile]:
    found = []
    for path, content in files.items():
        real = directory / path
        real.parent.mkdir(parents=True, exist_ok=True)
        real.write_bytes(content)
        found.append(SourceFile(path, real))
    return found


def write(
    directory: Path,
    files: Mapping[str, bytes] = FILES,
    *,
    expected: Mapping[str, tuple[int, Digest]] | None = None,
    emit: Callable[[Event], None] = lambda event: None,
) -> tuple[Path, Checkpoint]:
    directory.mkdir(parents=True, exist_ok=True)
    out = directory / "tiny_1.tar"
    made = write_checkpoint(
        out,
        name="tiny_1",
        root="tiny",
        sources=sources(directory / "sources", files),
        mtime=MTIME,
        expected=expected,
        emit=emit,
    )
    return out, made


def locked(files: Mapping[str, bytes] = FILES) -> dict[str, tuple[int, Digest]]:
    return {path: (len(content), Digest.of(content)) for path, content in files.items()}


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,3}(/[a-z]{1,3}){0,2}", fullmatch=True),
        st.binary(max_size=2000),
        min_size=1,
        max_size=6,
    )
)
def test_every_digest_is_of_what_the_archive_holds(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    parents = {parent for path in files for parent in map(str, Path(path).parents)}
    files = {path: content for path, content in files.items() if path not in parents}
    out, made = write(tmp_path_factory.mktemp("case"), files)
    content = out.read_bytes()
    assert (made.size, made.digest) == (len(content), Digest.of(content))
    assert {file.path: content[file.offset :][: file.size] for file in made.files} == files
    assert all(file.digest == Digest.of(files[file.path]) for file in made.files)
    assert all(file.parts == (file.digest,) for file in made.files)
    frame, end = b"", 0
    for file in made.files:
        frame, end = frame + content[end : file.offset], file.offset + file.size
    assert made.frame_digest == Digest.of(frame + content[end:])
    check_structure(out, made)
    assert check_parts(out, made) == []
    with tarfile.open(out) as theirs:
        assert {m.name: theirs.extractfile(m).read() for m in theirs if m.isfile()} == {  # type: ignore[union-attr]
            f"tiny/{path}": content for path, content in files.items()
        }


def test_a_file_of_several_parts_has_a_digest_for_each(tmp_path: Path) -> None:
    real = tmp_path / "model.safetensors"
    with real.open("wb") as weights:
        for position, piece in (
            (0, b"first"),
            (SMALLEST_PART, b"second"),
            (2 * SMALLEST_PART, b"3"),
        ):
            weights.seek(position)
            weights.write(piece)
    out = tmp_path / "a.tar"
    events: list[Event] = []
    made = write_checkpoint(
        out,
        name="a",
        root="a",
        sources=[SourceFile("model.safetensors", real)],
        mtime=MTIME,
        expected=None,
        emit=events.append,
    )
    (file,) = made.files
    content = real.read_bytes()
    assert file.digest == Digest.of(content)
    assert file.parts == tuple(
        Digest.of(content[at : at + SMALLEST_PART]) for at in range(0, len(content), SMALLEST_PART)
    )
    assert len(file.parts) == 3
    assert events == [
        Started("write", "a.tar", len(content)),
        Advanced("a.tar", SMALLEST_PART),
        Advanced("a.tar", SMALLEST_PART),
        Advanced("a.tar", 1),
        Finished("a.tar"),
    ]
    with out.open("r+b") as archive:
        archive.seek(file.offset + SMALLEST_PART + 7)
        archive.write(b"\1")
    (fault,) = check_parts(out, made)
    assert (fault.archive, fault.path, fault.part) == ("a.tar", "model.safetensors", 2)
    assert fault.offset == file.offset + SMALLEST_PART
    assert fault.expected == str(file.parts[1])
    assert fault.got != fault.expected


def test_an_archive_is_the_same_bytes_at_any_time_and_place(tmp_path: Path) -> None:
    one, made = write(tmp_path / "one")
    renamed = dict(reversed(FILES.items()))
    for path in (tmp_path / "one" / "sources").rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700)
    two, again = write(tmp_path / "elsewhere" / "two", renamed)
    assert one.read_bytes() == two.read_bytes()
    assert made == again


def test_links_in_the_source_are_followed(tmp_path: Path) -> None:
    plain, made = write(tmp_path / "plain")
    blobs = sources(tmp_path / "blobs", FILES)
    linked = []
    for source in blobs:
        link = tmp_path / "cache" / source.path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(source.real)
        linked.append(SourceFile(source.path, link))
    out = tmp_path / "tiny_1.tar"
    again = write_checkpoint(
        out, name="tiny_1", root="tiny", sources=linked, mtime=MTIME, expected=locked()
    )
    assert out.read_bytes() == plain.read_bytes()
    assert again == made


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            {"config.json": (2, Digest.of(b"[]"))},
            r"config\.json: expected sha256:.* as locked, got",
        ),
        (
            {"config.json": (3, Digest.of(b"{}"))},
            r"config\.json: expected 3 bytes as locked, got 2",
        ),
        ({"more.json": (1, Digest.of(b"1"))}, r"more\.json: expected a file as locked, got none"),
        ({"config.json": None}, r"config\.json: expected no such file as locked, got one"),
    ],
)
def test_a_source_that_is_not_what_was_locked_is_refused(
    tmp_path: Path, change: dict[str, tuple[int, Digest] | None], complaint: str
) -> None:
    changed = {**locked(), **change}
    expected = {path: entry for path, entry in changed.items() if entry is not None}
    with pytest.raises(ContentError, match=complaint):
        write(tmp_path, expected=expected)
    assert [path.name for path in tmp_path.iterdir() if path.name != "sources"] == []


def during(change: Callable[[Path], object], path: Path) -> Callable[[Event], None]:
    """Change a source after its first part was read."""

    def emit(event: Event) -> None:
        if isinstance(event, Advanced) and path.exists():
            change(path)

    return emit


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"x")
    os.utime(path, (5, 5))


def swap(path: Path) -> None:
    content, status = path.read_bytes(), path.stat()
    other = path.with_name("other")
    other.write_bytes(content)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (append, "expected st_size 70000000, got 7000000[48]"),
        (lambda path: os.truncate(path, SMALLEST_PART), "it ends 2891136 bytes early"),
        (rewrite, "expected st_mtime_ns"),
        (swap, "expected st_ino"),
        (Path.unlink, "no such file"),
    ],
)
def test_a_source_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, change: Callable[[Path], object], complaint: str
) -> None:
    real = tmp_path / "sources" / "model.safetensors"
    real.parent.mkdir()
    with real.open("wb") as file:
        file.truncate(70_000_000)
    with pytest.raises((ContentError, NotFoundError), match=complaint) as caught:
        write_checkpoint(
            tmp_path / "a.tar",
            name="a",
            root="a",
            sources=[SourceFile("model.safetensors", real)],
            mtime=MTIME,
            expected=None,
            emit=during(change, real),
        )
    assert "model.safetensors" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["sources"]


@pytest.mark.parametrize(
    ("paths", "complaint"),
    [
        ([], "expected a file, got none"),
        (["../a"], "climbs"),
        (["/a"], "path is absolute"),
        (["a", "A"], "stands there 2 times"),
        (["a", "a"], "stands there 2 times"),
        (["a/b", "a"], "is a file and a directory"),
        (["a\nb"], "control character"),
        (["n" * 513], "over 512 bytes"),
    ],
)
def test_paths_that_break_a_rule_are_refused(
    tmp_path: Path, paths: list[str], complaint: str
) -> None:
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(MalformedError, match=complaint):
        write_checkpoint(
            tmp_path / "a.tar",
            name="a",
            root="a",
            sources=[SourceFile(path, tmp_path / "x") for path in paths],
            mtime=MTIME,
            expected=None,
        )
    assert not (tmp_path / "a.tar").exists()


@pytest.mark.parametrize(("name", "root"), [("a/b", "a"), ("a", "a/b"), ("a", ".."), ("a__b", "a")])
def test_names_that_break_a_rule_are_refused(tmp_path: Path, name: str, root: str) -> None:
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(MalformedError, match="not a file name of ours"):
        write_checkpoint(
            tmp_path / "a.tar",
            name=name,
            root=root,
            sources=[SourceFile("x", tmp_path / "x")],
            mtime=MTIME,
            expected=None,
        )


def test_a_source_that_is_missing_or_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, kind in (
        ("absent", NotFoundError),
        ("directory", MalformedError),
        ("pipe", MalformedError),
    ):
        with pytest.raises(kind, match=name):
            write_checkpoint(
                tmp_path / "a.tar",
                name="a",
                root="a",
                sources=[SourceFile("x", tmp_path / name)],
                mtime=MTIME,
                expected=None,
            )
    assert not (tmp_path / "a.tar").exists()


def test_a_full_disk_is_one_clear_line_and_leaves_nothing(tmp_path: Path, small_disk: Path) -> None:
    real = tmp_path / "weights"
    real.write_bytes(os.urandom(9 * MIB))
    with no_thread_left(), pytest.raises(WorldError, match=r"a\.tar: no space left") as caught:
        write_checkpoint(
            small_disk / "a.tar",
            name="a",
            root="a",
            sources=[SourceFile("weights", real)],
            mtime=MTIME,
            expected=None,
        )
    assert "\n" not in str(caught.value)
    assert list(small_disk.iterdir()) == []


def test_kill_9_leaves_nothing_under_the_name(tmp_path: Path) -> None:
    script = (
        "import sys, os, signal\n"
        "from pathlib import Path\n"
        "from bundler.archive.checkpoint import SourceFile, write_checkpoint\n"
        "from bundler.events import Advanced\n"
        "def emit(event):\n"
        "    if isinstance(event, Advanced):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "out, real = map(Path, sys.argv[1:])\n"
        "sources = [SourceFile('a', real), SourceFile('b', real)]\n"
        "write_checkpoint(out, name='a', root='a', mtime=1, sources=sources, emit=emit)\n"
    )
    (tmp_path / "weights").write_bytes(bytes(9 * MIB))
    argv = [sys.executable, "-c", script, str(tmp_path / "a.tar"), str(tmp_path / "weights")]
    assert subprocess.run(argv, check=False).returncode == -signal.SIGKILL
    assert not (tmp_path / "a.tar").exists()


def test_every_flipped_byte_of_an_archive_is_found_in_its_place(tmp_path: Path) -> None:
    out, made = write(tmp_path)
    content = out.read_bytes()
    for at in range(0, len(content), 61):
        out.write_bytes(content[:at] + bytes([content[at] ^ 2]) + content[at + 1 :])
        inside = [f for f in made.files if f.offset <= at < f.offset + f.size]
        if inside:
            check_structure(out, made)
            (fault,) = check_parts(out, made)
            assert (fault.path, fault.part, fault.offset) == (inside[0].path, 1, inside[0].offset)
        else:
            assert check_parts(out, made) == []
            with pytest.raises(ContentError, match=r"tiny_1\.tar"):
                check_structure(out, made)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda path: os.truncate(path, path.stat().st_size - 1), "bytes, got"),
        (append, "bytes, got"),
        (lambda path: os.truncate(path, 0), "bytes, got 0"),
        (lambda path: flip(path, 0), "at offset 0: header checksum is wrong"),
        (lambda path: flip(path, 512 + 3), "at offset 512: header checksum is wrong"),
    ],
)
def test_a_wrong_structure_is_told_with_archive_and_offset(
    tmp_path: Path, damage: Callable[[Path], None], complaint: str
) -> None:
    out, made = write(tmp_path)
    damage(out)
    with pytest.raises(ContentError, match=rf"tiny_1\.tar.*{complaint}") as caught:
        check_structure(out, made)
    assert caught.value.hint is not None


def test_another_well_formed_archive_is_not_the_signed_one(tmp_path: Path) -> None:
    _, made = write(tmp_path / "one")
    for number, files in enumerate(
        (
            {**FILES, "config.json": b"[]", "confih.json": b""},
            {("confix.json" if path == "config.json" else path): FILES[path] for path in FILES},
            {**FILES, "tokenizer/vocab.txt": b"1", "tokenizer/naïve.txt": b"x" * 511},
        )
    ):
        out, other = write(tmp_path / f"other{number}", files)
        with pytest.raises(ContentError, match=r"tiny_1\.tar"):
            check_structure(out, made)
        if other.size == made.size:
            with pytest.raises(ContentError, match=r"expected file tiny/.*, got file tiny/"):
                check_structure(out, made)


def test_an_archive_of_another_time_is_not_the_signed_one(tmp_path: Path) -> None:
    _, made = write(tmp_path / "one")
    files = sources(tmp_path / "sources", FILES)
    out = tmp_path / "tiny_1.tar"
    write_checkpoint(out, name="tiny_1", root="tiny", sources=files, mtime=MTIME + 1, expected=None)
    with pytest.raises(ContentError, match="headers and padding"):
        check_structure(out, made)


def test_a_truncated_archive_has_a_fault_for_every_part_that_is_gone(tmp_path: Path) -> None:
    out, made = write(tmp_path)
    cut = made.files[1].offset + 100
    os.truncate(out, cut)
    faults = check_parts(out, made)
    assert [fault.path for fault in faults] == [file.path for file in made.files[1:]]
    assert faults[0].got == f"an archive that ends at {cut}"


def test_some_files_can_be_checked_alone(tmp_path: Path) -> None:
    out, made = write(tmp_path)
    flip(out, made.files[0].offset)
    flip(out, made.files[1].offset)
    assert check_parts(out, made, files=["tokenizer/vocab.txt"]) == []
    assert [f.path for f in check_parts(out, made, files={"config.json"})] == ["config.json"]
    assert len(check_parts(out, made)) == 2


def test_a_link_is_not_read_as_an_archive(tmp_path: Path) -> None:
    out, made = write(tmp_path)
    link = tmp_path / "link.tar"
    link.symlink_to(out)
    for check in (check_structure, check_parts):
        with pytest.raises(MalformedError, match="got a symbolic link"):
            check(link, made)


def test_memory_does_not_grow_with_the_archive(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from bundler.archive.checkpoint import SourceFile, check_parts, write_checkpoint\n"
        "real, out = Path(sys.argv[1]), Path(sys.argv[2])\n"
        "made = write_checkpoint(out, name='a', root='a', sources=[SourceFile('w', real)], mtime=1,"
        " expected=None)\n"
        "assert check_parts(out, made) == []\n"
        "status = Path('/proc/self/status').read_text()\n"
        "print(next(line for line in status.splitlines() if line.startswith('VmHWM')).split()[1])\n"
    )
    real = tmp_path / "weights"
    with real.open("wb") as file:
        file.truncate(300 * MIB)
    argv = [sys.executable, "-c", script, str(real), str(tmp_path / "a.tar")]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    assert int(done.stdout) < 60 << 10  # in KiB


def test_many_small_files_are_packed_too(tmp_path: Path) -> None:
    out, made = write(tmp_path, {f"f/{n:05}": b"%d" % n for n in range(1500)})
    assert len(made.files) == 1500
    assert made.digest == Digest.of(out.read_bytes())
    assert check_parts(out, made) == []
    check_structure(out, made)
