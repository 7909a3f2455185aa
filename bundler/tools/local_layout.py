"""OCI layouts of other people on this machine: a directory, or a tar of one."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bundler.digest import Digest
from bundler.document import Table
from bundler.errors import ContentError, MalformedError, NotFoundError, WorldError, printable
from bundler.jsontext import read_json
from bundler.oci_manifest import (
    INDEX_FILE,
    LAYOUT_VERSION,
    MAX_OCI_MANIFEST_BYTES,
    REF_NAME,
    VERSION_FILE,
)
from bundler.source import ArchiveSource, LayoutSource
from bundler.tools.image_index import ImageReader
from bundler.tools.layout_files import Archive, Folder, LayoutFiles, blob_path, present

# Shown in a hint.
_MAX_NAMES = 5
NAME = "image"


class LocalLayout:
    """One image in a layout; every small blob is held to its digest as it is read."""

    def __init__(self, source: LayoutSource | ArchiveSource, files: LayoutFiles) -> None:
        self._name = str(source)
        self._tag = source.tag
        self._files = files
        self._top = self._find()

    @property
    def reader(self) -> ImageReader:
        """How its manifests and configs are read."""
        return ImageReader(
            name=self._name,
            top=lambda: self._blob(self._top),
            manifest=self._blob,
            config=self._config,
        )

    def derive(self, taken: Digest, blobs: Mapping[Digest, int], directory: Path) -> None:
        """Make a layout in which the image is one manifest or index of this one, as ``image``.

        Args:
            taken: That manifest or index.
            blobs: Every blob of it with its size.
            directory: Does not exist yet. The blobs of a directory are not copied, but linked to.
        """
        content = self._blob(taken)
        own = read_json(content, name=self._name, limit=MAX_OCI_MANIFEST_BYTES).table()
        kind = "index" if "manifests" in own else "manifest"
        descriptor = {
            "mediaType": own.text("mediaType", f"application/vnd.oci.image.{kind}.v1+json"),
            "digest": str(taken),
            "size": len(content),
            "annotations": {REF_NAME: NAME},
        }
        index = {"schemaVersion": 2, "manifests": [descriptor]}
        with self._told("unpack"):
            directory.mkdir()
            self._files.lend(blobs, directory)
            (directory / VERSION_FILE).write_text(
                json.dumps({"imageLayoutVersion": LAYOUT_VERSION})
            )
            (directory / INDEX_FILE).write_text(json.dumps(index))

    def _find(self) -> Digest:
        index = self._table(INDEX_FILE)
        self._table(VERSION_FILE).choice("imageLayoutVersion", (LAYOUT_VERSION,))
        found = self._named(index.tables("manifests"))
        if not found:
            wanted = f"an image named {self._tag!r}" if self._tag else "an image"
            raise NotFoundError(
                f"{printable(self._name)}: expected {wanted} there, found none",
                hint=f"named there: {_names(index.tables('manifests'))}",
            )
        if len(found) > 1 and self._tag is None:
            index.refuse(
                "manifests", f"expected one image, got {len(found)}", "write the tag of one of them"
            )
        if len(found) > 1:
            index.refuse(
                "manifests",
                f"expected one image with the tag {self._tag!r}, got {len(found)}",
                "the tag names several: give a layout with one of them",
            )
        return found[0].parse("digest", Digest.parse)

    def _named(self, descriptors: Sequence[Table]) -> Sequence[Table]:
        """Give those of our tag; some tools write the image's whole name before the tag."""
        if self._tag is None:
            return descriptors
        named = [(item, _name(item)) for item in descriptors]
        exact = [item for item, name in named if name == self._tag]
        return exact or [item for item, name in named if name.endswith(f":{self._tag}")]

    def _config(self, manifest: Digest) -> bytes:
        table = read_json(
            self._blob(manifest), name=self._name, limit=MAX_OCI_MANIFEST_BYTES
        ).table()
        return self._blob(table.table("config").parse("digest", Digest.parse))

    def _blob(self, digest: Digest) -> bytes:
        content = self._read(blob_path(digest))
        got = Digest.of(content)
        if got != digest:
            what = f"a manifest that {INDEX_FILE} names," if digest == self._top else "the blob"
            raise ContentError(
                f"{printable(self._name)}: expected {what} {digest}, got {got}",
                hint="the layout is damaged; copy it again",
            )
        return content

    def _table(self, path: str) -> Table:
        name = f"{self._name}: {path}"
        return read_json(self._read(path), name=name, limit=MAX_OCI_MANIFEST_BYTES).table()

    def _read(self, path: str) -> bytes:
        with (
            self._told(f"read {path}"),
            present(self._files.open(path), f"{self._name}: {path}") as file,
        ):
            content = file.read(MAX_OCI_MANIFEST_BYTES + 1)
        if len(content) > MAX_OCI_MANIFEST_BYTES:
            raise MalformedError(
                f"{printable(self._name)}: {path}: expected at most {MAX_OCI_MANIFEST_BYTES} bytes"
            )
        return content

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            full = error.errno in {errno.ENOSPC, errno.EDQUOT}
            raise WorldError(
                f"{printable(self._name)}: cannot {what}: {(error.strerror or '').lower()}",
                hint="free space there, or choose another place, and run again" if full else None,
            ) from error


@contextmanager
def open_layout(source: LayoutSource | ArchiveSource) -> Iterator[LocalLayout]:
    """Open a layout, whose path is absolute, while the block lasts.

    Raises:
        NotFoundError: It, or the image in it, is not there.
        MalformedError: It is no OCI layout, or compressed, or does not say which image.
        ContentError: A manifest is not what the layout names.
    """
    path = Path(source.path)
    if isinstance(source, LayoutSource):
        if not path.is_dir():
            raise _missing(source, "an OCI layout there, found no such directory")
        yield LocalLayout(source, Folder(path, str(source)))
        return
    require_file(source)
    with path.open("rb") as archive:
        files = Archive(archive, str(source))
        files.require_layout()
        yield LocalLayout(source, files)


def require_file(source: ArchiveSource) -> None:
    """Check that an archive is there.

    Raises:
        NotFoundError: It is not.
    """
    if not Path(source.path).is_file():
        raise _missing(source, "an archive there, found no such file")


def _missing(source: LayoutSource | ArchiveSource, expected: str) -> NotFoundError:
    return NotFoundError(
        f"{printable(str(source))}: expected {expected}",
        hint="correct the path; in a release spec it is relative to the spec's directory",
    )


def _name(descriptor: Table) -> str:
    return descriptor.table("annotations").text(REF_NAME, "")


def _names(descriptors: Sequence[Table]) -> str:
    names = [printable(name[:200]) for item in descriptors if (name := _name(item))]
    more = len(names) - _MAX_NAMES
    return ", ".join(names[:_MAX_NAMES]) + f" and {more} more" * (more > 0) or "nothing"
