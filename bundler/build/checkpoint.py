"""The files of a checkpoint as they lie with the vendor: which of them go into its archive."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bundler.archive.checkpoint import SourceFile
from bundler.archive.existing import ExistingArchive, read_existing
from bundler.archive.files import open_source
from bundler.archive.trouble import blaming
from bundler.build.file_kinds import MAGIC_BYTES, known_to_servers, refused_content, refused_name
from bundler.build.source_tree import TreeFile, files_below, one_file
from bundler.errors import MalformedError, printable
from bundler.events import Emit, Noted
from bundler.jsontext import read_json
from bundler.safetensors import (
    LENGTH_BYTES,
    MAX_INDEX_BYTES,
    TensorFile,
    check_index,
    header_length,
    read_header,
)
from bundler.spec import CheckpointSpec

_CONFIGS = ("config.json", "config.yaml")
_WEIGHTS, _INDEX = ".safetensors", ".safetensors.index.json"
_SHARD = re.compile(r".*-\d{5}-of-\d{5}\.safetensors")
_TAR_BYTES_PER_FILE = 2048
_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSource:
    """The files of one checkpoint, checked but not hashed yet.

    Attributes:
        spec: What the release spec says of it.
        files: Each with its path in the checkpoint; sorted by path.
        content_bytes: The sum of their sizes.
        archive: What they lie in, if that is to be taken over as it is.
    """

    spec: CheckpointSpec
    files: tuple[SourceFile, ...]
    content_bytes: int
    archive: ExistingArchive | None = None

    @property
    def archive_bytes(self) -> int:
        """About how large its archive gets; not less than it will be."""
        return self.content_bytes + _TAR_BYTES_PER_FILE * (len(self.files) + 8)

    def mtime(self, default: int) -> int:
        """Give the time that the archive's members get, or have: seconds since 1970."""
        return default if self.archive is None else self.archive.mtime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """One file: where its bytes are, and how many."""

    source: SourceFile
    size: int

    @classmethod
    def of(cls, file: TreeFile) -> _Found:
        return cls(source=SourceFile(file.path, file.real), size=file.size)

    @property
    def path(self) -> str:
        return self.source.path

    @property
    def shown(self) -> str:
        inside = "" if self.source.size is None else f": {self.path}"
        return printable(f"{self.source.real}{inside}")

    def read(self, offset: int, length: int) -> bytes:
        with open_source(self.source.real) as stream, blaming(self.source.real):
            stream.seek(self.source.offset + offset)
            return stream.read(min(length, self.size - offset))


def read_checkpoint(spec: CheckpointSpec, base: Path, emit: Emit) -> CheckpointSource:
    """List the files of a checkpoint and check what can be known without reading the weights.

    Args:
        spec: What the release spec says of it.
        base: The directory of the spec. Links to files are followed: in a cache of a model hub all
            files are links.
        emit: Told of what is left out, of what the spec allows, and of what servers may not know.

    Raises:
        NotFoundError: What a link names is not there.
        MalformedError: A source is not there; files could run code when they are loaded and the
            spec does not allow it; a safetensors file or an index is not well formed; weights or
            configuration are missing; an archive is not one that we could have written.
    """
    name = f"checkpoint {spec.name}"
    archive = None
    if spec.archive is not None:
        one_file(spec.archive, base / spec.archive)
        archive = read_existing(base / spec.archive, root=spec.root)
        found = [_Found(source=file, size=file.size or 0) for file in archive.files]
    elif spec.source is not None:
        found = [_Found.of(file) for file in files_below(base / spec.source, emit)]
    else:
        listed = sorted(spec.files, key=lambda file: file.path.encode())
        found = [_Found.of(one_file(file.path, base / file.source)) for file in listed]
    _check_kinds(spec, found, name, emit)
    _check_complete(found, _place(spec, base), name)
    tensors = {file.path: _read_tensors(file) for file in found if file.path.endswith(_WEIGHTS)}
    _check_shards(found, tensors)
    unknown = [file.path for file in found if not known_to_servers(file.path)]
    if unknown:
        emit(Noted(f"{name}: files that a model server may not know: {', '.join(unknown[:10])}"))
    return CheckpointSource(
        spec=spec,
        files=tuple(file.source for file in found),
        content_bytes=sum(file.size for file in found),
        archive=archive,
    )


def _place(spec: CheckpointSpec, base: Path) -> str:
    path = spec.archive or spec.source
    return "the files listed" if path is None else printable(str(base / path))


def _check_kinds(spec: CheckpointSpec, found: Sequence[_Found], name: str, emit: Emit) -> None:
    """Refuse, all at once, the files that could run code and that the spec does not name."""
    reasons = {item.path: item.reason for item in spec.allow}
    for path in sorted(reasons.keys() - {file.path for file in found}):
        raise MalformedError(f"{name}: the spec allows {path!r}, which is not there")
    refused = []
    for file in found:
        fault = _refusal(file)
        if fault is None:
            continue
        if file.path in reasons:
            emit(Noted(f"{name}: {file.path}: {fault}, allowed: {printable(reasons[file.path])}"))
        else:
            refused.append(f"{name}: {file.path}: expected no {fault}")
    if refused:
        more = [f"and {len(refused) - _SHOWN} more"] * (len(refused) > _SHOWN)
        raise MalformedError(
            "\n".join(refused[:_SHOWN] + more),
            hint="remove it, or name it with a reason under the checkpoint's `allow`"
            if len(refused) == 1
            else "remove them, or name each with a reason under the checkpoint's `allow`",
        )


def _refusal(file: _Found) -> str | None:
    fault = refused_name(file.path)
    if fault is None and not file.path.endswith(_WEIGHTS):
        fault = refused_content(file.read(0, MAGIC_BYTES))
    return fault


def _check_complete(found: Sequence[_Found], place: str, name: str) -> None:
    top = {file.path for file in found if "/" not in file.path}
    if not any(path.endswith(_WEIGHTS) for path in top):
        raise MalformedError(
            f"{name}: expected *{_WEIGHTS} in {place}, got none",
            hint="name the directory in which the weights themselves lie",
        )
    if not any(path in top for path in _CONFIGS):
        raise MalformedError(f"{name}: expected {' or '.join(_CONFIGS)} in {place}, got neither")


def _read_tensors(file: _Found) -> TensorFile:
    length = header_length(file.read(0, LENGTH_BYTES), file_size=file.size, name=file.shown)
    return read_header(file.read(LENGTH_BYTES, length), file_size=file.size, name=file.shown)


def _check_shards(found: Sequence[_Found], tensors: Mapping[str, TensorFile]) -> None:
    """Hold each index to the shards beside it, and each shard to an index."""
    listed: set[str] = set()
    for file in found:
        if file.path.endswith(_INDEX):
            folder = PurePosixPath(file.path).parent
            shards = {
                PurePosixPath(path).name: shard
                for path, shard in tensors.items()
                if PurePosixPath(path).parent == folder
            }
            if file.size > MAX_INDEX_BYTES:
                raise MalformedError(f"{file.shown}: expected at most {MAX_INDEX_BYTES} bytes")
            content = file.read(0, file.size)
            check_index(content, shards, name=file.shown)
            index = read_json(content, name=file.shown, limit=MAX_INDEX_BYTES).table()
            listed |= {str(folder / str(shard)) for shard in index.plain("weight_map").values()}
    for path in sorted(tensors.keys() - listed):
        if _SHARD.fullmatch(path):
            raise MalformedError(
                f"{path}: expected an index that names this shard, got none",
                hint="ship model.safetensors.index.json with all of its shards",
            )
