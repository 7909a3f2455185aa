"""The packages of an image, read from its archive without unpacking it."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from bundler.archive.files import RandomReader
from bundler.archive.image_tree import ImageTree, TreeManifest, read_image_tree
from bundler.archive.reader import Reader, ReaderSlice
from bundler.digest import Digest
from bundler.document import Table
from bundler.errors import MalformedError, printable
from bundler.events import Advanced, Emit, ignore, telling
from bundler.inventory.databases import OS_RELEASE
from bundler.inventory.effort import LISTED, too_much
from bundler.inventory.layers import Layers, add_layer
from bundler.inventory.package import Package, System, Unread, require_few
from bundler.jsontext import MAX_INTEGER, read_json
from bundler.manifest import Blob, Image
from bundler.oci_manifest import MAX_OCI_MANIFEST_BYTES, OCI_CONFIG, OCI_MANIFEST

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# Source: OCI image specification v1.1, annotations.md.
_LICENCE_LABEL = "org.opencontainers.image.licenses"
# More than any runtime mounts.
MAX_LAYERS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformInventory:
    """What one platform's image holds.

    Attributes:
        platform: Such as ``linux/amd64``.
        system: The distribution that it says it is.
        packages: By the path of the database that names them, printable.
        unread: What may name more packages, and was not read: a line each.
    """

    platform: str
    system: System
    packages: Mapping[str, tuple[Package, ...]]
    unread: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInventory:
    """What an image holds.

    Attributes:
        image: Which.
        platforms: Each of its platforms.
        others: Digests of manifests beside them that are for no platform, and were not looked into.
        licence: What the image's own label says; empty where it says nothing.
        spent: What it took to look into it, by the names of ``effort``.
        untouched: Why it was not looked into at all; empty if it was.
    """

    image: Image
    platforms: tuple[PlatformInventory, ...]
    others: tuple[Digest, ...] = ()
    licence: str = ""
    spent: Mapping[str, int] = field(default_factory=dict)
    untouched: str = ""


@dataclass(slots=True)
class _Slot:
    lock: threading.Lock = field(default_factory=threading.Lock)
    layers: Layers | None = None


class KnownLayers:
    """What was read already: images that begin with the same layers have them read once.

    Any thread may use it.
    """

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._slots: dict[Digest, _Slot] = {}

    def stop(self) -> None:
        """Have everybody who reads a layer give up: nobody wants to know it any more."""
        self.stopped.set()

    def get(self, stack: Digest, read: Callable[[], Layers]) -> Layers:
        """Give what a stack of layers comes to; ``read`` is called where nobody knows yet."""
        with self._lock:
            slot = self._slots.setdefault(stack, _Slot())
        with slot.lock:
            if slot.layers is None:
                slot.layers = read()
            return slot.layers


def take_inventory(
    archive: Path, image: Image, known: KnownLayers, emit: Emit = ignore
) -> ImageInventory:
    """Read the layers of an image, and list the packages that are in it when it runs.

    Layers that cannot be read are told in the inventory, and stop nothing.

    Args:
        archive: The image's OCI archive, as we wrote it.
        image: What the archive holds.
        known: What was read already.
        emit: Told of the bytes of layers.

    Raises:
        CancelledError: ``known`` was told to stop.
        ContentError: The archive is not what the image says.
        MalformedError: It breaks its format.
        WorldError: It cannot be read.
    """
    with RandomReader(archive) as reader:
        tree = read_image_tree(reader.read_at, reader.size, image)
        manifests = [one for one in tree.manifests if one.media_type == OCI_MANIFEST]
        stacks = {one.digest: _stack(one, tree, reader) for one in manifests}
        own = [stack for stack in stacks.values() if stack is not None]
        total = sum(layer.size for stack in own for layer in stack.layers)
        looking = _Looking(reader, tree, known, str(image.tag), emit)
        with telling(emit, "list packages of", str(image.tag), total):
            found = sorted(map(looking.inventory, own), key=lambda one: one.platform)
    platforms = tuple(_few_enough(found))
    listed = sum(len(packages) for one in platforms for packages in one.packages.values())
    return ImageInventory(
        image=image,
        platforms=platforms,
        others=tuple(sorted(digest for digest, stack in stacks.items() if stack is None)),
        licence=next((stack.licence for stack in own if stack.licence), ""),
        spent={**looking.spent, LISTED: listed},
    )


def _few_enough(platforms: Sequence[PlatformInventory]) -> Iterator[PlatformInventory]:
    """Count what an SBOM has a line for over all platforms; the rest is told as not read."""
    lines = text = 0
    for one in platforms:
        more = len(one.unread) + sum(map(len, one.packages.values()))
        longer = sum(map(len, one.unread)) + sum(
            len(path) + package.text_size()
            for path, packages in one.packages.items()
            for package in packages
        )
        try:
            require_few(lines + more, text + longer)
        except ValueError as error:
            yield replace(one, packages={}, unread=(f"{error} in the image",))
        else:
            lines, text = lines + more, text + longer
            yield one


@dataclass(frozen=True, slots=True)
class _Stack:
    """One platform's image: its layers, the lowest first, and its licence if a label says it."""

    platform: str
    layers: tuple[Blob, ...]
    licence: str


def _stack(manifest: TreeManifest, tree: ImageTree, reader: Reader) -> _Stack | None:
    """Read a manifest and its config; None for what is no platform's image, an attestation say."""
    table = _table(manifest.content, manifest.digest)
    config = _blob(table.table("config"))
    if table.table("config").text("mediaType") != OCI_CONFIG:
        return None
    content = reader.read_at(tree.offsets[config.digest], config.size)
    about = _table(content, config.digest)
    names = [about.text(key, "") for key in ("os", "architecture", "variant")]
    if "unknown" in names or not names[0]:
        return None
    return _Stack(
        platform="/".join(name for name in names if name),
        layers=tuple(map(_blob, table.tables("layers"))),
        licence=_licence(about),
    )


def _licence(about: Table) -> str:
    """Read a label; what is none, or no short text, says nothing."""
    with contextlib.suppress(MalformedError):
        text = about.table("config").table("Labels").text(_LICENCE_LABEL, "")
        return text if text.isprintable() else ""
    return ""


class _LayerSlice(ReaderSlice):
    """The bytes of a layer, while anybody wants them."""

    def __init__(self, reader: Reader, offset: int, size: int, stopped: threading.Event) -> None:
        super().__init__(reader, offset, size)
        self._stopped = stopped

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        if self._stopped.is_set():
            raise CancelledError
        return super().readinto(buffer)


@dataclass(frozen=True, slots=True)
class _Looking:
    """One image that is looked into; ``spent`` is what the platforms so far took."""

    reader: Reader
    tree: ImageTree
    known: KnownLayers
    name: str
    emit: Emit
    spent: Counter[str] = field(default_factory=Counter)

    def inventory(self, stack: _Stack) -> PlatformInventory:
        reason = too_much(self.spent)
        layers = Layers({}, (f"{reason} in other platforms",)) if reason else self._layers(stack)
        self.spent.update(layers.spent)
        unread = [
            f"{printable(path)}: {content.reason}"
            for path, content in layers.files.items()
            if isinstance(content, Unread)
        ]
        systems = (layers.files.get(path) for path in OS_RELEASE)
        return PlatformInventory(
            platform=stack.platform,
            system=next((one for one in systems if isinstance(one, System)), System("", "")),
            packages={
                printable(path): content
                for path, content in sorted(layers.files.items())
                if isinstance(content, tuple)
            },
            unread=(*layers.unread, *sorted(unread)),
        )

    def _layers(self, stack: _Stack) -> Layers:
        layers, beneath, blobs = Layers(), Digest.of(b""), stack.layers
        if len(blobs) > MAX_LAYERS:
            return Layers({}, (f"{len(blobs)} layers; expected at most {MAX_LAYERS}",))
        for blob in blobs:
            offset = self.tree.offsets[blob.digest]
            source = _LayerSlice(self.reader, offset, blob.size, self.known.stopped)
            beneath = Digest.of(f"{beneath} {blob.digest}".encode())
            read = partial(add_layer, layers, blob.digest, cast("BinaryIO", source), blob.size)
            layers = self.known.get(beneath, read)
            self.emit(Advanced(self.name, blob.size))
        return layers


def _table(content: bytes, digest: Digest) -> Table:
    return read_json(content, name=str(digest), limit=MAX_OCI_MANIFEST_BYTES).table()


def _blob(descriptor: Table) -> Blob:
    return Blob(
        digest=descriptor.parse("digest", Digest.parse),
        size=descriptor.integer("size", 0, MAX_INTEGER),
    )
