"""Text of ``Name: value`` lines, as dpkg and Python write it."""

from __future__ import annotations

from collections.abc import Iterator

Fields = list[tuple[str, str]]


def paragraphs(content: bytes) -> Iterator[Fields]:
    """Read fields, in paragraphs that empty lines part; names are given in lower case.

    Lines that continue a value begin with a space or a tab; only whether there are any is kept: the
    value then ends with a newline.

    Raises:
        ValueError: A line is neither a field, nor goes on with one.
    """
    fields: Fields = []
    for line in content.decode("utf-8", "replace").split("\n"):
        if not line.strip():
            if fields:
                yield fields
            fields = []
        elif line[0] in " \t":
            _continue(fields, line)
        else:
            name, colon, value = line.partition(":")
            if not colon:
                raise ValueError(f"expected a field, got {line[:80]!r}")
            fields.append((name.strip().lower(), value.strip()))
    if fields:
        yield fields


def _continue(fields: Fields, line: str) -> None:
    if not fields:
        raise ValueError(f"expected a field first, got {line[:80]!r}")
    name, value = fields[-1]
    fields[-1] = name, value.rstrip("\n") + "\n"
