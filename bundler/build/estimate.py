"""What a build will take, told before it begins: room on the disk, bytes, time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bundler.archive.hashing import hashing_text
from bundler.build.checkpoint_archives import PreparedArchive
from bundler.build.images import PinnedImage, scratch_bytes
from bundler.sizes import size_text

# Of the guide, chart, scripts, manifest and sums, and of the archives' own headers.
_SMALL_FILES_BYTES = 32 << 20
# Digests of an archive, of a file in it, of a part or a slice of it.
_HASHES = 3
# An image's blobs are hashed as they come, as they are packed, and before they go into the bundle.
_IMAGE_HASHES = _HASHES + 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What is ahead, in bytes.

    Attributes:
        read: To read of the sources.
        hashed: To hash, each byte as often as it is.
        room: Disk that it takes at most, what is removed again included.
    """

    read: int
    hashed: int
    room: int

    def describe(self, bytes_per_second: float) -> str:
        """Tell it to people; the time is the least that hashing alone takes."""
        hashing = hashing_text(self.hashed / bytes_per_second)
        return f"{size_text(self.read)} to read, {size_text(self.room)} of disk to work in{hashing}"


def estimate_build(archives: Sequence[PreparedArchive], images: Sequence[PinnedImage]) -> Estimate:
    """Add up what was looked at."""
    bundled = sum(image.bundle_bytes for image in images)
    unread = sum(item.source.content_bytes for item in archives if item.known is None)
    written = sum(item.bytes_to_write for item in archives)
    return Estimate(
        read=bundled + unread,
        hashed=_IMAGE_HASHES * bundled + _HASHES * unread,
        room=scratch_bytes(images) + bundled + written + _SMALL_FILES_BYTES,
    )
