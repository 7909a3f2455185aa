"""Holds what an archive contains against what its manifest says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest

from bundler.archive.tar import Member, with_directories
from bundler.errors import ContentError, MalformedError, printable
from bundler.manifest import BundleFile, CheckpointFile

COPY_HINT = "copy the archive again from the source"


def compare_members(
    members: Iterator[Member],
    files: Mapping[str, CheckpointFile | BundleFile],
    *,
    archive: str,
) -> None:
    """Demand these files, the directories above them, and nothing else.

    Args:
        members: As ``walk`` gives them.
        files: By path in the archive.
        archive: What to call it in an error.

    Raises:
        ContentError: Names the first member that is missing, extra or another.
        MalformedError: No archive can hold these files.
    """
    try:
        expected = with_directories(files)
    except ValueError as error:
        raise MalformedError(f"{archive}: {printable(str(error))}") from error
    for entry, member in zip_longest(expected, members):
        wanted, got = "the end", "the end"
        if entry is not None:
            wanted = _describe(entry[0], files.get(entry[0]))
        if member is not None:
            got = _describe(member.path, None if member.directory else member)
        if wanted != got:
            where = "" if member is None else f" at offset {member.offset}"
            raise ContentError(f"{archive}{where}: expected {wanted}, got {got}", hint=COPY_HINT)


def _describe(path: str, file: CheckpointFile | BundleFile | Member | None) -> str:
    if file is None:
        return f"directory {printable(path)}"
    executable = not isinstance(file, CheckpointFile) and file.executable
    kind = "executable" if executable else "file"
    return f"{kind} {printable(path)} of {file.size} bytes from {file.offset}"
