"""The database of dpkg: ``var/lib/dpkg/status``, and ``status.d`` of images without dpkg."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bundler.inventory.fields import paragraphs
from bundler.inventory.package import Package, few_enough

_WANTED = frozenset({b"package", b"status", b"version", b"architecture", b"source"})
# Source: deb-src-control(5), "Source": a name, and a version in parentheses where it differs.
_SOURCE = re.compile(r"(\S+)(?: \((\S+)\))?")


def read_dpkg(content: bytes) -> tuple[Package, ...]:
    """Give the packages that are installed: neither removed nor only half there.

    Raises:
        ValueError: It is no database of dpkg.
    """
    return few_enough(_installed(content))


def _installed(content: bytes) -> Iterator[Package]:
    for fields in paragraphs(content, _WANTED):
        known = dict(fields)
        if len(known) != len(fields):
            raise ValueError(f"a field stands twice in {known.get('package', '')[:80]!r}")
        # A file in status.d is about a package that is there, and need not say so.
        if known.get("status", "installed").split()[-1:] == ["installed"]:
            yield _package(known)


def _package(fields: dict[str, str]) -> Package:
    return Package(
        kind="deb",
        name=fields.get("package", ""),
        version=fields.get("version", ""),
        architecture=fields.get("architecture", ""),
        source=_source(fields.get("source", "")),
    )


def _source(text: str) -> str:
    found = _SOURCE.fullmatch(text)
    if found is None:
        return ""
    return f"{found[1]}@{found[2]}" if found[2] else found[1]
