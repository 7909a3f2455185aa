from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundler.archive.reader import ReaderSlice
from bundler.archive.volume_names import VolumeName, parse_volume_name
from bundler.archive.volumes import VolumeSet, find_volumes, locate, open_place
from bundler.digest import Digest
from bundler.errors import ContentError

CONTENT = os.urandom(100)
DIGEST = Digest.of(CONTENT)


def write(directory: Path, number: int, count: int, content: bytes) -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / str(VolumeName("a.tar", count, compressed=False, number=number))
    path.write_bytes(content)
    return path


def write_all(directory: Path, stride: int) -> list[Path]:
    count = -(-len(CONTENT) // stride)
    return [
        write(directory, n + 1, count, CONTENT[n * stride : (n + 1) * stride]) for n in range(count)
    ]


def find(*directories: Path) -> VolumeSet:
    found = find_volumes("a.tar", len(CONTENT), DIGEST, directories)
    assert found is not None
    return found


def problems(*directories: Path) -> list[str]:
    return [str(fault).removeprefix("a.tar, ") for fault in find(*directories).faults]


@pytest.mark.parametrize(
    "name",
    ["a.tar.000-of-003", "a.tar.004-of-003", "a.tar.1-of-3", "a.tar.001-of-003.gz", ".001-of-003"],
)
def test_other_names_are_no_volumes(name: str) -> None:
    assert parse_volume_name(name) is None


def test_names_sort_as_numbers_do() -> None:
    names = [VolumeName("a.tar", 999, compressed=False, number=n) for n in (2, 10, 100, 999)]
    assert sorted(map(str, names)) == list(map(str, names))
    assert [parse_volume_name(str(name)) for name in names] == names


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stride=st.integers(1, 120), begin=st.integers(0, 100), length=st.integers(0, 100))
def test_volumes_read_as_the_archive_would(
    tmp_path: Path, stride: int, begin: int, length: int
) -> None:
    directory = tmp_path / str(stride)
    write_all(directory, stride)
    end = min(begin + length, len(CONTENT))
    begin = min(begin, end)
    with open_place(find(directory)) as reader:
        assert reader.size == len(CONTENT)
        assert reader.read_at(begin, end - begin) == CONTENT[begin:end]
        assert b"".join(map(bytes, reader.pieces(begin, end - begin))) == CONTENT[begin:end]
        assert ReaderSlice(reader, begin, end - begin).read() == CONTENT[begin:end]
        first, second = bytearray(3), bytearray(max(0, end - begin - 3))
        if end - begin >= 3:
            reader.readv(begin, [memoryview(first), memoryview(bytearray()), memoryview(second)])
            assert first + second == CONTENT[begin:end]


def test_volumes_may_lie_in_several_places(tmp_path: Path) -> None:
    for path in write_all(tmp_path / "all", 30):
        other = tmp_path / path.name[-10:]
        other.mkdir()
        path.rename(other / path.name)
    places = sorted(tmp_path.iterdir())
    with open_place(find(*places, *places)) as reader:
        assert reader.read_at(0, 100) == CONTENT
        assert reader.carriers(29, 2) == "a.tar.001-of-004, a.tar.002-of-004"
        assert reader.carriers(30, 30) == "a.tar.002-of-004"


def test_a_whole_archive_goes_before_its_volumes(tmp_path: Path) -> None:
    write_all(tmp_path / "v", 30)
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "a.tar").write_bytes(CONTENT)
    places = [tmp_path / "v", tmp_path / "whole"]
    assert locate("a.tar", 100, DIGEST, places) == tmp_path / "whole" / "a.tar"
    assert locate("b.tar", 100, DIGEST, places) is None


def test_everything_that_is_wrong_with_a_set_is_told_at_once(tmp_path: Path) -> None:
    paths = write_all(tmp_path / "v", 10)
    write(tmp_path / "other", 4, 10, CONTENT[30:40])
    write(tmp_path / "v", 1, 2, CONTENT[:50])
    paths[1].unlink()
    os.truncate(paths[2], 7)
    paths[5].unlink()
    paths[5].symlink_to(paths[6])
    assert problems(tmp_path / "v", tmp_path / "other") == [
        f"in {paths[3].name}: expected one file of this name, got 2: {paths[3]}, "
        f"{tmp_path / 'other' / paths[3].name}",
        f"in {paths[5].name}: expected a file, got a symbolic link",
        f"at offset 10, in {paths[1].name}: expected 10 bytes, got nothing",
        f"at offset 20, in {paths[2].name}: expected 10 bytes, got 7 bytes",
        "in a.tar.001-of-002: expected a volume of 10, as most, got another split",
    ]
    with pytest.raises(ContentError, match=r"(?s)002-of-010.*003-of-010"):
        open_place(find(tmp_path / "v"))


@pytest.mark.parametrize("stride", [10, 40, 50, 96])
@pytest.mark.parametrize("cut", [1, 5])
def test_the_volume_that_is_cut_short_is_named_and_no_other(
    tmp_path: Path, stride: int, cut: int
) -> None:
    count = len(write_all(tmp_path / "whole", stride))
    for number in range(count):
        directory = tmp_path / f"cut-{number}"
        paths = write_all(directory, stride)
        if (size := paths[number].stat().st_size) <= cut:
            continue
        os.truncate(paths[number], size - cut)
        [line] = problems(directory)
        assert paths[number].name in line


def test_what_a_broken_set_holds_can_still_be_read(tmp_path: Path) -> None:
    paths = write_all(tmp_path / "v", 30)
    paths[1].unlink()
    with open_place(find(tmp_path / "v"), partly=True) as reader:
        assert reader.read_at(65, 35) == CONTENT[65:]
        assert reader.has(0, 30)
        assert not reader.has(0, 31)
        assert not reader.has(40, 5)
        assert not reader.has(95, 6)
        for offset in (30, 59, 100):
            with pytest.raises(ContentError, match=f"holds offset {offset}"):
                reader.read_at(offset, 1)


def test_a_volume_that_changes_before_it_is_opened_is_refused(tmp_path: Path) -> None:
    paths = write_all(tmp_path / "v", 30)
    found = find(tmp_path / "v")
    os.truncate(paths[1], 29)
    with pytest.raises(ContentError, match="002-of-004: expected 30 bytes, got 29"):
        open_place(found)
