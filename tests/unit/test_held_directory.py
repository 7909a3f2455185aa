"""A directory that is held: no name below it, and no swap of one, leads anywhere else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bundler.archive.held_directory import HeldDirectory
from bundler.errors import BundleError, MalformedError
from bundler.fetch.locks import alone


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "place"


@pytest.fixture
def held(place: Path) -> Iterator[HeldDirectory]:
    place.mkdir()
    with alone(place) as directory:
        yield directory


def write(held: HeldDirectory, name: str, content: bytes) -> None:
    with held.writing(name, os.O_CREAT) as descriptor:
        os.write(descriptor, content)


def read(held: HeldDirectory, name: str) -> bytes:
    with held.reader(name) as reader:
        return reader.read_at(0, reader.size)


def test_files_are_made_read_renamed_linked_and_removed(held: HeldDirectory, place: Path) -> None:
    held.make_parents("a/b/one")
    held.make_parents("a/b/one")
    write(held, "a/b/one", b"content")
    held.rename("a/b/one", "two")
    assert (place / "a" / "b" / "two").read_bytes() == read(held, "a/b/two") == b"content"
    held.link("a/b/two", held, "three")
    held.sync_parents(["a/b/two", "three"])
    assert (place / "three").samefile(place / "a" / "b" / "two")
    status = held.status("three")
    assert status is not None
    assert status.st_nlink == 2
    held.remove("a/b/two")
    held.remove("a/b/two")
    assert held.status("a/b/two") is None


def test_what_is_held_stays_the_same_whatever_takes_its_name(
    held: HeldDirectory, place: Path, tmp_path: Path
) -> None:
    held.make_parents("a/one")
    place.rename(tmp_path / "moved")
    (tmp_path / "outside" / "a").mkdir(parents=True)
    place.symlink_to(tmp_path / "outside")
    write(held, "a/one", b"content")
    assert (tmp_path / "moved" / "a" / "one").read_bytes() == b"content"
    assert not list((tmp_path / "outside" / "a").iterdir())


STEPS: dict[str, Callable[[HeldDirectory], object]] = {
    "make": lambda held: held.make_parents("link/b/one"),
    "status": lambda held: held.status("link/one"),
    "read": lambda held: read(held, "link/one"),
    "write": lambda held: write(held, "link/new", b""),
    "rename": lambda held: held.rename("link/one", "two"),
    "remove": lambda held: held.remove("link/one"),
    "link": lambda held: held.link("link/one", held, "two"),
    "link to": lambda held: held.link("mine", held, "link/two"),
    "sync": lambda held: held.sync_parents(["link/one"]),
}


@pytest.mark.parametrize("step", STEPS)
def test_no_step_goes_through_a_link(
    held: HeldDirectory, place: Path, tmp_path: Path, step: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "one").write_bytes(b"mine")
    (place / "mine").write_bytes(b"")
    (place / "link").symlink_to(outside)
    with pytest.raises(MalformedError, match="link: expected a directory, got"):
        STEPS[step](held)
    assert [path.name for path in outside.iterdir()] == ["one"]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("other")])
def test_only_a_regular_file_is_written_to(
    held: HeldDirectory, place: Path, make: Callable[[Path], None]
) -> None:
    make(place / "one")
    with pytest.raises(BundleError, match="one: "), held.writing("one", os.O_CREAT):
        pass
    assert not (place / "other").exists()
