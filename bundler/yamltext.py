"""The only place that reads and writes YAML."""

from __future__ import annotations

import re
from typing import Any, NoReturn

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from bundler.document import Document, Path
from bundler.errors import MalformedError, printable

MAX_YAML_BYTES = 1 << 20
_MAX_DEPTH = 32
# To read these takes seconds. Keys count too.
_MAX_VALUES = 50_000
# Pairs that `<<` brings into mappings: a small text can make endlessly many of them.
_MAX_MERGED = 200_000
# YAML 1.1 reads these plain words as booleans, YAML 1.2 as text: people mean either.
_AMBIGUOUS = {"yes", "no", "on", "off", "y", "n"}
# Text that begins so is no number, date or time to any reader; PyYAML quotes what else must be.
_PLAIN = re.compile(r"[A-Za-z/]")
_DECIMAL = re.compile(r"-?[1-9][0-9]{0,15}|0")
_TAGS = "tag:yaml.org,2002:"


def read_yaml(content: bytes, *, name: str) -> Document:
    """Parse one YAML document from outside.

    Read as JSON would be: mappings with text keys, lists, text, decimal integers, true, false and
    null. Whatever YAML versions read in two ways must be quoted.

    Args:
        content: UTF-8.
        name: What to call it in an error.

    Raises:
        MalformedError: It is too long, not YAML, has a key twice, an anchor, a tag, a date, a
            number that is not a decimal integer, more than one document, or more than 50,000 keys
            and values; with line and column.
    """
    if len(content) > MAX_YAML_BYTES:
        raise MalformedError(f"{name}: expected at most {MAX_YAML_BYTES} bytes, got {len(content)}")
    return _Reader(name).read(content)


def read_objects(text: str, *, name: str) -> list[dict[str, object]]:
    """Parse the stream of Kubernetes objects that ``helm template`` prints.

    Raises:
        MalformedError: It is not YAML, or a document is not a mapping.
    """
    documents = [item for item in _load_all(text, name) if item is not None]
    for item in documents:
        if not isinstance(item, dict):
            raise MalformedError(f"{name}: expected Kubernetes objects, got {type(item).__name__}")
    return documents


def read_list(text: str, *, name: str) -> list[object]:
    """Parse one YAML list that is written inside another file, such as in an annotation.

    Raises:
        MalformedError: It is something else.
    """
    documents = _load_all(text, name)
    if len(documents) != 1 or not isinstance(documents[0], list):
        raise MalformedError(f"{name}: expected a list")
    return documents[0]


def _load_all(text: str, name: str) -> list[Any]:
    try:
        return list(yaml.load_all(text, _ObjectLoader))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problem = printable(str(error)) or "nested too deep"
        raise MalformedError(f"{name}: not YAML: {problem}") from error


class _ObjectLoader(yaml.SafeLoader):
    """Reads what Kubernetes reads: a lone ``=``, and what looks like a date, are text to it.

    Not libyaml's loader, which is faster, because deep nesting makes that one crash.
    """

    _merged = 0

    def flatten_mapping(self, node: MappingNode) -> None:
        """Put what a mapping's ``<<`` name into it, counted before it takes memory."""
        for key, value in node.value:
            if key.tag == f"{_TAGS}merge":
                for item in value.value if isinstance(value, SequenceNode) else [value]:
                    if isinstance(item, MappingNode):
                        self.flatten_mapping(item)
                    self._merged += len(item.value)
                    if self._merged > _MAX_MERGED:
                        raise ValueError(f"more than {_MAX_MERGED} pairs are merged into mappings")
        super().flatten_mapping(node)


def _construct_text(loader: yaml.SafeLoader, node: ScalarNode) -> str:
    return str(node.value)


for _tag in ("value", "timestamp"):
    _ObjectLoader.add_constructor(f"{_TAGS}{_tag}", _construct_text)


def write_yaml(value: object, *, header: str = "") -> bytes:
    """Write one document in block style, keys in the order given, below a comment."""
    comment = "".join(f"# {line}".rstrip() + "\n" for line in header.splitlines())
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
    return (comment + text).encode()


class _Dumper(yaml.SafeDumper):
    """Writes text so that readers of YAML 1.1 and 1.2, and Helm's, all read it as text."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> ScalarNode:
    style = None if _PLAIN.match(text) and text.lower() not in _AMBIGUOUS else '"'
    return dumper.represent_scalar(f"{_TAGS}str", text, style="|" if "\n" in text else style)


_Dumper.add_representer(str, _represent_text)


class _Reader:
    def __init__(self, name: str) -> None:
        self._name = name
        self._positions: dict[Path, tuple[int, int]] = {}

    def read(self, content: bytes) -> Document:
        try:
            text = content.decode("utf-8")
            node = self._compose(text)
            value = self._value(node, ()) if node is not None else {}
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
            self._raise(f"{self._name}{place}", error.problem or "not YAML", error)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            self._raise(self._name, str(error) or "nested too deep", error)
        return Document(self._name, value, self._positions)

    def _raise(self, where: str, problem: str, cause: Exception) -> NoReturn:
        raise MalformedError(f"{where}: not YAML as we read it: {printable(problem)}") from cause

    def _compose(self, text: str) -> Node | None:
        if any(char in text for char in "\x85\u2028\u2029\ufeff"):
            raise ValueError("has a line break or mark that YAML readers take in two ways")
        depth = 0
        for number, event in enumerate(yaml.parse(text, yaml.SafeLoader)):
            if number > _MAX_VALUES:
                self._refuse(event, f"more than {_MAX_VALUES} keys and values")
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                self._refuse(event, "anchors and aliases are not taken")
            # Composing takes time that grows with the square of the depth.
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _MAX_DEPTH:
                self._refuse(event, f"nested more than {_MAX_DEPTH} deep")
        return yaml.compose(text, yaml.SafeLoader)

    def _value(self, node: Node, path: Path) -> object:
        mark = node.start_mark
        self._positions.setdefault(path, (mark.line + 1, mark.column + 1))
        if not isinstance(node, ScalarNode) and node.tag not in {f"{_TAGS}map", f"{_TAGS}seq"}:
            self._refuse(node, f"tag {node.tag!r} is not taken")
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self._value(item, (*path, n)) for n, item in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, object]:
        table: dict[str, object] = {}
        for key_node, value_node in node.value:
            key = self._scalar(key_node)
            if not isinstance(key, str):
                self._refuse(key_node, f"expected text as a key, got {key!r}; quote it")
            if key in table:
                self._refuse(key_node, f"key {key!r} stands there twice")
            mark = key_node.start_mark
            self._positions[(*path, key)] = (mark.line + 1, mark.column + 1)
            table[key] = self._value(value_node, (*path, key))
        return table

    def _scalar(self, node: Node) -> object:
        if not isinstance(node, ScalarNode):
            self._refuse(node, "expected a plain key")
        text: str = node.value
        kind = node.tag.removeprefix(_TAGS)
        if kind == "str" and (node.style or text.lower() not in _AMBIGUOUS):
            return text
        if kind == "null" and text in {"", "~", "null"}:
            return None
        if kind == "bool" and text in {"true", "false"}:
            return text == "true"
        if kind == "int" and _DECIMAL.fullmatch(text):
            return int(text)
        return self._refuse(node, f"{text[:40]!r} is read in more than one way; quote it")

    def _refuse(self, node: Node | yaml.Event, problem: str) -> NoReturn:
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)  # type: ignore[arg-type]
