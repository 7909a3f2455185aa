"""Groups 1 to 30 once more: tars of image layouts, which other programs wrote."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tests.hostile.limited import Case, Place, require_clean, require_refused
from tests.hostile.raw_tar import END, HARD_LINK, LINK, PIPE, member, pax
from tests.hostile.sources import IMAGE, Change, lock_of, spoiled, take_image_from


def archived(*members: bytes, end: bytes = END) -> Change:
    """Put a tar of a good layout, with such members at its end, in the place of an image."""

    def change(directory: Path) -> None:
        layout = directory / IMAGE
        files = sorted(path for path in layout.rglob("*") if path.is_file())
        plain = b"".join(
            member(str(path.relative_to(layout)).encode(), data=path.read_bytes()) for path in files
        )
        (directory / "image.tar").write_bytes(plain + b"".join(members) + end)
        take_image_from(directory, "oci-archive:image.tar:1.0.0")

    return change


BLOB = b"blobs/sha256/" + b"0" * 64
SPARSE = ((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", BLOB))
ARCHIVES: list[tuple[int, str, Change, str]] = [
    (12, "index twice", archived(member(b"index.json", data=b"{}")), "is there twice"),
    (12, "index twice with a dot", archived(member(b"./index.json")), "is there twice"),
    (14, "name that is no text", archived(member(b"\xff\xfe")), "utf-8"),
    (14, "name of 2 MiB", archived(pax((b"path", b"n" * (2 << 20)))), "extended header of"),
    (17, "negative size", archived(member(BLOB, size=b"\xff" * 12)), "expected octal"),
    (18, "size of 8 EiB", archived(member(BLOB, size=b"\x80" + b"\x7f" * 11)), "cut short"),
    (19, "size that leaves the file", archived(pax((b"size", b"9" * 15)), member(BLOB)), "cut sh"),
    (20, "global header", archived(pax((b"path", BLOB), kind=b"g")), "a global header"),
    (
        21,
        "sparse file of a billion holes",
        archived(pax(*SPARSE), member(BLOB, data=b"1000000000\n" + bytes(1 << 20))),
        "sparse",
    ),
    (21, "old sparse file", archived(member(BLOB, b"S")), "type b'S'"),
    (22, "endless header", archived(member(b"x", b"x", b"0 path=x\n")), "extended header"),
    (23, "wrong checksum", archived(b"x" + member(BLOB)[1:]), "checksum is wrong"),
    (24, "cut between members", archived(end=b""), "without its zero blocks"),
    (26, "second archive behind", archived(END, member(b"index.json")), "behind the archive's end"),
    (29, "members without end", archived(member(b"e") * 100_001), "more than 100000 members|twice"),
]


@pytest.mark.parametrize(
    ("group", "what", "change", "says"),
    ARCHIVES,
    ids=[f"{group}-{what}" for group, what, *_ in ARCHIVES],
)
def test_a_hostile_archive_of_a_layout_is_refused(
    place: Place, group: int, what: str, change: Change, says: str
) -> None:
    require_refused(Case(group, what, spoiled(change, "lock"), 3, says), place)


def test_30_a_compressed_archive_of_a_layout_is_refused(place: Place) -> None:
    def change(directory: Path) -> None:
        archived()(directory)
        path = directory / "image.tar"
        path.write_bytes(gzip.compress(path.read_bytes()))

    require_refused(Case(30, "gzip", spoiled(change, "lock"), 3, "not compressed"), place)


def test_no_member_of_an_archive_of_a_layout_is_unpacked_by_its_name(place: Place) -> None:
    """Groups 1 to 11: only blobs are taken, each by its digest."""
    hostile = archived(
        member(b"../evil", data=b"x"),
        member(b"/etc/evil", data=b"x"),
        member(b"link", LINK, link=b"/etc/passwd"),
        member(b"link/through", data=b"x"),
        member(b"hard", HARD_LINK, link=b"../../evil"),
        member(b"pipe", PIPE),
        member(b"root", mode=0o6755),
    )
    argv = spoiled(hostile)(place)
    before = place.snapshot()
    done = place.run(*argv)
    assert done.status == 0, done.stderr
    require_clean(done, place, {**before, **lock_of(place)})


def saved(table: object, *members: bytes, end: bytes = END) -> Change:
    """Put what ``docker save`` would write, which skopeo reads, in the place of an image."""

    def change(directory: Path) -> None:
        index = member(b"manifest.json", data=json.dumps(table).encode())
        (directory / "image.tar").write_bytes(index + b"".join(members) + end)
        take_image_from(directory, "docker-archive:image.tar:a.example/b:1")

    return change


def entry(config: str = "c.json", layer: str = "l.tar") -> list[object]:
    return [{"Config": config, "RepoTags": ["a.example/b:1"], "Layers": [layer]}]


CONFIG = member(
    b"c.json", data=b'{"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": []}}'
)
SAVED: list[tuple[int, str, Change, int]] = [
    (1, "docker archive whose layer climbs", saved(entry(layer="../../evil"), CONFIG), 9),
    (2, "docker archive whose config is absolute", saved(entry("/etc/passwd")), 9),
    (
        3,
        "docker archive whose config is a link",
        saved(entry(), member(b"c.json", LINK, link=b"/etc/passwd")),
        9,
    ),
    (
        4,
        "docker archive whose config is itself",
        saved(entry(), member(b"c.json", LINK, link=b"c.json")),
        9,
    ),
    (
        21,
        "docker archive that is sparse",
        saved(entry(), pax(*SPARSE), member(b"c.json", data=b"1000000000\n" + bytes(1 << 20))),
        9,
    ),
    (24, "docker archive that is cut", saved(entry(), CONFIG[:700], end=b""), 9),
    (50, "docker archive of depth", saved(json.loads("[" * 900 + "]" * 900), CONFIG), 9),
]


@pytest.mark.parametrize(
    ("group", "what", "change", "status"), SAVED, ids=[f"{g}-{w}" for g, w, *_ in SAVED]
)
def test_what_skopeo_refuses_of_a_docker_archive_is_one_line(
    place: Place, group: int, what: str, change: Change, status: int
) -> None:
    require_refused(Case(group, what, spoiled(change), status, "image.tar"), place)
