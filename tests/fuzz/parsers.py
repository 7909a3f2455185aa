"""Which parsers are fuzzed: each a callable on bytes, and what its inputs are made from."""

from __future__ import annotations

import gzip
import io
import re
import struct
import tarfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from bundler import foreign_tar
from bundler.archive import tar
from bundler.archive.oci_walk import blob_path, follow, read_top
from bundler.archive.reader import Reader
from bundler.archive.stored_gzip import StoredGzipReader
from bundler.archive.volumes import find_volumes, open_place
from bundler.charts.archive import read_chart_archive
from bundler.digest import Digest
from bundler.errors import ContentError, MalformedError, NotFoundError
from bundler.inventory.apk import read_apk
from bundler.inventory.dpkg import read_dpkg
from bundler.inventory.layer_tar import LayerTar
from bundler.inventory.layers import Layers, add_layer
from bundler.inventory.os_release import read_os_release
from bundler.inventory.python_packages import read_python
from bundler.inventory.rpm import read_rpm
from bundler.jsontext import read_json, write_json
from bundler.manifest_codec import decode_manifest, encode_manifest
from bundler.oci_manifest import INDEX_FILE, VERSION_FILE
from bundler.publish.pointer import decode_pointer, encode_pointer
from bundler.safetensors import LENGTH_BYTES, TensorFile, check_index, header_length, read_header
from bundler.signing.keys import read_public_key
from bundler.signing.sigstore_bundle import read_attestation_bundle, read_message_bundle
from bundler.signing.tuf_roots import read_root
from bundler.source import Platform
from bundler.spec import read_spec
from bundler.stores.foreign_json import read_object
from bundler.sums import read_release_sums, write_sums
from bundler.target_reader import read_target, target_template
from bundler.tools.image_index import ImageReader, resolve
from bundler.yamltext import read_list, read_objects, read_yaml
from tests.fuzz import seeds

Read = Callable[[bytes], object]
_NAME, _LIMIT = "input", 1 << 20
_BLOCK, _CHECKSUM, _MAGIC = 512, slice(148, 156), slice(257, 262)
_HERE = Path("/")
_MARK = re.compile(rb"([$#])([1-9])")


def unchanged(content: bytes) -> bytes:
    """Give an input as it is."""
    return content


def with_checksums(content: bytes) -> bytes:
    """Put the checksums of tar headers right, which chance never does; no length changes."""
    whole = bytearray(content)
    for start in range(0, len(whole) - _BLOCK + 1, _BLOCK):
        block = whole[start : start + _BLOCK]
        if block[_MAGIC] == b"ustar":
            block[_CHECKSUM] = b" " * 8
            block[_CHECKSUM] = b"%06o\0 " % sum(block)
            whole[start : start + _BLOCK] = block
    return bytes(whole)


@dataclass(frozen=True)
class Parser:
    """A parser as a fuzzer sees it.

    Attributes:
        read: Reads an input; raises what it may not take for an AssertionError.
        seeds: Inputs that it takes.
        refuses: All that it may raise, by its docstring.
        repair: Gives a changed input another chance, at the same length.
    """

    read: Read
    seeds: Sequence[bytes]
    refuses: tuple[type[Exception], ...] = (MalformedError,)
    repair: Callable[[bytes], bytes] = unchanged

    def words(self) -> list[bytes]:
        """Give the words of its seeds, for a dictionary."""
        whole = b"\n".join(self.seeds)
        return sorted(set(re.findall(rb"[A-Za-z][\w.:/+-]{2,40}", whole)))[:400]


class Memory(Reader):
    """Bytes in memory, read as an archive is."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size = len(content)

    def readv(self, offset: int, buffers: Sequence[memoryview]) -> None:
        for buffer in buffers:
            assert offset >= 0, "a place before the start"
            if offset + len(buffer) > self.size:
                raise ContentError("ends before")
            buffer[:] = self._content[offset : offset + len(buffer)]
            offset += len(buffer)

    def drop_behind(self, offset: int, length: int) -> AbstractContextManager[None]:
        return nullcontext()

    def close(self) -> None:
        pass


def resolve_parts(content: bytes) -> list[bytes]:
    """Cut an input into files, where ``$2`` is the digest of file 2, and ``#2`` its size.

    So changed inputs are still trees of blobs. A file can name those behind it alone.
    """
    parts = content.split(seeds.PART)[:10]
    for number in reversed(range(len(parts))):

        def meant(found: re.Match[bytes], above: int = number) -> bytes:
            named = int(found[2])
            if not above < named < len(parts):
                return found[0]
            other = parts[named]
            return str(Digest.of(other) if found[1] == b"$" else len(other)).encode()

        parts[number] = _MARK.sub(meant, parts[number])
    return parts


@dataclass(frozen=True)
class _LayoutInMemory:
    """The files of a layout: index.json, and its blobs."""

    files: dict[str, bytes]
    name: str = _NAME

    def size(self, path: str) -> int | None:
        return len(self.files[path]) if path in self.files else None

    def read(self, path: str, length: int) -> bytes:
        content = self.files.get(path, b"")
        if len(content) < length:
            raise NotFoundError(f"{path}: not there")
        return content[:length]


def _read_layout(content: bytes) -> None:
    index, *blobs = resolve_parts(content)
    files = {blob_path(Digest.of(blob)): blob for blob in blobs}
    files |= {INDEX_FILE: index, VERSION_FILE: write_json({"imageLayoutVersion": "1.0.0"})}
    layout = _LayoutInMemory(files)
    follow(layout, read_top(layout))


def _read_image_index(content: bytes) -> None:
    top, *blobs = resolve_parts(content)
    by_digest = {Digest.of(blob): blob for blob in blobs}

    def get(digest: Digest) -> bytes:
        if digest not in by_digest:
            raise NotFoundError(f"{digest}: not there")
        return by_digest[digest]

    image = ImageReader(
        name=_NAME, top=lambda: top, manifest=get, config=lambda _: [*blobs, b"", b""][1]
    )
    resolve(image, None)
    resolve(image, Platform("linux", "amd64"))


def _walk(content: bytes) -> None:
    """Read an archive of ours; whatever is taken, CPython must read as we do."""
    found = list(tar.walk(Memory(content).read_at, len(content), name=_NAME))
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
        theirs = [(one.name, one.size, one.offset_data, one.isdir()) for one in archive]
    assert theirs == [(one.path, one.size, one.offset, one.directory) for one in found]


def _read_layer_tar(content: bytes) -> None:
    layer = LayerTar(content[n : n + 700] for n in range(0, len(content), 700))
    for member in layer.members():
        assert member.size >= 0, "a size below 0"
        assert not member.path.startswith(("/", "../")), "a path that climbs"
        layer.read(600)


def _read_gzip(content: bytes) -> None:
    reader = StoredGzipReader(Memory(content).readv, len(content), block_bytes=8, name=_NAME)
    plain = reader.read(0, reader.plain_size)
    # Neither the checksum nor the header of an empty block is looked at.
    if plain and content[-8:-4] == struct.pack("<I", zlib.crc32(plain)):
        assert gzip.decompress(content) == plain


def _read_volume(content: bytes) -> None:
    with TemporaryDirectory() as place:
        Path(place, f"{_NAME}.001-of-001.zst").write_bytes(content)
        found = find_volumes(_NAME, 556, _VOLUME_DIGEST, [Path(place)])
        assert found is not None
        with open_place(found, partly=True) as reader:
            reader.read_at(0, min(reader.size, _LIMIT))


def _read_weights(content: bytes) -> TensorFile:
    length = header_length(content[:LENGTH_BYTES], file_size=len(content), name=_NAME)
    header = content[LENGTH_BYTES : LENGTH_BYTES + length]
    return read_header(header, file_size=len(content), name=_NAME)


def _read_weights_index(content: bytes) -> None:
    check_index(content, {"a.safetensors": _read_weights(seeds.weights())}, name=_NAME)


def _same_again(read: Read, write: Callable[..., bytes]) -> Read:
    """Demand that what is taken can be written, and then is read as the same."""

    def both(content: bytes) -> None:
        value = read(content)
        assert read(write(value)) == value, "another value when written and read again"

    return both


def _layer(content: bytes) -> None:
    add_layer(Layers(), Digest.of(b""), io.BytesIO(content), len(content))


def _all_members(content: bytes) -> None:
    for member in foreign_tar.list_members(io.BytesIO(content)):
        assert member.size >= 0, "a size below 0"


def _spec(content: bytes) -> None:
    read_spec(read_yaml(content, name=_NAME))


def _target(content: bytes) -> None:
    read_target(read_yaml(content, name=_NAME), base=_HERE)


def _chart(content: bytes) -> None:
    read_chart_archive(gzip.compress(content, 1), name=_NAME)


def _verify(content: bytes) -> None:
    seeds.PUBLIC.verify(content, b"content")


def _text(read: Callable[..., object]) -> Read:
    return lambda content: read(content.decode("utf-8", "replace"), name=_NAME)


_json = partial(read_json, name=_NAME, limit=_LIMIT)
_VALUE, _BLOBS = (ValueError,), (MalformedError, ContentError)
_TREE = (*_BLOBS, NotFoundError)
_VOLUME_DIGEST = Digest.of(seeds.VOLUME)
PARSERS: dict[str, Parser] = {
    "tar": Parser(_walk, seeds.tars(), repair=with_checksums),
    "foreign-tar": Parser(_all_members, seeds.foreign_tars(), _VALUE, with_checksums),
    "layer-tar": Parser(_read_layer_tar, seeds.foreign_tars(), _VALUE, with_checksums),
    "layer": Parser(_layer, seeds.layers(), (), with_checksums),
    "chart": Parser(_chart, [seeds.chart()], repair=with_checksums),
    "layout": Parser(_read_layout, seeds.images(), _TREE),
    "image-index": Parser(_read_image_index, seeds.images()[:1], _TREE),
    "gzip": Parser(_read_gzip, seeds.stored(), _BLOBS),
    "volume": Parser(_read_volume, [seeds.volume()], _BLOBS),
    "manifest": Parser(
        _same_again(decode_manifest, encode_manifest), [seeds.stated("MANIFEST.json")]
    ),
    "sums": Parser(_same_again(read_release_sums, write_sums), [seeds.stated("SHA256SUMS")]),
    "message-bundle": Parser(partial(read_message_bundle, name=_NAME), [seeds.message()]),
    "attestation-bundle": Parser(
        partial(read_attestation_bundle, name=_NAME), [seeds.attestation()]
    ),
    "signature": Parser(_verify, [seeds.signature()], ()),
    "key": Parser(partial(read_public_key, name=_NAME), [seeds.PUBLIC.pem]),
    "root": Parser(partial(read_root, name=_NAME), seeds.roots()),
    "pointer": Parser(
        _same_again(partial(decode_pointer, name=_NAME), encode_pointer), seeds.pointers()
    ),
    "safetensors": Parser(_read_weights, [seeds.weights()]),
    "weights-index": Parser(_read_weights_index, [seeds.WEIGHTS_INDEX]),
    "yaml": Parser(partial(read_yaml, name=_NAME), [seeds.SPEC]),
    "spec": Parser(_spec, [seeds.SPEC]),
    "target": Parser(_target, [seeds.TARGET, target_template()]),
    "objects": Parser(_text(read_objects), [seeds.OBJECTS]),
    "list": Parser(_text(read_list), [b"- {name: a, image: 'b:1'}\n"]),
    "json": Parser(_same_again(lambda content: _json(content).value, write_json), [seeds.JSON]),
    "foreign-json": Parser(read_object, [seeds.JSON], _VALUE),
    "dpkg": Parser(read_dpkg, [seeds.DPKG], _VALUE),
    "apk": Parser(read_apk, [seeds.APK], _VALUE),
    "python": Parser(read_python, [seeds.PYTHON], _VALUE),
    "os-release": Parser(read_os_release, [seeds.SYSTEM], _VALUE),
    "rpm": Parser(read_rpm, [seeds.rpm_rows(seeds.RPM)], _VALUE),
    "rpm-header": Parser(lambda content: read_rpm(seeds.rpm_rows(content)), [seeds.RPM], _VALUE),
}
