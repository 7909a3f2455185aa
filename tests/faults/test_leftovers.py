"""What a writer that was killed left goes; what another writer is at, or is none of ours, stays."""

from __future__ import annotations

from pathlib import Path

from bundler.archive.files import atomic_write, atomic_write_bytes


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / ".receipt.abcd_123.partial").write_bytes(b"half")
    atomic_write_bytes(tmp_path / "receipt", b"whole")
    assert names(tmp_path) == {"receipt"}


def test_what_another_writer_is_at_stays(tmp_path: Path) -> None:
    path = tmp_path / "receipt"
    with atomic_write(path) as file:
        file.write(b"first")
        atomic_write_bytes(path, b"second")
        assert len(names(tmp_path)) == 2
    assert path.read_bytes() == b"first"
    assert names(tmp_path) == {"receipt"}


def test_names_that_only_look_like_ours_stay(tmp_path: Path) -> None:
    others = {".receipt.partial", ".receipt.json.abcd_123.partial", "receipt.abcd_123.partial"}
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / ".receipt.dir_1234.partial").mkdir()
    (tmp_path / ".receipt.link1234.partial").symlink_to(tmp_path / ".receipt.partial")
    atomic_write_bytes(tmp_path / "receipt", b"whole")
    kept = {".receipt.dir_1234.partial", ".receipt.link1234.partial", "receipt"}
    assert names(tmp_path) == others | kept
