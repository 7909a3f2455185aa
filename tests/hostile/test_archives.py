"""Groups 1 to 30: tar, gzip and zstd. A key that is trusted signed every one of these archives."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hostile.limited import Case, Place, require_clean, require_refused, visible_files
from tests.hostile.raw_tar import (
    CHARACTER,
    DEVICE,
    DIRECTORY,
    END,
    HARD_LINK,
    LINK,
    PIPE,
    member,
    pax,
)
from tests.hostile.releases import BUNDLE, CHECKPOINT, release_of, signed, stored

# Behind the last member of the archive.
LAST = b"tiny/zz"
SPARSE = ((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", LAST))
DEEP = b"/".join([b"d" * 247] * 20)


def deflated(plain: bytes) -> bytes:
    """Give a gzip that begins as ours, and is compressed."""
    deflate = zlib.compressobj(wbits=-15)
    end = struct.pack("<II", zlib.crc32(plain), len(plain))
    return stored(b"")[:10] + deflate.compress(plain) + deflate.flush() + end


def more(tar: bytes, *members: bytes) -> bytes:
    """Give a bundle of a tar with members at its end."""
    return stored(tar[: -len(END)] + b"".join(members) + END)


# Group, what it is, what stands behind the last good member, what is said of it.
MEMBERS: list[tuple[int, str, bytes, str]] = [
    (1, "climbing name", member(b"tiny/../../evil"), "climbs"),
    (1, "name of the parent", member(b"../evil"), "climbs"),
    (2, "absolute name", member(b"/etc/evil"), "path is empty|absolute"),
    (3, "symlink to a file of the system", member(LAST, LINK, link=b"/etc/passwd"), "symbolic"),
    (
        4,
        "symlink upwards and a file through it",
        member(LAST, LINK, link=b"..") + member(LAST + b"/evil", data=b"x"),
        "symbolic",
    ),
    (
        5,
        "symlink inside and a write through it",
        member(LAST, LINK, link=b"tokenizer") + member(LAST + b"/vocab.txt", data=b"x"),
        "symbolic",
    ),
    (6, "hard link upwards", member(LAST, HARD_LINK, link=b"../../evil"), "a hard link"),
    (7, "hard link to the working directory", member(LAST, HARD_LINK, link=b"evil"), "a hard link"),
    (
        8,
        "links and directories longer than a path",
        pax((b"path", b"tiny/" + DEEP), (b"linkpath", DEEP)) + member(LAST, LINK, link=b"x"),
        "PAX header of [0-9]+ bytes",
    ),
    (
        9,
        "links that enter again",
        member(LAST, LINK, link=b"tokenizer/..")
        + member(LAST + b"y", HARD_LINK, link=LAST + b"/../x"),
        "symbolic",
    ),
    (10, "pipe", member(LAST, PIPE), "a pipe"),
    (10, "character device", member(LAST, CHARACTER), "a character device"),
    (10, "block device", member(LAST, DEVICE), "a block device"),
    (10, "unknown type", member(LAST, b"s"), "a member of type"),
    (11, "setuid", member(LAST, mode=0o4755), "mode 0644 or 0755"),
    (11, "setgid", member(LAST, mode=0o2755), "mode 0644 or 0755"),
    (11, "sticky", member(LAST, mode=0o1777), "mode 0644 or 0755"),
    (11, "no permission", member(LAST, mode=0), "mode 0644 or 0755"),
    (12, "duplicate name", member(LAST) + member(LAST, data=b"other"), "more|expected the end"),
    (12, "duplicate of a good file", member(b"tiny/config.json"), "stands there twice"),
    (13, "file then directory", member(LAST) + member(LAST + b"/", DIRECTORY), "expected the end"),
    (14, "name with NUL", member(LAST + b"\0evil"), "not the one that this format writes"),
    (14, "name with newline", member(LAST + b"\nevil"), "control character"),
    (14, "name with escape", member(LAST + b"\x1b]0;evil\x07"), "control character"),
    (
        14,
        "name that turns around",
        pax((b"path", LAST + "\u202egpj.evil".encode())) + member(LAST),
        "control character",
    ),
    (14, "name that is no text", member(LAST + b"\xff\xfe"), "not the one that this format"),
    (
        14,
        "name of 600 bytes",
        pax((b"path", b"tiny/" + b"n" * 600)) + member(LAST),
        "over 512 bytes",
    ),
    (
        14,
        "name of 64 KiB",
        pax((b"path", b"tiny/" + b"n" * (64 << 10))) + member(LAST),
        "PAX header of",
    ),
    (15, "same name in other case", member(b"tiny/zz/a") + member(b"tiny/zz/A"), "directory does"),
    (15, "good name in other case", member(b"tiny/tokenizer/VOCAB.txt"), "in case alone"),
    (
        15,
        "decomposed letter",
        pax((b"path", "tiny/zz\u0065\u0301".encode())) + member(LAST),
        "normal form C",
    ),
    (17, "negative size", member(LAST, size=b"-0000000001\0"), "expected octal"),
    (17, "negative size in base 256", member(LAST, size=b"\xff" * 12), "expected octal"),
    (18, "size of 8 EiB", member(LAST, size=b"\x80" + bytes(3) + b"\x7f" + b"\xff" * 7), "not the"),
    (18, "size beyond the end", member(LAST, size=b"77777777777\0"), "run past the archive's end"),
    (19, "other size in PAX", pax((b"size", b"1")) + member(LAST, data=b"12"), "not the one that"),
    (20, "global header", pax((b"path", b"evil"), kind=b"g") + member(LAST), "a global PAX header"),
    (21, "old sparse file", member(LAST, b"S"), "a GNU sparse file"),
    (
        21,
        "sparse file of a billion holes",
        pax(*SPARSE) + member(LAST, data=b"1000000000\n" + bytes(100 << 10)),
        "expected a PAX path or size",
    ),
    (22, "PAX header without an end", member(b"x", b"x", b"0 path=x\n"), "expected a PAX record"),
    (22, "PAX header of no bytes", member(b"x", b"x") + member(LAST), "not the one that"),
    (23, "wrong checksum", member(LAST)[:148] + b"0" * 8 + member(LAST)[156:], "checksum is wrong"),
]

# The same, of the archive's whole bytes.
ARCHIVES: list[tuple[int, str, Callable[[bytes], bytes], str]] = [
    (24, "cut between members", lambda good: good[:-1024] + member(LAST), "expected the end"),
    (25, "no end", lambda good: good[:-1024], "without its two zero blocks"),
    (25, "half an end", lambda good: good[:-512], "without its two zero blocks"),
    (26, "second archive behind", lambda good: good + member(LAST) + END, "behind the end"),
    (26, "zeros behind", lambda good: good + bytes(512), "behind the end"),
    (
        30,
        "gzip in the place of tar",
        lambda good: gzip.compress(good, mtime=0) + bytes(len(good)),
        "checksum is wrong",
    ),
]
# And of the bundle's, from the tar in it.
BUNDLES: list[tuple[int, str, Callable[[bytes], bytes], str]] = [
    (1, "climbing name in a bundle", lambda good: more(good, member(b"../evil")), "climbs"),
    (3, "symlink in a bundle", lambda good: more(good, member(b"z", LINK, link=b"/")), "symbolic"),
    (10, "device in a bundle", lambda good: more(good, member(b"z", DEVICE)), "a block device"),
    (11, "setuid in a bundle", lambda good: more(good, member(b"z", mode=0o4755)), "mode 0644 or"),
    (21, "sparse file in a bundle", lambda good: more(good, pax(*SPARSE)), "PAX path or size"),
    (25, "no end in a bundle", lambda good: stored(good[:-1024]), "its two zero blocks"),
    (26, "second archive in a bundle", lambda good: stored(good + good), "behind the end"),
    (27, "junk behind gzip", lambda good: stored(good) + b"junk", ""),
    (27, "two gzip members", lambda good: stored(good) + stored(b"more"), ""),
    (27, "an empty gzip member behind", lambda good: stored(good) + stored(b""), ""),
    (28, "bomb of 1 to 1000", lambda good: deflated(bytes(64 << 20)), "the length"),
    (28, "compressed", lambda good: deflated(good), "the length"),
    (28, "compressed twice", lambda good: deflated(gzip.compress(good)), "beyond the content"),
    (30, "tar in the place of gzip", lambda good: good, "gzip"),
]


def spoiled_archive(good: Path, change: Callable[[bytes], bytes]) -> Callable[[Place], list[str]]:
    def make(place: Place) -> list[str]:
        release = signed(place, good)
        release.sign_archive(change(release.archive))
        return release.arguments("verify")

    return make


@pytest.mark.parametrize(
    ("group", "what", "members", "says"),
    MEMBERS,
    ids=[f"{group}-{what}" for group, what, _, _ in MEMBERS],
)
def test_a_signed_archive_with_a_hostile_member_is_refused(
    place: Place, good: Path, group: int, what: str, members: bytes, says: str
) -> None:
    make = spoiled_archive(good, lambda archive: archive[: -len(END)] + members + END)
    status = 5 if "expected the end" in says else 3
    require_refused(Case(group, what, make, status, says), place)


@pytest.mark.parametrize(
    ("group", "what", "change", "says"),
    ARCHIVES,
    ids=[f"{group}-{what}" for group, what, _, _ in ARCHIVES],
)
def test_a_signed_archive_of_another_form_is_refused(
    place: Place,
    good: Path,
    group: int,
    what: str,
    change: Callable[[bytes], bytes],
    says: str,
) -> None:
    status = 5 if says == "expected the end" else 3
    require_refused(Case(group, what, spoiled_archive(good, change), status, says), place)


@pytest.mark.parametrize("command", ["verify", "extract"])
@pytest.mark.parametrize(
    ("group", "what", "change", "says"),
    BUNDLES,
    ids=[f"{group}-{what}" for group, what, _, _ in BUNDLES],
)
def test_a_signed_bundle_of_another_form_is_refused(
    place: Place,
    good: Path,
    group: int,
    what: str,
    change: Callable[[bytes], bytes],
    says: str,
    command: str,
) -> None:
    def make(place: Place) -> list[str]:
        release = signed(place, good)
        release.sign_bundle(change(gzip.decompress((release.directory / BUNDLE).read_bytes())))
        if command == "verify":
            return release.arguments(command)
        return [*release.arguments(command, place.out), "--only", BUNDLE]

    require_refused(Case(group, what, make, 3, says), place)


def test_what_is_unpacked_is_what_the_manifest_names_whatever_headers_say(
    place: Place, good: Path
) -> None:
    """Groups 1 to 23: no name, type or mode is taken from a header."""
    release = signed(place, good)
    hostile = b"".join(members for _, _, members, _ in MEMBERS)
    release.sign_archive(release.archive[: -len(END)] + hostile)
    before = place.snapshot()
    done = place.run(*release.arguments("extract", place.out), "--only", CHECKPOINT)
    require_clean(done, place, before)
    assert done.status == 0, done.stderr
    names = [file.path for file in release.manifest.checkpoint(CHECKPOINT).files]
    assert visible_files(place.out) == sorted(names)


def test_16_names_that_windows_does_not_take_are_names(place: Place) -> None:
    """They are read and written on Linux alone; on a medium lie archives, whose names have none."""
    odd = dict.fromkeys(("CON", "NUL.txt", "COM1", "a:b", "dot.", "space ", "~1"), b"x")
    release = release_of(place, odd)
    before = place.snapshot()
    done = place.run(*release.arguments("extract", place.out), "--only", CHECKPOINT)
    require_clean(done, place, before)
    assert done.status == 0, done.stderr
    assert visible_files(place.out) == sorted(odd)


def test_29_members_without_end_are_refused_at_the_first(place: Place, good: Path) -> None:
    def make(place: Place) -> list[str]:
        release = signed(place, good)
        empty = b"".join(member(b"tiny/zz%06d" % n) for n in range(20_000))
        release.sign_archive(release.archive[: -len(END)] + empty + END)
        return release.arguments("verify")

    require_refused(Case(29, "empty members", make, 5, "expected the end"), place)


@pytest.mark.parametrize("options", [[], ["--strict"]], ids=["tolerated", "strict"])
def test_14_names_on_a_medium_are_shown_without_what_moves_the_cursor(
    place: Place, good: Path, options: list[str]
) -> None:
    release = signed(place, good)
    for name in (b"\x1b]0;evil\x07", "\u202egpj.evil".encode(), b"two\nlines", b"no \xff text"):
        Path(os.fsdecode(bytes(release.directory) + b"/" + name)).write_bytes(b"")
    before = place.snapshot()
    done = place.run(*release.arguments("verify"), *options)
    require_clean(done, place, before)
    assert done.status == (5 if options else 0), done.stderr
    assert "\\u001b]0;evil\\u0007" in done.stderr


@pytest.mark.parametrize("change", [lambda good: good[:-512], lambda good: good + bytes(50 << 20)])
def test_24_and_26_a_pipe_that_ends_early_or_goes_on_is_refused(
    place: Place, good: Path, change: Callable[[bytes], bytes]
) -> None:
    release = signed(place, good)
    before = place.snapshot()
    key = ("--key", str(release.key_file))
    argv = ("verify", "-", "--release", str(release.directory), "--only", CHECKPOINT, *key)
    done = place.run(*argv, stdin=change(release.archive))
    require_clean(done, place, before)
    assert done.status == 5, done.stderr
    assert done.errors
