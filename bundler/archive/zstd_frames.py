"""The one door to zstd: frames, packed whole and unpacked a piece at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, BinaryIO, cast

from bundler.archive.reader import Reader, ReaderSlice
from bundler.errors import ContentError

if TYPE_CHECKING:
    from bundler.archive.zstd_volume import Frame

# Fast, and as small as higher levels for weights: a quarter less of BF16.
_LEVEL = 1
# Source: RFC 8878, section 3.1.1.1.2: what every decoder is advised to support, and no more.
_MAX_WINDOW_BYTES = 8 << 20
_HEAD_BYTES = 18
_READ_BYTES = 1 << 17
# Of streams that others packed. Source: zstd(1), --memory: windows up to 128 MiB by default.
_FOREIGN_WINDOW_BYTES, _FOREIGN_PIECE_BYTES = 128 << 20, 1 << 20


def pack(pieces: Iterable[memoryview], length: int) -> list[bytes]:
    """Make one frame of ``length`` plain bytes; it names that length and has a checksum."""
    import zstandard

    packing = zstandard.ZstdCompressor(
        level=_LEVEL, write_checksum=True, write_content_size=True
    ).compressobj(size=length)
    packed = [packing.compress(piece) for piece in pieces]
    return [chunk for chunk in (*packed, packing.flush()) if chunk]


def most_packed(length: int) -> int:
    """Say how long the frame of ``length`` plain bytes gets at most, whatever they are."""
    # Source: zstd.h, ZSTD_COMPRESSBOUND; it counts the header, and a checksum is 4 bytes more.
    return length + (length >> 8) + max(0, ((1 << 17) - length) >> 11) + 4


class FrameStream:
    """The plain bytes of one frame, from the first on; for one thread at a time.

    No more memory is used than a window of 8 MiB takes, whatever the frame says of itself.

    Attributes:
        position: Plain bytes given so far.

    Args:
        volume: What holds the frame.
        frame: Where it lies, and how much must come out of it.
        name: What to call the volume in an error.

    Raises:
        ContentError: It is not such a frame; so do the methods.
    """

    def __init__(self, volume: Reader, frame: Frame, name: str) -> None:
        import zstandard

        self.position = 0
        self._frame = frame
        self._name = name
        self._error: type[Exception] = zstandard.ZstdError
        head = volume.read_at(frame.offset, min(_HEAD_BYTES, frame.length))
        try:
            found = zstandard.get_frame_parameters(head)
        except zstandard.ZstdError as error:
            raise self._broken(str(error)) from error
        if found.content_size != frame.plain_length or found.dict_id:
            raise self._broken(f"it says that it holds {found.content_size} bytes")
        if found.window_size > _MAX_WINDOW_BYTES:
            raise self._broken(f"it asks for a window of {found.window_size} bytes")
        source = cast("BinaryIO", ReaderSlice(volume, frame.offset, frame.length))
        unpacking = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
        self._stream = unpacking.stream_reader(source, read_size=_READ_BYTES)

    def readinto(self, view: memoryview) -> None:
        """Fill a buffer with the next bytes; the frame must have as many."""
        while view:
            count = self._read(view)
            if not count:
                raise self._broken(f"it ends after {self.position} bytes")
            view = view[count:]
            self.position += count

    def skip(self, count: int) -> None:
        """Step over the next bytes."""
        for part in _portions(count):
            self.readinto(memoryview(bytearray(part)))

    def _read(self, view: memoryview) -> int:
        try:
            return self._stream.readinto(view)
        except self._error as error:
            raise self._broken(str(error)) from error

    def _broken(self, problem: str) -> ContentError:
        frame = self._frame
        return ContentError(
            f"{self._name} at offset {frame.offset}: expected a zstd frame of "
            f"{frame.plain_length} bytes, got another: {problem}",
            hint="copy the volume again from its source",
        )


def unpacked(source: BinaryIO) -> Iterator[memoryview]:
    """Unpack all frames of somebody else's stream, whatever they say of their length.

    A window of 128 MiB is the most memory that is used: what the zstd program itself takes unasked.
    A stream that is cut short ends there.

    Yields:
        The plain bytes in order, all in one buffer: each piece is good until the next is asked for.

    Raises:
        ValueError: It is not zstd, or asks for more memory.
    """
    import zstandard

    buffer = memoryview(bytearray(_FOREIGN_PIECE_BYTES))
    unpacking = zstandard.ZstdDecompressor(max_window_size=_FOREIGN_WINDOW_BYTES)
    stream = unpacking.stream_reader(source, read_size=_READ_BYTES, read_across_frames=True)
    try:
        while count := stream.readinto(buffer):
            yield buffer[:count]
    except zstandard.ZstdError as error:
        raise ValueError(f"not zstd: {error}") from error


def _portions(count: int) -> Iterator[int]:
    while count:
        yield min(count, _READ_BYTES)
        count -= min(count, _READ_BYTES)
