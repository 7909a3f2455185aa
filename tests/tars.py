"""Small archives in our tar dialect, of any content."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from bundler.archive.tar import END, header, padding, with_directories

MTIME = 1_793_491_200


def tar_of(files: Mapping[str, bytes], *, executable: Collection[str] = ()) -> bytes:
    """Give the archive of these files, by path, and of the directories above them."""
    archive = bytearray()
    for path, directory in with_directories(files):
        content = files.get(path, b"")
        archive += header(
            path,
            size=len(content),
            mtime=MTIME,
            directory=directory,
            executable=path in executable,
        )
        archive += content + padding(len(content))
    return bytes(archive + END)
