"""What each package manager's database says, and that nothing else passes for one."""

from __future__ import annotations

import sqlite3
import struct
import tracemalloc
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.inventory import package, rpm
from bundler.inventory.apk import read_apk
from bundler.inventory.databases import database_of, hides_databases
from bundler.inventory.dpkg import read_dpkg
from bundler.inventory.os_release import read_os_release
from bundler.inventory.package import Package, System, Unread
from bundler.inventory.python_packages import read_python
from bundler.inventory.rpm import read_rpm
from tests.rpm_database import (
    ARCH,
    EPOCH,
    LICENCE,
    NAME,
    RELEASE,
    SOURCE,
    VERSION,
    rpm_database,
    rpm_header,
)

CURL: dict[int, str | int] = {
    NAME: "curl",
    VERSION: "8.9.1",
    RELEASE: "2.fc41",
    EPOCH: 3,
    LICENCE: "curl AND MIT",
    ARCH: "x86_64",
    SOURCE: "curl-8.9.1-2.fc41.src.rpm",
}
DPKG = b"""\
Package: libc6
Status: install ok installed
Architecture: amd64
Source: glibc
Version: 2.36-9+deb12u13
Description: GNU C Library
 more about it: with a colon
 .

Package: gone
Status: deinstall ok config-files
Version: 1.0

Package: half
Status: install reinstreq half-installed
Version: 1.0

Package: never
Status: unknown ok not-installed

Package: g++
Status: hold ok installed
Architecture: amd64
Source: gcc-defaults (1.203)
Version: 4:12.2.0-3
"""
APK = b"""\
C:Q1p78yvTLG094tHE1+dToJGbmYzQE=
P:musl
V:1.2.5-r0
A:x86_64
L:MIT
o:musl
F:lib
R:ld-musl-x86_64.so.1
a:0:0:755

P:libcrypto3
V:3.3.2-r0
A:x86_64
L:Apache-2.0
o:openssl
"""


def test_dpkg_lists_what_is_installed_and_nothing_else() -> None:
    assert read_dpkg(DPKG) == (
        Package(
            kind="deb",
            name="g++",
            version="4:12.2.0-3",
            architecture="amd64",
            source="gcc-defaults@1.203",
        ),
        Package(
            kind="deb",
            name="libc6",
            version="2.36-9+deb12u13",
            architecture="amd64",
            source="glibc",
        ),
    )


def test_a_file_of_an_image_without_dpkg_need_not_say_that_it_is_installed() -> None:
    found = read_dpkg(b"Package: tzdata\nVersion: 2025b-0+deb12u2\nArchitecture: all\n")
    assert [(one.name, one.version) for one in found] == [("tzdata", "2025b-0+deb12u2")]


@pytest.mark.parametrize(
    "content",
    [
        b"Package: a\nVersion: 1\nVersion: 2\n",
        b"Package: a\n",
        b"Version: 1\n",
        b" goes on with nothing\n",
        b"no field at all\n",
        b"Package: a\nVersion: 1\x1b[2J\n",
        b"\x7fELF\x02\x01\x01\0\0\0",
    ],
)
def test_what_is_no_database_of_dpkg_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"field|package"):
        read_dpkg(content)


def test_apk_lists_packages_with_their_licences() -> None:
    assert read_apk(APK) == (
        Package(
            kind="apk",
            name="libcrypto3",
            version="3.3.2-r0",
            architecture="x86_64",
            source="openssl",
            licence="Apache-2.0",
        ),
        Package(kind="apk", name="musl", version="1.2.5-r0", architecture="x86_64", licence="MIT"),
    )
    assert read_apk(b"") == ()


@pytest.mark.parametrize("content", [b"Package: a\n", b"nothing\n", b"P:a\n\n", b"\0\0\0\0"])
def test_what_is_no_database_of_apk_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"letter|package"):
        read_apk(content)


def test_rpm_lists_packages_but_no_keys(tmp_path: Path) -> None:
    key = rpm_header({NAME: "gpg-pubkey", VERSION: "a15b79cc", RELEASE: "63d04c2c"})
    plain = rpm_header({NAME: "basesystem", VERSION: "11"})
    content = rpm_database(tmp_path / "rpmdb.sqlite", [rpm_header(CURL), key, plain])
    assert content[18:20] == b"\2\2"  # as rpm leaves it, and as SQLite opens nothing in memory
    assert read_rpm(content) == (
        Package(kind="rpm", name="basesystem", version="11"),
        Package(
            kind="rpm",
            name="curl",
            version="8.9.1-2.fc41",
            architecture="x86_64",
            epoch="3",
            source="curl-8.9.1-2.fc41.src.rpm",
            licence="curl AND MIT",
        ),
    )


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\0\0\0\1",
        rpm_header(CURL)[:-1],
        rpm_header(CURL) + b"\0",
        struct.pack(">II", 0xFFFFFFFF, 0xFFFFFFFF),
        struct.pack(">II", 1, 3) + struct.pack(">IIII", NAME, 6, 0, 1) + b"abc",
        struct.pack(">II", 1, 3) + struct.pack(">IIII", NAME, 6, 0xFFFFFFF0, 1) + b"ab\0",
        rpm_header({VERSION: "1"}),
        rpm_header({NAME: "a\nb", VERSION: "1"}),
    ],
)
def test_a_broken_header_of_rpm_is_refused(header: bytes, tmp_path: Path) -> None:
    content = rpm_database(tmp_path / "rpmdb.sqlite", [rpm_header(CURL), header])
    with pytest.raises(ValueError, match=r"rpm header|package"):
        read_rpm(content)


def edited(tmp_path: Path, *statements: str) -> bytes:
    path = tmp_path / "edited.sqlite"
    with closing(sqlite3.connect(path)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()
    return path.read_bytes()


def test_a_view_in_the_place_of_rpms_table_is_not_asked(tmp_path: Path) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
    content = edited(tmp_path, f"CREATE VIEW Packages AS SELECT x'00' AS blob, * FROM ({endless})")
    with pytest.raises(ValueError, match="expected a table Packages"):
        read_rpm(content)


@pytest.mark.parametrize("kept", ["VIRTUAL", "STORED"])
def test_a_table_that_computes_its_rows_is_not_asked(kept: str, tmp_path: Path) -> None:
    """Each row could make up as many bytes as it likes."""
    content = edited(
        tmp_path,
        f"CREATE TABLE Packages (n INTEGER, blob BLOB AS (zeroblob(n)) {kept})",
        "INSERT INTO Packages (n) VALUES (1)",
    )
    with pytest.raises(ValueError, match="no computed columns"):
        read_rpm(content)


def test_a_module_in_the_place_of_rpms_table_is_not_asked(tmp_path: Path) -> None:
    content = edited(tmp_path, "CREATE VIRTUAL TABLE Packages USING fts4(blob)")
    with pytest.raises(ValueError, match="expected a table Packages, found none"):
        read_rpm(content)


def test_a_row_that_is_too_large_for_a_package_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = rpm_database(tmp_path / "rpmdb.sqlite", [rpm_header({**CURL, 9999: "x" * 9000})])
    assert len(read_rpm(content)) == 1
    monkeypatch.setattr(rpm, "_MAX_ROW_BYTES", 5000)
    with pytest.raises(ValueError, match="too big"):
        read_rpm(content)


def test_rows_are_not_more_than_the_database(tmp_path: Path) -> None:
    """A damaged or hostile one may have many rows in one place."""
    path = tmp_path / "rpmdb.sqlite"
    rpm_database(path, [rpm_header(CURL)])
    with closing(sqlite3.connect(path)) as database:
        assert len(list(rpm._packages(database, path.stat().st_size))) == 1
        with pytest.raises(ValueError, match="share their bytes"):
            list(rpm._packages(database, len(rpm_header(CURL)) - 1))


def test_work_on_a_database_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpm, "_INSTRUCTIONS", 10)
    monkeypatch.setattr(rpm, "_MAX_CALLS", 2)
    content = rpm_database(tmp_path / "rpmdb.sqlite", [rpm_header(CURL)] * 100)
    with pytest.raises(ValueError, match="interrupted"):
        read_rpm(content)


@pytest.mark.parametrize("kind", ["another", "text", "cut", "noise"])
def test_what_is_no_database_of_rpm_is_refused(kind: str, tmp_path: Path) -> None:
    content = rpm_database(tmp_path / "rpmdb.sqlite", [rpm_header(CURL)])
    bad = {
        "another": edited(tmp_path, "CREATE TABLE other (a)"),
        "text": b"\x61\x15\x06\0" * 1024,
        "cut": content[:4096],
        "noise": content[:100] + b"\xa5" * (len(content) - 100),
    }
    with pytest.raises(ValueError, match=r"expected|not an SQLite"):
        read_rpm(bad[kind])


@given(st.binary(max_size=300), st.integers(0, 11_000))
def test_a_changed_database_of_rpm_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, patch: bytes, at: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.sqlite"
    if not path.exists():
        rpm_database(path, [rpm_header(CURL)] * 3)
    content = path.read_bytes()
    with suppress(ValueError):
        read_rpm(content[:at] + patch + content[at + len(patch) :])


METADATA = b"""\
Metadata-Version: 2.4
Name: ruamel.yaml
Version: 0.18.6
License-Expression: MIT AND Apache-2.0
License: see below
Author: Somebody

Name: not-this-one
Version: 9
"""


def test_python_metadata_names_one_package() -> None:
    assert read_python(METADATA) == (
        Package(kind="pypi", name="ruamel.yaml", version="0.18.6", licence="MIT AND Apache-2.0"),
    )


@pytest.mark.parametrize(
    ("lines", "licence"),
    [
        ("License: BSD-3-Clause\n", "BSD-3-Clause"),
        ("License: UNKNOWN\n", ""),
        ("License: The text\n        of a licence\n", ""),
        ("License: " + "x" * 500 + "\n", ""),
        ("License: UNKNOWN\nClassifier: License :: OSI Approved :: MIT License\n", "MIT License"),
        (
            "Classifier: License :: OSI Approved :: MIT License\n"
            "Classifier: License :: OSI Approved :: Apache Software License\n"
            "Classifier: Programming Language :: Python\n",
            "Apache Software License, MIT License",
        ),
    ],
)
def test_python_licences_are_names_never_texts(lines: str, licence: str) -> None:
    (found,) = read_python(f"Name: a\nVersion: 1\n{lines}\nbody\n".encode())
    assert found.licence == licence


@pytest.mark.parametrize("content", [b"", b"Name: a\n\nVersion: 1\n", b"\0\1\2", b"Version: 1\n"])
def test_what_is_no_metadata_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"field|package"):
        read_python(content)


def test_os_release_says_what_an_image_was_made_of() -> None:
    content = b'PRETTY_NAME="Debian GNU/Linux 12"\nID=debian\nVERSION_ID="12"\n# end\n'
    assert read_os_release(content) == System("debian", "12")
    assert read_os_release(b"ID=wolfi\n") == System("wolfi", "")
    assert read_os_release(b"ID='a b'\nVERSION_ID=1?x=y\n") == System("", "")
    assert read_os_release(b"\xff\0") == System("", "")


def test_more_packages_than_anybody_installs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "MAX_PACKAGES", 1)
    with pytest.raises(ValueError, match="more than 1 packages"):
        read_apk(APK)


def test_what_is_said_of_packages_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "MAX_TEXT", 40)
    with pytest.raises(ValueError, match="more than 40 characters"):
        read_apk(APK)


@pytest.mark.parametrize("read", [read_dpkg, read_apk, read_python])
def test_a_line_without_end_is_refused(read: Callable[[bytes], object]) -> None:
    with pytest.raises(ValueError, match="a line of more than 1048576 bytes"):
        read(b"a:" + b"x" * (1 << 20))


def test_fields_of_a_package_are_counted() -> None:
    with pytest.raises(ValueError, match="more than 1000 fields"):
        read_dpkg(b"Version: 1\n" * 1001)


@pytest.mark.parametrize("value", [b"x" * 9000, "\u20ac".encode() * 3000])
def test_a_name_that_is_far_too_long_is_refused_and_never_cut(value: bytes) -> None:
    with pytest.raises(ValueError, match="not a text of a package"):
        read_dpkg(b"Package: " + value + b"\nVersion: 1\n")


@pytest.mark.parametrize(
    ("read", "line"),
    [(read_dpkg, b"a:\n"), (read_apk, b"a:\n"), (read_python, b"a:\n"), (read_dpkg, b"S:\n a\n")],
)
def test_lines_that_say_nothing_take_no_memory(
    read: Callable[[bytes], object], line: bytes
) -> None:
    content = line * ((256 << 10) // len(line))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="without name"):
            read(content)
        assert tracemalloc.get_traced_memory()[1] < len(content) // 4
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["/", "//", " ", "/a", "a/"])
def test_what_no_package_url_can_name_is_refused(name: str) -> None:
    for content in (f"P:{name}\nV:1\n\n", f"P:a\nV:{name}\n\n"):
        with pytest.raises(ValueError, match="no name or version"):
            read_apk(content.encode())
    with pytest.raises(ValueError, match="no name or version"):
        Package(kind="rpm", name=name, version="1")


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("var/lib/dpkg", "/opt/dpkg"),
        ("var/lib/dpkg/status.d", "/opt/dpkg"),
        ("var", "v"),
        ("usr/lib", "../opt"),
        ("lib/apk", "../usr/lib/other"),
        ("var/lib/dpkg", "x/../../dpkg"),
        ("var/lib/dpkg", "."),
        ("var/lib/dpkg", "dpkg/../../dpkg"),
        ("var/lib/dpkg", "../dpkg"),
        ("opt/a-1.dist-info", "/opt/a"),
        ("var/lib/dpkg", None),
    ],
)
def test_a_link_that_hides_databases_is_told(path: str, target: str | None) -> None:
    assert hides_databases(path, target)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("lib", "usr/lib"),
        ("var/lib/rpm", "../../usr/lib/sysimage/rpm"),
        ("usr/share/rpm", "/usr/lib/sysimage/rpm"),
        ("opt/a-1.dist-info", "../cache/a-1.dist-info"),
        ("lib64", "/anywhere"),
        ("var/run", "x/../../run"),
    ],
)
def test_a_link_to_where_databases_are_looked_for_hides_none(path: str, target: str) -> None:
    assert not hides_databases(path, target)


@pytest.mark.parametrize(
    "path",
    [
        "var/lib/dpkg/status",
        "var/lib/dpkg/status.d/base",
        "lib/apk/db/installed",
        "usr/lib/apk/db/installed",
        "var/lib/rpm/rpmdb.sqlite",
        "usr/lib/sysimage/rpm/rpmdb.sqlite",
        "etc/os-release",
        "opt/venv/lib/python3.12/site-packages/a-1.dist-info/METADATA",
        "usr/lib/python3/dist-packages/a-1.egg-info/PKG-INFO",
        "usr/lib/python3/dist-packages/a-1.egg-info",
    ],
)
def test_databases_are_told_by_where_they_lie(path: str) -> None:
    assert database_of(path) is not None


@pytest.mark.parametrize(
    "path",
    [
        "var/lib/dpkg/status-old",
        "var/lib/dpkg/status.d/base.md5sums",
        "backup/var/lib/dpkg/status",
        "a-1.dist-info/RECORD",
        "METADATA",
        "",
    ],
)
def test_other_files_are_not_read(path: str) -> None:
    assert database_of(path) is None


@pytest.mark.parametrize("name", ["Packages", "Packages.db"])
def test_rpms_other_databases_are_told_as_not_read(name: str) -> None:
    database = database_of(f"var/lib/rpm/{name}")
    assert database is not None
    found = database.read(b"")
    assert isinstance(found, Unread)
    assert "its packages are not listed" in found.reason


def test_changes_that_rpm_has_not_taken_in_are_told() -> None:
    log = database_of("var/lib/rpm/rpmdb.sqlite-wal")
    assert log is not None
    assert log.read(b"") == ()
    assert isinstance(log.read(b"7"), Unread)


@pytest.mark.parametrize("read", [read_dpkg, read_apk, read_python, read_rpm])
@given(content=st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(read: object, content: bytes) -> None:
    assert callable(read)
    with suppress(ValueError):
        read(content)
