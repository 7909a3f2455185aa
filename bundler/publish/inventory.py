"""What lies at a destination, sorted by what publish would have put there.

A name alone makes a release's own files ours, and only the exact names that publish gives. A
checkpoint's files have names of anybody's: only a manifest says which of them are ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bundler.added_files import is_added_path
from bundler.manifest import MANIFEST_NAME, Manifest
from bundler.publish.layout import (
    CHECKPOINTS,
    MARKERS,
    RECEIPTS,
    RELEASES,
    marker_path,
    pointer_key,
)
from bundler.reference import S3Prefix, file_name, model_key
from bundler.release import is_signature_name
from bundler.stores.upkeep import HeldObject, Upkeep
from bundler.sums import SUMS_NAME

_ID = re.compile(r"[0-9a-f]{16}")
_RECEIPT = re.compile(re.escape(RECEIPTS) + r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}\.json")
_MARKER = re.compile(re.escape(MARKERS) + r"([^/]+)\.json")
# What publish leaves where it is killed while it finds out what a server is like.
_CHECK_OBJECT = re.compile(r"\.bundle-check-[0-9a-f]{16}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The objects of one release, or of one checkpoint, at a destination.

    Attributes:
        place: Where they lie.
        objects: By their path below it.
    """

    place: S3Prefix
    objects: Mapping[str, HeldObject]

    @property
    def size(self) -> int:
        """Their bytes."""
        return sum(item.size for item in self.objects.values())

    @property
    def newest(self) -> int:
        """When the newest of them was stored."""
        return max(item.modified for item in self.objects.values())

    @property
    def is_readable(self) -> bool:
        """Whether a release's manifest, sums and a signature are there, whatever they are worth."""
        return bool(self.signatures) and self.objects.keys() >= {MANIFEST_NAME, SUMS_NAME}

    @property
    def signatures(self) -> list[str]:
        """The names of a release's signature files, sorted."""
        return sorted(filter(is_signature_name, self.objects))

    def split(self, paths: Collection[str]) -> tuple[Held, tuple[HeldObject, ...]]:
        """Give what of this lies at some paths, and the rest."""
        ours = {path: item for path, item in self.objects.items() if path in paths}
        rest = (item for path, item in self.objects.items() if path not in paths)
        return Held(place=self.place, objects=ours), tuple(rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Everything below a target's place in a bucket, by what it is.

    Attributes:
        place: The target's.
        releases: By the release's name; only what is called as publish calls such files.
        checkpoints: By the address of the prefix, ``s3://…/checkpoints/<key>/<id>``; all that lies
            below it, whoever put it there.
        foreign: What publish never writes.
    """

    place: S3Prefix
    releases: Mapping[str, Held] = field(default_factory=dict)
    checkpoints: Mapping[str, Held] = field(default_factory=dict)
    foreign: Sequence[HeldObject] = ()


def find_inventory(upkeep: Upkeep, place: S3Prefix) -> Inventory:
    """List what lies below a target's place in a bucket."""
    return take_inventory(
        place, (item for prefix in prefixes(place) for item in upkeep.objects(prefix))
    )


def take_inventory(place: S3Prefix, objects: Iterable[HeldObject]) -> Inventory:
    """Sort a listing of what lies below a target's place."""
    releases: dict[str, dict[str, HeldObject]] = {}
    checkpoints: dict[tuple[str, str], dict[str, HeldObject]] = {}
    foreign = []
    pointer = pointer_key(place)
    for item in objects:
        if item.key == pointer:
            continue
        match _below(place, item.key).split("/", 3):
            case ["releases", name, *rest] if _is(file_name, name) and _is_own("/".join(rest)):
                releases.setdefault(name, {})["/".join(rest)] = item
            case ["checkpoints", key, id16, path] if path and _is_checkpoint(key, id16):
                checkpoints.setdefault((key, id16), {})[path] = item
            case _:
                foreign.append(item)
    held = (
        Held(place=place / CHECKPOINTS / key / id16, objects=found)
        for (key, id16), found in checkpoints.items()
    )
    return Inventory(
        place=place,
        releases={
            name: Held(place=place / RELEASES / name, objects=found)
            for name, found in releases.items()
        },
        checkpoints={str(item.place): item for item in held},
        foreign=tuple(foreign),
    )


def prefixes(place: S3Prefix) -> tuple[str, str]:
    """Give what every key begins with that publish writes."""
    return place.key(CHECKPOINTS) + "/", place.key(RELEASES) + "/"


def own_paths(held: Held, manifest: Manifest | None) -> set[str]:
    """Name what publish put there of a release: with a manifest, only its checkpoints' markers."""
    if manifest is None:
        return set(held.objects)
    markers = set(map(marker_path, manifest.checkpoints))
    return {path for path in held.objects if path in markers or not is_marker_name(path)}


def signed_files(manifests: Iterable[Manifest]) -> dict[str, dict[str, int]]:
    """Give the sizes of the files of some releases' checkpoints by path, by ``<id16>``."""
    return {
        item.identity.id16: {file.path: file.size for file in item.files}
        for manifest in manifests
        for item in manifest.checkpoints
    }


def signed_paths(held: Held, sizes: Mapping[str, int]) -> set[str]:
    """Name what has a path and the size that were signed: publish leaves nothing else."""
    return {path for path, item in held.objects.items() if sizes.get(path) == item.size}


def is_marker_name(path: str) -> bool:
    """Say whether a release's marker, that a checkpoint is there whole, is called so."""
    found = _MARKER.fullmatch(path)
    return found is not None and _is(file_name, found[1])


def is_receipt_name(path: str) -> bool:
    """Say whether a release's receipt is called so."""
    return _RECEIPT.fullmatch(path) is not None


def is_check_name(path: str) -> bool:
    """Say whether the object is called so by which publish finds out what a server is like."""
    return _CHECK_OBJECT.fullmatch(path) is not None


def _is_own(path: str) -> bool:
    return (
        path in {MANIFEST_NAME, SUMS_NAME}
        or is_added_path(path)
        or is_marker_name(path)
        or is_check_name(path)
        or is_receipt_name(path)
    )


def _below(place: S3Prefix, key: str) -> str:
    start = f"{place.prefix}/" if place.prefix else ""
    return key.removeprefix(start) if key.startswith(start) else ""


def _is_checkpoint(key: str, id16: str) -> bool:
    return _is(model_key, key) and _ID.fullmatch(id16) is not None


def _is(rule: Callable[[str], str], text: str) -> bool:
    try:
        rule(text)
    except ValueError:
        return False
    return True
