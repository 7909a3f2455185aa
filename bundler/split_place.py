"""Where the volumes of an archive lie until all of them are there: a directory beside their names.

It is gone when they have their names. A run that was stopped leaves it for the next one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from bundler.archive.cutting import volume_file
from bundler.archive.trouble import blaming
from bundler.archive.volume_names import Split, parse_volume_name
from bundler.errors import ContentError
from bundler.fetch.locks import alone


def work_directory(out: Path, archive: str) -> Path:
    """Say where the volumes of an archive, by its file name, lie until they have their names."""
    return out / f".{archive}.split"


@contextmanager
def working(out: Path, archive: str) -> Iterator[Path]:
    """Hold the directory to cut an archive in, with what earlier runs did; it is gone in the end.

    Where the disk fails or somebody stops us, what is done stays in it for the next run; where the
    archive is damaged, only what an earlier run had left.

    Raises:
        WorldError: Another run holds it, or the file system refuses.
    """
    work, fresh = work_directory(out, archive), False
    with blaming(work):
        work.mkdir(exist_ok=True)
    with alone(work, "split"):
        try:
            _gather(out, archive, work)
            fresh = not any(work.iterdir())
            yield work
        except BaseException as error:
            if fresh and isinstance(error, ContentError):
                _remove(work)
            with suppress(OSError):  # it is not empty, or gone
                work.rmdir()
            raise
        _remove(work)


def name_volumes(out: Path, split: Split, paths: Sequence[Path]) -> None:
    """Give the volumes of an archive their names."""
    for number, path in enumerate(paths, 1):
        with blaming(path):
            path.replace(out / str(split.volume(number)))


def remove_remains(out: Path, archive: str) -> None:
    """Remove what a run that was stopped left, of an archive of which no volume has its name."""
    work = work_directory(out, archive)
    if work.is_dir():
        with alone(work, "split"):
            _remove(work)


def _gather(out: Path, archive: str, work: Path) -> None:
    """Take back what a run that was stopped while it named its volumes had named already."""
    for path in out.iterdir():
        name = parse_volume_name(path.name)
        if name is not None and name.archive == archive:
            with blaming(path):
                path.replace(work / volume_file(name.number))
    for path in work.glob(".*.partial"):
        with suppress(OSError):
            path.unlink()


def _remove(work: Path) -> None:
    with blaming(work):
        for path in work.iterdir():
            path.unlink()
        work.rmdir()
