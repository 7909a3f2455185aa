"""SHA256SUMS: the digests of whole files, in the form that ``sha256sum -c`` reads."""

from __future__ import annotations

import re
from collections.abc import Mapping

from bundler.digest import Digest
from bundler.errors import MalformedError, printable
from bundler.reference import file_name, folded, relative_path

SUMS_NAME = "SHA256SUMS"
MAX_SUMS_BYTES = 1 << 20
_LINE = re.compile(r"([0-9a-f]{64})  ([^\n]+)\n")


def write_sums(digests: Mapping[str, Digest]) -> bytes:
    """Give one line a file, ``<hex>  <name>`` and a newline, sorted by the bytes of the name."""
    ordered = sorted(digests.items(), key=lambda item: item[0].encode())
    return b"".join(f"{digest.hex}  {name}\n".encode() for name, digest in ordered)


def read_release_sums(content: bytes) -> dict[str, Digest]:
    """Read a release's SHA256SUMS, already proven to be what was signed.

    Raises:
        MalformedError: It is too long, or a line is not one that ``write_sums`` gives.
    """
    sums = read_sums(content, name=SUMS_NAME)
    for path in sums:
        try:
            file_name(path)
        except ValueError as error:
            raise MalformedError(f"{SUMS_NAME}: {error}") from error
    return sums


def read_sums(content: bytes, *, name: str, limit: int = MAX_SUMS_BYTES) -> dict[str, Digest]:
    """Read digests by relative path.

    Raises:
        MalformedError: It is too long, empty, not sorted, or a line is not one of ours.
    """
    if len(content) > limit:
        raise MalformedError(f"{name}: expected at most {limit} bytes, got {len(content)}")
    sums: dict[str, Digest] = {}
    seen: set[str] = set()
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(keepends=True), 1):
        found = _LINE.fullmatch(line)
        if found is None:
            raise MalformedError(
                f"{name}:{number}: expected '<64 hex digits>  <name>', got {printable(line[:80])!r}"
            )
        try:
            path = relative_path(found[2])
        except ValueError as error:
            raise MalformedError(f"{name}:{number}: {printable(str(error))}") from error
        if folded(path) in seen:
            raise MalformedError(f"{name}:{number}: {printable(path)} stands there twice")
        seen.add(folded(path))
        sums[path] = Digest(found[1])
    if not sums:
        raise MalformedError(f"{name}: expected at least one line, got none")
    if write_sums(sums) != content:
        raise MalformedError(f"{name}: lines are not sorted by name")
    return sums
