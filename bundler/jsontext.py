"""JSON as this project reads and writes it."""

from __future__ import annotations

import json
from typing import NoReturn

from bundler.document import Document, kind_of
from bundler.errors import MalformedError, printable

# Integers beyond this are not exact in every JSON reader (I-JSON, RFC 7493, section 2.2).
MAX_INTEGER = 2**53 - 1
_MAX_DEPTH = 32
# Each value takes a few dozen bytes of memory however short it is written.
_MAX_VALUES = 4_000_000


def read_json(content: bytes, *, name: str, limit: int) -> Document:
    """Parse one JSON document from outside.

    Args:
        content: Its bytes: UTF-8 with no byte order mark.
        name: What to call it in an error.
        limit: The most bytes that it may have.

    Raises:
        MalformedError: It is too long, has more than 4,000,000 of ``[{,``, is not JSON, has a key
            twice, a number that is not an integer or beyond 2**53 - 1, a lone surrogate, is nested
            more than 32 deep, or takes more memory than there is.
    """
    if len(content) > limit:
        raise MalformedError(f"{name}: expected at most {limit} bytes, got {len(content)}")
    if sum(content.count(mark) for mark in (b"[", b"{", b",")) > _MAX_VALUES:
        raise MalformedError(f"{name}: expected at most {_MAX_VALUES} values, got more")
    try:
        value = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=_integer,
            parse_float=_no_float,
            parse_constant=_no_float,
        )
        check_plain(value)
    except MemoryError:
        raise MalformedError(f"{name}: takes more memory than there is") from None
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise MalformedError(f"{name}: not JSON as we write it: {printable(reason)}") from error
    return Document(name, value)


def write_json(value: object) -> bytes:
    """Write one JSON document in the only encoding we use.

    UTF-8, keys sorted, one space of indent a level, a newline at the end.

    Raises:
        ValueError: There is a float, or text that is not Unicode.
    """
    check_plain(value)
    text = json.dumps(value, sort_keys=True, indent=1, separators=(",", ": "), ensure_ascii=False)
    return text.encode() + b"\n"


def check_plain(value: object, depth: int = 0) -> None:
    """Hold a value to dicts with text keys, lists, text, integers, booleans and None.

    Raises:
        ValueError: It has another type, a lone surrogate, or is nested more than 32 deep.
    """
    if depth >= _MAX_DEPTH and isinstance(value, dict | list):
        raise ValueError(f"nested more than {_MAX_DEPTH} deep")
    if isinstance(value, str):
        value.encode()  # a lone surrogate raises UnicodeEncodeError, which is a ValueError
    elif isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("expected text as keys")
        check_plain([*value, *value.values()], depth)
    elif isinstance(value, list):
        for item in value:
            check_plain(item, depth + 1)
    elif value is not None and not isinstance(value, int):
        raise ValueError(f"expected no {kind_of(value)}")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {twice!r} stands there twice")
    return table


def _integer(text: str) -> int:
    if len(text) > len(str(MAX_INTEGER)) + 1 or abs(int(text)) > MAX_INTEGER:
        raise ValueError(f"integer beyond 2**53 - 1: {text[:30]}")
    return int(text)


def _no_float(text: str) -> NoReturn:
    raise ValueError(f"number is not an integer: {text[:30]}")
