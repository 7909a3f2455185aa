"""What lies at a destination, sorted by what publish would have put there. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bundler.manifest import MANIFEST_NAME
from bundler.reference import S3Prefix, file_name, model_key
from bundler.stores.upkeep import HeldObject
from bundler.sums import SUMS_NAME

CHECKPOINTS, RELEASES, MARKERS, RECEIPTS = "checkpoints", "releases", "complete/", "receipts/"
_ID = re.compile(r"[0-9a-f]{16}")
_SIGNATURE = re.compile(re.escape(SUMS_NAME) + r"\.[0-9a-f]{8}\.sig")


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
    def last_receipt(self) -> str:
        """The name of a release's newest receipt, which begins with its time; empty for none."""
        return max((path for path in self.objects if path.startswith(RECEIPTS)), default="")

    @property
    def is_readable(self) -> bool:
        """Whether a release's manifest, sums and a signature are there, whatever they are worth."""
        return bool(self.signatures) and self.objects.keys() >= {MANIFEST_NAME, SUMS_NAME}

    @property
    def signatures(self) -> list[str]:
        """The names of a release's signature files, sorted."""
        return sorted(filter(_SIGNATURE.fullmatch, self.objects))


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Everything below a target's place in a bucket, by what it is.

    Attributes:
        place: The target's.
        releases: By the release's name.
        checkpoints: By the address of the prefix, ``s3://…/checkpoints/<key>/<id>``.
        foreign: What publish never writes.
    """

    place: S3Prefix
    releases: Mapping[str, Held] = field(default_factory=dict)
    checkpoints: Mapping[str, Held] = field(default_factory=dict)
    foreign: Sequence[HeldObject] = ()


def take_inventory(place: S3Prefix, objects: Iterable[HeldObject]) -> Inventory:
    """Sort a listing of what lies below a target's place."""
    releases: dict[str, dict[str, HeldObject]] = {}
    checkpoints: dict[tuple[str, str], dict[str, HeldObject]] = {}
    foreign = []
    for item in objects:
        match _below(place, item.key).split("/", 3):
            case ["releases", "current.json"]:
                continue
            case ["releases", name, *rest] if any(rest) and _is(file_name, name):
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


def _below(place: S3Prefix, key: str) -> str:
    return key.removeprefix(f"{place.prefix}/") if place.prefix else key


def _is_checkpoint(key: str, id16: str) -> bool:
    return _is(model_key, key) and _ID.fullmatch(id16) is not None


def _is(rule: Callable[[str], str], text: str) -> bool:
    try:
        rule(text)
    except ValueError:
        return False
    return True
