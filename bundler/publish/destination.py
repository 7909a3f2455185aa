"""What a target names, opened."""

from __future__ import annotations

from dataclasses import dataclass

from bundler.publish.cluster import Cluster
from bundler.stores.base import ObjectStore, Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where a release goes: the bucket, the registry and the cluster of one target."""

    store: ObjectStore
    registry: Registry
    cluster: Cluster
