"""Checkpoints of any size that take no room: archives whose files are holes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from bundler.archive.tar import END, header, padding
from bundler.digest import Digest
from bundler.manifest import MANIFEST_NAME, Checkpoint, CheckpointFile
from bundler.manifest_codec import encode_manifest
from bundler.parts import part_size, spans
from tests.bench.checkpoints import ARCHIVE, MTIME, NAME, manifest_of

_NOT_HASHED = Digest.of(b"")
_ZEROS = bytes(1 << 20)


def write_sources(directory: Path, sizes: Mapping[str, int]) -> None:
    """Write files of zeros into a new directory."""
    directory.mkdir(parents=True)
    for name, size in sizes.items():
        with (directory / name).open("wb") as file:
            file.truncate(size)


def write_release(directory: Path, sizes: Mapping[str, int]) -> None:
    """Write an archive with files of zeros, and its manifest, into a new directory.

    The digests of parts, and of what is between files, are right; those of large files and of the
    archive are not, since nothing that is measured asks for them.
    """
    directory.mkdir(parents=True)
    frame, known, files = hashlib.sha256(), dict[int, Digest](), []
    with (directory / ARCHIVE).open("wb") as out:

        def put(content: bytes) -> None:
            frame.update(content)
            out.write(content)

        put(header(NAME, mtime=MTIME, directory=True))
        for path, size in sorted(sizes.items()):
            put(header(f"{NAME}/{path}", size=size, mtime=MTIME))
            files.append(_file(path, out.tell(), size, known))
            out.seek(size, 1)
            put(padding(size))
        put(END)
        end = out.tell()
    checkpoint = Checkpoint(
        name=NAME,
        root=NAME,
        size=end,
        digest=_NOT_HASHED,
        frame_digest=Digest(frame.hexdigest()),
        files=tuple(files),
    )
    (directory / MANIFEST_NAME).write_bytes(encode_manifest(manifest_of(checkpoint)))


def _file(path: str, offset: int, size: int, known: dict[int, Digest]) -> CheckpointFile:
    parts = []
    for span in spans(size, part_size(size)):
        if span.length not in known:
            known[span.length] = _digest_of_zeros(span.length)
        parts.append(known[span.length])
    digest = parts[0] if len(parts) == 1 else _NOT_HASHED
    return CheckpointFile(path=path, offset=offset, size=size, digest=digest, parts=tuple(parts))


def _digest_of_zeros(size: int) -> Digest:
    whole = hashlib.sha256()
    for begin in range(0, size, len(_ZEROS)):
        whole.update(_ZEROS[: size - begin])
    return Digest(whole.hexdigest())
