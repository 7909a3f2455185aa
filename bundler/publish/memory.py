"""What a destination remembers of what was deployed: in the bucket and in the cluster.

Both say the same after each publish that installs the chart. Until then the higher counts, so that
whoever can change or delete one of them opens no way for an older release.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from bundler.digest import Digest
from bundler.errors import NotFoundError, StaleError
from bundler.publish.cluster import Cluster
from bundler.publish.cluster_memory import ClusterMemory
from bundler.publish.destination import Destination
from bundler.publish.layout import Layout
from bundler.publish.plan import Kind, State, Step
from bundler.publish.pointer import (
    MAX_POINTER_BYTES,
    Deployed,
    Mark,
    Pointer,
    blaming_others,
    check_trust_version,
    decode_pointer,
    encode_pointer,
)
from bundler.reference import S3Prefix
from bundler.release import TrustedRelease
from bundler.stores.base import ObjectStore
from bundler.target import Target

_NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What both places remember; None where one remembers nothing, or was not asked.

    Attributes:
        bucket, cluster: What is there.
        names: What the two are called, for people.
    """

    bucket: Pointer | None = None
    cluster: Pointer | None = None
    names: tuple[str, str] = ("the bucket", "the cluster")

    @property
    def highest(self) -> int:
        """The highest sequence of the two; 0 where they remember nothing."""
        return self.highest_mark.number

    @property
    def trust_version(self) -> int:
        """The highest version of a trust file of the two; 0 for none."""
        return self.trust_mark.number

    @property
    def highest_mark(self) -> Mark:
        """The highest sequence, and which of the two says so."""
        return self._mark(lambda pointer: pointer.highest)

    @property
    def trust_mark(self) -> Mark:
        """The highest version of a trust file, and which of the two says so."""
        return self._mark(lambda pointer: pointer.trust_version)

    def _mark(self, number: Callable[[Pointer], int]) -> Mark:
        there = zip(self.names, (self.bucket, self.cluster), strict=True)
        numbers = {name: number(pointer) for name, pointer in there if pointer}
        highest = max(numbers.values(), default=0)
        said_by = tuple(name for name, found in numbers.items() if found == highest)
        return Mark(number=highest, said_by=said_by, places=tuple(numbers))

    @property
    def deployed(self) -> tuple[Deployed, ...]:
        """What either place names as deployed: one, or two where they disagree."""
        both = [each.deployed for each in (self.bucket, self.cluster) if each and each.deployed]
        return tuple(dict.fromkeys(both))

    @property
    def current(self) -> Deployed | None:
        """What is deployed, by the word of the place with the higher sequence; None for nothing."""
        both = [each for each in (self.bucket, self.cluster) if each and each.deployed]
        return max(both, key=lambda each: each.highest).deployed if both else None

    @property
    def disagrees(self) -> bool:
        """Whether the two differ, where both were asked."""
        return self.bucket != self.cluster

    @property
    def text(self) -> str:
        """What is remembered, in words."""
        if not self.disagrees:
            return str(self.bucket or _NOTHING)
        bucket, cluster = self.bucket or _NOTHING, self.cluster or _NOTHING
        return f"the bucket remembers {bucket}, the cluster {cluster}"

    def after(self, release: TrustedRelease) -> Pointer:
        """Say what both places are to remember once ``release`` is deployed."""
        facts = release.manifest.release
        deployed = Deployed(
            release=facts.directory,
            manifest=Digest.of(release.manifest_bytes),
            sequence=facts.sequence,
        )
        return replace(self._raised(None, release), deployed=deployed)

    def begun(self, release: TrustedRelease) -> tuple[Pointer, Pointer]:
        """Say what bucket and cluster are to remember once ``release`` may begin to run."""
        return self._raised(self.bucket, release), self._raised(self.cluster, release)

    def _raised(self, pointer: Pointer | None, release: TrustedRelease) -> Pointer:
        return Pointer(
            deployed=pointer.deployed if pointer else None,
            highest=max(self.highest, release.manifest.release.sequence),
            trust_version=max(self.trust_version, release.trust.version),
        )

    def plan(self, after: Pointer, name: str) -> Step:
        """Say whether one of the places is to change, once ``name`` is deployed."""
        if self.bucket == self.cluster == after:
            return Step(kind=Kind.POINTER, name=name, state=State.PRESENT)
        return Step(kind=Kind.POINTER, name=name, state=State.TO_DO, detail=f"{self.text} before")


def read_pointer(store: ObjectStore, key: str) -> Pointer | None:
    """Read what the bucket remembers; None where it remembers nothing.

    Raises:
        MalformedError: It is not what we write.
    """
    with blaming_others(key):
        try:
            content = store.get(key, limit=MAX_POINTER_BYTES)
        except NotFoundError:
            return None
        return decode_pointer(content, name=key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The two places of a destination.

    Attributes:
        store: The bucket.
        place: Where the object in it lies.
        cluster: Where the ConfigMap is.
        in_cluster: The ConfigMap.
    """

    store: ObjectStore
    place: S3Prefix
    cluster: Cluster
    in_cluster: ClusterMemory

    def read(self, *, both: bool = True) -> Remembered:
        """Read both places, or the bucket alone.

        Raises:
            MalformedError: One is not what we write.
            WorldError: One cannot be asked.
        """
        bucket = read_pointer(self.store, self.place.prefix)
        cluster = self.in_cluster.read(self.cluster.get) if both else None
        names = (str(self.place), str(self.in_cluster))
        return Remembered(bucket=bucket, cluster=cluster, names=names)

    def require_writable(self) -> None:
        """Find out, before hours of sending, that the cluster would not let us write.

        Raises:
            DeniedError: It would not.
        """
        if self.cluster.get("namespace", self.in_cluster.target.namespace) is None:
            return  # publish makes it; until then nothing can be said
        self.in_cluster.write(self.cluster, Pointer(deployed=None, highest=1), dry_run=True)

    def begin(self, release: TrustedRelease, *, judged: int) -> None:
        """Raise the highest sequence before a release runs: no crash lets an older one in.

        Args:
            release: The one that is about to be installed.
            judged: The highest sequence that its plan was judged by.

        Raises:
            StaleError: A newer one was installed since its plan was made, or one that a newer
                trust file judged.
        """
        before = self._unchanged(release, judged)
        self._write(before, *before.begun(release))

    def point(self, release: TrustedRelease, *, judged: int) -> None:
        """Remember that a release is deployed; the arguments as for ``begin``.

        Raises:
            StaleError: As for ``begin``.
        """
        before = self._unchanged(release, judged)
        after = before.after(release)
        self._write(before, after, after)

    def _unchanged(self, release: TrustedRelease, judged: int) -> Remembered:
        """Read what a destination remembers, and judge a release by it again."""
        now, facts = self.read(), release.manifest.release
        check_trust_version(release.trust.version, now.trust_mark)
        if now.highest > max(judged, facts.sequence):
            raise StaleError(
                f"{facts.directory}: sequence {facts.sequence}, and {now.highest} was "
                f"deployed here since the plan was made{now.highest_mark}",
                hint="somebody else publishes here too; make a new plan",
            )
        return now

    def _write(self, before: Remembered, bucket: Pointer, cluster: Pointer) -> None:
        if cluster != before.cluster:
            self.in_cluster.write(self.cluster, cluster)
        if bucket != before.bucket:
            self.store.replace(self.place.prefix, encode_pointer(bucket))


def open_memory(destination: Destination, target: Target, layout: Layout) -> Memory:
    """Give the two places of a destination; asks nothing yet."""
    return Memory(
        store=destination.store,
        place=S3Prefix(target.s3.place.bucket, layout.pointer),
        cluster=destination.cluster,
        in_cluster=ClusterMemory(target.kubernetes),
    )
