"""An object read by position: how many downloads, what is kept, and what it says when it ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from bundler.archive.remote_reader import RemoteReader
from bundler.errors import ContentError, WorldError
from bundler.parts import MIB
from bundler.remote_object import RemoteObject
from bundler.stores.s3_copy import same_side
from tests.small_release import noise

CONTENT = noise(3 * MIB + 777, 5)


@dataclass
class Server:
    """Holds one object, and remembers which ranges were asked for."""

    asked: list[tuple[int, int]] = field(default_factory=list)
    fails_after: int | None = None

    def read(self, offset: int, length: int) -> Iterator[bytes]:
        self.asked.append((offset, length))
        for at in range(offset, offset + length, 100_000):
            if self.fails_after is not None and at >= self.fails_after:
                raise WorldError("the server is gone")
            yield CONTENT[at : min(at + 100_000, offset + length)]

    def reader(self) -> RemoteReader:
        return RemoteReader(
            RemoteObject(
                server="http://s3",
                bucket="b",
                key="p/a.tar",
                size=len(CONTENT),
                etag='"1"',
                read=self.read,
            )
        )


@pytest.fixture
def server() -> Server:
    return Server()


def test_a_range_is_one_download(server: Server) -> None:
    with server.reader() as reader:
        assert b"".join(map(bytes, reader.pieces(5, 3 * MIB))) == CONTENT[5 : 5 + 3 * MIB]
    assert server.asked == [(5, 3 * MIB)]


def test_reads_within_an_announced_range_go_on_with_its_download(server: Server) -> None:
    with server.reader() as reader, reader.drop_behind(1000, 2 * MIB):
        assert reader.read_at(1000, 5) == CONTENT[1000:1005]
        assert reader.read_at(41_000, 200_000) == CONTENT[41_000:241_000]
        assert server.asked == [(1000, 2 * MIB)]
        # Backwards, far ahead, or past its end is another read.
        assert reader.read_at(1000, 5) == CONTENT[1000:1005]
        assert reader.read_at(2 * MIB, 100_000) == CONTENT[2 * MIB : 2 * MIB + 100_000]
        assert reader.read_at(241_000, 50) == CONTENT[241_000:241_050]
    assert server.asked == [(1000, 2 * MIB), (0, 16 << 10), (2 * MIB, 100_000)]


def test_two_ranges_at_once_do_not_disturb_each_other(server: Server) -> None:
    with server.reader() as reader:
        first, second = reader.pieces(0, 2 * MIB), reader.pieces(MIB, 2 * MIB)
        got = [(bytes(a), bytes(b)) for a, b in zip(first, second, strict=True)]
    assert b"".join(a for a, _ in got) == CONTENT[: 2 * MIB]
    assert b"".join(b for _, b in got) == CONTENT[MIB : 3 * MIB]
    assert server.asked == [(0, 2 * MIB), (MIB, 2 * MIB)]


def test_another_thread_has_downloads_of_its_own(server: Server) -> None:
    got: list[bytes] = []
    with server.reader() as reader, reader.drop_behind(0, 2 * MIB):
        reader.read_at(0, 50_000)
        thread = threading.Thread(target=lambda: got.append(reader.read_at(50_000, 50_000)))
        thread.start()
        thread.join()
        assert reader.read_at(50_000, 50_000) == got[0] == CONTENT[50_000:100_000]
    assert server.asked == [(0, 2 * MIB), (50_000, 50_000)]


def test_small_reads_are_kept(server: Server) -> None:
    with server.reader() as reader:
        for offset in range(0, 100_000, 512):
            assert reader.read_at(offset, 512) == CONTENT[offset : offset + 512]
        assert len(server.asked) == 7
        assert b"".join(map(bytes, reader.pieces(16_000, 1000))) == CONTENT[16_000:17_000]
        assert reader.read_at(len(CONTENT) - 3, 3) == CONTENT[-3:]
    assert len(server.asked) == 8


def test_what_lies_beyond_the_end_is_told_and_not_asked_for(server: Server) -> None:
    beyond = pytest.raises(ContentError, match=rf"a\.tar: expected {len(CONTENT) + 10} bytes")
    with server.reader() as reader, reader.drop_behind(len(CONTENT) - 10, 20), beyond:
        reader.read_at(len(CONTENT) - 10, 20)
    assert server.asked == []


def test_after_a_failure_a_range_is_asked_for_from_where_it_stands(server: Server) -> None:
    server.fails_after = 300_000
    with server.reader() as reader, reader.drop_behind(0, 2 * MIB):
        reader.read_at(0, 200_000)
        with pytest.raises(WorldError):
            reader.read_at(200_000, 200_000)
        server.fails_after = None
        assert reader.read_at(200_000, 200_000) == CONTENT[200_000:400_000]


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("http://10.0.0.1:9000", "http://10.0.0.1:9000/", True),
        ("http://10.0.0.1:9000", "http://10.0.0.1:9001", False),
        ("https://s3.eu-west-1.amazonaws.com", "https://s3.us-east-1.amazonaws.com", True),
        ("https://s3.eu-west-1.amazonaws.com", "https://amazonaws-like.example.com", False),
    ],
)
def test_servers_that_may_copy_from_one_another(left: str, right: str, same: bool) -> None:
    assert same_side(left, right) is same
