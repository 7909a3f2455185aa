"""What a directory must hold that an archive was extracted to, compared with what it holds."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from bundler.archive.files import RandomReader
from bundler.archive.hashing import digest_or_damage, in_threads
from bundler.archive.kinds import DIRECTORY, FILE, NOTHING, kind_of
from bundler.archive.trouble import blaming
from bundler.digest import Digest
from bundler.errors import MalformedError, NotFoundError, printable
from bundler.events import Advanced, Emit, Finished, Started
from bundler.faults import Fault
from bundler.manifest import Bundle, Checkpoint

# What somebody runs, pushes or installs from: nothing may lie there that was not signed.
CLOSED = ("charts", "containers", "scripts")
_MAX_ENTRIES = 1_000_000


@dataclass(frozen=True, slots=True)
class Range:
    """A part of a file that was signed; ``part`` is its number, None for a whole file."""

    path: str
    part: int | None
    offset: int
    length: int
    digest: Digest


@dataclass(frozen=True, slots=True)
class Comparison:
    """How the names, kinds and sizes below a directory stand.

    Attributes:
        extra: Path and kind of what is not signed, sorted.
        faults: What is missing, of another kind, or of another size.
        sound: Paths of the files that have their sizes.
    """

    extra: tuple[tuple[str, str], ...]
    faults: tuple[Fault, ...]
    sound: frozenset[str]


@dataclass(frozen=True, slots=True)
class ExtractedTree:
    """A directory, and what must be in it.

    Attributes:
        root: The directory; it may be named by a link, and nothing below is followed as one.
        sizes: Bytes of each signed file, by path.
        ranges: What was signed of their content.
        closed: Tells whether nothing else may lie at a path.
    """

    root: Path
    sizes: dict[str, int]
    ranges: tuple[Range, ...]
    closed: Callable[[str], bool]

    @property
    def name(self) -> str:
        """What to call the directory in a fault."""
        return self.root.resolve().name

    def compare(self) -> Comparison:
        """Compare names, kinds and sizes; no content is read.

        Raises:
            MalformedError: There are more files than any archive of ours holds.
            WorldError: A directory cannot be read.
        """
        directories = self._directories()
        found = dict(_walk(self.root, lambda path: path in directories or self.closed(path)))
        extra = sorted(found.keys() - self.sizes.keys() - directories)
        expected = dict.fromkeys(self.sizes, FILE) | dict.fromkeys(directories, DIRECTORY)
        faults, present = [], []
        for path, kind in sorted(expected.items()):
            got = found.get(path, NOTHING)
            if got != kind and (kind == FILE or got != NOTHING):
                faults.append(self._fault(path, kind, got))
            elif kind == FILE:
                present.append(path)
        wrong = [fault for path in present for fault in self._size_faults(path)]
        return Comparison(
            extra=tuple((path, found[path]) for path in extra),
            faults=(*faults, *wrong),
            sound=frozenset(present) - {fault.path for fault in wrong},
        )

    def check_content(self, paths: Collection[str], emit: Emit) -> tuple[list[Fault], int]:
        """Hash files on all cores, part by part.

        Returns:
            A fault for each part that is not what was signed, and how many bytes were read.

        Raises:
            WorldError: The disk fails in another way than by a bad spot.
        """
        ranges = [item for item in self.ranges if item.path in paths]
        total = sum(item.length for item in ranges)
        name, faults = self.name, []
        emit(Started("verify", name, total))
        for item, got in zip(ranges, in_threads(self._digest, ranges), strict=True):
            if got != str(item.digest):
                faults.append(self._fault(item.path, str(item.digest), got, item))
            emit(Advanced(name, item.length))
        emit(Finished(name, wrong=bool(faults)))
        return faults, total

    def _directories(self) -> set[str]:
        parts = [path.split("/") for path in self.sizes]
        return {"/".join(names[:n]) for names in parts for n in range(1, len(names))}

    def _size_faults(self, path: str) -> Iterator[Fault]:
        with blaming(self.root / path):
            size = (self.root / path).lstat().st_size
        if size != self.sizes[path]:
            yield self._fault(path, f"{self.sizes[path]} bytes", f"{size} bytes")

    def _digest(self, item: Range) -> str:
        try:
            with RandomReader(Path(item.path), root=self.root) as reader:
                return digest_or_damage(reader, item.offset, item.length)
        except NotFoundError:
            return NOTHING

    def _fault(self, path: str, expected: str, got: str, item: Range | None = None) -> Fault:
        return Fault(
            archive=self.name,
            path=path,
            part=None if item is None else item.part,
            offset=None if item is None or item.part is None else item.offset,
            expected=expected,
            got=got,
        )


def bundle_tree(root: Path, bundle: Bundle) -> ExtractedTree:
    """Say what an extracted bundle must hold: more may lie there only where nothing is run from.

    The install guide itself puts files beside the signed ones.
    """
    return ExtractedTree(
        root=root,
        sizes={file.path: file.size for file in bundle.files},
        ranges=tuple(Range(file.path, None, 0, file.size, file.digest) for file in bundle.files),
        closed=lambda path: path.split("/")[0] in CLOSED,
    )


def checkpoint_tree(root: Path, checkpoint: Checkpoint) -> ExtractedTree:
    """Say what an extracted checkpoint must hold, and alone: a server loads what it finds."""
    return ExtractedTree(
        root=root,
        sizes={file.path: file.size for file in checkpoint.files},
        ranges=tuple(
            Range(file.path, span.number, span.offset, span.length, digest)
            for file in checkpoint.files
            for span, digest in zip(file.spans(), file.parts, strict=True)
        ),
        closed=lambda _: True,
    )


def _walk(root: Path, enter: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """Give each path below ``root`` and its kind; links are never followed."""
    waiting, count = [""], 0
    while waiting:
        directory = waiting.pop()
        with blaming(root / directory), os.scandir(root / directory) as entries:
            for entry in entries:
                path = f"{directory}/{entry.name}" if directory else entry.name
                mode = entry.stat(follow_symlinks=False).st_mode
                kind = kind_of(mode)
                if kind == DIRECTORY and enter(path):
                    waiting.append(path)
                count += 1
                if count > _MAX_ENTRIES:
                    raise MalformedError(
                        f"{printable(str(root))}: expected at most {_MAX_ENTRIES} files, got more"
                    )
                yield path, kind
