"""What is left of the databases of an image after one more layer lies on those below."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from bundler.digest import Digest
from bundler.errors import printable
from bundler.inventory.databases import OS_RELEASE, Database, database_of
from bundler.inventory.layer_tar import DIRECTORY, FILE, HARD_LINK, LayerMember, LayerTar
from bundler.inventory.package import MAX_PACKAGES, Content, Unread
from bundler.inventory.unpacking import plain_pieces

# Source: OCI image specification v1.1, layer.md, "Whiteouts".
_WHITEOUT, _OPAQUE, _RESERVED = ".wh.", ".wh..wh..opq", ".wh..wh."
MAX_FILES = 10_000


@dataclass(frozen=True, slots=True)
class Layers:
    """Some layers of an image, one upon the other.

    Attributes:
        files: What each file says that names packages, or the system, by path.
        unread: Layers that could not be read, and why: what they add, change and remove is unknown.
    """

    files: Mapping[str, Content] = field(default_factory=dict)
    unread: tuple[str, ...] = ()


def add_layer(below: Layers, digest: Digest, source: BinaryIO, size: int) -> Layers:
    """Lay one more layer upon others; it is read once, and nothing of it is kept on a disk.

    Args:
        below: The layers below.
        digest: Of the layer, as it is packed.
        source: Its bytes; it can be sought.
        size: How many they are.
    """
    tar = LayerTar(plain_pieces(source, size))
    try:
        return Layers(_Laying(below.files, tar).files(), below.unread)
    except ValueError as error:
        return Layers(below.files, (*below.unread, f"layer {digest}: {printable(str(error))}"))


class _Laying:
    """The files below, and those of the layer that is read."""

    def __init__(self, below: Mapping[str, Content], tar: LayerTar) -> None:
        self._tar = tar
        self._below = dict(below)
        # How many files below lie under a directory: few of a layer's names hide any of them.
        self._above = Counter(above for path in below for above in _directories(path))
        self._own: dict[str, Content] = {}
        self._packages = sum(map(_count, below.values()))

    def files(self) -> dict[str, Content]:
        for member in self._tar.members():
            self._add(member)
            if len(self._own) + len(self._below) > MAX_FILES:
                raise ValueError(f"more than {MAX_FILES} files that name packages")
            if self._packages > MAX_PACKAGES:
                raise ValueError(f"more than {MAX_PACKAGES} packages")
        return self._below | self._own

    def _add(self, member: LayerMember) -> None:
        directory, _, name = member.path.rpartition("/")
        if name == _OPAQUE:
            self._hide(directory, itself=False)
        elif name.startswith(_WHITEOUT):
            hidden = name.removeprefix(_WHITEOUT)
            if hidden and not name.startswith(_RESERVED):
                self._hide(f"{directory}/{hidden}" if directory else hidden)
        elif member.kind == DIRECTORY:
            if member.path in self._below:
                self._forget(member.path)
        else:
            self._hide(member.path)
            database = database_of(member.path)
            if database is not None:
                self._look(member, database)

    def _look(self, member: LayerMember, database: Database) -> None:
        path = member.path
        if member.kind == FILE:
            self._own[path] = _read(member, database, self._tar.read)
            self._packages += _count(self._own[path])
        elif member.kind == HARD_LINK:
            same = self._own.get(member.link, self._below.get(member.link))
            unread = Unread(f"a link to {printable(member.link)}")
            self._own[path] = unread if same is None else same
        elif path not in OS_RELEASE:
            self._own[path] = Unread("no regular file; links are not followed")

    def _hide(self, path: str, *, itself: bool = True) -> None:
        """Take what lies at and below a path away from the files of the layers below."""
        if itself and path in self._below:
            self._forget(path)
        if self._above[path] or not path:
            under = f"{path}/" if path else ""
            for hidden in [one for one in self._below if one.startswith(under)]:
                self._forget(hidden)

    def _forget(self, path: str) -> None:
        del self._below[path]
        self._above.subtract(_directories(path))


def _count(content: Content) -> int:
    return len(content) if isinstance(content, tuple) else 0


def _read(member: LayerMember, database: Database, read: Callable[[int], bytes]) -> Content:
    if member.sparse:
        return Unread("a sparse file")
    if member.size > database.limit and not database.cut:
        return Unread(f"{member.size} bytes; expected at most {database.limit}")
    try:
        return database.read(read(database.limit))
    except ValueError as error:
        return Unread(printable(str(error)))


def _directories(path: str) -> Iterator[str]:
    """Give every directory above a path but the root."""
    at = path.find("/")
    while at >= 0:
        yield path[:at]
        at = path.find("/", at + 1)
