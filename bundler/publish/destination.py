"""What a target names, opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bundler.digest import Digest
from bundler.publish.cluster import Cluster
from bundler.reference import ImageTag
from bundler.stores.base import ObjectStore, Registry, Repositories

PushArchive = Callable[[Path, ImageTag], Digest]


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where a release goes: the bucket, the registry and the cluster of one target.

    Attributes:
        store: The bucket.
        registry: Where images go.
        cluster: Where the chart goes.
        repositories: What makes the registry's repositories; None where they come by themselves.
        push_archive: Copies an OCI archive to a tag, and gives the digest there: a program that is
            to push the images; None for our own way, straight from the bundle.
    """

    store: ObjectStore
    registry: Registry
    cluster: Cluster
    repositories: Repositories | None = None
    push_archive: PushArchive | None = None
