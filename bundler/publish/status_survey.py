"""Asking a destination how a release stands there. Changes nothing, downloads no checkpoint."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from bundler.digest import Digest
from bundler.errors import BundleError, ContentError, NotFoundError, WorldError
from bundler.events import Emit, Finished, Started, ignore
from bundler.manifest import MANIFEST_NAME, Checkpoint, Image, Manifest
from bundler.publish.ages import age_text
from bundler.publish.cluster_memory import ClusterMemory
from bundler.publish.inventory import Inventory, find_inventory, prefixes
from bundler.publish.layout import RELEASES, Layout, lay_out, pointer_key
from bundler.publish.memory import Remembered, read_pointer
from bundler.publish.only import EVERYTHING, Only
from bundler.publish.pointer import Pointer
from bundler.publish.published import read_published
from bundler.publish.status import (
    Finding,
    Standing,
    Status,
    Subject,
    chosen,
    foreign_objects,
    judge_installed,
    judge_pointer,
    not_asked,
)
from bundler.publish.status_checkpoints import CheckpointLook
from bundler.publish.status_images import look_at_image
from bundler.publish.status_small import look_at_small_objects
from bundler.publish.together import for_each
from bundler.release import TrustedRelease
from bundler.sizes import count_text, size_text
from bundler.stores.base import ObjectStore, Registry
from bundler.stores.upkeep import Upkeep
from bundler.target import Target
from bundler.tools.helm_release import Installed
from bundler.trust import Trust

_IMAGE_THREADS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """What a target names, opened to look at it.

    Attributes:
        store, upkeep: The bucket.
        registry: Opens the registry.
        installed: Asks Helm for its newest revision.
        remembered: Asks the cluster what it remembers of what was deployed.
    """

    store: ObjectStore
    upkeep: Upkeep
    registry: Callable[[], Registry]
    installed: Callable[[], Installed | None]
    remembered: Callable[[], Pointer | None]

    def recall(self, key: str) -> tuple[Remembered, WorldError | None]:
        """Read what bucket and cluster remember, and why the cluster does not say, if so."""
        bucket = read_pointer(self.store, key)
        try:
            return Remembered(bucket=bucket, cluster=self.remembered()), None
        except WorldError as error:
            return Remembered(bucket=bucket), error


def read_current(places: Places, target: Target, trust: Trust) -> TrustedRelease:
    """Verify and read the release that the destination remembers as deployed.

    Raises:
        NotFoundError: Nothing was deployed there, or its files are gone.
        UntrustedError: No key was given, or none of them signed it.
        ContentError: Its files are not those that were deployed.
    """
    place = target.s3.place
    remembered, _ = places.recall(pointer_key(place))
    deployed = remembered.current
    if deployed is None:
        raise NotFoundError(
            f"{place}: no release was deployed here yet", hint="name the release: its directory"
        )
    held = find_inventory(places.upkeep, place).releases.get(deployed.release)
    if held is None:
        raise NotFoundError(
            f"{place / RELEASES / deployed.release}: nothing is there, and it is deployed",
            hint="publish that release again, or name its directory",
        )
    release = read_published(places.store, held, trust)
    got = Digest.of(release.manifest_bytes)
    if got != deployed.manifest:
        raise ContentError(
            f"{held.place}: expected the manifest {deployed.manifest}, as deployed, got {got}"
        )
    return release


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Looks at everything that a release has at its destination.

    Attributes:
        release: What was signed.
        target: Where it is to be.
        places: What the target names, opened.
        trust: Whom to trust, about other releases that lie there.
        now: Seconds since 1970, for ages.
        only: Which parts are looked at.
        read_back: Read an object whole where the store keeps no checksum to compare.
        emit: Told of what is looked at; from several threads.
    """

    release: TrustedRelease
    target: Target
    places: Places
    trust: Trust
    now: int
    only: Only = EVERYTHING
    read_back: bool = False
    emit: Emit = ignore

    def status(self) -> Status:
        """Look, and compare with what was signed; what cannot be asked is among the findings.

        Raises:
            MalformedError: The target does not fit the release.
        """
        manifest = self.release.manifest
        layout = lay_out(manifest, self.target)
        checkpoints = chosen(manifest, layout, self.only.checkpoints(layout))
        findings: list[Finding] = []
        if self.only.uses_store:
            place = str(self.target.s3.place)
            findings += self._asked(
                Subject.BUCKET, place, lambda: self._bucket(layout, checkpoints)
            )
        if self.only.images:
            host = self.target.registry.host
            findings += self._asked(Subject.REGISTRY, host, self._images)
        if self.only.chart:
            name = self.target.kubernetes.release
            findings += self._asked(Subject.CHART, name, lambda: self._chart(layout))
        return Status(
            release=manifest.release.directory, manifest=self._digest, findings=tuple(findings)
        )

    @property
    def _digest(self) -> Digest:
        return Digest.of(self.release.manifest_bytes)

    def _asked(
        self, subject: Subject, name: str, look: Callable[[], Iterable[Finding]]
    ) -> list[Finding]:
        """Look at one place; that it cannot be asked is a finding too."""
        self.emit(Started("look at", name))
        try:
            found = list(look())
        except WorldError as error:
            found = [not_asked(subject, name, error)]
        self.emit(Finished(name))
        return found

    def _bucket(self, layout: Layout, checkpoints: Sequence[Checkpoint]) -> Iterator[Finding]:
        inventory = find_inventory(self.places.upkeep, self.target.s3.place)
        yield from self._checkpoint_files(inventory, layout, checkpoints)
        seen = {item.name: layout.checkpoints[item.name] for item in checkpoints}
        held = inventory.releases.get(self.release.manifest.release.directory)
        small = replace(layout, checkpoints=seen)
        yield from look_at_small_objects(self.places.store, self.release, small, held)
        if self.only.chart:
            yield from self._memories(layout)
        known = {self.release.manifest.release.directory: self.release.manifest}
        yield from self._others(inventory, known)
        yield from foreign_objects(inventory, known, map(str, seen.values()))
        yield from self._asked(Subject.UPLOAD, "unfinished uploads", self._uploads)

    def _memories(self, layout: Layout) -> Iterator[Finding]:
        """Judge what bucket and cluster remember, and that they agree on the highest sequence."""
        found, error = self.places.recall(layout.pointer)
        in_cluster = str(ClusterMemory(self.target.kubernetes))
        for key, pointer in ((layout.pointer, found.bucket), (in_cluster, found.cluster)):
            if key == in_cluster and error is not None:
                yield not_asked(Subject.POINTER, key, error)
                continue
            yield judge_pointer(
                pointer, self.release.manifest, self._digest, key=key, highest=found.highest
            )

    def _checkpoint_files(
        self, inventory: Inventory, layout: Layout, checkpoints: Sequence[Checkpoint]
    ) -> list[Finding]:
        look = CheckpointLook(
            store=self.places.store,
            inventory=inventory,
            manifest_key=layout.release.key(MANIFEST_NAME),
            read_back=self.read_back,
        )
        return look.findings(
            [(layout.checkpoints[item.name], file) for item in checkpoints for file in item.files]
        )

    def _others(self, inventory: Inventory, known: dict[str, Manifest]) -> Iterator[Finding]:
        """Read the other releases that lie there into ``known``; tell of those that cannot be."""
        for name, held in inventory.releases.items():
            if name in known:
                continue
            try:
                known[name] = read_published(self.places.store, held, self.trust).manifest
            except BundleError as error:
                detail = f"not judged: {error}"
                yield Finding(
                    subject=Subject.RELEASE, name=name, standing=Standing.UNKNOWN, detail=detail
                )

    def _uploads(self) -> Iterator[Finding]:
        for prefix in prefixes(self.target.s3.place):
            for item in self.places.upkeep.uploads(prefix):
                age = age_text(self.now - item.touched)
                yield Finding(
                    subject=Subject.UPLOAD,
                    name=item.key,
                    standing=Standing.UNFINISHED,
                    detail=f"{count_text(item.parts, 'part')}, {size_text(item.size)}, "
                    f"untouched for {age}",
                    size=item.size,
                )

    def _images(self) -> list[Finding]:
        registry, images = self.places.registry(), self.release.manifest.images
        found: dict[Image, Finding] = {}

        def look(image: Image) -> None:
            found[image] = look_at_image(registry, image)

        for_each(look, images, threads=_IMAGE_THREADS, stop=threading.Event())
        return [found[image] for image in images]

    def _chart(self, layout: Layout) -> Iterator[Finding]:
        installed = self.places.installed()
        yield judge_installed(
            installed, self.release.manifest, self._digest, layout, self.target.kubernetes
        )
