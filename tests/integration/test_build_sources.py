"""Where a checkpoint may come from: a directory, files one by one, an archive that is there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from bundler.archive.checkpoint import check_parts, check_structure
from bundler.build import lock_release
from bundler.digest import Digest
from bundler.errors import BundleError, ContentError, MalformedError
from bundler.events import Event, Noted
from bundler.lockfile import lock_path, read_lock
from bundler.tools.helm import Helm
from bundler.tools.skopeo import Skopeo
from tests.integration.building import NAME, build, content, refused, sh, spec_path, tools
from tests.integration.release_inputs import load_spec

__all__ = ["spec_path", "tools"]


def take_from(spec_path: Path, **fields: object) -> None:
    """Let the first checkpoint of a spec, whose root is ``one``, come from somewhere else."""
    spec = yaml.safe_load(spec_path.read_text())
    spec["checkpoints"][0] = {"name": "one_1", "root": "one", **fields}
    spec_path.write_text(yaml.safe_dump(spec, sort_keys=False))


@pytest.fixture
def given(spec_path: Path, tmp_path: Path) -> Path:
    """An archive that an earlier build made, beside the spec."""
    first = build(spec_path, tmp_path / "earlier", lock_file=tmp_path / "earlier.lock.json")
    path = spec_path.parent / "given.tar"
    shutil.copy(first.directory / "one_1.tar", path)
    return path


def test_files_that_are_listed_give_the_archive_that_their_directory_gives(
    spec_path: Path, tmp_path: Path
) -> None:
    first = build(spec_path, tmp_path / "first", lock_file=tmp_path / "first.lock.json")
    models = spec_path.parent / "models"
    shutil.move(models / "one" / "model.safetensors", models / "weights-of-today")
    take_from(
        spec_path,
        files=[
            {"source": "models/weights-of-today", "path": "model.safetensors"},
            {"source": "models/one/config.json"},
            {"source": "models/one/tokenizer/tokenizer.json", "path": "tokenizer/tokenizer.json"},
        ],
    )
    again = build(spec_path, tmp_path / "again")
    assert content(again.directory) == content(first.directory)
    assert again.lock == first.lock


@pytest.mark.parametrize(
    ("files", "kind", "problem"),
    [
        (
            [{"source": "models/absent"}],
            MalformedError,
            "absent: expected a file, found none",
        ),
        ([{"source": "models/one"}], MalformedError, "models/one: expected a file"),
        ([{"source": "hello.sh"}], MalformedError, "hello.sh: expected no program"),
        ([{"source": "models/one/config.json"}], MalformedError, "in the files listed, got none"),
    ],
)
def test_listed_files_are_held_to_the_rules_of_checkpoints(
    files: list[dict[str, str]],
    kind: type[BundleError],
    problem: str,
    spec_path: Path,
    tmp_path: Path,
) -> None:
    take_from(spec_path, files=files)
    assert problem in str(refused(spec_path, tmp_path / "out", kind))


def test_an_archive_is_taken_over_as_it_is(given: Path, spec_path: Path, tmp_path: Path) -> None:
    before, status = given.read_bytes(), given.stat()
    take_from(spec_path, archive="given.tar")
    events: list[Event] = []
    built = build(spec_path, tmp_path / "out", emit=events.append)
    archive = built.directory / "one_1.tar"
    assert archive.read_bytes() == before == given.read_bytes()
    assert not archive.samefile(given)
    assert given.stat().st_mtime_ns == status.st_mtime_ns
    sh("sha256sum --strict --quiet -c SHA256SUMS", built.directory)
    checkpoint = built.manifest.checkpoint("one_1")
    check_structure(archive, checkpoint)
    assert check_parts(archive, checkpoint) == []
    assert any(str(given) in event.text for event in events if isinstance(event, Noted))
    assert built.lock.checkpoint("one_1").archive == Digest.of(before)
    assert read_lock(lock_path(spec_path)) == built.lock


def test_an_archive_that_nobody_may_write_to_takes_no_second_place(
    given: Path, spec_path: Path, tmp_path: Path
) -> None:
    given.chmod(0o444)
    take_from(spec_path, archive="given.tar")
    built = build(spec_path, tmp_path / "out")
    linked = (built.directory / "one_1.tar").samefile(given)
    assert linked or given.stat().st_nlink == 1  # a clone, where the file system makes one
    sh("sha256sum --strict --quiet -c SHA256SUMS", built.directory)
    shutil.rmtree(built.directory)
    assert Digest.of(given.read_bytes()) == built.manifest.checkpoint("one_1").digest


def test_a_lock_pins_the_archive_itself(given: Path, spec_path: Path, tmp_path: Path) -> None:
    take_from(spec_path, archive="given.tar")
    spec = load_spec(spec_path)
    lock = lock_release(spec_path, spec, images=Skopeo(), charts=Helm())
    assert lock == build(spec_path, tmp_path / "first").lock
    # The same files, written at another time of the release: another archive.
    take_from(spec_path, source="models/one")
    text = spec_path.read_text()
    spec_path.write_text(text.replace("2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z"))
    other = build(spec_path, tmp_path / "other", lock_file=tmp_path / "other.lock.json")
    shutil.copy(other.directory / "one_1.tar", given)
    spec_path.write_text(text)
    take_from(spec_path, archive="given.tar")
    error = refused(spec_path, tmp_path / "out", ContentError, lock)
    assert str(error).startswith("checkpoint one_1: one_1.tar: expected sha256:")


def test_a_lock_of_files_is_not_one_of_an_archive(
    given: Path, spec_path: Path, tmp_path: Path
) -> None:
    lock = build(spec_path, tmp_path / "first").lock
    take_from(spec_path, archive="given.tar")
    error = refused(spec_path, tmp_path / "out", MalformedError, lock)
    assert "checkpoint one_1: spec says an archive, lock says files" in str(error)


def rotten(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:600] + b"\1" + content[601:])


def pickled(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content.replace(b'{"model_type": "test"}', b"\x80\x04" + b" " * 20))


def torn(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1024)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (torn, "without its two zero blocks"),
        (rotten, "header checksum is wrong"),
        (pickled, "config.json: expected no pickle"),
        (Path.unlink, "expected a file, found none"),
    ],
)
def test_an_archive_that_is_not_safe_is_refused_with_the_reason(
    damage: Callable[[Path], None], problem: str, given: Path, spec_path: Path, tmp_path: Path
) -> None:
    take_from(spec_path, archive="given.tar")
    damage(given)
    assert problem in str(refused(spec_path, tmp_path / "out", MalformedError))
    assert NAME not in str(list(tmp_path.iterdir()))
