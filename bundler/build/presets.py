"""Scalars of a YAML file set to new text, with comments and all else left as they are."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping

from bundler.document import Document
from bundler.errors import MalformedError
from bundler.yamltext import read_yaml

KeyPath = tuple[str, ...]
_SCALAR = r'"(?:[^"\\]|\\.)*"|\'[^\']*\'|[^\s"\'#&*{\[|>][^#]*?'
_LINE = re.compile(rf"(\s*[A-Za-z0-9_.-]+:)(?:[ ]+(?:{_SCALAR}))?([ ]*(?:[ ]#.*)?)")


def preset(content: bytes, texts: Mapping[KeyPath, str], *, name: str) -> bytes:
    """Give a YAML file in which some keys have another text.

    Each key must stand in a line of its own, ``key: "value"``, with a comment behind it if any.
    Both files are parsed, and the new one must differ from the old one in these values only.

    Args:
        content: The file.
        texts: The new text of each key, by its path from the root.
        name: What to call the file in an error.

    Raises:
        MalformedError: It is not YAML as we read it, or has no such line for one of the keys.
    """
    before = read_yaml(content, name=name)
    lines = content.decode().split("\n")
    for path, text in texts.items():
        number = _line_of(before, path)
        found = _LINE.fullmatch(lines[number])
        if found is None:
            before.refuse(path, f'expected one line, {path[-1]}: "..."')
        lines[number] = f"{found[1]} {json.dumps(text)}{found[2]}"
    result = "\n".join(lines).encode()
    expected = copy.deepcopy(before.value)
    for path, text in texts.items():
        _set(expected, path, text)
    if read_yaml(result, name=name).value != expected:
        raise MalformedError(
            f"{name}: setting {_listed(texts)} would change something else as well",
            hint='write each of them as a plain line, key: "value"',
        )
    return result


def scalar(document: Document, path: KeyPath) -> str:
    """Read one text of a parsed file by its path.

    Raises:
        MalformedError: It is not there, or no text.
    """
    table = document.table()
    for key in path[:-1]:
        table = table.table(key)
    return table.text(path[-1])


def _line_of(document: Document, path: KeyPath) -> int:
    position = document.positions.get(path)
    if position is None:
        document.refuse(path, "missing")
    return position[0] - 1


def _set(value: object, path: KeyPath, text: str) -> None:
    for key in path[:-1]:
        value = value[key] if isinstance(value, dict) else None
    if isinstance(value, dict):
        value[path[-1]] = text


def _listed(texts: Mapping[KeyPath, str]) -> str:
    return ", ".join(".".join(path) for path in texts)
