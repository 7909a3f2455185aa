"""The one tar dialect that we write, and a reader that takes no other.

FORMAT.md, section "Tar", is its description: ustar, PAX where ustar cannot hold a name or a size,
sorted, owner 0, modes 0644 and 0755, one time, every directory present, two zero blocks at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NoReturn

from bundler.archive.ustar import (
    MAX_PAX_BYTES,
    OCTAL_LIMIT,
    read_block,
    shortened_name,
    split_name,
    write_block,
    write_records,
)
from bundler.errors import MalformedError, printable
from bundler.manifest import require_unique
from bundler.reference import folded, relative_path
from bundler.tar_header import BLOCK as BLOCK
from bundler.tar_header import DIRECTORY, FILE, PAX, Extended, Header

END = bytes(2 * BLOCK)
MAX_MEMBERS = 1_000_000
ReadAt = Callable[[int, int], bytes]

_PAX_NAME = (b"", b"././@PaxHeader")
PLAIN_MODE, EXECUTABLE_MODE = 0o644, 0o755


@dataclass(frozen=True, slots=True)
class Member:
    """One file or directory of an archive.

    Attributes:
        path: From the archive's top, with no slash at its end.
        size: Bytes of data; 0 for a directory.
        offset: Where the data starts in the archive.
    """

    path: str
    size: int
    offset: int
    directory: bool
    executable: bool


def header(
    path: str, *, size: int = 0, mtime: int, directory: bool = False, executable: bool = False
) -> bytes:
    """Give the blocks that stand before a member's data.

    Args:
        path: Relative, with no slash at its end.
        size: Bytes of data that follow; 0 for a directory.
        mtime: Seconds since 1970.
        directory: Whether it is one.
        executable: Whether a file's mode is 0755 rather than 0644.

    Returns:
        512 bytes, or 1536 or more where a PAX header goes first.

    Raises:
        ValueError: ``size`` or ``mtime`` is out of range.
    """
    if size < 0 or not 0 <= mtime < OCTAL_LIMIT:
        raise ValueError(f"{path}: size {size} or time {mtime} is out of range")
    written = f"{path}/" if directory else path
    name = split_name(written.encode())
    records = {"path": written} if name is None else {}
    if size >= OCTAL_LIMIT:
        records["size"] = str(size)
    own = write_block(
        name or shortened_name(written.encode()),
        mode=EXECUTABLE_MODE if directory or executable else PLAIN_MODE,
        size=0 if "size" in records else size,
        mtime=mtime,
        kind=DIRECTORY if directory else FILE,
    )
    if not records:
        return own
    pax = write_records(records)
    first = write_block(_PAX_NAME, mode=PLAIN_MODE, size=len(pax), mtime=mtime, kind=PAX)
    return first + pax + padding(len(pax)) + own


def padding(size: int) -> bytes:
    """Give the zeros that fill the last block of ``size`` bytes of data."""
    return bytes(-size % BLOCK)


def with_directories(paths: Iterable[str]) -> list[tuple[str, bool]]:
    """Add every directory above these files.

    Returns:
        Path and whether it is a directory, in the order of an archive: by the bytes of the path,
        so that a directory stands before what it holds.

    Raises:
        ValueError: A path is malformed, two are one where case does not matter, or a file is a
            directory too.
    """
    files = list(paths)
    require_unique("path", files)
    entries = dict.fromkeys(files, False)
    for path in files:
        check_path(path)
        parts = path.split("/")
        entries.update(("/".join(parts[:n]), True) for n in range(1, len(parts)))
    require_unique("path", entries)
    for path in files:
        if entries[path]:
            raise ValueError(f"path {path!r} is a file and a directory")
    return sorted(entries.items(), key=lambda entry: entry[0].encode())


def check_path(path: str) -> None:
    """Hold the path of a member to the rules of ``relative_path``, counted below its first name.

    Raises:
        ValueError: It breaks one.
    """
    root, slash, below = path.partition("/")
    relative_path(root)
    if slash:
        relative_path(below)


def walk(read_at: ReadAt, size: int, *, name: str) -> Iterator[Member]:
    """Read the headers of an archive of ours, in order; data is stepped over.

    Args:
        read_at: Gives exactly as many bytes as asked for, from an offset.
        size: Bytes of the whole archive.
        name: What to call it in an error.

    Raises:
        MalformedError: Anything is not as ``header`` writes it; names member and offset.
    """
    return _Walk(read_at, size, name).members()


class _Walk:
    def __init__(self, read_at: ReadAt, size: int, name: str) -> None:
        self._read_at = read_at
        self._size = size
        self._name = name
        self._offset = 0
        self._last = b""
        self._seen: set[str] = set()
        self._directories = {""}
        self._mtime: int | None = None

    def members(self) -> Iterator[Member]:
        while (member := self._next()) is not None:
            yield member
            self._offset += member.size
            if any(self._take(-member.size % BLOCK)):
                self._refuse(member.offset + member.size, "padding is not zero", member.path)

    def _next(self) -> Member | None:
        start = self._offset
        block = self._take(BLOCK)
        if not any(block):
            self._check_end()
            return None
        try:
            member, taken = self._member(block)
            self._check_spelling(member, taken)
            self._check_place(member)
        except ValueError as error:
            self._refuse(start, str(error))
        if self._offset + member.size > self._size:
            self._refuse(start, f"its {member.size} bytes run past the archive's end", member.path)
        return member

    def _member(self, block: bytes) -> tuple[Member, bytes]:
        taken, extended = block, Extended()
        found = read_block(block)
        if found.kind == PAX:
            if found.size > MAX_PAX_BYTES:
                raise ValueError(f"PAX header of {found.size} bytes, expected {MAX_PAX_BYTES}")
            body = self._take(found.size + -found.size % BLOCK)
            extended.add(PAX, body[: found.size])
            if others := extended.records.keys() - {b"path", b"size"}:
                raise ValueError(f"expected a PAX path or size, got {min(others)[:80]!r}")
            block = self._take(BLOCK)
            taken += body + block
            found = read_block(block)
        if self._mtime is None:
            self._mtime = found.mtime
        return self._described(found, extended), taken

    def _described(self, found: Header, extended: Extended) -> Member:
        path = extended.records.get(b"path", found.path).decode("utf-8", "replace")
        directory = found.kind == DIRECTORY
        return Member(
            path=path.removesuffix("/") if directory else path,
            size=extended.size_of(found),
            offset=self._offset,
            directory=directory,
            executable=not directory and found.mode == EXECUTABLE_MODE,
        )

    def _check_spelling(self, member: Member, taken: bytes) -> None:
        check_path(member.path)
        if member.directory and member.size:
            raise ValueError(f"directory {member.path!r} has {member.size} bytes of data")
        expected = header(
            member.path,
            size=member.size,
            mtime=self._mtime or 0,
            directory=member.directory,
            executable=member.executable,
        )
        if taken != expected:
            raise ValueError(
                f"header of {member.path!r} is not the one that this format writes: "
                "mode 0644 or 0755, owner 0, one time for all, nothing else"
            )

    def _check_place(self, member: Member) -> None:
        path = member.path
        if len(self._seen) >= MAX_MEMBERS:
            raise ValueError(f"{path!r}: more than {MAX_MEMBERS} members")
        if folded(path) in self._seen:
            raise ValueError(f"{path!r} stands there twice, or differs in case alone")
        if path.encode() < self._last:
            raise ValueError(f"{path!r} is not in its place: members are sorted by path")
        if path.rpartition("/")[0] not in self._directories:
            raise ValueError(f"{path!r}: its directory does not stand before it")
        self._seen.add(folded(path))
        self._last = path.encode()
        if member.directory:
            self._directories.add(path)

    def _check_end(self) -> None:
        if any(self._take(BLOCK)):
            self._refuse(self._offset - BLOCK, "one zero block, expected two at the end")
        if self._offset != self._size:
            self._refuse(self._offset, f"{self._size - self._offset} bytes behind the end")

    def _take(self, length: int) -> bytes:
        if self._offset + length > self._size:
            self._refuse(self._offset, f"ends at {self._size}, without its two zero blocks")
        taken = self._read_at(self._offset, length) if length else b""
        self._offset += length
        return taken

    def _refuse(self, offset: int, problem: str, path: str | None = None) -> NoReturn:
        member = f"{path!r}: " if path else ""
        raise MalformedError(
            f"{printable(self._name)}: at offset {offset}: {printable(member + problem)}"
        )
