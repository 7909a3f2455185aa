"""Archives of charts, as ``helm package`` makes them: read for what they say of themselves."""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bundler.errors import MalformedError, printable
from bundler.foreign_tar import list_members
from bundler.reference import file_name, plain_text, relative_path
from bundler.yamltext import read_objects

# Source: helm, pkg/chart/loader: the most that it takes in an archive unpacked, and in one file.
_MAX_PLAIN_BYTES, _MAX_FILE_BYTES = 100 << 20, 5 << 20
MAX_ARCHIVE_BYTES = 20 << 20
# To read YAML takes long: this much, a second.
_MAX_ABOUT_BYTES = 128 << 10
_MAX_MEMBERS = 20_000
_ABOUT, _SCHEMA = "Chart.yaml", "values.schema.json"
# Below charts/ Helm unpacks archives itself.
_PACKED = re.compile(r"(?:.*/)?charts/[^/]+\.tgz")
# What of a schema can name another document, which Helm would fetch, from a host or from a file.
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_KNOWN_SCHEMAS = re.compile(r"https?://json-schema\.org/[A-Za-z0-9./#-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartArchive:
    """What an archive says of itself.

    Attributes:
        name, version: Of its chart.
        annotations: Of its chart.
        templates: Content of every file below a ``templates`` directory, by path, for a search.
    """

    name: str
    version: str
    annotations: Mapping[str, str]
    templates: Mapping[str, bytes]


def read_chart_archive(content: bytes, *, name: str) -> ChartArchive:
    """Read an archive of a chart; nothing is unpacked to disk.

    Args:
        content: Its bytes.
        name: What to call it in an error.

    Raises:
        MalformedError: It is no ``.tar.gz`` of one chart, has a link, a device or a path that
            leaves it, is larger than Helm takes, has an archive in it, its Chart.yaml is none, or
            a schema of values, of a chart below it too, is none or names another document.
    """
    try:
        files = dict(_files(content))
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise MalformedError(
            f"{name}: not the archive of a chart: {printable(str(error))}",
            hint="`helm package DIRECTORY` makes one",
        ) from error
    check_schemas(files, name=name)
    tops = {path.split("/")[0] for path in files}
    if len(tops) != 1:
        raise MalformedError(f"{name}: expected one top-level directory, got {len(tops)}")
    about = f"{tops.pop()}/{_ABOUT}"
    if about not in files:
        raise MalformedError(f"{name}: not the archive of a chart: there is no {printable(about)}")
    return _described(files, about, f"{name}: {_ABOUT}")


def _described(files: Mapping[str, bytes], about: str, name: str) -> ChartArchive:
    documents = read_objects(files[about].decode("utf-8", "replace"), name=name)
    table = documents[0] if len(documents) == 1 else {}
    annotations = table.get("annotations")
    try:
        return ChartArchive(
            name=file_name(_text(table, "name")),
            version=file_name(_text(table, "version")),
            annotations={
                str(key): value
                for key, value in (annotations if isinstance(annotations, Mapping) else {}).items()
                if isinstance(value, str)
            },
            templates={path: data for path, data in files.items() if "/templates/" in path},
        )
    except ValueError as error:
        raise MalformedError(f"{name}: {error}") from error


def check_schemas(files: Mapping[str, bytes], *, name: str) -> None:
    """Refuse schemas of values that would make Helm read something else than the chart.

    Args:
        files: Content of the chart's files, by path.
        name: What to call the chart in an error.

    Raises:
        MalformedError: One is none, or names another document.
    """
    for path in files:
        if path.split("/")[-1] == _SCHEMA:
            _check_schema(files[path], f"{name}: {printable(path)}")


def _check_schema(content: bytes, name: str) -> None:
    try:
        waiting: list[object] = [json.loads(content)]
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"{name}: not JSON: {printable(str(error))}") from error
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, dict):
            waiting.extend(value.values())
            _check_references(value, name)


def _check_references(schema: Mapping[str, object], name: str) -> None:
    for key in _REFERENCES:
        value = schema.get(key)
        if isinstance(value, str) and not value.startswith("#"):
            raise MalformedError(
                f"{name}: expected a {key} inside of the schema, #..., got "
                f"{printable(value[:200])!r}",
                hint="Helm would fetch that to render the chart; write it into the schema",
            )
    value = schema.get("$schema")
    if isinstance(value, str) and not _KNOWN_SCHEMAS.fullmatch(value):
        raise MalformedError(
            f"{name}: $schema: expected one of json-schema.org, got {printable(value[:200])!r}"
        )


def _text(table: Mapping[str, object], key: str) -> str:
    value = table.get(key)
    if not isinstance(value, str):
        raise ValueError(f"{key}: expected a text")
    return plain_text(value)


def _files(content: bytes) -> Iterator[tuple[str, bytes]]:
    seen: set[str] = set()
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as plain:
        stream = io.BytesIO(plain.read(_MAX_PLAIN_BYTES + 1))
    if stream.getbuffer().nbytes > _MAX_PLAIN_BYTES:
        raise ValueError(f"expected at most {_MAX_PLAIN_BYTES} bytes unpacked, got more")
    for member in list_members(stream):
        path = relative_path(member.path.removesuffix("/"))
        if len(seen) >= _MAX_MEMBERS or path in seen:
            raise ValueError(f"{path}: expected at most {_MAX_MEMBERS} files, each once")
        seen.add(path)
        if member.directory:
            continue
        if not member.file or member.size > _largest(path):
            raise ValueError(f"{path}: expected a file of at most {_largest(path)} bytes")
        if _PACKED.fullmatch(path):
            raise ValueError(f"{path}: expected the charts below it unpacked, got an archive")
        stream.seek(member.offset)
        yield path, stream.read(member.size)


def _largest(path: str) -> int:
    return _MAX_ABOUT_BYTES if path.split("/")[-1] == _ABOUT else _MAX_FILE_BYTES
