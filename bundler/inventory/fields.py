"""Text of ``Name: value`` lines, as dpkg and Python write it."""

from __future__ import annotations

import io
from collections.abc import Iterator

Fields = list[tuple[str, str]]

_MAX_LINE_BYTES = 1 << 20
# Of the fields that are asked for, in one paragraph.
_MAX_FIELDS = 1000
# More than any text of a package may have, so that who asks refuses what was cut here.
_KEPT_BYTES = 8 << 10


def lines(content: bytes) -> Iterator[bytes]:
    """Give lines one at a time, without their ends; nothing is copied but the line that is given.

    Raises:
        ValueError: One has more than a MiB.
    """
    source = io.BytesIO(content)
    while line := source.readline(_MAX_LINE_BYTES + 1):
        if len(line) > _MAX_LINE_BYTES:
            raise ValueError(f"a line of more than {_MAX_LINE_BYTES} bytes")
        yield line.removesuffix(b"\n")


def text_of(value: bytes) -> str:
    """Decode a value: 8 KiB of it, which is more than any that is good for something has."""
    return value[:_KEPT_BYTES].decode("utf-8", "replace")


def paragraphs(content: bytes, wanted: frozenset[bytes]) -> Iterator[Fields]:
    """Read fields, in paragraphs that empty lines part; names are given in lower case.

    Lines that continue a value begin with a space or a tab; only whether there are any is kept: the
    value then ends with a newline.

    Args:
        content: The text.
        wanted: Names of the fields to keep, in lower case; memory is taken by no others.

    Raises:
        ValueError: A line is neither a field, nor goes on with one; a paragraph has too many.
    """
    fields: Fields = []
    name = b""
    for line in lines(content):
        if not line.strip():
            if name:
                yield fields
            fields, name = [], b""
        elif line[:1] in b" \t":
            if not name:
                raise ValueError(f"expected a field first, got {text_of(line)[:80]!r}")
            _continue(fields, name)
        else:
            name, value = _field(line)
            if name in wanted:
                _add(fields, name, value)
    if name:
        yield fields


def _add(fields: Fields, name: bytes, value: bytes) -> None:
    if len(fields) == _MAX_FIELDS:
        raise ValueError(f"more than {_MAX_FIELDS} fields of a package")
    fields.append((name.decode(), text_of(value)))


def _continue(fields: Fields, name: bytes) -> None:
    """Mark the last field as continued, if it is the one that goes on and was kept."""
    if fields and fields[-1][0].encode() == name:
        fields[-1] = fields[-1][0], fields[-1][1].rstrip("\n") + "\n"


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    name = name.strip().lower()
    if not colon or not name:
        raise ValueError(f"expected a field, got {text_of(line)[:80]!r}")
    return name, value.strip()
