"""Which files in an image are looked for, and what reads each."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from itertools import dropwhile

from bundler.inventory.apk import read_apk
from bundler.inventory.dpkg import read_dpkg
from bundler.inventory.os_release import read_os_release
from bundler.inventory.package import Content, Unread
from bundler.inventory.python_packages import read_python
from bundler.inventory.rpm import read_rpm

_LARGE, _RPM, _SMALL = 64 << 20, 128 << 20, 256 << 10

# Told in every SBOM, so that nobody takes silence for absence.
LOOKED_FOR = (
    "dpkg: var/lib/dpkg/status, var/lib/dpkg/status.d/*",
    "apk: lib/apk/db/installed, usr/lib/apk/db/installed",
    "rpm: rpmdb.sqlite in var/lib/rpm, usr/lib/sysimage/rpm, usr/share/rpm",
    "Python: *.dist-info/METADATA, *.egg-info/PKG-INFO, *.egg-info",
)
NOT_LOOKED_AT = (
    "what lies behind symbolic links",
    "files that no such database is about, and whether files are as their packages brought them",
    "what programs and libraries have compiled or linked in: Go modules, Rust crates and others",
    "Java archives, npm packages, and archives within the image",
    "licences beyond what these databases declare; dpkg's declares none",
)


@dataclass(frozen=True, slots=True)
class Database:
    """A kind of file that says what is installed.

    Attributes:
        read: Reads one; raises ValueError where it is not of that kind.
        limit: The most bytes that are read of one.
        cut: Whether the beginning is enough of a longer one; else such a one is not read.
    """

    read: Callable[[bytes], Content]
    limit: int = _LARGE
    cut: bool = False


def _not_read(reason: str) -> Database:
    return Database(lambda _: Unread(reason), limit=0, cut=True)


def _log(content: bytes) -> Content:
    return Unread("a log with changes of rpmdb.sqlite, which are not taken in") if content else ()


_DPKG, _APK = Database(read_dpkg), Database(read_apk)
_PYTHON = Database(read_python, limit=_SMALL, cut=True)
_SYSTEM = Database(read_os_release, limit=_SMALL, cut=True)
_RPM_DIRECTORIES = ("var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm")
_RPM_FILES = {
    "rpmdb.sqlite": Database(read_rpm, limit=_RPM),
    "rpmdb.sqlite-wal": Database(_log, limit=1, cut=True),
    "Packages": _not_read("rpm's database as Berkeley DB: its packages are not listed"),
    "Packages.db": _not_read("rpm's database as ndb: its packages are not listed"),
}
# In this order the first one counts: the former is a link to the latter, or overrides it.
OS_RELEASE = ("etc/os-release", "usr/lib/os-release")
_BY_PATH = {
    "var/lib/dpkg/status": _DPKG,
    "lib/apk/db/installed": _APK,
    "usr/lib/apk/db/installed": _APK,
    **dict.fromkeys(OS_RELEASE, _SYSTEM),
    **{
        f"{directory}/{name}": database
        for directory in _RPM_DIRECTORIES
        for name, database in _RPM_FILES.items()
    },
}
_CLIMBING = frozenset({"", ".", ".."})
_STATUS_DIRECTORY, _SUMS = "var/lib/dpkg/status.d", ".md5sums"
_FOUND_BY_PATH = (*(set(_BY_PATH) - set(OS_RELEASE)), f"{_STATUS_DIRECTORY}/any")


def database_of(path: str) -> Database | None:
    """Say what reads a file of an image, by its path from the root; None for any other file."""
    directory, _, name = path.rpartition("/")
    if name == "METADATA" and directory.endswith(".dist-info"):
        return _PYTHON
    if name.endswith(".egg-info") or (name == "PKG-INFO" and directory.endswith(".egg-info")):
        return _PYTHON
    if directory == _STATUS_DIRECTORY and not name.endswith(_SUMS):
        return _DPKG
    return _BY_PATH.get(path)


def kind_of_files(path: str) -> str | None:
    """Name the kind of such a file where each is about one package; None for one that lists."""
    if path in _BY_PATH:
        return None
    return _STATUS_DIRECTORY if path.startswith(f"{_STATUS_DIRECTORY}/") else "Python metadata"


def hides_databases(path: str, target: str | None) -> bool:
    """Say whether a link in the place of a directory leads to databases that are not looked for.

    ``lib -> usr/lib`` does not: what was looked for in the one is looked for in the other.

    Args:
        path: Of the link, from the root.
        target: What it says; None where it is another link.
    """
    hidden = [one.removeprefix(path) for one in _FOUND_BY_PATH if one.startswith(f"{path}/")]
    if path.endswith(".dist-info"):
        hidden.append("/METADATA")
    if target is None or ".." in dropwhile(lambda part: part in _CLIMBING, target.split("/")):
        return bool(hidden)  # behind another link it may lead anywhere
    there = posixpath.normpath(posixpath.join("/", posixpath.dirname(path), target)).lstrip("/")
    return any(there == path or database_of(f"{there}{one}") is None for one in hidden)
