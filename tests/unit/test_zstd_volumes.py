"""Compressed volumes that were made to do harm; what they may cost is bounded."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import zstandard

from bundler.archive.volumes import find_volumes, open_place
from bundler.archive.zstd_frames import most_packed, pack
from bundler.archive.zstd_reader import ZstdReader
from bundler.archive.zstd_volume import FRAME_BYTES, encode_header, encode_index
from bundler.digest import Digest
from bundler.errors import BundleError, ContentError

PLAIN = os.urandom(3000) + bytes(3_000_000)
DIGEST = Digest.of(PLAIN)
CUTS = (0, 1000, 1_000_000, len(PLAIN))
PIECES = [PLAIN[a:b] for a, b in pairwise(CUTS)]


def frame(plain: bytes, **options: object) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True, **options).compress(plain)  # type: ignore[arg-type]


def volume(
    path: Path,
    frames: list[bytes],
    sizes: list[tuple[int, int]] | None = None,
    *,
    number: int = 1,
    offset: int = 0,
    tail: bytes | None = None,
) -> Path:
    if sizes is None:
        sizes = [(len(f), len(p)) for f, p in zip(frames, PIECES, strict=True)]
    index = encode_index(sizes) if tail is None else tail
    path.write_bytes(encode_header(number, offset, DIGEST) + b"".join(frames) + index)
    return path


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return volume(tmp_path / "a.tar.001-of-001.zst", list(map(frame, PIECES)))


def test_every_range_is_reached(good: Path) -> None:
    rng = random.Random(1)
    with ZstdReader(good) as reader:
        assert reader.size == len(PLAIN)
        assert b"".join(map(bytes, reader.pieces(0, len(PLAIN)))) == PLAIN
        for _ in range(50):
            begin = rng.randrange(len(PLAIN))
            length = rng.randrange(min(10_000, len(PLAIN) - begin) + 1)
            assert reader.read_at(begin, length) == PLAIN[begin : begin + length]
        with pytest.raises(ContentError, match="more than"):
            reader.read_at(len(PLAIN) - 1, 2)


def test_reading_on_unpacks_nothing_twice(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    real = zstandard.ZstdDecompressor

    def counted(max_window_size: int) -> zstandard.ZstdDecompressor:
        made.append(1)
        return real(max_window_size=max_window_size)

    monkeypatch.setattr(zstandard, "ZstdDecompressor", counted)
    with ZstdReader(good) as reader:
        for offset in range(0, len(PLAIN), 1000):
            reader.read_at(offset, 1000)
    assert len(made) == len(PIECES)


def test_stock_zstd_gives_the_plain_bytes(good: Path, need: object) -> None:
    assert need("zstd")  # type: ignore[operator]
    done = subprocess.run(["zstd", "-dc", "--no-progress", good], capture_output=True, check=True)
    assert done.stdout == PLAIN
    subprocess.run(["zstd", "-tq", good], check=True)


@pytest.mark.parametrize("seed", range(30))
def test_a_flipped_byte_never_goes_unnoticed_and_never_breaks_us(good: Path, seed: int) -> None:
    content = bytearray(good.read_bytes())
    place = random.Random(seed).randrange(len(content))
    content[place] ^= 1 + seed
    good.write_bytes(content)
    try:
        found = find_volumes("a.tar", len(PLAIN), DIGEST, [good.parent])
        assert found is not None
        with open_place(found) as reader:
            read = b"".join(map(bytes, reader.pieces(0, reader.size)))
    except ContentError:
        return
    # The checksum at a frame's end is its last four bytes; a flipped one is noticed as well.
    assert read == PLAIN


@pytest.mark.parametrize("length", [1, 255, 256, 1000, 1 << 17, (1 << 17) + 1, 5_000_001])
def test_how_long_a_frame_gets_at_most_is_known_before(length: int) -> None:
    frame = pack([memoryview(os.urandom(length))], length)
    assert length < sum(map(len, frame)) <= most_packed(length) < length * 1.004 + 600


@pytest.mark.parametrize("length", [0, 10, 59, 60, 100, -1, -9, -17, -30])
def test_a_volume_that_is_cut_short_is_refused(good: Path, length: int) -> None:
    size = good.stat().st_size
    os.truncate(good, length if length >= 0 else size + length)
    with pytest.raises(ContentError, match="cut short or damaged"):
        ZstdReader(good)


def read_all(path: Path) -> bytes:
    with ZstdReader(path) as reader:
        return b"".join(map(bytes, reader.pieces(0, reader.size)))


def test_a_frame_that_holds_less_or_more_than_the_index_says_is_refused(tmp_path: Path) -> None:
    for wrong in (len(PIECES[0]) - 1, len(PIECES[0]) + 1):
        one = frame(PIECES[0])
        path = volume(tmp_path / "a", [one], [(len(one), wrong)])
        with pytest.raises(ContentError, match="at offset 68: expected a zstd frame"):
            read_all(path)


def test_a_wrong_checksum_is_refused_as_stock_zstd_does(good: Path) -> None:
    content = bytearray(good.read_bytes())
    content[68 + len(frame(PIECES[0])) - 1] ^= 1
    good.write_bytes(content)
    with pytest.raises(ContentError, match="at offset 68: expected a zstd frame"):
        read_all(good)


def test_a_frame_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    one = bytearray(frame(bytes(100_000), level=1))
    parameters = zstandard.get_frame_parameters(bytes(one))
    assert parameters.content_size == 100_000
    at = bytes(one).index(struct.pack("<I", 100_000))
    for said in (99_999, 100_001, 60_000_000):
        one[at : at + 4] = struct.pack("<I", said)
        path = volume(tmp_path / "a", [bytes(one)], [(len(one), said)])
        with pytest.raises(ContentError, match="expected a zstd frame"):
            read_all(path)


def test_a_bomb_costs_no_memory(tmp_path: Path) -> None:
    # 60 MiB that say that they are 100 bytes, and 60 MiB of zeros that are what they say.
    bomb = frame(bytes(60 << 20))
    path = volume(tmp_path / "a", [bomb], [(len(bomb), 100)])
    with pytest.raises(ContentError, match="says that it holds 62914560"):
        read_all(path)
    honest = volume(tmp_path / "b", [bomb], [(len(bomb), 60 << 20)])
    script = (
        "import resource, sys; from pathlib import Path\n"
        "from bundler.archive.zstd_reader import ZstdReader; import zstandard\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "with ZstdReader(Path(sys.argv[1])) as reader:\n"
        "    count = sum(map(len, reader.pieces(0, reader.size)))\n"
        "print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, honest], capture_output=True, text=True, check=True
    )
    count, kilobytes = map(int, done.stdout.split())
    assert count == 60 << 20
    assert kilobytes < 24_000


def test_a_window_over_8_mib_is_refused(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, write_checksum=True)
    plain = os.urandom(1000) + bytes(20 << 20)
    packing = zstandard.ZstdCompressor(compression_params=parameters)
    one = packing.compress(plain)
    path = volume(tmp_path / "a", [one], [(len(one), len(plain))])
    with pytest.raises(ContentError, match="asks for a window of"):
        read_all(path)


def test_a_frame_that_needs_a_dictionary_is_refused(tmp_path: Path) -> None:
    samples: list[bytes | bytearray | memoryview] = [os.urandom(20) * 20 for _ in range(200)]
    dictionary = zstandard.train_dictionary(4096, samples)
    one = zstandard.ZstdCompressor(dict_data=dictionary).compress(PIECES[0])
    path = volume(tmp_path / "a", [one], [(len(one), len(PIECES[0]))])
    with pytest.raises(ContentError, match="expected a zstd frame"):
        read_all(path)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([], "an index at its end"),
        ([(10, 0)], "an index of"),
        ([(0, 10)], "an index of"),
        ([(1 << 31, 10)], "an index of"),
        ([(10, FRAME_BYTES + 1)], "frames of at most"),
    ],
)
def test_an_index_that_cannot_be_is_refused(
    tmp_path: Path, sizes: list[tuple[int, int]], message: str
) -> None:
    path = volume(tmp_path / "a", [b"x" * 20], sizes)
    with pytest.raises(ContentError, match=message):
        ZstdReader(path)


def test_an_index_that_says_it_is_huge_is_not_read(tmp_path: Path) -> None:
    footer = struct.pack("<IBI", 0xFFFFFFFF, 0, 0x8F92EAB1)
    path = volume(tmp_path / "a", [bytes(1000)], [], tail=footer)
    with pytest.raises(ContentError, match="an index at its end"):
        ZstdReader(path)
    few = struct.pack("<IBI", 3_000_000, 0, 0x8F92EAB1)
    path = volume(tmp_path / "a", [bytes(1000)], [], tail=few)
    with pytest.raises(ContentError, match="an index of 3000000 frames"):
        ZstdReader(path)


def test_frames_named_in_another_order_are_refused(tmp_path: Path) -> None:
    frames = list(map(frame, PIECES))
    sizes = [(len(f), len(p)) for f, p in zip(frames, PIECES, strict=True)]
    path = volume(tmp_path / "a", frames, sizes[::-1])
    with pytest.raises(BundleError):
        read_all(path)


def test_volumes_of_another_archive_or_number_are_named(tmp_path: Path) -> None:
    one = frame(PLAIN[:1000])
    first = [(len(one), 1000)]
    volume(tmp_path / "a.tar.001-of-003.zst", [one], first)
    volume(tmp_path / "a.tar.002-of-003.zst", [one], first, number=3, offset=1000)
    found = find_volumes("a.tar", len(PLAIN), DIGEST, [tmp_path])
    assert found is not None
    assert [str(fault) for fault in found.faults] == [
        "a.tar, in a.tar.002-of-003.zst: expected a volume as it was cut, got volume 3",
        "a.tar, in a.tar.003-of-003.zst: expected a volume, got nothing",
    ]
    other = find_volumes("a.tar", len(PLAIN), Digest.of(b""), [tmp_path])
    assert other is not None
    assert "got a volume of another archive" in str(other.faults[0])


def test_volumes_that_do_not_meet_are_named(tmp_path: Path) -> None:
    one = frame(PLAIN[:1000])
    for number, offset in ((1, 0), (2, 1001), (3, 500)):
        volume(
            tmp_path / f"a.tar.00{number}-of-003.zst",
            [one],
            [(len(one), 1000)],
            number=number,
            offset=offset,
        )
    found = find_volumes("a.tar", len(PLAIN), DIGEST, [tmp_path])
    assert found is not None
    assert [fault.volume for fault in found.faults] == [
        "a.tar.002-of-003.zst",
        "a.tar.003-of-003.zst",
    ]
