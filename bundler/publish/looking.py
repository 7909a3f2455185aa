"""Looking at bundle, bucket and registry, for a plan. Reads only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bundler.archive.bundle_files import BundleFiles, open_bundle_files
from bundler.archive.bundle_reader import BundleReader
from bundler.archive.scratch import scratch_directory
from bundler.errors import WorldError
from bundler.events import Emit, Noted
from bundler.publish.chart import RenderedChart, render_chart
from bundler.publish.closure import check_closure
from bundler.publish.destination import Destination
from bundler.publish.images import load, plan_images
from bundler.publish.layout import Layout
from bundler.publish.memory import Remembered, open_memory
from bundler.publish.objects import plan_checkpoint
from bundler.publish.only import Only
from bundler.publish.plan import State, Step
from bundler.publish.repositories import plan_repositories
from bundler.publish.schedule import Cargo
from bundler.release import TrustedRelease
from bundler.release_files import ReleaseDirectory
from bundler.target import Target


@dataclass(frozen=True, slots=True)
class Look:
    """Asks of each place how things stand there.

    Attributes:
        release: The one to publish.
        target: Where it goes.
        destination: What the target names, opened.
        layout: All names there.
        emit: Told of what people should know.
    """

    release: TrustedRelease
    target: Target
    destination: Destination
    layout: Layout
    emit: Emit

    def at_deployed(self, only: Only) -> Remembered:
        """Read which release is deployed: as the bucket says, and before a chart the cluster.

        Raises:
            WorldError: One cannot be asked; that the registry cannot either is told, too.
        """
        if not only.uses_store:
            return Remembered()
        try:
            memory = open_memory(self.destination, self.target, self.layout)
            before = memory.read(both=only.chart)
        except WorldError as error:
            if only.uses_registry:
                self._ask_registry_too(error)
            raise
        if only.chart and before.disagrees:
            self.emit(Noted(f"{before.text}: the higher counts; publish makes both the same"))
        return before

    def _ask_registry_too(self, error: WorldError) -> None:
        image = self.release.manifest.images[0].tag
        try:
            self.destination.registry.manifest(image.name, image.tag)
        except WorldError as other:
            hints = dict.fromkeys(filter(None, (error.hint, other.hint)))
            raise WorldError(f"{error}\n{other}", hint="; ".join(hints) or None) from error

    def into_bundle(self, only: Only) -> tuple[tuple[Cargo, ...], RenderedChart | None]:
        """Read what the images hold, and render the chart, where these are asked for.

        Returns:
            The images that this run is about: all, or for the chart alone those that it names.
            And the chart.

        Raises:
            CheckError: The chart names an image that is not a signed one.
        """
        if not only.uses_registry:
            return (), None
        manifest, host = self.release.manifest, self.target.registry.host
        with open_bundle_of(self.release) as bundle, scratch_directory() as scratch:
            for path in bundle.check_structure():
                self.emit(Noted(f"{manifest.bundle.root}/{path}: is not signed, and is not used"))
            if not only.chart:
                return load(bundle, manifest.images), None
            chart = render_chart(
                self.release,
                bundle,
                self.target,
                self.layout,
                cluster=self.destination.cluster,
                directory=scratch,
            )
            named = check_closure(chart.objects, manifest, host)
            return load(bundle, manifest.images if only.images else named), chart

    def at_checkpoints(self, seen: Layout) -> list[Step]:
        """Say how the files of some checkpoints stand."""
        return [
            step
            for name, place in seen.checkpoints.items()
            for step in plan_checkpoint(
                self.destination.store, self.release.manifest.checkpoint(name), place, self.emit
            )
        ]

    def at_registry(self, cargo: Sequence[Cargo]) -> Iterator[Step]:
        """Say how repositories and images stand."""
        if not cargo:
            return
        repositories, host = self.destination.repositories, self.target.registry.host
        missing: set[str] = set()
        if repositories is not None:
            names = [item.repository for item in cargo]
            for step in plan_repositories(repositories, names, host):
                yield step
                if step.state is not State.PRESENT:
                    missing.add(step.name)
        yield from plan_images(
            self.destination.registry, cargo, host, without=missing, repositories=repositories
        )

    def at_pointer(self, before: Remembered) -> Step:
        """Say whether another release is deployed now, or the two places disagree."""
        return before.plan(before.after(self.release), self.release.manifest.release.directory)


def open_bundle_of(release: TrustedRelease) -> BundleFiles:
    """Open the bundle of a release, the archive or what was extracted; the caller closes it.

    Raises:
        NotFoundError: Neither is there.
        ContentError: It differs from what was signed.
    """
    bundle = release.manifest.bundle
    if isinstance(release.files, ReleaseDirectory):
        return open_bundle_files(release.directory, bundle, release.elsewhere)
    return BundleReader(release.require_place(bundle.archive), bundle)
