"""What is left of the databases of an image after one more layer lies on those below."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from bundler.digest import Digest
from bundler.errors import printable
from bundler.inventory.databases import OS_RELEASE, Database, database_of, hides_databases
from bundler.inventory.effort import DATABASES, LINES, PACKAGES, Effort
from bundler.inventory.layer_tar import LayerMember, LayerTar
from bundler.inventory.package import Content, Unread, require_few
from bundler.inventory.unpacking import plain_pieces
from bundler.tar_header import DIRECTORY, FILE, HARD_LINK, SYMBOLIC_LINK

# Source: OCI image specification v1.1, layer.md, "Whiteouts".
_WHITEOUT, _OPAQUE, _RESERVED = ".wh.", ".wh..wh..opq", ".wh..wh."
_LINKS = frozenset({HARD_LINK, SYMBOLIC_LINK})
MAX_FILES = 10_000
_NO_MEMORY = "takes more memory than there is"


@dataclass(frozen=True, slots=True)
class Layers:
    """Some layers of an image, one upon the other.

    Attributes:
        files: What each file says that names packages, or the system, by path.
        unread: Layers that could not be read, and why: what they add, change and remove is unknown.
        spent: What it took to look into them.
    """

    files: Mapping[str, Content] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    spent: Mapping[str, int] = field(default_factory=dict)


def add_layer(below: Layers, digest: Digest, source: BinaryIO, size: int) -> Layers:
    """Lay one more layer upon others; it is read once, and nothing of it is kept on a disk.

    Args:
        below: The layers below.
        digest: Of the layer, as it is packed.
        source: Its bytes; it can be sought.
        size: How many they are.
    """
    effort = Effort(below.spent)
    tar = LayerTar(plain_pieces(source, size, effort), effort)
    try:
        files = _Laying(below.files, tar, effort).files()
    except (ValueError, MemoryError) as error:
        reason = _NO_MEMORY if isinstance(error, MemoryError) else printable(str(error))
        unread = (*below.unread, f"layer {digest}: {reason}")
        return Layers(below.files, unread, effort.spent)
    return Layers(files, below.unread, effort.spent)


class _Laying:
    """The files below, and those of the layer that is read."""

    def __init__(self, below: Mapping[str, Content], tar: LayerTar, effort: Effort) -> None:
        self._tar = tar
        self._effort = effort
        self._below = dict(below)
        # How many files below lie under a directory: few of a layer's names hide any of them.
        self._above = Counter(above for path in below for above in _directories(path))
        self._own: dict[str, Content] = {}
        self._packages = self._text = 0
        for content in below.values():
            self._count(content)

    def files(self) -> dict[str, Content]:
        for member in self._tar.members():
            self._add(member)
            if len(self._own) + len(self._below) > MAX_FILES:
                raise ValueError(f"more than {MAX_FILES} files that name packages")
            require_few(self._packages, self._text)
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
            elif member.kind in _LINKS:
                self._follow(member)

    def _follow(self, member: LayerMember) -> None:
        """Tell of a link that stands where a directory of databases is."""
        target = member.link if member.kind == SYMBOLIC_LINK else None
        if hides_databases(member.path, target):
            reason = f"a link to {printable(member.link)}; databases there are not read"
            self._own[member.path] = Unread(reason)

    def _look(self, member: LayerMember, database: Database) -> None:
        path = member.path
        if member.kind == FILE:
            self._own[path] = self._read(member, database)
        elif member.kind == HARD_LINK:
            same = self._own.get(member.link, self._below.get(member.link))
            unread = Unread(f"a link to {printable(member.link)}")
            self._own[path] = unread if same is None else same
        elif path not in OS_RELEASE:
            self._own[path] = Unread("no regular file; links are not followed")
        self._count(self._own.get(path))

    def _count(self, content: Content | None) -> None:
        if isinstance(content, tuple):
            self._packages += len(content)
            self._text += sum(package.text_size() for package in content)

    def _read(self, member: LayerMember, database: Database) -> Content:
        if member.sparse:
            return Unread("a sparse file")
        if member.size > database.limit and not database.cut:
            return Unread(f"{member.size} bytes; expected at most {database.limit}")
        content = self._tar.read(database.limit)
        try:
            self._effort.spend(DATABASES, len(content))
            self._effort.spend(LINES, content.count(b"\n"))
            found = database.read(content)
            self._effort.spend(PACKAGES, len(found) if isinstance(found, tuple) else 0)
        except ValueError as error:
            return Unread(printable(str(error)))
        except MemoryError:
            return Unread(_NO_MEMORY)
        return found

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


def _directories(path: str) -> Iterator[str]:
    """Give every directory above a path but the root."""
    at = path.find("/")
    while at >= 0:
        yield path[:at]
        at = path.find("/", at + 1)
