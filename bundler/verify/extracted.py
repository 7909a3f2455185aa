"""Directories that an archive was extracted to, against the files that were signed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.archive.files import RandomReader
from bundler.archive.hashing import digest_of, in_threads
from bundler.archive.oci import check_image_archive
from bundler.archive.trouble import blaming
from bundler.digest import Digest
from bundler.errors import MalformedError
from bundler.events import Advanced, Finished, Started
from bundler.faults import Fault
from bundler.manifest import Checkpoint, Manifest
from bundler.release import shown
from bundler.verify.kinds import DIRECTORY, FILE, NOTHING, kind_of
from bundler.verify.report import Checked, Findings

# What somebody runs, pushes or installs from: nothing may lie there that was not signed.
CLOSED = ("charts", "containers", "scripts")
_MAX_ENTRIES = 1_000_000


@dataclass(frozen=True, slots=True)
class _Range:
    path: str
    part: int | None
    offset: int
    length: int
    digest: Digest


@dataclass(frozen=True, slots=True)
class _Tree:
    """What a directory must hold; ``closed`` says where nothing else may lie."""

    sizes: dict[str, int]
    ranges: tuple[_Range, ...]
    closed: Callable[[str], bool]

    def directories(self) -> set[str]:
        """Give every directory that holds a signed file."""
        parts = [path.split("/") for path in self.sizes]
        return {"/".join(names[:n]) for names in parts for n in range(1, len(names))}


def check_extracted_bundle(root: Path, manifest: Manifest, findings: Findings) -> None:
    """Compare an extracted bundle: every signed file, and nothing else where things are run from.

    Elsewhere what is not signed is listed and not read: the install guide itself puts files there.
    """
    files = manifest.bundle.files
    tree = _Tree(
        {file.path: file.size for file in files},
        tuple(_Range(file.path, None, 0, file.size, file.digest) for file in files),
        lambda path: path.split("/")[0] in CLOSED,
    )
    _check(root, tree, findings)
    if not findings.faults:
        for image in manifest.images:
            with RandomReader(root / image.tag.archive_path) as reader:
                check_image_archive(reader.read_at, reader.size, image)


def check_extracted_checkpoint(root: Path, checkpoint: Checkpoint, findings: Findings) -> None:
    """Compare an extracted checkpoint, part by part; nothing else may lie in it.

    A server loads whatever it finds there, so that an extra file is a fault.
    """
    files = checkpoint.files
    ranges = [
        _Range(file.path, span.number, span.offset, span.length, digest)
        for file in files
        for span, digest in zip(file.spans(), file.parts, strict=True)
    ]
    tree = _Tree({file.path: file.size for file in files}, tuple(ranges), lambda _: True)
    _check(root, tree, findings)


def find_checkpoint(root: Path, checkpoints: Sequence[Checkpoint]) -> Checkpoint:
    """Say which checkpoint a directory holds: by its name, or else by the sizes of its files.

    Raises:
        MalformedError: None fits, or more than one.
    """
    name = root.resolve().name
    named = [item for item in checkpoints if name in {item.name, item.root}]
    if len(named) > 1:  # two that share a root
        named = [item for item in named if _fits(root, item)]
    fitting = named or [item for item in checkpoints if _fits(root, item)]
    if len(fitting) != 1:
        raise MalformedError(
            f"{shown(root)}: expected a release, an extracted bundle or an extracted checkpoint, "
            f"got a directory that fits {len(fitting) or 'no'} checkpoints of this release",
            hint="one that is called as a checkpoint is compared with that checkpoint: "
            + ", ".join(item.name for item in checkpoints),
        )
    return fitting[0]


def _fits(root: Path, checkpoint: Checkpoint) -> bool:
    for file in checkpoint.files:
        try:
            if (root / file.path).lstat().st_size != file.size:
                return False
        except OSError:
            return False
    return True


def _check(root: Path, tree: _Tree, findings: Findings) -> None:
    name = root.resolve().name
    present = set(_compare_names(root, name, tree, findings))
    sound = {path for path in present if _check_size(root / path, name, path, tree, findings)}
    ranges = [item for item in tree.ranges if item.path in sound]
    total = sum(item.length for item in ranges)
    findings.emit(Started("verify", name, total))
    jobs = in_threads(lambda item: _digest(root, item), ranges)
    for item, got in zip(ranges, jobs, strict=True):
        if got != item.digest:
            expected = str(item.digest)
            findings.faults.append(
                Fault(archive=name, path=item.path, part=item.part, expected=expected, got=str(got))
            )
        findings.emit(Advanced(name, item.length))
    findings.emit(Finished(name))
    findings.checked.append(Checked(name, total))


def _compare_names(root: Path, name: str, tree: _Tree, findings: Findings) -> Iterator[str]:
    directories = tree.directories()
    found = dict(_walk(root, lambda path: path in directories or tree.closed(path)))
    for path, kind in sorted(found.items()):
        if path not in tree.sizes and path not in directories:
            findings.add_extra(name, path, kind, fault=tree.closed(path))
    expected = dict.fromkeys(tree.sizes, FILE) | dict.fromkeys(directories, DIRECTORY)
    for path, kind in sorted(expected.items()):
        got = found.get(path, NOTHING)
        if got != kind and (kind == FILE or got != NOTHING):
            findings.faults.append(Fault(archive=name, path=path, expected=kind, got=got))
        elif kind == FILE:
            yield path


def _check_size(real: Path, name: str, path: str, tree: _Tree, findings: Findings) -> bool:
    with blaming(real):
        size = real.lstat().st_size
    if size != tree.sizes[path]:
        expected, got = f"{tree.sizes[path]} bytes", f"{size} bytes"
        findings.faults.append(Fault(archive=name, path=path, expected=expected, got=got))
    return size == tree.sizes[path]


def _digest(root: Path, item: _Range) -> Digest:
    with RandomReader(root / item.path) as reader:
        return digest_of(reader, item.offset, item.length)


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
                        f"{shown(root)}: expected at most {_MAX_ENTRIES} files, got more"
                    )
                yield path, kind
