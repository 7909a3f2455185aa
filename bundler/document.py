"""Strict reading of parsed YAML and JSON: each field has a type, a rule, a place to blame."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NoReturn, TypeVar

from bundler.errors import MalformedError, printable

T = TypeVar("T")
Path = tuple[str | int, ...]

_MAX_TEXT = 4096
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


def utc_time(text: str) -> str:
    """Check a time in UTC seconds, such as ``2026-11-01T00:00:00Z``.

    Raises:
        ValueError: It is written in another way, or no calendar has it.
    """
    if _TIME.fullmatch(text):
        with contextlib.suppress(ValueError):
            datetime.fromisoformat(text)
            return text
    raise ValueError(f"not a time: {text[:40]!r}; expected YYYY-MM-DDThh:mm:ssZ")


@dataclass(frozen=True, slots=True)
class Document:
    """One parsed file.

    Attributes:
        name: What to call the file in an error.
        value: Plain dicts, lists, text, integers, booleans and None.
        positions: Line and column, both from 1, of each value, by its path from the root.
    """

    name: str
    value: object
    positions: Mapping[Path, tuple[int, int]] = field(default_factory=dict)

    def table(self) -> Table:
        """Read the whole document as one mapping."""
        return Table(self, (), self.value)

    def refuse(self, path: Path, message: str, hint: str | None = None) -> NoReturn:
        """Raise with the best place that is known for ``path``."""
        raise MalformedError(self.located(path, message), hint=hint)

    def located(self, path: Path, message: str) -> str:
        """Put the best place that is known for ``path`` before what is to be said of it."""
        known = (path[:n] for n in range(len(path), -1, -1) if path[:n] in self.positions)
        place = next((self.positions[prefix] for prefix in known), None)
        where = f"{self.name}:{place[0]}:{place[1]}" if place else self.name
        dotted = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".")
        subject = f"{printable(dotted)}: " if dotted else ""
        return f"{where}: {subject}{printable(message)}"


class Table:
    """Reads one mapping field by field; ``close`` refuses what nobody asked for."""

    def __init__(self, document: Document, path: Path, value: object) -> None:
        self._document = document
        self._path = path
        if not isinstance(value, dict):
            self._document.refuse(path, f"expected a mapping, got {kind_of(value)}")
        self._value: dict[str, object] = value
        self._asked: set[str] = set()

    def __contains__(self, key: str) -> bool:
        self._asked.add(key)
        return self._value.get(key) is not None

    def names(self) -> list[str]:
        """Give the names of all fields, as written."""
        return list(self._value)

    def refuse(self, key: str, message: str, hint: str | None = None) -> NoReturn:
        """Raise for one field of this table."""
        self._document.refuse((*self._path, key), message, hint)

    def close(self) -> None:
        """Refuse every field that was not read.

        Raises:
            MalformedError: There is one; the message names the nearest known field.
        """
        for key in self._value:
            if key not in self._asked:
                near = difflib.get_close_matches(key, self._asked, n=1)
                self.refuse(
                    key,
                    "unknown field",
                    hint=f"did you mean {near[0]!r}?"
                    if near
                    else f"known here: {', '.join(sorted(self._asked))}",
                )

    def text(self, key: str, default: str | None = None) -> str:
        """Read a text; without ``default`` it must be there and not be empty."""
        value = self._get(key, default)
        if not isinstance(value, str):
            self.refuse(key, f"expected a text, got {kind_of(value)}", _quote_hint(value))
        if default is None and not value:
            self.refuse(key, "must not be empty")
        if len(value) > _MAX_TEXT:
            self.refuse(key, f"expected at most {_MAX_TEXT} characters, got {len(value)}")
        return value

    def parse(self, key: str, rule: Callable[[str], T], default: str | None = None) -> T:
        """Read a text and turn it into a value by ``rule``, which raises ValueError."""
        text = self.text(key, default)
        return self.explain(lambda: rule(text), key)

    def parse_optional(self, key: str, rule: Callable[[str], T]) -> T | None:
        """Read as ``parse`` does, or give None where the field is absent."""
        return self.parse(key, rule) if key in self else None

    def choice(self, key: str, among: tuple[str, ...], default: str | None = None) -> str:
        """Read a text that must be one of ``among``."""
        value = self.text(key, default)
        if value not in among:
            self.refuse(key, f"expected one of {', '.join(among)}, got {value!r}")
        return value

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """Read an integer from ``low`` to ``high``, both included."""
        value = self._get(key, default)
        if not isinstance(value, int) or isinstance(value, bool):
            self.refuse(key, f"expected an integer, got {kind_of(value)}")
        if not low <= value <= high:
            self.refuse(key, f"expected {low} to {high}, got {value}")
        return value

    def flag(self, key: str, default: bool | None = None) -> bool:
        """Read true or false."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            self.refuse(key, f"expected true or false, got {kind_of(value)}")
        return value

    def table(self, key: str) -> Table:
        """Read a mapping; an absent one reads as empty, so that its own fields say what is due."""
        value = self._value.get(key)
        self._asked.add(key)
        return Table(self._document, (*self._path, key), {} if value is None else value)

    def named_tables(self, key: str, rule: Callable[[str], str]) -> list[tuple[str, Table]]:
        """Read a mapping from names, each held to ``rule``, to mappings."""
        table = self.table(key)
        return [(table.check_name(name, rule), table.table(name)) for name in table.names()]

    def check_name(self, name: str, rule: Callable[[str], str]) -> str:
        """Hold the name of one field to ``rule``, which raises ValueError."""
        return self.explain(lambda: rule(name), name)

    def tables(self, key: str) -> list[Table]:
        """Read a list of mappings; an absent one is empty."""
        path = (*self._path, key)
        return [Table(self._document, (*path, n), item) for n, item in enumerate(self._list(key))]

    def texts(self, key: str) -> tuple[str, ...]:
        """Read a list of texts; an absent one is empty."""
        return tuple(self._texts(key))

    def parse_all(self, key: str, rule: Callable[[str], T]) -> tuple[T, ...]:
        """Read a list of texts, each turned into a value by ``rule``."""
        return self.explain(lambda: tuple(rule(text) for text in self._texts(key)), key)

    def plain(self, key: str) -> dict[str, object]:
        """Read a mapping that is passed on as it is, such as values for a chart."""
        value = self._value.get(key)
        self._asked.add(key)
        if value is not None and not isinstance(value, dict):
            self.refuse(key, f"expected a mapping, got {kind_of(value)}")
        return dict(value or {})

    def explain(self, make: Callable[[], T], key: str | None = None) -> T:
        """Make a value type, and tell a ValueError with its place in the file."""
        try:
            return make()
        except ValueError as error:
            path = self._path if key is None else (*self._path, key)
            self._document.refuse(path, str(error))

    def _get(self, key: str, default: object) -> object:
        self._asked.add(key)
        value = self._value.get(key)
        if value is None:
            if default is None:
                self.refuse(key, "missing")
            return default
        return value

    def _list(self, key: str) -> list[object]:
        self._asked.add(key)
        value = self._value.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            self.refuse(key, f"expected a list, got {kind_of(value)}")
        return value

    def _texts(self, key: str) -> Iterator[str]:
        for n, item in enumerate(self._list(key)):
            if not isinstance(item, str):
                self._document.refuse(
                    (*self._path, key, n),
                    f"expected a text, got {kind_of(item)}",
                    _quote_hint(item),
                )
            if len(item) > _MAX_TEXT:
                self._document.refuse(
                    (*self._path, key, n),
                    f"expected at most {_MAX_TEXT} characters, got {len(item)}",
                )
            yield item


def kind_of(value: object) -> str:
    """Name the type of a parsed value for a person."""
    names = {dict: "a mapping", list: "a list", str: "a text", bool: "true or false"}
    names |= {int: "an integer", float: "a number with a point", type(None): "nothing"}
    return names.get(type(value), f"a {type(value).__name__}")


def _quote_hint(value: object) -> str | None:
    return f'write "{value}" in quotes' if isinstance(value, int | float | bool) else None
