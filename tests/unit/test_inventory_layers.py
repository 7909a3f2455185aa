"""Which database counts when layers lie upon each other, and what is told of those not read."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
from collections.abc import Mapping
from concurrent.futures import CancelledError
from pathlib import Path
from typing import BinaryIO, NoReturn

import pytest
import zstandard

from bundler.digest import Digest
from bundler.errors import MalformedError
from bundler.inventory import databases, effort, image, layers, package, unpacking
from bundler.inventory.databases import Database
from bundler.inventory.dpkg import read_dpkg
from bundler.inventory.image import ImageInventory, KnownLayers, PlatformInventory, take_inventory
from bundler.inventory.layers import Layers, add_layer
from bundler.inventory.package import System
from bundler.reference import ImageTag
from tests.layouts import LAYER, LayoutMaker, pack, plain_layer

MTIME = 1_793_491_200
TAG = ImageTag("atlas", "1.0")
STATUS, OS = "var/lib/dpkg/status", "etc/os-release"
DEBIAN = b"ID=debian\nVERSION_ID=12\n"
Files = Mapping[str, bytes]


def status(*names: str) -> bytes:
    texts = [f"Package: {n}\nStatus: install ok installed\nVersion: 1\n" for n in names]
    return "\n".join(texts).encode()


def metadata(name: str) -> bytes:
    return f"Name: {name}\nVersion: 1\n".encode()


def look(tmp_path: Path, *plain: bytes, known: KnownLayers | None = None) -> ImageInventory:
    """Take the inventory of an image with these layers, the lowest first."""
    maker = LayoutMaker(tmp_path / "layout")
    blobs = [maker.blob(gzip.compress(one, mtime=0), LAYER) for one in plain]
    archive = tmp_path / "archive.tar"
    about = pack(maker, TAG, maker.manifest(blobs), archive, mtime=MTIME)
    return take_inventory(archive, about, known or KnownLayers())


def inventory(tmp_path: Path, *stack: Files | bytes) -> PlatformInventory:
    plain = [one if isinstance(one, bytes) else plain_layer(one) for one in stack]
    (found,) = look(tmp_path, *plain).platforms
    return found


def names(found: PlatformInventory) -> dict[str, list[str]]:
    return {path: [one.name for one in packages] for path, packages in found.packages.items()}


def linked(path: str, target: str, kind: bytes = tarfile.SYMTYPE) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo(path)
        member.type, member.linkname = kind, target
        archive.addfile(member)
    return out.getvalue()


def test_an_image_tells_its_packages_and_what_they_are_for(tmp_path: Path) -> None:
    found = inventory(tmp_path, {STATUS: status("bash", "adduser"), OS: DEBIAN})
    assert found.platform == "linux/amd64"
    assert found.system == System("debian", "12")
    assert names(found) == {STATUS: ["adduser", "bash"]}
    assert found.unread == ()


def test_the_uppermost_database_counts(tmp_path: Path) -> None:
    stack = ({STATUS: status("old")}, {"other": b""}, {f"./{STATUS}": status("new")})
    assert names(inventory(tmp_path, *stack)) == {STATUS: ["new"]}


@pytest.mark.parametrize(
    "whiteout",
    [
        "var/lib/dpkg/.wh.status",
        "var/lib/.wh.dpkg",
        ".wh.var",
        "var/lib/dpkg/.wh..wh..opq",
        "./.wh..wh..opq",
    ],
)
def test_a_database_that_an_upper_layer_removes_is_gone(whiteout: str, tmp_path: Path) -> None:
    found = inventory(
        tmp_path, {STATUS: status("a"), "a-1.egg-info": metadata("a")}, {whiteout: b""}
    )
    assert STATUS not in names(found)


@pytest.mark.parametrize(
    "whiteout",
    [
        "var/lib/dpkg/.wh.statu",
        "var/lib/dpkg/status/.wh..wh..opq",
        "var/lib/dpkg2/.wh..wh..opq",
        ".wh.",
        ".wh..wh.plnk",
        "var/lib/dpkg/wh.status",
    ],
)
def test_a_whiteout_of_something_else_leaves_it(whiteout: str, tmp_path: Path) -> None:
    assert names(inventory(tmp_path, {STATUS: status("a")}, {whiteout: b""})) == {STATUS: ["a"]}


def test_a_whiteout_is_about_the_layers_below_alone(tmp_path: Path) -> None:
    upper = {"var/lib/.wh.dpkg": b"", STATUS: status("new"), "var/lib/dpkg/.wh..wh..opq": b""}
    found = inventory(tmp_path, {"var/lib/dpkg/status.d/old": status("old")}, upper)
    assert names(found) == {STATUS: ["new"]}


def test_a_file_or_link_in_the_place_of_a_directory_hides_what_was_in_it(tmp_path: Path) -> None:
    below = {STATUS: status("a"), "opt/x/a-1.dist-info/METADATA": metadata("a")}
    assert names(inventory(tmp_path, below, linked("var/lib/dpkg", "elsewhere"))) == {
        "opt/x/a-1.dist-info/METADATA": ["a"]
    }


def test_a_directory_in_the_place_of_a_database_hides_it(tmp_path: Path) -> None:
    upper = linked("opt/a-1.egg-info", "", tarfile.DIRTYPE)
    assert names(inventory(tmp_path, {"opt/a-1.egg-info": metadata("a")}, upper)) == {}


def test_a_hard_link_to_metadata_is_that_metadata(tmp_path: Path) -> None:
    """Installers that keep a cache link to it, and a tar names the first of them as the file."""
    first, second = "cache/a-1.dist-info/METADATA", "venv/a-1.dist-info/METADATA"
    both = plain_layer({first: metadata("a")})[:1024] + linked(second, first, tarfile.LNKTYPE)
    assert names(inventory(tmp_path, both)) == {first: ["a"], second: ["a"]}


def test_a_sparse_database_is_told_and_not_taken_for_what_is_left_of_it(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo(STATUS)
        member.size = len(status("a"))
        version = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
        member.pax_headers = {**version, "GNU.sparse.name": STATUS}
        archive.addfile(member, io.BytesIO(status("a")))
    found = inventory(tmp_path, out.getvalue())
    assert found.unread == (f"{STATUS}: a sparse file",)
    assert names(found) == {}


def test_links_that_are_not_followed_are_told(tmp_path: Path) -> None:
    found = inventory(
        tmp_path,
        linked(STATUS, "elsewhere", tarfile.LNKTYPE),
        linked("lib/apk/db/installed", "../../../etc/x"),
        linked(OS, "../usr/lib/os-release"),
        {"usr/lib/os-release": DEBIAN},
    )
    assert found.unread == (
        "lib/apk/db/installed: no regular file; links are not followed",
        f"{STATUS}: a link to elsewhere",
    )
    assert found.system == System("debian", "12")


def test_a_database_that_cannot_be_read_is_told_and_stops_nothing(tmp_path: Path) -> None:
    files = {
        STATUS: b"\x7fELF",
        "lib/apk/db/installed": b"P:musl\nV:1\n",
        "var/lib/rpm/Packages": b"\0\0\0\0",
        "var/lib/rpm/rpmdb.sqlite": b"not one",
    }
    found = inventory(tmp_path, files)
    assert names(found) == {"lib/apk/db/installed": ["musl"]}
    assert found.unread == (
        "var/lib/dpkg/status: expected a field, got '\\x7fELF'",
        "var/lib/rpm/Packages: rpm's database as Berkeley DB: its packages are not listed",
        "var/lib/rpm/rpmdb.sqlite: expected an SQLite database, got something else",
    )


def test_a_database_that_is_too_large_is_not_read_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Database(read_dpkg, limit=100)
    monkeypatch.setitem(databases._BY_PATH, STATUS, small)
    found = inventory(tmp_path, {STATUS: status("a", "b", "c")})
    assert found.unread == (f"{STATUS}: 155 bytes; expected at most 100",)
    assert names(found) == {}


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (b"no tar, and long enough to be one" * 40, "header checksum is wrong"),
        (plain_layer({"a": b"x" * 600})[:900], "ends within a member"),
        (bytes(512) + b"x" * 512, "one zero block"),
    ],
)
def test_a_layer_that_cannot_be_read_is_told_and_the_others_count(
    broken: bytes, told: str, tmp_path: Path
) -> None:
    found = inventory(tmp_path, {STATUS: status("a")}, broken, {OS: DEBIAN})
    assert names(found) == {STATUS: ["a"]}
    assert found.system == System("debian", "12")
    (line,) = found.unread
    assert line.startswith("layer sha256:")
    assert told in line


def test_nothing_that_a_layer_says_moves_a_cursor(tmp_path: Path) -> None:
    found = inventory(tmp_path, {"\x1b[2J.dist-info/METADATA": b"Name: \x1b[2J\nVersion: 1\n"})
    assert found.unread == ("\\u001b[2J.dist-info/METADATA: not a text of a package: '\\x1b[2J'",)


def test_files_that_name_packages_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "MAX_FILES", 3)
    found = inventory(tmp_path, {f"{n}.egg-info": metadata("a") for n in range(4)})
    assert "more than 3 files" in found.unread[0]


def test_packages_of_all_files_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "MAX_PACKAGES", 3)
    found = inventory(tmp_path, {STATUS: status("a", "b")}, {f"{STATUS}.d/c": status("c", "d")})
    assert "more than 3 packages" in found.unread[0]
    assert names(found) == {STATUS: ["a", "b"]}


def test_packages_behind_hard_links_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each may be the same large database once more."""
    monkeypatch.setattr(package, "MAX_PACKAGES", 5)
    plain = [linked(f"{n}.egg-info", STATUS, tarfile.LNKTYPE)[:512] for n in range(2)]
    found = inventory(tmp_path, plain_layer({STATUS: status("a", "b")})[:1024] + b"".join(plain))
    (told,) = found.unread
    assert told.startswith("layer sha256:")
    assert told.endswith(": more than 5 packages")


@pytest.mark.parametrize(
    ("what", "limit"), [(effort.LINES, 5), (effort.DATABASES, 50), (effort.PACKAGES, 2)]
)
def test_what_is_read_of_databases_is_counted_over_all_layers(
    what: str, limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(effort.LIMITS, what, limit)
    found = inventory(tmp_path, *({f"{n}.egg-info": metadata("a")} for n in range(3)))
    told = f"2.egg-info: more than {limit} {what} in the layers of an image"
    assert found.unread == (told,)
    assert len(names(found)) == 2


def test_headers_are_counted_over_all_layers_and_no_layer_behind_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(effort.LIMITS, effort.HEADERS, 3)
    stack: list[Files] = [{STATUS: status("a"), "x": b""}, {"y": b"", "z": b""}, {OS: DEBIAN}]
    found = inventory(tmp_path, *stack)
    assert names(found) == {STATUS: ["a"]}
    assert found.system == System("", "")
    assert len(found.unread) == 2
    assert all("more than 3 tar headers in the layers" in line for line in found.unread)


def test_a_bomb_takes_nothing_from_the_other_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacking, "_ANY_PLAIN_BYTES", 1 << 20)
    noise = random.Random(1).randbytes(100_000)
    found = inventory(
        tmp_path, plain_layer({"zeros": bytes(8 << 20)}), {STATUS: status("a"), "n": noise}
    )
    (told,) = found.unread
    assert "unpack to more than" in told
    assert names(found) == {STATUS: ["a"]}


def test_platforms_behind_one_that_took_all_of_an_image_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker = LayoutMaker(tmp_path / "layout")
    layer = maker.layer({STATUS: status("a"), "b": b""})
    tops = [maker.manifest([layer], maker.config(architecture=one)) for one in ("amd64", "arm64")]
    about = pack(maker, TAG, maker.index([*tops]), tmp_path / "archive.tar", mtime=MTIME)
    monkeypatch.setitem(effort.LIMITS, effort.HEADERS, 4)
    found = take_inventory(tmp_path / "archive.tar", about, KnownLayers())
    assert [one.unread for one in found.platforms] == [(), ()]
    assert found.spent[effort.HEADERS] == 4
    monkeypatch.setitem(effort.LIMITS, effort.HEADERS, 1)
    found = take_inventory(tmp_path / "archive.tar", about, KnownLayers())
    assert sorted(one.unread for one in found.platforms)[1] == (
        "more than 1 tar headers in other platforms",
    )


def test_packages_of_all_platforms_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker = LayoutMaker(tmp_path / "layout")
    layer = maker.layer({STATUS: status("a", "b")})
    tops = [maker.manifest([layer], maker.config(architecture=one)) for one in ("amd64", "arm64")]
    about = pack(maker, TAG, maker.index(tops), tmp_path / "archive.tar", mtime=MTIME)

    def platforms() -> list[tuple[dict[str, list[str]], tuple[str, ...]]]:
        found = take_inventory(tmp_path / "archive.tar", about, KnownLayers())
        return [(names(one), one.unread) for one in found.platforms]

    assert platforms() == [({STATUS: ["a", "b"]}, ())] * 2
    monkeypatch.setattr(package, "MAX_PACKAGES", 3)
    told = "more than 3 packages in the image"
    assert platforms() == [({STATUS: ["a", "b"]}, ()), ({}, (told,))]


@pytest.mark.parametrize("where", ["database", "layer"])
def test_what_takes_more_memory_than_there_is_is_told(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> NoReturn:
        raise MemoryError

    if where == "database":
        monkeypatch.setitem(databases._BY_PATH, STATUS, Database(no_memory))
    else:
        monkeypatch.setattr(layers, "plain_pieces", lambda *_: iter(no_memory, None))
    found = inventory(tmp_path, {STATUS: status("a")})
    (told,) = found.unread
    assert told.startswith(STATUS if where == "database" else "layer sha256:")
    assert told.endswith(": takes more memory than there is")


@pytest.mark.parametrize(("path", "target"), [("var/lib/dpkg", "/opt/dpkg"), ("var", "v")])
def test_a_link_that_hides_a_database_below_is_told(path: str, target: str, tmp_path: Path) -> None:
    found = inventory(tmp_path, {STATUS: status("a")}, linked(path, target))
    assert found.unread == (f"{path}: a link to {target}; databases there are not read",)
    assert names(found) == {}


def test_a_link_that_an_upper_layer_removes_is_told_no_more(tmp_path: Path) -> None:
    upper = {"var/lib/.wh.dpkg": b"", STATUS: status("a")}
    found = inventory(tmp_path, linked("var/lib/dpkg", "/opt/dpkg"), upper)
    assert (names(found), found.unread) == ({STATUS: ["a"]}, ())


def test_a_system_whose_lib_is_a_link_is_read_whole(tmp_path: Path) -> None:
    installed = {"usr/lib/apk/db/installed": b"P:musl\nV:1\n"}
    assert inventory(tmp_path, linked("lib", "usr/lib"), installed).unread == ()


def test_layers_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "MAX_LAYERS", 1)
    found = inventory(tmp_path, {STATUS: status("a")}, {OS: DEBIAN})
    assert found.unread == ("2 layers; expected at most 1",)


def test_layers_of_each_kind_are_read(tmp_path: Path) -> None:
    maker = LayoutMaker(tmp_path / "layout")
    plain = [plain_layer({f"{n}.egg-info": metadata(n)}) for n in "abc"]
    blobs = [
        maker.blob(plain[0], "application/vnd.oci.image.layer.v1.tar"),
        maker.blob(gzip.compress(plain[1]), LAYER),
        maker.blob(zstandard.compress(plain[2]), "application/vnd.oci.image.layer.v1.tar+zstd"),
    ]
    about = pack(maker, TAG, maker.manifest(blobs), tmp_path / "archive.tar", mtime=MTIME)
    (found,) = take_inventory(tmp_path / "archive.tar", about, KnownLayers()).platforms
    assert names(found) == {"a.egg-info": ["a"], "b.egg-info": ["b"], "c.egg-info": ["c"]}


def test_each_platform_is_looked_into_and_an_attestation_is_not(tmp_path: Path) -> None:
    maker = LayoutMaker(tmp_path / "layout")
    manifests = [
        maker.manifest([maker.layer({STATUS: status(kind)})], maker.config(architecture=kind))
        for kind in ("arm64", "amd64")
    ]
    statement = maker.blob(b"{}", "application/vnd.in-toto+json")
    other = maker.manifest([statement], maker.config(os="unknown", architecture="unknown"))
    top = maker.index([*manifests, other])
    about = pack(maker, TAG, top, tmp_path / "archive.tar", mtime=MTIME)
    found = take_inventory(tmp_path / "archive.tar", about, KnownLayers())
    assert [(one.platform, names(one)) for one in found.platforms] == [
        ("linux/amd64", {STATUS: ["amd64"]}),
        ("linux/arm64", {STATUS: ["arm64"]}),
    ]
    assert found.others == (Digest.parse(str(other["digest"])),)


@pytest.mark.parametrize(
    ("labels", "licence"),
    [
        ({"org.opencontainers.image.licenses": "Apache-2.0"}, "Apache-2.0"),
        ({"org.opencontainers.image.licenses": "a\x1b[2J"}, ""),
        ({"org.opencontainers.image.licenses": "x" * 5000}, ""),
        ({}, ""),
        (None, ""),
        ("text", ""),
    ],
)
def test_an_images_label_tells_its_licence(labels: object, licence: str, tmp_path: Path) -> None:
    maker = LayoutMaker(tmp_path / "layout")
    config = maker.config(config={"Labels": labels})
    top = maker.manifest([maker.layer({"a": b""})], config)
    about = pack(maker, TAG, top, tmp_path / "archive.tar", mtime=MTIME)
    assert take_inventory(tmp_path / "archive.tar", about, KnownLayers()).licence == licence


def test_layers_that_several_images_begin_with_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Digest] = []

    def counted(below: Layers, digest: Digest, source: BinaryIO, size: int) -> Layers:
        read.append(digest)
        return add_layer(below, digest, source, size)

    monkeypatch.setattr(image, "add_layer", counted)
    base, own = plain_layer({STATUS: status("a")}), plain_layer({STATUS: status("b")})
    known = KnownLayers()
    first = look(tmp_path / "1", base, own, known=known)
    second = look(tmp_path / "2", base, known=known)
    third = look(tmp_path / "3", own, base, known=known)
    assert [names(one.platforms[0])[STATUS] for one in (first, second, third)] == [
        ["b"],
        ["a"],
        ["a"],
    ]
    assert len(read) == 4  # the third image has the same layers, one upon the other in another way


def test_whoever_reads_layers_gives_up_when_nobody_wants_them(tmp_path: Path) -> None:
    known = KnownLayers()
    known.stop()
    with pytest.raises(CancelledError):
        look(tmp_path, plain_layer({STATUS: status("a")}), known=known)


def test_an_archive_of_another_image_is_refused(tmp_path: Path) -> None:
    maker = LayoutMaker(tmp_path / "layout")
    pack(maker, TAG, maker.manifest([]), tmp_path / "archive.tar", mtime=MTIME)
    other = LayoutMaker(tmp_path / "other")
    top = other.manifest([other.layer({"a": b""})])
    about = pack(other, TAG, top, tmp_path / "other.tar", mtime=MTIME)
    with pytest.raises(MalformedError):
        take_inventory(tmp_path / "archive.tar", about, KnownLayers())
