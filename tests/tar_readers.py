"""What tar readers say of an archive, in one shape: GNU tar, bsdtar, and those of our own."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bundler.archive.tar import walk
from bundler.foreign_tar import list_members
from bundler.inventory.layer_tar import LayerTar
from bundler.tar_header import DIRECTORY, FILE, HARD_LINK, SYMBOLIC_LINK

_TIME_LIMIT = 60
_ENV = {**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
_KINDS = {
    **dict.fromkeys(b"-C", "file"),
    ord("d"): "directory",
    ord("h"): "hard link",
    ord("l"): "symbolic link",
}
# Mode and name, with what stands between: the owner, a size or the numbers of a device, the time.
_GNU_LINE = re.compile(rb"(.)\S{9,10} \S+ +(\d+|\d+,\d+) \S+ \S+ (.*)")
_BSD_LINE = re.compile(rb"(.)\S{9,10} +\d+ \S+ +\S+ +(\d+|\d+,\d+) \w+ +\d+ +[\d:]+ (.*)")
_ARROWS = {"hard link": b" link to ", "symbolic link": b" -> "}
_ESCAPED = re.compile(rb"\\([0-7]{3}|.)")
_LETTERS = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
# GNU's directories with a list of names in them; files that should lie in one piece.
_LISTED_DIRECTORY, _CONTIGUOUS = b"D", b"7"
_LAYER_KINDS = {
    FILE: "file",
    _CONTIGUOUS: "file",
    DIRECTORY: "directory",
    _LISTED_DIRECTORY: "directory",
    HARD_LINK: "hard link",
    SYMBOLIC_LINK: "symbolic link",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One member, as one reader sees it; None is what this reader does not say.

    Attributes:
        path: Cleaned: no slash at either end, nothing that climbs.
        kind: ``file``, ``directory``, ``hard link``, ``symbolic link`` or ``other``; None where it
            is neither file nor directory.
        size, digest: Of a file.
        link: Where a link leads.
    """

    path: bytes
    kind: str | None
    size: int | None = None
    link: bytes | None = None
    digest: str | None = None


def agree(ours: Sequence[Entry], theirs: Sequence[Entry]) -> bool:
    """Compare two listings in all that both say."""
    return len(ours) == len(theirs) and all(map(_same, ours, theirs))


def _same(one: Entry, other: Entry) -> bool:
    links = ("hard link", "symbolic link", "other")
    kinds = one.kind == other.kind or (one.kind is None and other.kind in links)
    said = ((one.size, other.size), (one.link, other.link), (one.digest, other.digest))
    return one.path == other.path and kinds and all(a == b or None in (a, b) for a, b in said)


def gnu_tar(archive: Path, *, contents: bool = True) -> list[Entry] | None:
    """Ask GNU tar; None where it refuses or complains."""
    listed = _run("tar", "--quoting-style=escape", "--numeric-owner", "-tvf", archive)
    if listed is None:
        return None
    entries = [_entry(line, _GNU_LINE) for line in listed.splitlines()]
    if not contents:
        return entries
    hashed = _run("tar", "--to-command=sha256sum", "-xf", archive)
    if hashed is None:
        return None
    digests = iter(line.split()[0].decode() for line in hashed.splitlines())
    filled = [replace(one, digest=next(digests)) if one.kind == "file" else one for one in entries]
    assert next(digests, None) is None
    return filled


def bsdtar(archive: Path, *, contents: bool = True) -> list[Entry] | None:
    """Ask bsdtar; None where it refuses or complains.

    It gives digests by name alone, so that of two files of one name neither has any here.
    """
    listed = _run("bsdtar", "-tvf", archive)
    if listed is None:
        return None
    entries = [_entry(line, _BSD_LINE) for line in listed.splitlines()]
    if not contents:
        return entries
    told = ("-cf", "-", "--format=mtree", "--options=!all,type,sha256", f"@{archive}")
    tree = _run("bsdtar", *told)
    if tree is None:
        return None
    digests = dict(_digests(tree))
    times = Counter(one.path for one in entries)
    return [
        replace(one, digest=digests[one.path])
        if one.kind == "file" and times[one.path] == 1
        else one
        for one in entries
    ]


def foreign(archive: Path) -> list[Entry]:
    """Ask the reader of charts and of images that other programs saved."""
    content = archive.read_bytes()
    with archive.open("rb") as file:
        return [
            Entry(
                _cleaned(one.path.encode()),
                "file" if one.file else "directory" if one.directory else None,
                one.size if one.file else None,
                None,
                _digest(content[one.offset : one.offset + one.size]) if one.file else None,
            )
            for one in list_members(file)
        ]


def layer(archive: Path) -> list[Entry]:
    """Ask the reader of images' layers; of a sparse file it does not say the content."""
    content, entries = archive.read_bytes(), []
    tar = LayerTar(content[at : at + 1000] for at in range(0, len(content), 1000))
    for one in tar.members():
        whole = one.kind in {FILE, _CONTIGUOUS} and not one.sparse
        data = tar.read(one.size) if whole else b""
        entries.append(
            Entry(
                one.path.encode(errors="surrogateescape"),
                _LAYER_KINDS.get(one.kind, "other"),
                one.size if whole else None,
                one.link.encode(errors="surrogateescape") or None,
                _digest(data) if whole else None,
            )
        )
    return entries


def own(archive: Path) -> list[Entry]:
    """Ask the reader of our own dialect."""
    content = archive.read_bytes()
    found = walk(lambda at, size: content[at : at + size], len(content), name=archive.name)
    return [
        Entry(_cleaned(one.path.encode()), "directory")
        if one.directory
        else Entry(
            _cleaned(one.path.encode()),
            "file",
            one.size,
            None,
            _digest(content[one.offset : one.offset + one.size]),
        )
        for one in found
    ]


def _run(*command: str | Path) -> bytes | None:
    done = subprocess.run(command, env=_ENV, capture_output=True, check=False, timeout=_TIME_LIMIT)
    return done.stdout if done.returncode == 0 else None


def _entry(line: bytes, pattern: re.Pattern[bytes]) -> Entry:
    found = pattern.fullmatch(line)
    assert found, line
    letter, size, name = found.groups()
    kind = _KINDS.get(letter[0], "other")
    if kind == "file" and _ARROWS["hard link"] in name:
        kind = "hard link"  # bsdtar's letter for one that says to have data
    name, _, link = name.partition(_ARROWS[kind]) if kind in _ARROWS else (name, b"", b"")
    target = _plain(link) if link else None
    return Entry(
        _cleaned(_plain(name)),
        kind,
        int(size) if kind == "file" else None,
        _cleaned(target) if target and kind == "hard link" else target,
    )


def _digests(tree: bytes) -> Iterator[tuple[bytes, str]]:
    for line in tree.splitlines():
        name, *fields = line.split(b" ")
        for field in fields:
            if field.startswith(b"sha256digest="):
                yield _cleaned(_plain(name)), field.partition(b"=")[2].decode()


def _plain(name: bytes) -> bytes:
    """Undo the escapes of a listing."""

    def character(found: re.Match[bytes]) -> bytes:
        what = found[1]
        return bytes([int(what, 8)]) if len(what) == 3 else _LETTERS.get(what, what)

    return _ESCAPED.sub(character, name)


def _cleaned(name: bytes) -> bytes:
    return posixpath.normpath(b"/" + name).lstrip(b"/")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
