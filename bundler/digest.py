"""The sha256 of some bytes, and of a tree of files."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

_HEX = re.compile(r"[0-9a-f]{64}")
_PREFIX = "sha256:"


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """The sha256 of some bytes, written ``sha256:`` and 64 lowercase hex digits.

    A value of this type is well formed; text from outside comes in through ``parse``.

    Source:
        OCI image specification v1.1, descriptor.md, section "Digests".
    """

    hex: str

    def __post_init__(self) -> None:
        if _HEX.fullmatch(self.hex) is None:
            raise ValueError(f"not 64 lowercase hex digits: {self.hex[:80]!r}")

    @classmethod
    def of(cls, content: bytes) -> Self:
        """Hash some bytes."""
        return cls(hashlib.sha256(content).hexdigest())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``sha256:<hex>`` from outside.

        Raises:
            ValueError: ``text`` is not of that form.
        """
        if not text.startswith(_PREFIX):
            raise ValueError(f"not a sha256 digest: {text[:80]!r}")
        return cls(text.removeprefix(_PREFIX))

    @property
    def raw(self) -> bytes:
        """The 32 bytes themselves."""
        return bytes.fromhex(self.hex)

    @property
    def base64(self) -> str:
        """The digest as S3 writes it in ``x-amz-checksum-sha256``."""
        return base64.b64encode(self.raw).decode()

    @property
    def id16(self) -> str:
        """The first 16 hex digits: enough to name a directory, never enough to trust one."""
        return self.hex[:16]

    def __str__(self) -> str:
        return _PREFIX + self.hex


def tree_digest(files: Iterable[tuple[str, int, Digest]]) -> Digest:
    """Give the identity of a set of files, whatever archive carries them.

    Args:
        files: For each file its relative POSIX path, its size in bytes, and its digest.

    Returns:
        The sha256 over one line a file, ``<hex> <size> <path>`` and a newline, in UTF-8, sorted
        by the bytes of the path.

    Source:
        FORMAT.md, section "Identity".
    """
    lines = sorted((path.encode(), size, digest) for path, size, digest in files)
    whole = hashlib.sha256()
    for path, size, digest in lines:
        whole.update(f"{digest.hex} {size} ".encode() + path + b"\n")
    return Digest(whole.hexdigest())
